"""An experiment from the app's call to the verdict: real runtimes, a real server, two hundred visitors.

One experiment has an effect that is planted, its twin has none. What the kiosks tell is noised; only the test
knows who bought.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

import edge_runtime as er
from edge_runtime.aggregates import chance
from sync_server.aggregates.experiments.report import ExperimentReport
from sync_server.cli import main
from tests.support.experiments import experiment_table, shop_table
from tests.support.fleet import SharedClock
from tests.support.links import SOON_S, Links
from tests.support.served import Served

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
VISITORS, KIOSKS, SEED = 200, 4, 20261130
PLANTED: Final = {"control": 0.2, "treatment": 0.8}
EXPERIMENTS: Final = {"new_ranker": experiment_table(), "twin": experiment_table(outcome={"event": "view"})}


class Fair:
    """The server, the kiosks and their visitors."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.clock, self._rng = SharedClock(folder / "clock"), random.Random(SEED)
        self.server = stack.enter_context(Served(folder / "server", folder / "clock"))
        table = shop_table(**EXPERIMENTS)
        table["catalog"]["name"] = "fair"
        (folder / "catalog.json").write_text(json.dumps(table))
        self.data = str(self.server.data)
        assert main(["catalog", "put", str(folder / "catalog.json"), "--activate", "--data", self.data]) == 0
        catalog = er.Catalog.load(folder / "catalog.json")
        self.kiosks = [
            stack.enter_context(self._kiosk(folder / f"kiosk-{n}", catalog)) for n in range(KIOSKS)
        ]
        self.links = Links(self.kiosks, self.clock)
        stack.callback(self.links.offline)
        self.arms = {
            f"visitor-{n}": self._visit(f"visitor-{n}", self.kiosks[n % KIOSKS]) for n in range(VISITORS)
        }

    def _kiosk(self, folder: Path, catalog: er.Catalog) -> er.Runtime:
        folder.mkdir()
        settings, key = er.Settings(report_spread_us=HOUR_US), er.KeyFile(folder / "device.key")
        file = folder / "cache.db"
        rt = er.Runtime.open(file, catalog=catalog, key=key, clock=self.clock, settings=settings)
        rt.enrol(self.server.url, self.server.client.call("POST", "/v1/device-tokens", {})["token"])
        return rt

    def _visit(self, name: str, rt: er.Runtime) -> str:
        """Consent, be shown an arm of both, and buy by the arm of the one, look by that of none."""
        rt.consent.give(f"user:{name}", ["measurement"], notice="2026-11")
        shown, twin = rt.assign("new_ranker", user=name), rt.assign("twin", user=name)
        assert shown.exposed
        assert twin.exposed
        if self._rng.random() < PLANTED[shown.arm]:
            assert rt.track("buy", user=name, item="x", price=1.0) is er.ACCEPTED
        if self._rng.random() < 0.5:
            assert rt.track("view", user=name, item="x") is er.ACCEPTED
        return shown.arm

    def asked(self, experiment: str) -> ExperimentReport:
        """One whole round, and what it says."""
        aggregates = self.server.client.aggregates
        before = {what: self._count(what) for what in ("stored", "sent")}
        made = aggregates.open(experiment, closes_in_s=6 * 3600)
        self._soon(lambda: self._count("stored") - before["stored"] == VISITORS)
        self.links.later(2 * HOUR_US)
        self._soon(lambda: self._count("sent") - before["sent"] == VISITORS)
        release = aggregates.close(experiment, made.round)
        assert (release.status, release.n) == ("released", VISITORS)
        self.links.later(2 * DAY_US)  # the budget window is over
        return aggregates.uplift(experiment, round_id=made.round)

    def _count(self, what: str) -> int:
        told: list[Any] = [rt.status()["aggregates"] for rt in self.kiosks]
        return sum(one.get(what, 0) for one in told)

    def _soon(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + SOON_S
        while not holds():
            assert time.monotonic() < until, [rt.status()["aggregates"] for rt in self.kiosks]
            time.sleep(0.05)


@pytest.fixture
def fair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fair]:
    monkeypatch.setattr(chance, "system_bits", random.Random(SEED).randrange)
    with ExitStack() as stack:
        yield Fair(tmp_path, stack)


def test_a_planted_uplift_is_found_and_its_twin_is_not(
    fair: Fair, capsys: pytest.CaptureFixture[str]
) -> None:
    found = fair.asked("new_ranker").result
    assert found is not None
    (shown,) = found.comparisons
    assert (shown.arm, shown.verdict) == ("treatment", "up")
    assert shown.uplift == pytest.approx(0.6, abs=0.25)
    assert not found.sample_ratio.alarm
    treated = sum(arm == "treatment" for arm in fair.arms.values()) / VISITORS
    assert found.arms[1].exposed == pytest.approx(treated, abs=0.1)
    assert abs(found.unexposed) < 0.1

    nothing = fair.asked("twin").result
    assert nothing is not None
    assert nothing.comparisons[0].verdict == "no_difference_shown"
    interval = nothing.comparisons[0].interval
    assert interval is not None
    assert interval[0] < 0 < interval[1]

    capsys.readouterr()
    assert main(["aggregates", "experiment", "new_ranker", "--looks", "2", "--data", fair.data]) == 0
    text = capsys.readouterr().out
    assert "UP:" in text
    assert "200 subjects" in text
