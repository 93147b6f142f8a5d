"""The drift of released histograms at the door and at the terminal."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge_runtime.catalog import Catalog
from sync_server.aggregates.drift.report import ALARM_AT, DriftReport, comparable, report_of
from sync_server.aggregates.release import Release
from sync_server.api.rooms import API_TOKEN, REGISTRY, ROUNDS, STORE
from sync_server.app import build_app
from sync_server.cli.aggregate_drift import drift_text
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.released import CLOSED_US, publish, released, withheld
from tests.support.shell import Shell
from tests.support.shop_server import ShopServer

TOML = """
[catalog]
name = "shop"
version = 1
[purposes.measurement]
title = "t"
legal_basis = "consent"
lease = "24h"
retention = "30d"
[entities.user]
personal = true
[views.profile]
version = 1
entity = "user"
source = "server"
purpose = "measurement"
ttl = "7d"
owner = "crm"
[views.profile.features]
country = { dtype = "string", values = ["UK", "DE", "FR"], default = "FR" }
[metrics.countries]
purpose = "measurement"
kind = "histogram"
of = "profile:country"
epsilon = 1.0
min_subjects = 3
window = "30d"
reference = [0.5, 0.3, 0.2]
drift_alarm = 0.2
[metrics.plain]
purpose = "measurement"
kind = "histogram"
of = "profile:country"
epsilon = 1.0
min_subjects = 3
window = "30d"
[metrics.counted]
purpose = "measurement"
kind = "count"
of = "profile:country"
epsilon = 1.0
min_subjects = 3
window = "30d"
"""
NEAR, FAR = (0.49, 0.31, 0.2), (0.15, 0.3, 0.55)


def catalog_file(folder: Path) -> Path:
    file = folder / "catalog.toml"
    file.write_text(TOML)
    return file


def countries(shares: tuple[float, ...], n: int, **more: Any) -> Release:
    numbers = dict(zip(("UK", "DE", "FR"), ((s, s, s) for s in shares), strict=True))
    return released("histogram", numbers, metric="countries", n=n, reports=n, **more)


class Door:
    """A real app, and rounds that are released by hand."""

    def __init__(self, client: TestClient[Any, Any], clock: ManualClock) -> None:
        self.client, self.clock = client, clock
        self.auth = {"Authorization": f"Bearer {client.app[API_TOKEN]}"}

    async def ask(self, path: str) -> tuple[int, Any]:
        async with self.client.get(f"/v1/aggregates/{path}", headers=self.auth) as reply:
            return reply.status, await reply.json(content_type=None)

    def release(self, found: Release) -> str:
        """Open a round, and publish `found` as its release; its id."""
        self.clock.advance(seconds=60)
        id_ = open_round(self.client.app, found.metric)
        made = msgspec.structs.replace(found, round=id_, closed_at_us=self.clock.now_us())
        publish(self.client.app[STORE], made)
        return id_


def open_round(app: Any, metric: str) -> str:
    with app[STORE].write("open") as tx:
        row, _ = app[ROUNDS].open(tx, app[REGISTRY].active.model, metric, 3_600_000_000)
    found: str = row.id.hex()
    return found


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = ManualClock()
    app = build_app(Settings(data_dir=tmp_path), clock)
    app[REGISTRY].register(Catalog.load(catalog_file(tmp_path)), clock.now_us())
    async with TestClient(TestServer(app)) as client:
        yield Door(client, clock)


async def test_the_newest_release_with_numbers_is_held_against_the_reference(door: Door) -> None:
    """First no drift, then an alarm; a withheld round after it changes nothing."""
    near = door.release(countries(NEAR, 20_000))
    status, said = await door.ask("countries/drift")
    assert (status, said["verdict"], said["round"], said["against"]) == (200, "none", near, "reference")
    far = door.release(countries(FAR, 20_000))
    door.release(withheld("histogram", metric="countries"))
    _, said = await door.ask("countries/drift?against=reference")
    found = msgspec.convert(said, DriftReport)
    assert (found.verdict, found.round, found.alarm_at, found.n) == ("alarm", far, 0.2, 20_000)
    assert found.stability_index.ci95[0] > 0.2
    assert 0 < found.jensen_shannon.ci95[0] < found.jensen_shannon.estimate < 1
    assert [(c.category, c.before) for c in found.categories] == [("UK", 0.5), ("DE", 0.3), ("FR", 0.2)]


async def test_why_there_is_nothing_to_compare_is_told(door: Door) -> None:
    """Another kind; nothing released yet; only what was withheld."""
    for path, why in (
        ("counted/drift?against=previous", "drift is told of histograms; this metric is a count"),
        ("countries/drift", "nothing of the metric was released yet"),
    ):
        status, said = await door.ask(path)
        assert (status, said["code"]) == (404, "not_found")
        assert why in said["detail"]
    door.release(withheld("histogram", metric="countries"))
    _, said = await door.ask("countries/drift")
    assert "withheld, or asked otherwise" in said["detail"]


async def test_two_releases_are_compared_by_name_or_round(door: Door) -> None:
    """The one before, or any by its round; both are noised, so the interval is wider than the reference's."""
    first = door.release(countries((0.5, 0.3, 0.2), 5000))
    door.release(countries((0.45, 0.3, 0.25), 5000))
    last = door.release(countries(FAR, 5000))
    _, previous = await door.ask("countries/drift?against=previous")
    _, oldest = await door.ask(f"countries/drift?against={first}")
    assert (previous["round"], oldest["round"], oldest["against"]) == (last, last, first)
    assert oldest["against_n"] == 5000
    assert previous["stability_index"]["estimate"] < oldest["stability_index"]["estimate"]
    _, known = await door.ask("countries/drift")
    widths = [r["stability_index"]["ci95"][1] - r["stability_index"]["ci95"][0] for r in (oldest, known)]
    assert widths[0] > widths[1]
    assert (await door.ask("countries/drift?against=previous"))[1] == previous


