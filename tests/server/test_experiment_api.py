"""What the server says of an experiment: over HTTP, and as `edge-sync aggregates experiment` says it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from sync_server.aggregates.experiments.report import ExperimentReport
from sync_server.aggregates.release import Release
from sync_server.api.rooms import REGISTRY
from sync_server.cli.told import REFUSED, USAGE
from tests.support.clock import ManualClock
from tests.support.experiments import NAME, experiment_table, shop
from tests.support.released import publish, released, withheld
from tests.support.shell import Shell
from tests.support.shop_server import ShopServer

CELLS = ("unexposed", "control/no", "control/yes", "treatment/no", "treatment/yes")
CATALOG = shop(**{NAME: experiment_table(arms={"control": 1, "treatment": 1})})
PATH = f"/v1/aggregates/{NAME}/uplift"
UP, FLAT, LOST = (0.1, 0.36, 0.09, 0.27, 0.18), (0.1, 0.36, 0.09, 0.36, 0.09), (0.3, 0.36, 0.09, 0.18, 0.07)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), catalog=None) as made:
        made.app[REGISTRY].register(CATALOG, made.clock.now_us())
        yield made


@pytest.fixture
def shell(server: ShopServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(server, capsys, prefix=("aggregates",))


async def ended(
    server: ShopServer, shares: tuple[float, ...] | None, n: int = 20_000, metric: str = NAME
) -> Release:
    """A round that came to these shares of the cells; None: to nothing."""
    made = (await server.call("POST", f"/v1/aggregates/{metric}/rounds", {"closes_in_s": 3600})).body
    server.clock.advance(seconds=60)
    more = {
        "round": made["round"],
        "metric": metric,
        "epsilon": 4.0,
        "opened_at_us": made["opened_at_us"],
        "closed_at_us": server.clock.now_us(),
    }
    if shares is None:
        release = withheld("histogram", **more)
    else:
        numbers = {cell: (s, s, s) for cell, s in zip(CELLS, shares, strict=True)}
        release = released("histogram", numbers, n=n, reports=n, **more)
    publish(server.store, release)
    return release


async def test_the_newest_release_is_judged_or_that_of_a_round(server: ShopServer) -> None:
    first, second = await ended(server, UP), await ended(server, FLAT)
    newest = await server.call("GET", PATH)
    assert newest.status == 200
    told = msgspec.convert(newest.body, ExperimentReport)
    assert (told.round, told.epsilon) == (second.round, 4.0)
    assert told.result is not None
    assert told.result.comparisons[0].verdict == "no_difference_shown"
    before = (await server.call("GET", f"{PATH}?round={first.round}")).body["result"]
    assert before["comparisons"][0]["verdict"] == "up"
    assert before["comparisons"][0]["uplift"] == pytest.approx(0.2)
    assert [arm["arm"] for arm in before["arms"]] == ["control", "treatment"]


async def test_looks_and_alpha_widen_the_intervals(server: ShopServer) -> None:
    await ended(server, UP)
    widths = []
    for query in ("", "?looks=4", "?looks=4&alpha=0.01"):
        low, high = (await server.call("GET", PATH + query)).body["result"]["comparisons"][0]["interval"]
        widths.append(high - low)
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


async def test_a_withheld_release_has_no_result(server: ShopServer) -> None:
    await ended(server, None)
    told = (await server.call("GET", PATH)).body
    assert (told["status"], told["result"]) == ("withheld", None)
    assert told["reason"] == "fewer than 50 subjects answered"


async def test_weights_are_those_of_the_round_not_of_a_later_catalog(server: ShopServer) -> None:
    """Else the sample ratio would cry over a change that came after."""
    await ended(server, FLAT)
    table = CATALOG.to_dict()
    table["catalog"]["version"] = 2
    table["experiments"][NAME]["arms"]["treatment"] = 9
    registry = server.app[REGISTRY]
    later = type(CATALOG).from_dict(table)
    registry.register(later, server.clock.now_us())
    registry.activate(later.name, later.version)
    told = (await server.call("GET", PATH)).body["result"]
    assert [arm["weight"] for arm in told["arms"]] == [1, 1]
    assert not told["sample_ratio"]["alarm"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (PATH, 404, "not_found"),
        (f"{PATH}?round={'0' * 32}", 404, "not_found"),
        ("/v1/aggregates/ghost/uplift", 404, "not_found"),
        (f"{PATH}?round=00", 400, "malformed_query"),
        (f"{PATH}?looks=0", 400, "malformed_query"),
        (f"{PATH}?looks=1001", 400, "malformed_query"),
        (f"{PATH}?alpha=0.2", 400, "malformed_query"),
        (f"{PATH}?colour=red", 400, "malformed_query"),
    ],
)
async def test_law_12_what_is_asked_wrongly_has_a_code(
    server: ShopServer, path: str, status: int, code: str
) -> None:
    found = await server.call("GET", path)
    assert (found.status, found.body["code"]) == (status, code)


async def test_a_metric_that_is_no_experiment_has_no_uplift(server: ShopServer) -> None:
    await ended(server, None, metric="buyers")
    assert (await server.call("GET", "/v1/aggregates/buyers/uplift")).status == 404
    found = await server.call("GET", "/v1/aggregates/buyers/uplift")
    assert "is none" in found.body["detail"]
    of_another = (await ended(server, UP)).round
    assert (await server.call("GET", f"/v1/aggregates/buyers/uplift?round={of_another}")).status == 404


async def test_the_command_says_it_in_words_and_scripts_get_the_document(
    server: ShopServer, shell: Shell
) -> None:
    text = await shell.text("experiment", NAME, code=REFUSED)
    assert "nothing of the experiment was released yet: open a round" in text
    assert "Check the path" not in text
    assert "declares no such experiment" in await shell.text("experiment", "buyers", code=REFUSED)
    first = await ended(server, UP)
    text = await shell.text("experiment", NAME)
    assert "1 comparison, 1 look planned" in text
    assert "UP: +20.00 points" in text
    assert "against control; relative +100.0 %" in text
    assert "20,000 subjects, 10.00 % of them not exposed" in text
    document = msgspec.convert(await shell.json("experiment", NAME), ExperimentReport)
    assert document.round == first.round
    await ended(server, FLAT)
    assert "no difference shown: " in await shell.text("experiment", NAME)
    assert "UP: " in await shell.text("experiment", NAME, "--round", first.round[:8])
    await ended(server, LOST)
    assert "ALARM" in await shell.text("experiment", NAME, code=REFUSED)
    await ended(server, (0.96, 0.01, 0.01, 0.01, 0.01), n=100)
    assert "too few were exposed to tell" in await shell.text("experiment", NAME)
    await ended(server, None)
    assert "No number: fewer than 50" in await shell.text("experiment", NAME, code=REFUSED)


async def test_the_plan_is_said_in_words_and_numbers(shell: Shell) -> None:
    text = await shell.text("experiment-plan", "--baseline", "0.2", "--uplift", "0.05")
    assert "subjects show an uplift of +5 points over a baseline of 20 %" in text
    plan = (await shell.json("experiment-plan", "--baseline", "0.2", "--uplift", "0.05"))["plan"]
    back = await shell.json("experiment-plan", "--baseline", "0.2", "--subjects", str(plan["subjects"]))
    assert back["plan"]["uplift"] == pytest.approx(0.05, rel=0.01)
    few = await shell.text(
        "experiment-plan", "--baseline", "0.2", "--subjects", "9", "--epsilon", "1/4", code=REFUSED
    )
    assert "too few" in few
    for wrong in (["--weights", "1"], ["--weights", "x:y"], ["--epsilon", "none"], ["--looks", "0"]):
        told = await shell.text(
            "experiment-plan", "--baseline", "0.2", "--uplift", "0.05", *wrong, code=USAGE
        )
        assert "edge-sync:" in told
