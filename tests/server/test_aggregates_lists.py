"""The lists of `/v1/aggregates`: metrics with their price, rounds and releases in pages and as tables."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from yarl import URL

from sync_server.api.rooms import REGISTRY
from sync_server.store import aggregates
from tests.support.aggregate_ends import metric_catalog
from tests.support.clock import ManualClock
from tests.support.released import publish, released
from tests.support.shop_server import Answer, ShopServer

RELEASES, ROUNDS = "/v1/aggregates/releases", "/v1/aggregates/rounds"
CSV, PARQUET = {"Accept": "text/csv"}, {"Accept": "application/vnd.apache.parquet"}


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), catalog=None) as server:
        server.app[REGISTRY].register(metric_catalog(names=2), server.clock.now_us())
        yield server


async def asked(shop: ShopServer, times: int, metric: str = "countries_0") -> list[str]:
    """So many rounds, each released with one number; the newest first."""
    made: list[str] = []
    for number in range(times):
        shop.clock.advance(seconds=1)
        reply = await shop.call("POST", f"/v1/aggregates/{metric}/rounds", {"closes_in_s": 60})
        made.insert(0, reply.body["round"])
        at_us = shop.clock.now_us()
        numbers = {"UK": (0.1, number / 100, 0.9)}
        more = {"round": made[0], "metric": metric, "closed_at_us": at_us}
        publish(shop.store, released("histogram", numbers, **more))
    return made


async def walked(shop: ShopServer, path: str, what: str, limit: int) -> list[str]:
    """The rounds on all pages of a list."""
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await shop.call("GET", URL(path).update_query(limit=limit, **after))).body
        assert len(page[what]) <= limit
        found += [one["round"] for one in page[what]]
        if page["next"] is None:
            return found
        after = {"after": page["next"]}


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 100])
async def test_pages_hold_every_round_once_newest_first(shop: ShopServer, limit: int) -> None:
    """Of all, and of one metric; rounds that opened in the same moment too."""
    made = await asked(shop, 5)
    twin = (await shop.call("POST", "/v1/aggregates/countries_1/rounds", {"closes_in_s": 9})).body["round"]
    assert await walked(shop, RELEASES, "releases", limit) == made
    assert await walked(shop, "/v1/aggregates/countries_0/releases", "releases", limit) == made
    both = sorted([twin, made[0]])
    assert await walked(shop, ROUNDS, "rounds", limit) == [*both, *made[1:]]
    assert await walked(shop, ROUNDS + "?metric=countries_1", "rounds", limit) == [twin]
    assert await walked(shop, "/v1/aggregates/countries_0/rounds", "rounds", limit) == made


async def test_law_11_a_page_ends_before_large_releases_fill_the_memory(
    shop: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for no more than one, each comes by itself; all of them come."""
    made = await asked(shop, 4)
    monkeypatch.setattr(aggregates, "PAGE_BYTES", 1)
    first = (await shop.call("GET", RELEASES)).body
    assert ([one["round"] for one in first["releases"]], first["next"]) == (made[:1], made[0])
    assert await walked(shop, RELEASES, "releases", 100) == made
    assert await walked(shop, ROUNDS, "rounds", 100) == made


@pytest.mark.parametrize("after", ["0" * 32, "nonsense", ""])
async def test_law_12_an_after_that_was_no_page_is_refused(shop: ShopServer, after: str) -> None:
    for path in (RELEASES, ROUNDS):
        reply = await shop.call("GET", f"{path}?after={after}")
        assert (reply.status, reply.body["code"]) == (400, "malformed_query")


async def test_a_round_of_the_list_says_how_far_it_is(shop: ShopServer) -> None:
    """Open, then withheld; closed when its time was over and somebody looked."""
    await asked(shop, 1)
    shop.clock.advance(seconds=1)
    await shop.call("POST", "/v1/aggregates/countries_1/rounds", {"closes_in_s": 60})

    async def states() -> list[str]:
        page = (await shop.call("GET", ROUNDS)).body["rounds"]
        assert [one["closed_at_us"] is None for one in page] == [one["state"] == "open" for one in page]
        return [one["state"] for one in page]

    assert await states() == ["open", "released"]
    shop.clock.advance(seconds=61)
    assert await states() == ["withheld", "released"]


async def test_the_list_of_releases_is_a_table_for_who_asks_for_one(shop: ShopServer) -> None:
    """CSV and Parquet by `Accept`, the same rows; the next page by `Link`, and caches are told."""
    made = await asked(shop, 3)
    reply = await shop.call("GET", RELEASES, headers=CSV)
    assert reply.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert reply.headers["Vary"] == "Accept"
    told = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
    assert [row["round"] for row in told] == made
    reply = await shop.call("GET", "/v1/aggregates/countries_0/releases?limit=2", headers=PARQUET)
    assert pyarrow.parquet.read_table(io.BytesIO(reply.body)).column("round").to_pylist() == made[:2]
    assert await followed(shop, reply) == made[2:]


async def followed(shop: ShopServer, reply: Answer) -> list[Any]:
    """The rounds of the page that a reply links to."""
    link = re.fullmatch(r'<([^>]+)>; rel="next"', reply.headers["Link"])
    assert link is not None
    last = await shop.call("GET", link[1], headers=PARQUET)
    assert "Link" not in last.headers
    return list(pyarrow.parquet.read_table(io.BytesIO(last.body)).column("round").to_pylist())


async def test_a_form_that_is_not_there_is_a_problem_that_says_what_helps(
    shop: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown: the forms are named. Parquet without its package: what to install, and JSON goes on."""
    reply = await shop.call("GET", RELEASES, headers={"Accept": "image/png"})
    assert (reply.status, reply.body["code"]) == (406, "not_acceptable")
    assert "text/csv" in reply.body["detail"]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reply = await shop.call("GET", RELEASES, headers=PARQUET)
    assert (reply.status, reply.body["code"]) == (406, "not_acceptable")
    assert "edge-runtime[parquet]" in reply.body["detail"]
    assert (await shop.call("GET", RELEASES)).status == 200


async def test_metrics_say_what_a_round_costs_and_why_none_can_be_opened(shop: ShopServer) -> None:
    """Of the active catalog, each with everything that an analyst weighs."""
    found = {one["metric"]: one for one in (await shop.call("GET", "/v1/aggregates/metrics")).body["metrics"]}
    one = found["countries_0"]
    assert (one["epsilon"], one["epsilon_ceiling"], one["window_days"], one["min_subjects"]) == (1, 4, 1, 3)
    assert (one["purposes"], one["of"]) == (["measurement", "personalization"], "profile@1:country")
    assert (one["mechanism"] is None) != (one["reason"] is None)


async def test_without_a_catalog_there_are_no_metrics(tmp_path: Path) -> None:
    async with ShopServer(tmp_path / "bare", ManualClock(), catalog=None) as bare:
        reply = await bare.call("GET", "/v1/aggregates/metrics")
    assert (reply.status, reply.body["code"]) == (503, "no_catalog")