async def test_what_cannot_be_compared_says_why(door: Door) -> None:
    assert (await door.ask("nothing/drift"))[1]["code"] == "unknown_metric"
    assert (await door.ask("countries/drift?against=yesterday"))[1]["code"] == "malformed_query"
    assert (await door.ask("plain/drift"))[1]["code"] == "not_found"
    assert (await door.ask("counted/drift?against=previous"))[1]["code"] == "not_found"
    assert (await door.ask("countries/drift"))[1]["code"] == "not_found"
    door.release(countries(NEAR, 100))
    assert (await door.ask("countries/drift?against=previous"))[1]["code"] == "not_found"
    assert (await door.ask(f"countries/drift?against={'0' * 32}"))[1]["code"] == "not_found"
    async with door.client.get("/v1/aggregates/countries/drift") as reply:
        assert reply.status == 401


def test_releases_of_other_categories_are_not_comparable() -> None:
    metric = Catalog.from_dict(_document()).metrics["countries"]
    assert comparable(countries(NEAR, 10), metric)
    assert not comparable(released("histogram", {"UK": (0, 1, 1)}, metric="countries"), metric)
    assert not comparable(withheld("histogram", metric="countries"), metric)


def _document() -> dict[str, Any]:

    return tomllib.loads(TOML)


def test_a_reference_that_a_release_meets_is_judged_by_the_custom_without_an_alarm() -> None:
    """No `drift_alarm`: 0.25. Two releases with the same numbers have no drift."""
    metric = Catalog.from_dict(_document()).metrics["plain"]
    now, before = countries(NEAR, 9000), countries(NEAR, 9000, round="7f" * 16)
    found = report_of(metric, now, before)
    assert (found.alarm_at, found.verdict) == (ALARM_AT, "none")
    assert found.stability_index.estimate == found.jensen_shannon.estimate == 0
    assert found == report_of(metric, now, before)
    assert found.closed_at_us == CLOSED_US


def test_the_text_says_what_the_verdict_means() -> None:
    metric = Catalog.from_dict(_document()).metrics["countries"]
    text = drift_text(report_of(metric, countries(FAR, 20_000), None))
    assert "against the reference that the catalog declares" in text
    assert "FR        55.0 %  20.0 %   +35.0" in text
    assert "alarm: It has moved" in text
    small = drift_text(report_of(metric, countries(NEAR, 40), countries(FAR, 40, round="7f" * 16)))
    assert "against round 7f7f7f7f, 40 subjects" in small
    assert "unsure: Too few subjects to say" in small or "watch" in small


async def test_a_shell_exits_with_1_for_an_alarm_and_4_where_it_cannot_be_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`edge-sync aggregates drift`: an unsure fleet is not taken for all clear."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "data", clock, catalog=catalog_file(tmp_path)) as shop:
        shell = Shell(shop, capsys, prefix=("aggregates",))
        ids = []
        for shares, n, code in ((FAR, 20_000, 1), (NEAR, 40, 4), (NEAR, 20_000, 0)):
            clock.advance(seconds=60)
            ids.append(open_round(shop.app, "countries"))
            found = countries(shares, n, round=ids[-1])
            publish(shop.app[STORE], msgspec.structs.replace(found, closed_at_us=clock.now_us()))
            await shell.text("drift", "countries", code=code)
        said = msgspec.convert(await shell.json("drift", "countries"), DriftReport)
        assert (said.verdict, said.round) == ("none", ids[-1])
