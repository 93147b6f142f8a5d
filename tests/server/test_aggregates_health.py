"""Health of views: what the newest releases say, or why nothing is known; no number that was not released."""

from __future__ import annotations

import copy
import random
import tomllib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge_runtime.aggregates.mechanisms import definition, input_of, mechanism_for, question_of
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.statuses import COUNTED
from sync_server.aggregates.health import Health, Measure, Published, ViewHealth, health, watched
from sync_server.aggregates.release import Figure, Release, freeze, make_release
from sync_server.api.rooms import API_TOKEN, REGISTRY, STORE
from sync_server.app import build_app
from sync_server.cli.aggregate_health import health_text
from sync_server.settings import Settings
from sync_server.store.aggregates import RoundRow
from tests.support.broken_catalog import Change, drop, put
from tests.support.clock import ManualClock
from tests.support.released import publish
from tests.support.shell import Shell
from tests.support.shop import BASE_US
from tests.support.shop_server import ShopServer

FILE = Path(__file__).parents[2] / "examples" / "catalogs" / "measured.toml"
STATUS, AGE = "profile_status", "profile_age"


def measured(*changes: Change) -> Catalog:
    table: dict[str, Any] = copy.deepcopy(tomllib.loads(FILE.read_text()))
    for change in changes:
        change(table)
    return Catalog.from_dict(table)


def release(metric: str, **more: Any) -> Release:
    """One as it is published, of a kind that the estimator is not needed for."""
    kind = measured().metrics[metric].kind
    common = {"round": "5e" * 16, "metric": metric, "status": "released", "min_subjects": 50, "epsilon": 0.5}
    return Release(**{**common, "opened_at_us": 0, "closed_at_us": BASE_US, "kind": kind, **more})


AGES = release(
    AGE, n=900, estimate={"0.5": 5400.0, "0.9": 90_000.0}, ci95={"0.5": (5e3, 6e3), "0.9": (8e4, 1e5)}
)
WITHHELD = release(STATUS, status="withheld", reason="fewer than 50 subjects answered")


def newest(catalog: Catalog, *found: Release) -> dict[str, Published]:
    return {r.metric: Published(definition(catalog.metrics[r.metric]), r) for r in found}


def view(found: Health, key: str) -> ViewHealth:
    return next(one for one in found.views if one.view == key)


def answered(catalog: Catalog, truth: Counter[str], seed: int) -> Release:
    """The release of a round in which so many subjects with each status answered with real noise."""
    metric = catalog.metrics[STATUS]
    question, rng = question_of(metric), random.Random(seed)
    mechanism, tally = mechanism_for(question), Counter[int]()
    for status in truth.elements():
        index = input_of(question, status)
        assert index is not None
        moves = mechanism.moves(mechanism.randomize(index, rng.randrange))
        assert moves is not None
        for cell, amount in moves:
            tally[cell] += amount
    n = truth.total()
    row = RoundRow(b"\x01" * 16, STATUS, b"", b"", b"", BASE_US, BASE_US + 9, None, n, n)
    return make_release(row, freeze(catalog.model, metric, 1), tally, {}, BASE_US + 9)


def test_completeness_is_the_share_of_present_with_its_interval() -> None:
    """Of 4,000 subjects, through the real mechanism and the real estimator."""
    catalog = measured()
    truth = Counter({"PRESENT": 3_000, "NOT_SYNCED": 700, "EXPIRED": 300})
    found = view(health(catalog.model, newest(catalog, answered(catalog, truth, 20261130))), "profile@1")
    (told,) = found.completeness
    assert (told.state, told.n, told.closed_at_us) == ("released", 4_000, BASE_US + 9)
    assert list(told.figures) == list(COUNTED)
    assert found.present == told.figures["PRESENT"]
    for status, figure in told.figures.items():
        low, high = figure.ci95
        assert low <= truth[status] / 4_000 <= high, status


def test_freshness_is_the_ages_that_were_released() -> None:
    catalog = measured()
    (told,) = view(health(catalog.model, newest(catalog, AGES)), "profile@1").freshness
    assert (told.metric, told.feature, told.kind, told.n) == (AGE, "country", "quantile", 900)
    assert told.figures == {"0.5": Figure(5400.0, (5e3, 6e3)), "0.9": Figure(90_000.0, (8e4, 1e5))}


def test_law_9_what_was_withheld_shows_no_number_and_why() -> None:
    catalog = measured()
    found = view(health(catalog.model, newest(catalog, WITHHELD)), "profile@1")
    (told,) = found.completeness
    assert (told.state, told.n, told.figures) == ("withheld", None, {})
    assert told.reason == "fewer than 50 subjects answered"
    assert found.present is None


def test_of_two_metrics_the_newest_that_was_released_gives_the_share() -> None:
    """A later one that was withheld hides no number, and is told beside it."""
    catalog = measured(put("metrics/again", measured().to_dict()["metrics"][STATUS]))
    known = answered(catalog, Counter(PRESENT=80), 3)
    later = msgspec.structs.replace(WITHHELD, metric="again", closed_at_us=BASE_US + 10)
    found = view(health(catalog.model, newest(catalog, known, later)), "profile@1")
    assert [one.state for one in found.completeness] == ["released", "withheld"]
    assert found.present == found.completeness[0].figures["PRESENT"]


