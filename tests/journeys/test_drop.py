"""A channel that is no longer a device's goes from it, rows and cursor, in whatever way it hears of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server import cli
from tests.journeys.test_withdrawal import Kiosk as RealKiosk
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town

GOLD = "segment:gold"


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", patterns=("all", "segment:*"))
    made.memory.wanted = (GOLD,)
    yield made
    made.close()


def both_held(town: Town, kiosk: Kiosk) -> Session:
    town.put(5)
    town.put(5, channel=GOLD, start=100)
    session = Session(kiosk)
    session.settle()
    assert len(kiosk.rows()) == 10
    assert session.device.caught_up
    return session


def allow(town: Town, kiosk: Kiosk, *patterns: str) -> None:
    with town.store.write("allow") as tx:
        tx.allow_channels(kiosk.device_id, patterns)


def only_all_is_held(town: Town, kiosk: Kiosk) -> bool:
    with kiosk.database.read() as tx:
        channels = list(tx.channels())
    return channels == ["all"] and len(kiosk.rows()) == 5 and kiosk.stand() == town.head()


def test_a_live_session_hears_at_once_that_a_channel_is_no_longer_its_own(town: Town, kiosk: Kiosk) -> None:
    """Dropped in the session that runs; the others go on, and nothing asks for it again."""
    session = both_held(town, kiosk)
    allow(town, kiosk, "all")
    session.settle()
    assert session.heard_of(m.Drop) == [m.Drop(channel=GOLD)]
    assert only_all_is_held(town, kiosk)
    assert (None, GOLD) in kiosk.changes
    town.put(1, channel=GOLD, start=200)
    town.put(1, start=4)
    session.settle()
    assert only_all_is_held(town, kiosk)
    assert session.device.caught_up
    session.close()


def test_a_device_that_was_away_drops_at_its_next_hello(town: Town, kiosk: Kiosk) -> None:
    """It names the channel with a cursor: a Drop; and from then on it merely asks: a refusal by name."""
    both_held(town, kiosk).close()
    allow(town, kiosk, "all")
    session = Session(kiosk)
    session.settle()
    assert session.heard_of(m.Drop) == [m.Drop(channel=GOLD)]
    assert only_all_is_held(town, kiosk)
    session.close()
    again = Session(kiosk)
    again.settle()
    assert again.heard_of(m.Drop) == []
    assert again.device.refused == {GOLD: "channel_forbidden"}
    assert kiosk.memory.refusals[GOLD].code == "channel_forbidden"
    assert again.device.caught_up
    again.close()


def test_a_channel_that_starts_over_goes_with_its_refusal(town: Town, kiosk: Kiosk) -> None:
    """After a restore of the server its cursor is 0, as a newcomer's: its rows must not stay for that."""
    both_held(town, kiosk).close()
    town.node.signing.incarnation = bytes(16)
    session = Session(kiosk)
    session.open()  # starts over
    session.close()
    assert kiosk.stand(GOLD)[0] == 0
    allow(town, kiosk, "all")
    again = Session(kiosk)
    again.settle()
    assert only_all_is_held(town, kiosk)
    again.close()


def test_law_10_a_change_that_nobody_hinted_at_is_heard_at_the_next_poll(town: Town, kiosk: Kiosk) -> None:
    """Written by another node: the poll of the heads finds it, once."""
    session = both_held(town, kiosk)
    told = list(town.store._listeners)
    town.store._listeners.clear()
    allow(town, kiosk, "all")
    town.store._listeners.extend(told)
    session.settle()
    assert session.heard_of(m.Drop) == []
    assert town.node.heads.poll() == 1
    session.settle()
    assert only_all_is_held(town, kiosk)
    assert town.node.heads.poll() == 0
    session.close()


def test_a_change_in_the_middle_of_the_opening_is_not_missed(town: Town, kiosk: Kiosk) -> None:
    """Between Hello and the end of the lane: the Drop waits until it may be said."""
    both_held(town, kiosk).close()
    session = Session(kiosk)
    assert session.step()  # the Hello is heard
    allow(town, kiosk, "all")
    session.settle()
    assert only_all_is_held(town, kiosk)
    session.close()


def test_a_personal_channel_that_is_dropped_is_not_asked_for_at_once(town: Town, kiosk: Kiosk) -> None:
    """Its rows go, the consent stays, and the session does not turn in a circle."""
    kiosk.give(ALICE)
    session = both_held(town, kiosk)
    town.put_profile(ALICE)
    session.settle()
    assert kiosk.sealed_rows(ALICE) == 2
    follows = sum(isinstance(said, m.Follow) for said in session.said)
    session.hand_over(codec.encode(m.Drop(channel=kiosk.personal_channel(ALICE))))
    session.settle()
    assert kiosk.sealed_rows(ALICE) == 0
    assert kiosk.consents.state(ALICE, P) == "given"
    assert sum(isinstance(said, m.Follow) for said in session.said) == follows
    session.close()


# ---- through the doors -------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "server", clock) as made:
        yield made


async def test_the_api_and_the_command_say_anew_what_a_device_may_follow(
    server: ShopServer, tmp_path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """`PATCH` and `edge-sync devices allow`: a linked runtime loses the rows while it runs."""
    kiosk = RealKiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    device = (await server.call("GET", "/v1/devices")).body["devices"][0]["device_id"]
    row = {"entity": "item:x", "event_time": clock.now_us() // 1_000_000, "values": {"popularity": 0.5}}
    assert (await server.publish("item_stats", [row])).body["accepted"] == 1
    with kiosk.opened() as rt:
        async with rt.sync() as link:
            await asyncio.wait_for(link.caught_up(), 20)
            assert rt.read("item_stats:popularity", item="x").status is er.Status.PRESENT
            for bad in ({}, {"channels": ["~personal"]}, {"channels": "all"}, {"channels": [], "more": 1}):
                assert (await server.call("PATCH", f"/v1/devices/{device}", bad)).status == 422
            assert (await server.call("PATCH", "/v1/devices/dev-no", {"channels": []})).status == 404
            command = ["devices", "allow", device, "--json", "--url", str(server.client.make_url(""))]
            folder = ["--data", str(server.settings.data_dir)]
            assert await asyncio.to_thread(cli.main, [*command, *folder]) == 0
            assert json.loads(capsys.readouterr().out)["channels"] == []
            async with asyncio.timeout(20):
                while rt.read("item_stats:popularity", item="x").status is er.Status.PRESENT:
                    await asyncio.sleep(0.01)
            await asyncio.wait_for(link.caught_up(), 20)
            assert link.state == "fresh"
