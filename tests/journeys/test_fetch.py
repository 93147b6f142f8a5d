"""Rows on demand from both ends: real store, real runtimes, frames handed over one by one; then sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import edge_runtime as er
from edge_runtime.errors import SyncError
from edge_runtime.sync.fetch import FetchAnswer
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.sync.door import SyncDoor
from tests.support.clock import ManualClock
from tests.support.shop_server import CATALOG, ShopServer
from tests.support.town import ALICE, P, Town
from tests.support.warm import HOUR_S, Device, live, publish, vec, warm_town, with_alice

PATIENCE_S = 20


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town")
    yield made
    made.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Iterator[Device]:
    made = Device(town, tmp_path / "device")
    yield made
    made.close()


# ---- the plain way -------------------------------------------------------------------------------------


def test_a_warm_row_is_not_synced_then_fetched_and_present_until_its_ttl(town: Town, device: Device) -> None:
    """And what the server does not have is NOT_FOUND as long; channels know of nothing."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0], rank=0.25)
    town.put(3)
    session = live(device)
    stands = device.stands()
    assert (vec(device), vec(device, "b")) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    fetch = device.rt.fetch("item_vec", item=["a", "b"])
    assert not fetch.done
    assert vec(device) is er.Status.NOT_SYNCED  # asking waits for nobody
    session.settle()
    answer = fetch.wait(0)
    assert (answer.found, answer.absent) == (1, 1)
    found = device.rt.read("item_vec:look", item="a")
    assert (found.status, found.value) == (er.Status.PRESENT, [1.0, 2.0])
    assert device.rt.vector("near", item="a").values.tolist() == [0.25]
    assert device.rt.matrix("near", item=["a", "b"]).values[:, 0].tolist() == [0.25, 0.5]
    assert vec(device, "b") is er.Status.NOT_FOUND
    assert vec(device, "never-asked") is er.Status.NOT_SYNCED
    device.clock.advance(seconds=HOUR_S)
    assert (vec(device), vec(device, "b")) == (er.Status.PRESENT, er.Status.NOT_FOUND)
    device.clock.advance(us=1)
    assert (vec(device), vec(device, "b")) == (er.Status.EXPIRED, er.Status.EXPIRED)
    assert device.stands() == stands
    assert session.device.caught_up
    session.close()


def test_what_is_fetched_again_is_as_it_stands_now(town: Town, device: Device) -> None:
    """Newer, gone, and there again: each fetch tells the present."""
    session = live(device)
    seen = []
    for change in ("absent", "first", "newer", "deleted", "again"):
        device.clock.advance(seconds=1)
        if change in ("first", "newer", "again"):
            publish(town, "item_vec", "item:a", rank={"first": 0.1, "newer": 0.2, "again": 0.3}[change])
        elif change == "deleted":
            publish(town, "item_vec", "item:a", deleted=True)
        device.rt.fetch("item_vec", item="a")
        session.settle()
        found = device.rt.read("item_vec:rank", item="a")
        seen.append((found.value, found.reason.partition(":")[0]))
    assert seen == [(0.5, "NOT_FOUND"), (0.1, ""), (0.2, ""), (0.5, "NOT_FOUND"), (0.3, "")]
    session.close()


def test_a_restart_keeps_what_was_fetched_and_forgets_what_was_only_wanted(
    town: Town, tmp_path: Path
) -> None:
    """Rows rest on disk, personal ones sealed; whoever waits for the rest is told that it will not come."""
    device = Device(town, tmp_path / "device")
    session = with_alice(device)
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    device.rt.fetch("item_vec", item=["a", "b"])
    device.rt.fetch("taste", user="alice", item="a")
    session.settle()
    session.close()
    waiting = device.rt.fetch("item_vec", item="c")
    device.close()
    with pytest.raises(er.RuntimeClosed):
        waiting.wait(0)
    again = Device(town, tmp_path / "device")
    assert (vec(again), vec(again, "b"), vec(again, "c")) == (
        er.Status.PRESENT,
        er.Status.NOT_FOUND,
        er.Status.NOT_SYNCED,
    )
    session = live(again)  # a lease first
    assert again.rt.read("taste:likes", user="alice", item="a").value == 3.0
    session.close()
    again.close()
    for path in (tmp_path / "device").iterdir():
        assert b"item_vec" not in path.read_bytes()


def test_without_a_session_it_waits_and_is_asked_once_in_the_next(town: Town, device: Device) -> None:
    """Wanted five times before it can be sent, asked for once; the session before had ended in between."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    live(device).close()
    fetches = [device.rt.fetch("item_vec", item=["a"]) for _ in range(5)]
    with pytest.raises(SyncError, match="in time"):
        fetches[0].wait(0)
    session = live(device)
    asked = [said for said in session.said if isinstance(said, m.Fetch)]
    assert [ask.entities for ask in asked] == [["item:a"]]
    assert [fetch.wait(0).found for fetch in fetches] == [1] * 5
    session.close()


def test_a_session_that_ends_before_the_answer_is_asked_again_in_the_next(town: Town, device: Device) -> None:
    """Nothing is lost with the socket, and the answer to the first asking is not known in the second."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    session = live(device)
    fetch = device.rt.fetch("item_vec", item="a")
    session.tick()
    late = session.next()
    assert late is not None
    assert isinstance(codec.decode(late), m.Fetched)
    session.close()
    assert not fetch.done
    session = live(device)
    assert fetch.wait(0).found == 1
    session.hand_over(late)
    assert session.said[-1] == m.Refusal(code="out_of_turn", about=codec.decode(late).id.hex())  # type: ignore[union-attr]
    session.close()


