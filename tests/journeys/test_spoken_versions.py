"""Each side says which versions of the protocol it speaks; the newest of both is spoken, or none."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from edge_runtime.errors import SyncRefused
from edge_runtime.sync import gate
from edge_runtime.sync.link import Link
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.sync.stream import DeviceSession
from tests.edge.test_link import NoWait, serving
from tests.support.town import Kiosk, Session, Town


def kiosk_of(town: Town, folder: Path, spoken: tuple[int, ...]) -> Kiosk:
    return Kiosk(town, folder, settings=replace(SyncSettings(), spoken=spoken))


def session_of(kiosk: Kiosk, spoken: tuple[int, ...]) -> Session:
    session = Session(kiosk)
    session.server = DeviceSession(session.node, session.subscription, spoken=spoken)
    return session


@pytest.mark.parametrize(
    ("device", "server"), [((1,), (1, 2)), ((1, 2), (1,)), ((1, 7), (9, 1)), ((2, 1), (1, 3))]
)
def test_the_newest_version_of_both_is_spoken(
    town: Town, tmp_path: Path, device: tuple[int, ...], server: tuple[int, ...]
) -> None:
    """One side ahead of the other: both go on in what the other knows, and sync."""
    town.put(5)
    kiosk = kiosk_of(town, tmp_path / "kiosk", device)
    session = session_of(kiosk, server)
    session.settle()
    assert session.device.caught_up
    challenge = session.heard[0]
    assert isinstance(challenge, m.Challenge)
    assert challenge.speaks == list(server)
    assert {said.v for said in session.said} == {1}
    session.close()
    kiosk.close()


@pytest.mark.parametrize(
    ("speaks", "spoken", "chosen"), [([1], (1,), 1), ([1, 2, 3], (2, 1), 2), ([3, 1], (1, 3), 3)]
)
def test_the_choice(speaks: list[int], spoken: tuple[int, ...], chosen: int) -> None:
    """The greatest of what both speak, in whatever order it is told."""
    assert gate.version(speaks, spoken) == chosen


@pytest.mark.parametrize(("device", "server", "who"), [((1,), (2, 3), "app"), ((2, 3), (1,), "server")])
def test_none_in_common_ends_the_opening_and_says_who_is_behind(
    town: Town, tmp_path: Path, device: tuple[int, ...], server: tuple[int, ...], who: str
) -> None:
    """The device refuses the Challenge, whatever version it came in; the server hears it and closes."""
    kiosk = kiosk_of(town, tmp_path / "kiosk", device)
    challenge = m.Challenge(
        nonce=bytes(32), incarnation=bytes(16), server_time_us=1, speaks=list(server), v=max(server)
    )
    with pytest.raises(WireFailure, match=f"the {who} must be updated") as caught:
        kiosk.dialogue().hear(codec.encode(challenge), 0)
    assert caught.value.code == "unsupported_version"
    session = session_of(kiosk, server)
    assert session.next() is not None
    with suppress(WireFailure):  # a Refusal in a version that is not spoken there
        session.server.hear(codec.encode(m.Refusal(code="unsupported_version")))
    assert session.next() is None
    kiosk.close()


def test_a_hello_in_a_version_that_is_not_spoken_is_refused_as_such(town: Town, tmp_path: Path) -> None:
    """Whatever else is in it: what a version means, only that version knows."""
    kiosk = kiosk_of(town, tmp_path / "kiosk", (1,))
    session = session_of(kiosk, (1,))
    challenge = session.next()
    assert challenge is not None
    hello = msgspec.msgpack.decode(session.device.hear(challenge, 0)[0], type=dict[str, object])
    for version in (0, 2, 65_536):
        fresh = DeviceSession(session.node, session.node.hints.subscribe())
        assert fresh.next() is not None
        with pytest.raises(WireFailure) as caught:
            fresh.hear(msgspec.msgpack.encode({**hello, "v": version, "new": "field"}))
        assert caught.value.code == "unsupported_version"
    kiosk.close()


def test_frames_of_another_version_than_the_one_agreed_are_refused(town: Town, tmp_path: Path) -> None:
    """Both sides speak two: after the Hello only the one that it chose."""
    kiosk = kiosk_of(town, tmp_path / "kiosk", (1, 2))
    session = session_of(kiosk, (1, 3))
    session.settle()
    newer = msgspec.structs.replace(m.LaneAck(upto=0), v=3)
    with pytest.raises(WireFailure, match="unsupported_version"):
        session.server.hear(codec.encode(newer))
    later = msgspec.structs.replace(m.Drop(channel="all"), v=2)
    with pytest.raises(WireFailure, match="unsupported_version"):
        session.device.hear(codec.encode(later), 0)
    session.close()
    kiosk.close()


def test_a_downgrade_in_between_is_seen(town: Town, tmp_path: Path) -> None:
    """Somebody cuts the newer version from the Challenge: the Welcome covers what the server speaks."""
    kiosk = kiosk_of(town, tmp_path / "kiosk", (1, 2))
    session = session_of(kiosk, (2, 1))
    frame = session.next()
    assert frame is not None
    challenge = codec.decode(frame)
    assert isinstance(challenge, m.Challenge)
    session.hand_over(codec.encode(msgspec.structs.replace(challenge, speaks=[1])))
    assert session.device.state is State.GREETED
    with pytest.raises(WireFailure, match="bad_signature"):
        session.step()
    kiosk.close()


@pytest.mark.parametrize("speaks", [[2, 3], None])
async def test_the_link_stays_away_for_long_and_tells_the_app_to_be_updated(
    town: Town, tmp_path: Path, speaks: list[int] | None
) -> None:
    """Over a socket: one connect, the refusal said, and no second one; also when the server says it first."""
    kiosk = kiosk_of(town, tmp_path / "kiosk", (1,))
    said: list[m.Message] = []
    connects = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal connects
        connects += 1
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if speaks is None:
            await ws.send_bytes(codec.encode(m.Refusal(code="unsupported_version")))
        else:
            told = m.Challenge(nonce=bytes(32), incarnation=bytes(16), server_time_us=1, speaks=speaks, v=3)
            await ws.send_bytes(codec.encode(told))
            said.append(codec.decode((await ws.receive()).data))
        await ws.close()
        return ws

    async with serving(handle) as url, asyncio.timeout(10):
        link = Link(kiosk.replica, url, kiosk.clock, kiosk.settings, rng=NoWait(1))
        async with link:
            while not isinstance(link.trouble, SyncRefused):
                await asyncio.sleep(0.001)
            for _ in range(100):
                await asyncio.sleep(0)
            assert link.trouble.code == "unsupported_version"
            assert connects == 1
            assert said == ([] if speaks is None else [m.Refusal(code="unsupported_version")])
            if speaks is not None:
                assert "app must be updated" in str(link.trouble)
    kiosk.close()
