"""The demo in small: three kiosks, the first purchases, everything else as `make demo` has it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.catalog import Catalog
from examples.demo.__main__ import MARK, fresh
from examples.demo.kiosk import CATALOG, METRIC
from examples.demo.learning import learn
from examples.demo.purchases import FIRST_KIOSK_DAY, Line, Visit, first_events, home_of, load, split
from examples.demo.report import Aggregate, Delay, HitRate, Report, Revocation
from examples.demo.scan import count, plain_values, search
from examples.demo.shopping import ONE_IN

ROOT = Path(__file__).parents[2]
KEYS = {
    "": ["aggregate", "delta_ms", "events", "hit_rate_at_20", "kiosks", "revocation"],
    "hit_rate_at_20": ["personalized", "popularity"],
    "delta_ms": ["p50", "p99"],
    "revocation": ["enforced_ms", "erased_ms", "held_none", "plaintext_hits", "receipts", "targets"],
    "aggregate": ["ci95", "estimate", "metric", "subjects", "truth"],
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The report and the printed words of one small run."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "examples.demo", "--kiosks", "3", "--events", "1500"]
    run = subprocess.run(
        [*command, "--folder", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout + run.stderr
    proof = re.search(r"^  (\S+edge-sync consent verify \S+ --root \S+)$", run.stdout, re.M)
    assert proof is not None
    verified = subprocess.run(proof[1].split(), cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert verified.returncode == 0, verified.stderr
    assert "It holds: revocation completed" in verified.stdout
    return json.loads((folder / "report.json").read_text()), run.stdout


def test_the_report_has_exactly_its_keys(played: tuple[dict[str, Any], str]) -> None:
    """Other people's scripts read `report.json`: its keys are fixed."""
    report, _ = played
    assert {name: sorted(report[name] if name else report) for name in KEYS} == KEYS


def test_law_4_after_a_withdrawal_every_kiosk_has_answered_and_none_holds_plain_values(
    played: tuple[dict[str, Any], str],
) -> None:
    """Every kiosk returned a signed receipt, and the files of none hold the customer in plain text."""
    found = played[0]["revocation"]
    assert found["receipts"] == found["targets"] == 3
    assert found["held_none"] < 3
    assert found["plaintext_hits"] == 0
    assert 0 < found["enforced_ms"] <= found["erased_ms"]


def test_ranking_on_the_kiosk_beats_popularity(played: tuple[dict[str, Any], str]) -> None:
    """Session features and hot features together rank better than popularity over the same questions."""
    hits = played[0]["hit_rate_at_20"]
    assert 0 < hits["popularity"] < hits["personalized"] < 1


def test_law_9_the_release_stands_beside_the_truth(played: tuple[dict[str, Any], str]) -> None:
    """The released shares name the metric's categories, cover the minimum, and are near the truth."""
    found, metric = played[0]["aggregate"], Catalog.load(CATALOG).metrics[METRIC]
    assert found["subjects"] >= metric.min_subjects
    assert list(found["estimate"]) == list(found["truth"]) == list(found["ci95"]) == list(metric.categories)
    assert sum(found["truth"].values()) == pytest.approx(1, abs=1e-5)
    for name, (low, high) in found["ci95"].items():
        assert low < found["estimate"][name] < high
        assert low - (high - low) < found["truth"][name] < high + (high - low)  # within 6 deviations


def test_the_summary_says_what_happened(played: tuple[dict[str, Any], str]) -> None:
    """The last words name the four things that a newcomer came to see."""
    for words in ("Shopping", "Withdrawal", "A statistic without the people", "Next"):
        assert words in played[1]


def test_a_kiosk_that_was_killed_fails_the_demo_with_its_log(tmp_path: Path) -> None:
    """A kiosk's end in mid-run is an error with a name, not a hang."""
    from examples.demo.fleet import Kiosk, KioskFailed

    async def body() -> None:
        kiosk = await Kiosk.start(0, tmp_path / "kiosk")
        try:
            with pytest.raises(KioskFailed, match="kiosk 0 ended in mid-run"):
                await kiosk.open("http://127.0.0.1:9", "no-token", 0)
        finally:
            await kiosk.stop()

    asyncio.run(body())


