"""The long poll over real sockets: the same session, lost replies, limits, and every way to be wrong."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.wire import bundle, codec
from edge_runtime.wire import messages as m
from sync_server.sync.door import SyncDoor
from tests.support.poller import Answered, Poller, serving_polls
from tests.support.town import ALICE, Kiosk, P, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=50))
    yield made
    made.close()


def door_of(town: Town, **settings: Any) -> SyncDoor:
    return SyncDoor(replace(town.node, settings=replace(town.settings, **settings)))


@pytest.fixture
async def door(town: Town) -> SyncDoor:
    return door_of(town)


@pytest.fixture
async def poller(door: SyncDoor) -> AsyncIterator[Poller]:
    async with serving_polls(door) as made:
        yield made


def messages(reply: Answered) -> list[m.Message]:
    return [codec.decode(frame) for frame in reply.frames]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


# ---- the same session --------------------------------------------------------------------------------------


async def test_a_device_gets_everything_by_polls(town: Town, kiosk: Kiosk, poller: Poller) -> None:
    """First sync, catch-up and live: cursor and digest equal the server's; a consent opens its channel."""
    town.put(300)
    kiosk.give(ALICE)
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    assert kiosk.stand() == town.head()
    assert dialogue.caught_up
    town.put_profile(ALICE)
    town.put(3, start=300)
    await poller.go_on(kiosk, dialogue, (await poller.poll()).frames)
    assert kiosk.stand() == town.head()
    assert kiosk.sealed_rows(ALICE) == 2
    assert dialogue.caught_up
    dialogue.close()


async def test_law_2_a_withdrawal_comes_first_in_the_next_reply_also_in_mid_snapshot(
    town: Town, kiosk: Kiosk, poller: Poller
) -> None:
    """What is queued ahead of it is the one reply that was under way, of a size that is a setting."""
    kiosk.give(ALICE)
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    town.put(2_000, pad=1_000)
    reply = await poller.poll()
    assert len(reply.body) <= town.settings.poll_reply_bytes
    assert all(isinstance(message, m.Delta) for message in messages(reply))
    town.decide(ALICE, "withdrawn")
    after = messages(await poller.poll())
    assert isinstance(after[0], m.Lane)
    assert after[0].upto == town.lane_head()
    assert isinstance(after[1], m.Delta)
    dialogue.close()


async def test_law_10_a_waiting_poll_is_answered_when_something_happens(
    town: Town, kiosk: Kiosk, poller: Poller
) -> None:
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    waiting = asyncio.ensure_future(poller.poll(wait_ms=20_000))
    town.put(1)
    assert [type(message) for message in messages(await waiting)] == [m.Delta, m.Checkpoint]
    waiting = asyncio.ensure_future(poller.poll(wait_ms=20_000))
    town.decide(ALICE, "withdrawn")
    assert isinstance(messages(await waiting)[0], m.Lane)
    dialogue.close()


async def test_law_11_a_waiting_poll_is_answered_after_its_wait(town: Town, kiosk: Kiosk) -> None:
    """The device may ask for less than the server's own limit, and gets no more than that."""
    async with serving_polls(door_of(town, poll_wait_us=1_000)) as poller:
        await poller.settle(kiosk, kiosk.dialogue())
        async with asyncio.timeout(5):
            assert (await poller.poll(wait_ms=600_000)).frames == []


