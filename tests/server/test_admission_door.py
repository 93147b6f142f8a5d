"""Admission at the real door: time and room for the first word are bounded, and the API is not concerned."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from tests.support.clock import ManualClock
from tests.support.shop_server import FakeDevice, ShopServer

Socket = aiohttp.ClientWebSocketResponse
FAST: dict[str, int] = {"hello_timeout_us": 200_000}


async def ended(socket: Socket) -> m.Refusal:
    """The last word, once the socket is closed."""
    last = None
    async with asyncio.timeout(5):
        async for message in socket:
            last = codec.decode(message.data)
    assert isinstance(last, m.Refusal)
    return last


async def says_nothing(socket: Socket) -> None:
    """Reads and is silent."""


async def only_pings(socket: Socket) -> None:
    """Alive, and without a word."""
    for _ in range(40):
        if socket.closed:
            return
        try:
            await socket.ping()
        except aiohttp.ClientConnectionError:
            return
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("stranger", [says_nothing, only_pings])
async def test_law_11_who_does_not_say_who_it_is_goes_in_time(
    tmp_path: Path, stranger: Callable[[Socket], Awaitable[None]]
) -> None:
    """Pings win no time: the hello's limit counts from the challenge."""
    async with ShopServer(tmp_path / "data", ManualClock(), **FAST) as shop:
        socket = await shop.client.ws_connect("/v1/sync", autoping=True)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        acting = asyncio.ensure_future(stranger(socket))
        await ended(socket)
        assert loop.time() - began_s < 0.7
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)


async def test_law_11_sockets_beyond_the_limit_are_refused_before_they_open_and_the_api_answers(
    tmp_path: Path,
) -> None:
    """Strangers hold every opening; operators still see, enrol and revoke."""
    async with ShopServer(tmp_path / "data", ManualClock(), openings=3) as shop:
        device = await FakeDevice(shop, 1).enrol()
        held = [await shop.client.ws_connect("/v1/sync") for _ in range(3)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await shop.client.ws_connect("/v1/sync")
        assert caught.value.status == 503
        assert caught.value.headers is not None
        assert int(caught.value.headers["Retry-After"]) >= 1
        await shop.give("alice")
        assert (await shop.revoke("alice")).status == 202
        assert (await shop.call("GET", f"/v1/devices/{device.device_id}")).status == 200
        assert (await shop.call("DELETE", f"/v1/devices/{device.device_id}")).status == 200
        text = (await shop.call("GET", "/metrics")).body.decode()
        assert 'edge_sync_visits{stage="opening"} 3' in text
        assert 'edge_sync_refused_total{budget="opening"} 1' in text
        assert 'edge_sync_frames_kept_bytes{where="memory"} 0' in text
        for socket in held:
            await socket.close()
        async with asyncio.timeout(5):
            while True:
                try:
                    again = await shop.client.ws_connect("/v1/sync")
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.01)
        await again.close()


async def test_law_12_garbage_in_place_of_a_hello_gives_its_place_back(tmp_path: Path) -> None:
    """Each is told its code, and nothing of it is left."""
    async with ShopServer(tmp_path / "data", ManualClock(), openings=1) as shop:
        words = [
            (b"\xc1", "malformed"),
            (codec.encode(m.LaneAck(upto=0)), "out_of_turn"),
            (bytes(70_000), "too_large"),
        ]
        for word, code in words:
            async with asyncio.timeout(5):
                while True:
                    try:
                        socket = await shop.client.ws_connect("/v1/sync")
                        break
                    except aiohttp.WSServerHandshakeError:
                        await asyncio.sleep(0.01)
            await socket.receive()
            await socket.send_bytes(word)
            assert (await ended(socket)).code == code