def test_only_a_folder_of_the_demo_is_emptied(tmp_path: Path) -> None:
    """`--folder` with somebody's own files is refused; the demo's own folder is made anew."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("keep me")
    with pytest.raises(SystemExit, match="nothing was touched"), fresh(theirs):
        pass
    assert (theirs / "letter.txt").read_text() == "keep me"
    with fresh(tmp_path / "ours") as ours:
        (ours / "server").mkdir()
        (ours / "server" / "server.json").write_text(json.dumps({"pid": os.getpid()}))  # not a server
    with fresh(ours) as again:
        assert sorted(path.name for path in again.iterdir()) == [MARK]


def test_a_second_demo_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """It neither empties the folder nor ends the server of the one that runs; afterwards it may."""
    with fresh(tmp_path / "ours") as ours:
        (ours / "report.json").write_text("{}")
        with pytest.raises(SystemExit, match="another demo is running"), fresh(ours):
            pass
        assert (ours / "report.json").exists()
    with fresh(ours):
        assert not (ours / "report.json").exists()


def test_the_sample_is_whole_and_split_by_day() -> None:
    """Counts as SOURCE.md tells them; nothing of the later days is learned from."""
    earlier, later = split(load())
    first_us = int(FIRST_KIOSK_DAY.timestamp()) * 1_000_000
    assert (len(earlier) + len(later), len(later)) == (3971, 805)
    assert sum(len(visit.lines) for visit in later) == 13_453
    assert earlier[-1].at_us < first_us <= later[0].at_us
    assert len(home_of(later, 8)) == 605
    assert sum(len(visit.lines) for visit in first_events(later, 100)) >= 100
    assert all(place < len(visit.lines) for visit in later for place in visit.questions(ONE_IN))


def test_what_is_learned_is_the_cosine_of_two_items_baskets() -> None:
    """Popularity by baskets, closeness by baskets together, cancellations and single meetings left out."""

    def visit(invoice: str, *items: str) -> Visit:
        return Visit(invoice, "c", 0, tuple(Line(item, 1, 1.0) for item in items))

    baskets = [visit("1", "a", "b"), visit("2", "a", "b", "a"), visit("3", "a", "c"), visit("C4", "d")]
    stats = learn(baskets)
    assert list(stats) == ["a", "b", "c"]
    assert stats["a"].popularity == 1.0
    assert stats["a"].co_bought == {"b": round(2 / (8 * 7) ** 0.5, 4)}
    assert stats["c"].co_bought == {}


def test_the_search_finds_what_stands_in_plain_text(tmp_path: Path) -> None:
    """A search that cannot find proves nothing: it finds ids in each encoding, in every file below."""
    needles = plain_values("17850", [Visit("536365", "17850", 0, ()), Visit("536366", "other", 0, ())])
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"x536365:001x" + "17850".encode("utf-16-le"))
    (tmp_path / "b").write_bytes(b"536366 of somebody else")
    findings = search([tmp_path], needles)
    assert (findings.files, findings.hits) == (2, 2)
    assert count(b"nothing", needles) == 0


def test_a_report_names_each_promise_that_was_not_kept() -> None:
    """Missing receipts, plain values and a ranking no better than popularity each fail the demo."""

    def report(receipts: int, hits: int, personalized: float) -> Report:
        revocation = Revocation(8, receipts, 1, 1.0, 2.0, hits)
        aggregate = Aggregate("m", {}, {}, {}, 0)
        return Report(1, 8, HitRate(personalized, 0.1), Delay.of([]), revocation, aggregate)

    assert report(8, 0, 0.2).failures() == []
    assert len(report(7, 1, 0.1).failures()) == 3