def test_a_view_that_nobody_watches_says_so_and_one_without_subjects_cannot_be() -> None:
    shared = {"entity": "item", "source": "server", "ttl": 0, "features": {"size": {"dtype": "int64"}}}
    found = health(measured(put("views/stock", shared)).model, {})
    assert [one.view for one in found.views] == ["activity@1", "profile@1"]
    assert view(found, "activity@1") == ViewHealth("activity@1", "personalization", None, [], [])
    assert found.without_subjects == ["stock@1"]


def test_a_metric_that_was_not_asked_is_told_apart_from_one_that_was() -> None:
    catalog = measured()
    (told,) = view(health(catalog.model, {}), "profile@1").completeness
    reason = "no round of it was released yet"
    assert told == Measure(
        metric=STATUS, feature="country", kind="histogram", state="not_asked", reason=reason
    )


@pytest.mark.parametrize(
    "change",
    [
        put(f"metrics/{STATUS}/epsilon", 1.0),
        put(f"metrics/{STATUS}/of", "activity:views_7d"),
        put("views/profile/version", 2),
    ],
)
def test_a_release_of_another_definition_is_not_taken_for_this_one(change: Change) -> None:
    """It spoke of another view, or at another price."""
    before, after = measured(), measured(change)
    found = health(after.model, newest(before, answered(before, Counter(PRESENT=80), 1)))
    (told,) = [m for one in found.views for m in one.completeness]
    assert (told.state, told.figures) == ("not_asked", {})
    assert told.reason == "its last round asked for another definition"


def test_only_metrics_of_status_and_age_are_looked_at() -> None:
    assert watched(measured().model) == [STATUS, AGE]
    assert watched(measured(drop(f"metrics/{AGE}")).model) == [STATUS]


def test_a_metrics_own_view_is_watched_only_where_somebody_asks() -> None:
    of = {"entity": "user", "event": "buy", "op": "count"}
    catalog = measured(put(f"metrics/{STATUS}/of", of))
    key = catalog.metrics[STATUS].of.view
    assert [one.view for one in health(catalog.model, {}).views] == ["activity@1", "profile@1", key]
    assert len(view(health(catalog.model, {}), key).completeness) == 1


def test_people_read_shares_ages_and_what_is_missing() -> None:
    catalog = measured()
    some = newest(catalog, answered(catalog, Counter(PRESENT=900, EXPIRED=100), 7), AGES)
    text = health_text(health(catalog.model, some))
    assert "completeness: PRESENT " in text
    assert "freshness: 50 % under 1.5 h [1.39 h … 1.67 h], 90 % under 1.04 d [22.2 h … 1.16 d]" in text
    assert "completeness: no metric declared" in text
    assert "no metric watches yet: activity@1" in text
    silent = health_text(health(catalog.model, newest(catalog, WITHHELD)))
    assert "completeness: withheld, fewer than 50 subjects answered" in silent
    assert "freshness: not known, no round of it was released yet" in silent
    assert not any(sign in silent for sign in "%[")


# ---- at the door -------------------------------------------------------------------------------------------


class Door:
    """The door of a real app with the measured catalog."""

    def __init__(self, client: TestClient[Any, Any], clock: ManualClock) -> None:
        self.client, self.clock = client, clock
        self.auth = {"Authorization": f"Bearer {client.app[API_TOKEN]}"}

    async def ask(self, verb: str, path: str, body: object = None) -> Any:
        async with self.client.request(verb, f"/v1/aggregates{path}", json=body, headers=self.auth) as reply:
            assert reply.status < 300, await reply.text()
            return await reply.json()

    async def health(self) -> Health:
        return msgspec.convert(await self.ask("GET", "/health"), Health)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = ManualClock(BASE_US)
    app = build_app(Settings(data_dir=tmp_path), clock)
    app[REGISTRY].register(measured(), clock.now_us())
    async with TestClient(TestServer(app)) as client:
        yield Door(client, clock)


async def test_the_door_tells_the_newest_release_of_each_metric(door: Door) -> None:
    """First that nothing was asked, then what was released, then the newer one."""
    assert view(await door.health(), "profile@1").completeness[0].state == "not_asked"
    for present in (60, 90):
        made = await door.ask("POST", f"/{STATUS}/rounds", {"closes_in_s": 60})
        door.clock.advance(seconds=30)
        found = answered(measured(), Counter(PRESENT=present), present)
        found = msgspec.structs.replace(found, round=made["round"], closed_at_us=door.clock.now_us())
        publish(door.client.app[STORE], found)
        (told,) = view(await door.health(), "profile@1").completeness
        assert (told.state, told.n, told.round) == ("released", present, made["round"])


async def test_a_round_that_nobody_answered_is_withheld_at_the_door_too(door: Door) -> None:
    made = await door.ask("POST", f"/{STATUS}/rounds", {"closes_in_s": 60})
    await door.ask("POST", f"/{STATUS}/rounds/{made['round']}/close")
    (told,) = view(await door.health(), "profile@1").completeness
    assert (told.state, told.n, told.figures) == ("withheld", None, {})
    assert told.reason is not None


async def test_only_an_analyst_sees_it(door: Door) -> None:
    async with door.client.get("/v1/aggregates/health") as reply:
        assert reply.status == 401


async def test_a_shell_gets_the_table_and_scripts_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edge-sync aggregates health`, at a server that has asked nothing yet."""
    async with ShopServer(tmp_path / "data", ManualClock(BASE_US), catalog=FILE) as shop:
        shell = Shell(shop, capsys, prefix=("aggregates",))
        told = msgspec.convert(await shell.json("health"), Health)
        assert [one.view for one in told.views] == ["activity@1", "profile@1"]
        text = await shell.text("health")
        assert "no round of it was released yet" in text
        assert "activity@1" in text
