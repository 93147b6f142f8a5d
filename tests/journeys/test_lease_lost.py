"""A lease lost or refused under a live session: said at once, and won back long before half a lease."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_runtime.errors import SyncError
from edge_runtime.sync.link import Link
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from sync_server.sync.door import SyncDoor
from tests.support.clock import ManualClock
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

HOUR_S = 3_600


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", clock=ManualClock())
    made.give(ALICE)
    yield made
    made.close()


@asynccontextmanager
async def serving(door: SyncDoor) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/sync", door.handle)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await door.close()
        await server.close()


def synced(kiosk: Kiosk) -> Session:
    session = Session(kiosk)
    session.settle()
    assert caught_up(session)
    return session


def caught_up(session: Session) -> bool:
    return session.device.caught_up


def test_law_3_a_boot_clock_that_went_back_ends_the_live_session(town: Town, kiosk: Kiosk) -> None:
    session = synced(kiosk)
    kiosk.clock.reboot()
    assert not kiosk.consents.permission(ALICE, P).allowed
    assert not caught_up(session)
    with pytest.raises(SyncError, match="boot clock"):
        session.tick()
    session.close()
    again = synced(kiosk)
    assert kiosk.consents.permission(ALICE, P).allowed
    again.close()


def test_law_3_a_boot_clock_that_went_back_while_a_request_was_under_way(town: Town, kiosk: Kiosk) -> None:
    """The answer that is still to come opens nothing: its request was timed by another clock."""
    session = synced(kiosk)
    kiosk.clock.advance(seconds=12 * HOUR_S + 1)
    session.answer(session.device.tick(kiosk.clock.boot_us()))
    kiosk.clock.reboot()
    with pytest.raises(SyncError, match="boot clock"):
        session.tick()
    assert not kiosk.consents.permission(ALICE, P).allowed
    session.close()


def test_law_3_while_a_lease_is_refused_the_device_is_not_caught_up(town: Town, kiosk: Kiosk) -> None:
    session = synced(kiosk)
    kiosk.clock.advance(seconds=12 * HOUR_S + 1)
    town.decide(BOB, "withdrawn")
    session.tick()
    while not session.heard_of(m.Refusal):
        assert session.step()
    while session.step():
        pass
    assert not caught_up(session)
    kiosk.clock.advance(seconds=2)
    session.settle()
    assert caught_up(session)
    session.close()


def test_a_lease_that_ended_in_a_live_session_is_asked_for_again(town: Town, kiosk: Kiosk) -> None:
    """A suspend outlasted it: the session is the same, one request is enough."""
    session = synced(kiosk)
    kiosk.clock.advance(seconds=25 * HOUR_S)
    assert not caught_up(session)
    session.settle()
    assert caught_up(session)
    assert kiosk.consents.permission(ALICE, P).allowed
    session.close()


def test_law_11_a_lease_of_no_length_is_not_asked_for_again_and_again(town: Town, kiosk: Kiosk) -> None:
    session = Session(kiosk)
    for _ in range(100):
        frame = session.next()
        if frame is None:
            session.tick()
            frame = session.next()
        if frame is None:
            break
        session.hand_over(shortened(town, kiosk, frame))
    assert len([said for said in session.said if isinstance(said, m.LeaseRequest)]) == 1
    assert not caught_up(session)
    session.close()


def shortened(town: Town, kiosk: Kiosk, frame: bytes) -> bytes:
    """The same frame, with a lease in it cut to nothing by the server itself."""
    message = codec.decode(frame)
    if not isinstance(message, m.Lease):
        return frame
    short = msgspec.structs.replace(message, duration_us=0)
    body = seal.lease_bytes(kiosk.device_id, short)
    signature = seal.sign(town.authority.signing, seal.LEASE, body)
    return codec.encode(msgspec.structs.replace(short, signature=signature))


class LongWait(random.Random):
    """Chance that makes everybody wait as long as can be."""

    def random(self) -> float:
        return 0.999


async def test_law_3_a_link_whose_lease_was_lost_reconnects_at_once(town: Town, kiosk: Kiosk) -> None:
    """No wait, though chance would have it as long as can be."""
    settings = SyncSettings(tick_us=3_600 * SECOND_US, backoff_first_us=3_600 * SECOND_US)
    async with asyncio.timeout(20), serving(SyncDoor(town.node)) as url:
        link = Link(kiosk.replica, url, kiosk.clock, settings, rng=LongWait(1))
        states: list[str] = []
        link.on_state = lambda state, reason: states.append(state)
        async with link:
            await link.caught_up()
            kiosk.clock.reboot()
            assert link.state == "locked"
            link.poke()
            await link.caught_up()
            assert kiosk.consents.permission(ALICE, P).allowed
            assert link.trouble is None
    assert states[-1] == "stale"
    assert states.count("fresh") == 2