async def test_a_poll_that_has_something_to_say_ends_the_wait_of_the_one_before(
    town: Town, kiosk: Kiosk, poller: Poller, door: SyncDoor
) -> None:
    """Nobody waits for his own poll: the first is answered at once and empty; the second is heard."""
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    waiting = asyncio.ensure_future(poller.poll(wait_ms=20_000))
    await until(lambda: door.polls.waiting == 1)
    kiosk.give(ALICE)
    async with asyncio.timeout(10):
        reply = await poller.poll(dialogue.tick(kiosk.clock.boot_us()))
    assert (await waiting).frames == []
    assert m.DecisionAck in [type(message) for message in messages(reply)]
    assert town.lane_head() == 1
    lost = await poller.send(str(poller.number - 1))  # its reply was lost, and it is asked again
    assert (lost.status, lost.body) == (200, b"")
    for word, body in ((poller.number - 1, b"\0\0\0\1x"), (poller.number - 2, b"")):
        assert (await poller.send(str(word), body)).code == "poll_out_of_order"
    dialogue.close()


# ---- replies that are lost ---------------------------------------------------------------------------------


async def test_law_6_a_lost_reply_is_given_again_byte_for_byte_and_nothing_is_heard_twice(
    town: Town, kiosk: Kiosk, poller: Poller
) -> None:
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    kiosk.give(ALICE)
    said = dialogue.tick(kiosk.clock.boot_us())
    first = await poller.poll(said)
    writes = town.store.transactions()
    town.put(1)  # what happened since changes nothing in it
    for _ in range(3):
        again = await poller.send(str(poller.number), bundle.join(said))
        assert (again.status, again.body) == (200, first.body)
    assert town.store.transactions()["device_decision"] == writes["device_decision"]
    await poller.go_on(kiosk, dialogue, first.frames)
    assert kiosk.stand() == town.head()
    dialogue.close()


async def test_the_same_poll_twice_at_once_is_answered_where_it_came_last(
    town: Town, kiosk: Kiosk, poller: Poller, door: SyncDoor
) -> None:
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    first = asyncio.ensure_future(poller.poll(wait_ms=20_000))
    await until(lambda: door.polls.waiting == 1)
    second = asyncio.ensure_future(poller.send(str(poller.number), Edge_Wait="20000"))
    gone = await first
    assert (gone.status, gone.code) == (409, "poll_replaced")
    town.put(1)
    assert isinstance(messages(await second)[0], m.Delta)
    dialogue.close()


@pytest.mark.parametrize("word", ["0", "1", "7", "999999999999999"])
async def test_law_12_a_poll_out_of_order_changes_nothing(kiosk: Kiosk, poller: Poller, word: str) -> None:
    """Older than the newest, further than the next, or the newest with another body."""
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    assert poller.number not in (0, 1, 6, 7)
    lease = codec.encode(m.LeaseRequest(id=bytes(16), upto=0, cold_start="server"))
    for asked in (word, str(poller.number)):
        reply = await poller.send(asked, bundle.join([lease]))
        assert (reply.status, reply.code) == (409, "poll_out_of_order")
    assert (await poller.poll()).frames == []
    dialogue.close()


# ---- how long a session stays ------------------------------------------------------------------------------


async def test_law_11_a_session_to_which_no_poll_comes_ends(town: Town, kiosk: Kiosk) -> None:
    door = door_of(town, poll_idle_us=700_000)
    async with serving_polls(door) as poller:
        await poller.settle(kiosk, kiosk.dialogue())
        await until(lambda: door.sessions == 0)
        reply = await poller.poll()
        assert (reply.status, reply.code) == (410, "session_closed")
        assert list(town.node.hints.followed) == []


async def test_law_11_a_device_that_never_says_hello_is_forgotten(town: Town) -> None:
    door = door_of(town, hello_timeout_us=20_000)
    async with serving_polls(door) as poller:
        assert isinstance(messages(await poller.open())[0], m.Challenge)
        await until(lambda: door.sessions == 0)


async def test_law_11_a_session_has_a_greatest_age_and_says_so(town: Town, kiosk: Kiosk) -> None:
    door = door_of(town, session_age_us=1_500_000)
    async with serving_polls(door) as poller:
        await poller.settle(kiosk, kiosk.dialogue())
        assert messages(await poller.poll(wait_ms=20_000)) == [m.Refusal(code="going_away")]
        assert (await poller.poll()).code == "session_closed"


