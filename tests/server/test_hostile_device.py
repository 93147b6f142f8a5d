"""Enrolled devices that mean harm, over real WebSockets: they gain nothing, and others are served."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from aiohttp import ClientWebSocketResponse, WSMsgType

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire import ticket as tickets
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"
MANY = 80_000
"""Frames of half a KiB: more than the buffers of two kernels hold."""
Socket = ClientWebSocketResponse
Word = TypeVar("Word", bound=m.Message)


def hello(device: FakeDevice, challenge: m.Challenge, lane: int = 0, **cursors: int) -> bytes:
    said = m.Hello(
        device_id=device.device_id,
        nonce=bytes(32),
        pinned=device.server.authority.public_key,
        lane=lane,
        counter=1,
        catalog="shop@3",
        cursors=cursors,
        signature=bytes(64),
    )
    signature = seal.sign(device.key, seal.HELLO, seal.hello_bytes(challenge.nonce, said))
    return codec.encode(msgspec.structs.replace(said, signature=signature))


@asynccontextmanager
async def live(shop: ShopServer, device: FakeDevice, **cursors: int) -> AsyncIterator[Socket]:
    """A session that has acknowledged the lane it was sent."""
    async with shop.client.ws_connect("/v1/sync", max_msg_size=0) as ws:
        challenge = codec.decode(await ws.receive_bytes())
        assert isinstance(challenge, m.Challenge)
        await ws.send_bytes(hello(device, challenge, **cursors))
        while not isinstance(word := codec.decode(await ws.receive_bytes()), m.Lane):
            assert isinstance(word, m.Welcome)
        await say(ws, m.LaneAck(upto=word.upto))
        yield ws


async def say(ws: Socket, *messages: m.Message) -> None:
    for message in messages:
        await ws.send_bytes(codec.encode(message))


async def heard(ws: Socket, kind: type[Word]) -> Word:
    """The next message of that kind."""
    while True:
        word = codec.decode(await ws.receive_bytes())
        if isinstance(word, kind):
            return word


async def last_word(ws: Socket) -> str | None:
    """The refusal that the server leaves with; None when it just leaves."""
    code = None
    while (said := await ws.receive()).type is WSMsgType.BINARY:
        word = codec.decode(said.data)
        code = word.code if isinstance(word, m.Refusal) else code
    return code


async def test_law_11_thousands_of_follows_are_refused_and_others_are_served(shop: ShopServer) -> None:
    """Each is answered by name; the session lives on; another device gets its rows meanwhile."""
    bad, good = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    await shop.publish("item_stats", [{"entity": "item:a", "event_time": 1, "values": {"popularity": 0.5}}])
    async with live(shop, bad) as hostile, live(shop, good) as ws:
        count = 3_000

        async def flood() -> None:
            await say(hostile, *(m.Follow(channel=f"secret:{n}", cursor=0) for n in range(count)))

        async def drain() -> list[str]:
            return [(await heard(hostile, m.Refusal)).about for _ in range(count)]

        flooding, draining = asyncio.ensure_future(flood()), asyncio.ensure_future(drain())
        await say(ws, m.Follow(channel="all", cursor=0))
        assert await asyncio.wait_for(heard(ws, m.Delta), 2)
        await flooding
        assert await draining == [f"secret:{n}" for n in range(count)]
        await say(hostile, m.Follow(channel="all", cursor=0))
        assert await heard(hostile, m.Delta)


async def test_law_11_a_hello_with_thousands_of_channels_opens_what_it_may(shop: ShopServer) -> None:
    """Refusals by name for the rest; nothing is remembered of them."""
    device = await FakeDevice(shop, 1).enrol()
    cursors = {f"c{n}": 0 for n in range(4_000)}
    async with live(shop, device, all=0, **cursors) as ws:
        names = {(await heard(ws, m.Refusal)).about for _ in range(4_000)}
        assert names == set(cursors)


async def test_law_11_a_device_that_asks_and_never_reads_is_not_listened_to_for_ever(
    shop: ShopServer,
) -> None:
    """Its replies are bounded: the server stops reading it, so its own sends come to a stand."""
    device = await FakeDevice(shop, 1).enrol()
    async with live(shop, device) as ws:
        follow = codec.encode(m.Follow(channel="x" * 500, cursor=0))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < MANY:
                async with asyncio.timeout(0.3):
                    await ws.send_bytes(follow)
                sent += 1
        assert sent < MANY
        assert (await shop.revoke("alice")).status == 202


async def test_an_acknowledgement_beyond_the_head_enforces_nothing(shop: ShopServer) -> None:
    """It ends the session; the target still owes."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = await shop.revoke("alice")
    async with shop.client.ws_connect("/v1/sync") as ws:
        challenge = codec.decode(await ws.receive_bytes())
        assert isinstance(challenge, m.Challenge)
        await ws.send_bytes(hello(device, challenge))
        await heard(ws, m.Lane)
        await say(ws, m.LaneAck(upto=2**62))
        assert await last_word(ws) == "out_of_turn"
    counters = (await shop.call("GET", made.headers["Location"])).body["counters"]
    assert (counters["targets"], counters["enforced"]) == (1, 0)


async def test_two_sessions_of_one_device_are_each_served_and_count_once(shop: ShopServer) -> None:
    """Both hear a denial; what either says counts for the device, once."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    async with live(shop, device) as one, live(shop, device) as two:
        made = await shop.revoke("alice", [P])
        for ws in (one, two):
            lane = await heard(ws, m.Lane)
            await say(ws, m.LaneAck(upto=lane.upto))
        body, signature = device.receipt(shop.pseudonym("alice"), [P], [made.body["denials"][0]["seq"]])
        for ws in (one, two):
            await say(ws, m.ReceiptNote(receipt=body, signature=signature))
            assert await heard(ws, m.ReceiptAck)
    found = (await shop.call("GET", made.headers["Location"])).body
    assert (found["state"], found["counters"]["receipts"]) == ("completed", 1)


async def test_tickets_and_receipts_of_others_open_and_prove_nothing(shop: ShopServer) -> None:
    """Another device's ticket, an expired one, another's receipt: each refused by its name."""
    mine, other = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    await shop.give("alice")
    alice, key, now_us = shop.pseudonym("alice"), shop.authority.signing, shop.clock.now_us()
    channel = seal.personal_channel(alice, P)
    async with live(shop, mine) as ws:
        for ticket, code in (
            (tickets.issue(key, other.device_id, alice, [P], now_us + 9), "ticket_invalid"),
            (tickets.issue(mine.key, mine.device_id, alice, [P], now_us + 9), "ticket_invalid"),
            (tickets.issue(key, mine.device_id, alice, [P], now_us), "ticket_expired"),
            (None, "channel_forbidden"),
        ):
            await say(ws, m.Follow(channel=channel, cursor=0, ticket=ticket))
            refusal = await heard(ws, m.Refusal)
            assert isinstance(refusal, m.Refusal)
            assert (refusal.code, refusal.about) == (code, channel)
        made = await shop.revoke("alice", [P])
        body, signature = other.receipt(alice, [P], [made.body["denials"][0]["seq"]])
        await say(ws, m.ReceiptNote(receipt=body, signature=signature))
        refused = await heard(ws, m.Refusal)
        assert refused.code == "bad_signature"
