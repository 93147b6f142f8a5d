"""`edge-sync aggregates` at a real server: for scripts, and for who asks what the population does."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pyarrow.parquet
import pytest

from edge_runtime.aggregates.mechanisms import question_of
from edge_runtime.catalog import Catalog
from sync_server.aggregates import documents
from sync_server.aggregates.plan import Plan, plan
from sync_server.aggregates.release import Release
from sync_server.api.rooms import REGISTRY
from sync_server.cli import main
from sync_server.cli.aggregate_plan import error_text
from sync_server.cli.told import NOT_YET, REFUSED, USAGE
from sync_server.client import Client
from tests.support.aggregate_ends import metric_catalog
from tests.support.clock import ManualClock
from tests.support.released import publish, released
from tests.support.shell import Shell
from tests.support.shop_server import ShopServer

METRIC = "countries_0"
NUMBERS = {"UK": (0.66, 0.70, 0.74), "DE": (0.1, 0.2, 0.3), "FR": (-0.05, -0.01, 0.03)}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), catalog=None) as server:
        server.clock.set_wall(1_780_000_000_000_000)
        server.app[REGISTRY].register(metric_catalog(names=2), server.clock.now_us())
        yield server


@pytest.fixture
def shell(shop: ShopServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(shop, capsys, prefix=("aggregates",))


async def ended(shop: ShopServer, shell: Shell) -> Release:
    """A round that was opened by the command, and came to `NUMBERS`."""
    made = await shell.json("open", METRIC, "--closes-in", "1h")
    shop.clock.advance(seconds=60)
    closed_us = shop.clock.now_us()
    more = {"round": made["round"], "metric": METRIC, "opened_at_us": made["opened_at_us"]}
    release = released("histogram", NUMBERS, closed_at_us=closed_us, **more)
    publish(shop.store, release)
    return release


async def test_scripts_get_the_documents_of_the_api(shell: Shell, shop: ShopServer) -> None:
    """Open (again the same), rounds, show while it is open: 4; closed: withheld, and show says 1."""
    metrics = await shell.json("metrics")
    assert METRIC in [one.metric for one in msgspec.convert(metrics, documents.DeclaredMetrics).metrics]
    made = msgspec.convert(await shell.json("open", METRIC, "--closes-in", "1h"), documents.Round)
    assert made.closes_at_us - made.opened_at_us == 3_600_000_000
    again = await shell.json("open", METRIC, "--closes-in", "2h")
    assert again == msgspec.to_builtins(made)
    waiting = await shell.json("show", METRIC, code=NOT_YET)
    assert (waiting["release"], waiting["round"]["state"]) == (None, "open")
    assert (await shell.json("show", METRIC, "--round", made.round[:6], code=NOT_YET)) == waiting
    await shell.json("close", made.round[:8])
    (listed,) = (await shell.json("rounds"))["rounds"]
    assert (listed["round"], listed["state"]) == (made.round, "withheld")
    found = await shell.json("show", METRIC, code=REFUSED)
    assert (found["release"]["status"], found["release"]["n"]) == ("withheld", None)
    assert (await shell.json("releases", METRIC))["releases"] == [found["release"]]
    release = await ended(shop, shell)
    assert msgspec.convert((await shell.json("show", METRIC))["release"], Release) == release
    earlier = await shell.json("show", METRIC, "--round", made.round, code=REFUSED)
    assert earlier == found


async def test_people_read_what_happened_and_what_to_do_next(shell: Shell, shop: ShopServer) -> None:
    """At every step; times in UTC."""
    assert "No round yet. Next: `edge-sync aggregates open" in await shell.text("rounds")
    assert "Nothing was released yet." in await shell.text("releases")
    text = await shell.text("show", "countries_1", code=REFUSED)
    assert "Nothing was ever asked of countries_1. Next: " in text
    text = await shell.text("metrics")
    assert "epsilon a round" in text
    assert "Next: `edge-sync aggregates plan METRIC`" in text
    text = await shell.text("open", METRIC, "--closes-in", "1h")
    assert "open until 2026-05-28 21:26:40 UTC" in text
    assert "It was open already" not in text
    assert "3 subjects; with fewer nothing is released" in text
    assert "Next: wait; then `edge-sync aggregates show countries_0" in text
    assert "It was open already" in await shell.text("open", METRIC, "--closes-in", "2h")
    shop.clock.advance(seconds=60)
    text = await shell.text("open", METRIC, "--closes-in", "1h")
    assert "It was open already, since 2026-05-28 20:26:40 UTC" in text
    text = await shell.text("show", METRIC, code=NOT_YET)
    assert "takes answers until 2026-05-28 21:26:40 UTC" in text
    assert "Next: come back then" in text
    assert "open" in await shell.text("rounds", METRIC)
    release = await ended(shop, shell)
    text = await shell.text("show", METRIC)
    assert "70.0 %  [66.0 % … 74.0 %]" in text
    assert release.round in text
    assert "UK 70.0 %, DE 20.0 %, FR -1.0 %" in await shell.text("releases")


async def test_a_table_of_all_numbers_goes_into_a_file(
    shell: Shell, shop: ShopServer, tmp_path: Path
) -> None:
    """CSV or Parquet, the same rows; not both at once."""
    release = await ended(shop, shell)
    file, other = tmp_path / "all.csv", tmp_path / "all.parquet"
    assert "Wrote 1 release into" in await shell.text("releases", "--csv", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text(), newline="")))
    assert [row["label"] for row in rows] == list(NUMBERS)
    assert {row["round"] for row in rows} == {release.round}
    await shell.json("releases", METRIC, "--parquet", str(other))
    table = pyarrow.parquet.read_table(other)
    assert table.column("estimate").to_pylist() == [float(row["estimate"]) for row in rows]
    client = Client(str(shop.client.make_url("")), shop.token)
    assert await asyncio.to_thread(client.aggregates.table, "csv") == file.read_bytes()
    with pytest.raises(SystemExit) as stopped:
        await shell.text("releases", "--csv", "a", "--parquet", "b")
    assert stopped.value.code == USAGE


async def test_the_picture_goes_into_a_file(shell: Shell, shop: ShopServer, tmp_path: Path) -> None:
    release, file = await ended(shop, shell), tmp_path / "shown.png"
    assert f"Drawn into {file}." in await shell.text("show", METRIC, "--png", str(file))
    assert file.read_bytes().startswith(b"\x89PNG")
    found = await shell.json("show", METRIC, "--png", str(file), "--round", release.round)
    assert found["written"] == str(file)


async def test_a_missing_package_is_named_and_nothing_is_written(
    shell: Shell, shop: ShopServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ended(shop, shell)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "matplotlib.style", None)
    file = tmp_path / "file"
    text = await shell.text("releases", "--parquet", str(file), code=REFUSED)
    assert "pip install 'edge-runtime[parquet]'" in text
    text = await shell.text("show", METRIC, "--png", str(file), code=REFUSED)
    assert "pip install 'edge-runtime[plot]'" in text
    assert not file.exists()


async def test_what_is_wrong_is_said_with_what_helps(shell: Shell, shop: ShopServer) -> None:
    """A metric that is not declared, a round that is not there or not one, a bad time."""
    text = await shell.text("open", "nothing", "--closes-in", "1h", code=REFUSED)
    assert "unknown_metric" in text
    assert "Name a metric of the active catalog" in text
    assert "duration like 15m" in await shell.text("open", METRIC, "--closes-in", "soon", code=USAGE)
    assert "there is none" in await shell.text("close", "feed", code=USAGE)
    for metric in (METRIC, "countries_1"):
        await shell.text("open", metric, "--closes-in", "1h")
    assert "2 begin so" in await shell.text("close", "", code=USAGE)
    text = await shell.text("show", "nothing", code=REFUSED)
    assert "Nothing was ever asked of nothing, and the active catalog declares no such metric" in text
    assert "open nothing" not in text


MEASURED = Path(__file__).resolve().parents[2] / "examples" / "catalogs" / "measured.toml"


def planned(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """`aggregates plan` where no server is, nor any data directory."""
    found = main(["aggregates", "plan", *words, "--data", "/nowhere"])
    out, err = capsys.readouterr()
    assert found == code, err
    return out or err


@pytest.mark.parametrize("metric", Catalog.load(MEASURED).metrics)
def test_a_plan_needs_no_server_and_is_that_of_the_planner(
    capsys: pytest.CaptureFixture[str], metric: str
) -> None:
    """For every kind; the text has each number, and what a round costs."""
    catalog = Catalog.load(MEASURED)
    words = (metric, "--catalog", str(MEASURED), "--subjects", "50,2_000", "--kiosk-subjects", "7")
    wanted = plan(question_of(catalog.metrics[metric]), [50, 2_000], 7, [0.05])
    said = json.loads(planned(capsys, *words, "--half-width", "5%", "--json"))
    assert msgspec.convert(said, Plan) == wanted
    text = planned(capsys, *words, "--half-width", "0.05")
    for one in wanted.chosen.at:
        assert error_text(wanted.kind, one.half_width) in text
    assert f"{wanted.chosen.needed[0].subjects:,}" in text
    assert f"epsilon {wanted.epsilon:g} of the 4" in text
    assert all(other.mechanism in text for other in wanted.alternatives)
    assert "@" not in text.splitlines()[0].replace("@1:", ""), "a name that nobody wrote"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("spent", "--catalog", str(MEASURED)), "(customers_by_country views_band"),
        (("spend", "--catalog", str(MEASURED), "--subjects", "many"), "numbers of subjects like 100,1000"),
        (("spend", "--catalog", str(MEASURED), "--subjects", "0"), "above 0"),
        (("spend", "--catalog", str(MEASURED), "--half-width", "narrow"), "0.02 or 2%"),
        (("spend", "--catalog", str(MEASURED), "--half-width", "0"), "0.02 or 2%"),
        (("spend", "--catalog", str(MEASURED), "--half-width", "nan"), "0.02 or 2%"),
        (("spend", "--catalog", str(MEASURED), "--kiosk-subjects", "-1"), "above 0"),
    ],
)
def test_law_12_a_plan_that_cannot_be_made_says_what_was_expected(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in planned(capsys, *words, code=USAGE)


async def test_without_a_file_the_plan_is_of_the_catalog_in_force(shell: Shell, shop: ShopServer) -> None:
    """And no round is opened by it."""
    found = await shell.json("plan", METRIC, "--subjects", "10")
    assert (found["kind"], found["min_subjects"]) == ("histogram", 3)
    assert [one["subjects"] for one in found["chosen"]["at"]] == [10]
    assert "shop@1" in await shell.text("plan", "nothing", code=USAGE)
    assert (await shell.json("rounds"))["rounds"] == []
