"""A socket by the byte: the handshake, pings, pieces, silence, and what is heard of a device that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.sync import web_frames as w
from sync_server.sync.device_socket import DeviceSocket
from sync_server.sync.door import SyncDoor
from tests.server.test_web_frames import frame
from tests.support.town import ALICE, Kiosk, Session, Town

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
ASKS = ["Upgrade: websocket", "Connection: keep-alive, Upgrade", KEY, "Sec-WebSocket-Version: 13"]


class Raw:
    """A client that says bytes."""

    def __init__(self, door: SyncDoor, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.door, self.reader, self.writer = door, reader, writer

    def ask(self, lines: list[str], method: str = "GET", behind: bytes = b"") -> None:
        head = "\r\n".join([f"{method} /v1/sync HTTP/1.1", "Host: x", *lines, "", ""])
        self.writer.write(head.encode() + behind)

    async def head(self) -> str:
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def frame(self) -> tuple[int, bytes]:
        """(opcode, body) of the next frame of the server."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        return first & 0x0F, await self.reader.readexactly(size)

    async def word(self) -> m.Message:
        opcode, body = await self.frame()
        assert opcode == w.BINARY
        return codec.decode(body)

    async def open(self) -> m.Challenge:
        self.ask(ASKS)
        assert (await self.head()).startswith("HTTP/1.1 101 ")
        challenge = await self.word()
        assert isinstance(challenge, m.Challenge)
        return challenge

    @property
    def there(self) -> DeviceSocket:
        (one,) = self.door._sockets
        return one


@asynccontextmanager
async def raw(town: Town, **settings: Any) -> AsyncIterator[Raw]:
    door = SyncDoor(replace(town.node, settings=replace(town.settings, **settings)))
    app = web.Application()
    app.router.add_route("*", "/v1/sync", door.handle)
    server = TestServer(app)
    await server.start_server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        async with asyncio.timeout(10):
            yield Raw(door, reader, writer)
    finally:
        writer.close()
        await door.close()
        await server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_the_handshake_answers_the_key_of_the_standard(town: Town) -> None:
    """Key and answer of RFC 6455, section 1.3."""
    async with raw(town) as one:
        one.ask(ASKS)
        head = await one.head()
    assert head.startswith("HTTP/1.1 101 ")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        (ASKS[1:], "GET"),
        ([ASKS[0], *ASKS[2:]], "GET"),
        ([*ASKS[:2], ASKS[3]], "GET"),
        ([*ASKS[:2], "Sec-WebSocket-Key: short", ASKS[3]], "GET"),
        ([*ASKS[:2], "Sec-WebSocket-Key: dGhlIHNhb(BsZSBub25jZQ==", ASKS[3]], "GET"),
        ([*ASKS[:3], "Sec-WebSocket-Version: 8"], "GET"),
        (ASKS, "PUT"),
    ],
)
async def test_what_asks_for_no_web_socket_gets_none(town: Town, lines: list[str], method: str) -> None:
    async with raw(town) as one:
        one.ask(lines, method)
        assert (await one.head()).startswith("HTTP/1.1 426 ")
        assert one.door.sessions == 0
    assert len(town.node.admission.visits) == 0


async def test_what_comes_behind_the_request_is_heard(town: Town) -> None:
    """In one packet with it: nothing of it is lost, and nothing of it is ahead of the challenge."""
    async with raw(town) as one:
        one.ask(ASKS, behind=frame(b"now", w.PING))
        assert (await one.head()).startswith("HTTP/1.1 101 ")
        assert sorted([(await one.frame())[0], (await one.frame())[0]]) == [w.BINARY, w.PONG]


async def test_a_message_may_come_in_pieces_and_a_ping_between_them(town: Town, tmp_path: Path) -> None:
    kiosk = Kiosk(town, tmp_path / "k")
    dialogue = kiosk.dialogue()
    async with raw(town) as one:
        (hello,) = dialogue.hear(codec.encode(await one.open()), kiosk.clock.boot_us())
        one.writer.write(frame(hello[:50], final=False) + frame(b"", w.CONTINUATION, final=False))
        one.writer.write(frame(b"?", w.PING) + frame(hello[50:], w.CONTINUATION))
        assert await one.frame() == (w.PONG, b"?")
        assert isinstance(await one.word(), m.Welcome)
    dialogue.close()
    kiosk.close()