async def test_a_device_that_leaves_frees_its_place(kiosk: Kiosk, poller: Poller, door: SyncDoor) -> None:
    await poller.settle(kiosk, kiosk.dialogue())
    assert door.sessions == 1
    kept = weakref.ref(next(iter(door.polls._held.values())).session)
    assert (await poller.send(bundle.END)).status == 200
    assert door.sessions == 0
    gc.collect()
    assert kept() is None  # no timer holds it until it would have been too old
    assert (await poller.send(bundle.END)).code == "session_closed"


async def test_a_server_that_stops_tells_those_who_wait_and_takes_no_more(
    kiosk: Kiosk, poller: Poller, door: SyncDoor
) -> None:
    await poller.settle(kiosk, kiosk.dialogue())
    waiting = asyncio.ensure_future(poller.poll(wait_ms=20_000))
    await until(lambda: door.polls.waiting == 1)
    await door.close()
    (last,) = messages(await waiting)
    assert isinstance(last, m.Refusal)
    assert last.code == "going_away"
    refused = await poller.send("0", token="")
    assert (refused.status, refused.code) == (503, "overloaded")
    assert int(refused.headers["Retry-After"]) > 0


# ---- limits and bad input ----------------------------------------------------------------------------------


async def test_law_11_sessions_bodies_and_frames_are_bounded(town: Town, kiosk: Kiosk) -> None:
    door = door_of(town, poll_sessions=1, poll_body_bytes=4_096, poll_frames=3)
    async with serving_polls(door) as poller:
        await poller.settle(kiosk, kiosk.dialogue())
        assert (await poller.send("0", token="")).code == "overloaded"
        following = str(poller.number + 1)
        for body in (bytes(4_097), bundle.join([b"a"] * 4), b"\0\1\0\1" + bytes(99)):
            reply = await poller.send(following, body)
            assert (reply.status, reply.code) == (413, "too_large")
        assert (await poller.poll()).frames == []


async def test_law_11_a_body_that_never_ends_is_not_waited_for(town: Town, kiosk: Kiosk) -> None:
    never = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"\0"
        await never.wait()

    async with serving_polls(door_of(town, send_timeout_us=500_000)) as poller:
        await poller.settle(kiosk, kiosk.dialogue())
        reply = await poller.send(str(poller.number + 1), slow())
        assert (reply.status, reply.code) == (408, "too_slow")
        assert (await poller.poll()).frames == []


async def test_law_11_what_is_kept_of_all_sessions_is_bounded(town: Town, tmp_path: Path) -> None:
    """Three sessions keep 100 KB each under a limit of 250 KB: the oldest goes, and says so when asked."""
    town.put(600, pad=1_000)
    door = door_of(town, poll_kept_bytes=450_000, poll_reply_bytes=200_000)
    async with serving_polls(door) as poller:
        tokens = []
        for n in range(3):
            kiosk = Kiosk(town, tmp_path / f"kiosk{n}")
            dialogue, reply = kiosk.dialogue(), await poller.open()
            while len(reply.body) < 100_000:
                said = [f for frame in reply.frames for f in dialogue.hear(frame, kiosk.clock.boot_us())]
                reply = await poller.poll(said)
            tokens.append((poller.token, str(poller.number), bundle.join(said)))
            dialogue.close()
            kiosk.close()
        assert door.sessions == 2
        codes = [(await poller.send(word, body, token=token)).code for token, word, body in tokens]
        assert codes == ["session_closed", "", ""]