# ---- real sockets --------------------------------------------------------------------------------------


async def test_two_threads_fetch_over_a_real_socket_and_all_of_it_comes(town: Town, tmp_path: Path) -> None:
    """Each asks for 600 rows in 60 requests, overlapping; every handle is settled, some awaited."""
    for n in range(0, 600, 2):
        publish(town, "item_vec", f"item:{n}", rank=(n % 100) / 100)
    device, door = Device(town, tmp_path / "device"), SyncDoor(town.node)
    app = web.Application()
    app.router.add_get("/v1/sync", door.handle)
    server = TestServer(app)
    await server.start_server()
    url, rt = str(server.make_url("")), device.rt
    found: list[int] = []

    def fetches(start: int) -> None:
        asked = [
            rt.fetch("item_vec", item=[f"{(n + k) % 600}" for k in range(10)])
            for n in range(start, start + 600, 10)
        ]
        found.extend(fetch.wait(PATIENCE_S).found for fetch in asked)

    settings = SyncSettings(tick_us=HOUR_S * 1_000_000)  # nobody looks by the clock: a fetch must poke
    with await asyncio.to_thread(rt.sync_in_background, url, settings=settings):
        threads = [threading.Thread(target=fetches, args=(start,)) for start in (0, 300)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(PATIENCE_S):
            assert (await rt.fetch("item_vec", item=["0", "1"])).found == 1
        for thread in threads:
            await asyncio.to_thread(thread.join, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            assert (await rt.fetch("item_vec", item="nowhere")).absent == 1
    assert found == [5] * 120
    for n in range(600):
        value = rt.read("item_vec:rank", item=f"{n}").value
        assert value == ((n % 100) / 100 if n % 2 == 0 else 0.5)
    await asyncio.to_thread(device.close)
    await door.close()
    await server.close()


async def test_a_published_warm_row_is_not_pushed_but_fetched(tmp_path: Path) -> None:
    """The whole way: an HTTP publish, a server over a real socket, a runtime that asks; then a withdrawal."""
    clock = ManualClock()
    kiosk, embedding = tmp_path / "kiosk", [0.5] * 16
    kiosk.mkdir()
    warm = tmp_path / "warm.toml"
    warm.write_text(CATALOG.read_text().replace('owner = "crm"', 'owner = "crm"\ntier = "warm"'))
    warm.write_text(warm.read_text().replace("[views.item_vec]", '[views.item_vec]\ntier = "warm"'))
    async with ShopServer(tmp_path / "server", clock, catalog=warm) as server:
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        now_s = clock.now_us() // 1_000_000
        row = {"entity": "item:a", "event_time": now_s, "values": {"embedding": embedding}}
        assert (await server.publish("item_vec", [row])).body["accepted"] == 1
        catalog, key = er.Catalog.load(warm), er.KeyFile(kiosk / "device.key")
        with er.Runtime.open(kiosk / "cache.db", catalog=catalog, key=key, clock=clock) as rt:
            await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token)
            rt.consent.give("alice", [P], notice="2026-11")
            async with asyncio.timeout(PATIENCE_S), rt.sync() as link:
                await link.caught_up()
                head = (await server.call("GET", "/v1/consent-ledger/head")).body["size"]
                hers = {"entity": ALICE, "event_time": now_s, "values": {"country": "FR"}}
                assert (await server.publish("profile", [hers], as_of=head)).body["accepted"] == 1
                await link.caught_up()
                assert rt.read("item_vec:embedding", item="a").status is er.Status.NOT_SYNCED
                assert rt.read("profile:country", user="alice").reason.startswith("NOT_SYNCED")
                assert await rt.fetch("item_vec", item=["a", "b"]) == FetchAnswer(1, 1)
                assert await rt.fetch("profile", user="alice") == FetchAnswer(1, 0)
                assert rt.read("item_vec:embedding", item="a").value == embedding
                assert rt.read("item_vec:embedding", item="b").status is er.Status.NOT_FOUND
                assert rt.read("profile:country", user="alice").value == "FR"
                assert (await server.revoke("alice", [P])).status == 202
                while rt.read("profile:country", user="alice").status is not er.Status.REVOKED:
                    await asyncio.sleep(0)
                with pytest.raises(er.SyncRefused, match="no_permission"):
                    await rt.fetch("profile", user="alice")
        with er.Runtime.open(kiosk / "cache.db", catalog=catalog, key=key, clock=clock) as rt:
            assert rt.read("item_vec:embedding", item="a").value == embedding