@pytest.mark.parametrize(
    ("wire", "code", "close"),
    [
        (b"\x82\x01a", "malformed", 1000),
        (frame(b"a", w.TEXT), "malformed", 1000),
        (frame(bytes(65_537))[:14], "too_large", 1009),
    ],
)
async def test_law_12_a_fault_in_the_frames_is_told_and_closes(
    town: Town, wire: bytes, code: str, close: int
) -> None:
    async with raw(town) as one:
        await one.open()
        one.writer.write(wire)
        assert await one.word() == m.Refusal(code=code)
        assert await one.frame() == (w.CLOSE, close.to_bytes(2, "big"))
        one.writer.write(frame(b"", w.CLOSE))
        assert await one.reader.read() == b""
        await until(lambda: one.door.sessions == 0)


async def test_a_goodbye_is_answered_and_frees_the_place_at_once(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_server.sync.device_socket.GOODBYE_S", 1_000)
    async with raw(town) as one:
        await one.open()
        one.writer.write(frame((1000).to_bytes(2, "big"), w.CLOSE))
        assert await one.word() == m.Refusal(code="going_away")
        assert (await one.frame())[0] == w.CLOSE
        assert await one.reader.read() == b""
        assert one.door.sessions == 0
    assert len(town.node.admission.visits) == 0


async def test_law_11_pings_of_a_device_that_never_reads_do_not_pile_up(town: Town) -> None:
    """Only the newest waits for room."""
    async with raw(town) as one:
        await one.open()
        there = one.there
        there._transport.write(bytes(4_000_000))  # more than its socket takes
        assert there._transport.get_write_buffer_size() > 0
        one.writer.write(b"".join(frame(f"{n}".encode(), w.PING) for n in range(3_000)))
        await until(lambda: there._pong == b"2999")
        assert await one.reader.readexactly(4_000_000) == bytes(4_000_000)
        assert await one.frame() == (w.PONG, b"2999")


async def test_law_11_a_flood_of_pings_lets_others_speak_between(town: Town) -> None:
    async with raw(town) as one:
        await one.open()
        there = one.there
        there.data_received(frame(b"", w.PING) * 1_000)
        left = there._inbound.waiting_bytes
        assert left > 900 * 6
        await until(lambda: there._inbound.waiting_bytes == 0)


async def test_a_silent_device_is_asked_and_then_left(town: Town) -> None:
    async with raw(town, ping_us=40_000) as one:
        await one.open()
        assert await one.frame() == (w.PING, b"")
        one.writer.write(frame(b"", w.PONG))
        assert await one.frame() == (w.PING, b"")
        assert await one.word() == m.Refusal(code="going_away")


async def test_an_acknowledgement_is_heard_also_when_the_device_is_gone_behind_it(
    town: Town, tmp_path: Path
) -> None:
    """It arrives in one go with the end of the socket, while another frame of the device is being heard."""
    session = Session(Kiosk(town, tmp_path / "k"))
    session.settle()
    town.decide(ALICE, "withdrawn")
    while session.server.next() is not None:
        pass
    async with raw(town) as one:
        await one.open()
        there, head = one.there, town.lane_head()
        there._session = session.server
        wire = frame(codec.encode(m.LeaseRequest(id=bytes(16), upto=head, cold_start="server")))
        there.data_received(wire + frame(codec.encode(m.LaneAck(upto=head))))
        there._transport.abort()
        await until(lambda: one.door.sessions == 0)
    with town.store.read() as tx:
        device = tx.device(session.kiosk.device_id)
    assert device is not None
    assert device.lane_acked == head


async def test_a_server_that_stops_waits_no_longer_than_a_goodbye(town: Town) -> None:
    """A device that does not answer is cut off."""
    async with raw(town) as one:
        await one.open()
        await one.door.close()
        assert one.door.sessions == 0
        assert isinstance(await one.word(), m.Refusal)