@pytest.mark.parametrize(
    ("word", "headers", "status", "code"),
    [
        ("", {}, 422, "invalid_request"),
        ("-1", {}, 422, "invalid_request"),
        ("one", {}, 422, "invalid_request"),
        ("9" * 16, {}, 422, "invalid_request"),
        ("next", {"Edge_Wait": "soon"}, 422, "invalid_request"),
        ("next", {"Edge_Wait": "-1"}, 422, "invalid_request"),
        ("next", {"Content_Type": "application/json"}, 415, "unsupported_media"),
        ("next", {"token": "nobody"}, 410, "session_closed"),
        ("next", {"token": ""}, 422, "invalid_request"),
    ],
)
async def test_law_12_a_poll_that_makes_no_sense_is_told_why_and_changes_nothing(
    kiosk: Kiosk, poller: Poller, word: str, headers: dict[str, str], status: int, code: str
) -> None:
    """And no reply of this door may be kept by a cache."""
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    asked = str(poller.number + 1) if word == "next" else word
    lease = codec.encode(m.LeaseRequest(id=bytes(16), upto=0, cold_start="server"))
    reply = await poller.send(asked, bundle.join([lease]), **headers)
    assert (reply.status, reply.code) == (status, code)
    good = await poller.poll()
    assert good.frames == []
    for answer in (reply, good):
        assert answer.headers["Cache-Control"] == "no-store"
    dialogue.close()


@pytest.mark.parametrize("body", [b"\0\0\0", b"\0\0\0\0", b"\0\0\0\5abc"])
async def test_law_12_a_body_that_is_not_frames_is_refused_whole(
    kiosk: Kiosk, poller: Poller, body: bytes
) -> None:
    await poller.settle(kiosk, kiosk.dialogue())
    lease = bundle.join([codec.encode(m.LeaseRequest(id=bytes(16), upto=0, cold_start="server"))])
    reply = await poller.send(str(poller.number + 1), lease + body)
    assert (reply.status, reply.code) == (400, "malformed_frames")
    assert (await poller.poll()).frames == []


async def test_law_12_a_frame_that_may_not_stand_ends_the_session_with_its_code(
    kiosk: Kiosk, poller: Poller, door: SyncDoor
) -> None:
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    reply = await poller.poll([b"\xc1", codec.encode(m.LaneAck(upto=0))])
    assert messages(reply) == [m.Refusal(code="malformed")]
    assert door.sessions == 0
    assert (await poller.poll()).code == "session_closed"
    dialogue.close()


async def test_law_12_garbage_by_polls_never_crashes_the_server(
    town: Town, kiosk: Kiosk, poller: Poller, door: SyncDoor
) -> None:
    """300 damaged bodies (seed 31): each answered with frames or a problem, and nothing is leaked."""
    rng = random.Random(31)
    kiosk.give(ALICE)
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    dialogue.close()
    lane = town.lane_head()
    whole = bundle.join(
        [
            codec.encode(m.LeaseRequest(id=bytes(16), upto=0, cold_start="server")),
            codec.encode(m.LaneAck(upto=0)),
        ]
    )
    for _ in range(300):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        reply = await poller.send(str(poller.number + 1), bytes(body[: rng.randrange(len(body) + 1)]))
        assert reply.status in (200, 400, 413, 410), reply.code
        if reply.status == 410:
            await poller.open()
        elif reply.status == 200:
            poller.number += 1
    assert town.lane_head() == lane
    assert door.sessions <= 1
    assert town.node.lane.head == lane


async def test_law_12_another_devices_token_opens_nothing(town: Town, kiosk: Kiosk, poller: Poller) -> None:
    """A token belongs to one conversation: who signs in over it anew is out of turn, and it ends."""
    dialogue = kiosk.dialogue()
    await poller.settle(kiosk, dialogue)
    hello = codec.encode(
        m.Hello(
            device_id="other",
            nonce=bytes(32),
            pinned=bytes(32),
            lane=0,
            counter=0,
            catalog="shop@1",
            cursors={},
            signature=bytes(64),
        )
    )
    assert messages(await poller.poll([hello])) == [m.Refusal(code="out_of_turn")]
    assert kiosk.consents.state(ALICE, P) == "unknown"
    dialogue.close()
