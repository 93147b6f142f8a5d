"""The link over real sockets, against the real door of the server. No sleeping: everything is waited for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from aiohttp.test_utils import TestServer

from edge_runtime.errors import SyncError, SyncRefused
from edge_runtime.sync.background import BackgroundSync, run_alone
from edge_runtime.sync.backoff import wait_us
from edge_runtime.sync.link import Link
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from sync_server.sync.admission import Admission
from sync_server.sync.door import SyncDoor
from tests.support.town import ALICE, Kiosk, P, Town

HOUR_US = 3_600 * SECOND_US
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoWait(random.Random):
    """Chance that never makes anybody wait."""

    def random(self) -> float:
        return 0.0


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """An HTTP server with `handler` at the session's path; yields its url."""
    app = web.Application()
    app.router.add_get("/v1/sync", handler)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("")).rstrip("/")
    finally:
        await server.close()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=50))


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Kiosk:
    return Kiosk(town, tmp_path / "kiosk")


def link_of(kiosk: Kiosk, url: str, **settings: int) -> Link:
    quiet: dict[str, Any] = {"tick_us": HOUR_US, **settings}
    return Link(kiosk.replica, url, kiosk.clock, SyncSettings(**quiet), rng=NoWait(1))


async def until(true: Callable[[], bool]) -> None:
    """Let others run until it holds."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0)


async def test_a_link_catches_up_stays_fresh_and_says_so(town: Town, kiosk: Kiosk) -> None:
    """From nothing to the head; a row published later arrives by itself."""
    town.put(500)
    door = SyncDoor(town.node)
    async with serving(door.handle) as url:
        link = link_of(kiosk, url)
        states: list[str] = []
        link.on_state = lambda state, reason: states.append(state)
        async with asyncio.timeout(10), link:
            await link.caught_up()
            assert states[-1] == "fresh"
            assert kiosk.stand() == town.head()
            town.put(1, start=500)
            await until(lambda: kiosk.stand() == town.head())
        assert link.state == "stale"
        assert states[-2:] == ["fresh", "stale"]
        await door.close()


async def test_a_link_closes_in_the_turn_in_which_it_was_poked(town: Town, kiosk: Kiosk) -> None:
    """What wakes it does not keep it from ending."""
    door = SyncDoor(town.node)
    async with serving(door.handle) as url, asyncio.timeout(10):
        for _ in range(3):
            async with link_of(kiosk, url) as link:
                await link.caught_up()
                for _ in range(20):
                    await asyncio.sleep(0)
                link._nudge()
            assert link._task is not None
            assert link._task.done()
    await door.close()


async def test_a_poke_sends_what_waits_and_opens_what_was_given(town: Town, kiosk: Kiosk) -> None:
    """With an hour between ticks, a decision taken by the app is in the ledger at once."""
    door = SyncDoor(town.node)
    async with serving(door.handle) as url, asyncio.timeout(10), link_of(kiosk, url) as link:
        await link.caught_up()
        kiosk.give(ALICE)
        link.poke()
        await link.caught_up()
        assert town.lane_head() == 1
        town.put_profile(ALICE)
        await until(lambda: kiosk.sealed_rows(ALICE) == 2)
        kiosk.consents.withdraw(ALICE)
        link.poke()
        await link.caught_up()
        with town.store.read() as tx:
            assert tx.decision_state(town.pseudonym(ALICE), P).state == "withdrawn"
    await door.close()


async def test_a_link_comes_back_after_the_server_went_away(town: Town, kiosk: Kiosk) -> None:
    """Every session ends one day; the next one resumes at the cursor."""
    town.put(100)
    other = replace(town.node, admission=Admission(town.settings))
    doors = [SyncDoor(town.node), SyncDoor(other)]
    now = [doors[0]]

    async def whoever_is_up(request: web.Request) -> web.StreamResponse:
        return await now[0].handle(request)

    async with serving(whoever_is_up) as url, asyncio.timeout(10):
        async with link_of(kiosk, url) as link:
            await link.caught_up()
            now[0] = doors[1]
            town.put(10, start=100)
            await doors[0].close()
            await until(lambda: kiosk.stand() == town.head())
            await link.caught_up()
            assert link.trouble is None
        await doors[1].close()


async def test_law_11_a_full_server_refuses_before_it_reads_and_is_left_alone(
    town: Town, tmp_path: Path, kiosk: Kiosk
) -> None:
    """The device stays away at least as long as it was told, and nothing was read or stored.

    503 with Retry-After where no socket may open, a refusal where no session may.
    """
    writes = town.store.transactions()
    for limits, retry_us in (
        (replace(town.settings, openings=0, resume_admissions_per_s=1), SECOND_US),
        (replace(town.settings, sessions=0, snapshot_admissions_per_s=5), 200_000),
    ):
        full = replace(town.node, settings=limits, admission=Admission(limits))
        async with serving(SyncDoor(full).handle) as url, link_of(kiosk, url) as link:
            await until(lambda: link.trouble is not None)
            assert isinstance(link.trouble, SyncRefused)
            assert (link.trouble.code, link.trouble.retry_after_us) == ("overloaded", retry_us)
            assert link.state == "locked"
    assert town.store.transactions() == writes


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\xc1", "malformed"),
        (bytes(70_000), "too_large"),
        ("text", "malformed"),
        (codec.encode(m.Lane(base=0, entries=[], upto=1, more=False)), "out_of_turn"),
        (codec.encode(m.LaneAck(upto=1)), "out_of_turn"),
    ],
)
async def test_law_12_a_server_that_talks_nonsense_is_refused_and_left(
    kiosk: Kiosk, frame: bytes | str, code: str
) -> None:
    """The device says why, closes, and holds what it held."""
    said: list[m.Message] = []

    async def nonsense(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        if isinstance(frame, str):
            await ws.send_str(frame)
        else:
            await ws.send_bytes(frame)
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                said.append(codec.decode(message.data))
        return ws

    before = kiosk.stand()
    async with serving(nonsense) as url, link_of(kiosk, url, backoff_first_us=HOUR_US) as link:
        await until(lambda: link.trouble is not None)
        assert isinstance(link.trouble, SyncError)
    assert kiosk.stand() == before
    assert said in ([m.Refusal(code=code)], []) if code == "too_large" else said == [m.Refusal(code=code)]


async def test_a_silent_server_is_left_after_the_timeout(kiosk: Kiosk) -> None:
    """A socket that opens and says nothing does not hold the device for ever."""

    async def silent(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        return ws

    async with serving(silent) as url, link_of(kiosk, url, connect_timeout_us=50_000) as link:
        await until(lambda: link.trouble is not None)
        assert "TimeoutError" in str(link.trouble)


async def test_a_server_that_is_not_there_is_tried_again(kiosk: Kiosk) -> None:
    """No answer is trouble, not an exception in the app; closing works at any time."""
    async with link_of(kiosk, "http://127.0.0.1:9") as link:
        await until(lambda: link.trouble is not None)
        assert link.state == "locked"


async def test_caught_up_raises_when_the_link_has_stopped(kiosk: Kiosk) -> None:
    """Nobody waits for ever for a link that was closed."""
    link = link_of(kiosk, "http://127.0.0.1:9")
    async with link:
        waiting = asyncio.ensure_future(link.caught_up())
        await until(lambda: link.trouble is not None)
    with pytest.raises(SyncError):
        await waiting


def test_law_11_backoff_is_full_jitter_within_a_ceiling() -> None:
    """rand(0, min(32 s, 1 s * 2^n)), on top of what the server asked for."""
    settings = SyncSettings()
    almost = 1 - 1e-9
    ceilings = [wait_us(n, almost, 0, settings) for n in range(1, 9)]
    assert [round(c / SECOND_US) for c in ceilings] == [1, 2, 4, 8, 16, 32, 32, 32]
    assert wait_us(10_000, almost, 0, settings) <= 32 * SECOND_US
    assert wait_us(3, 0.0, 0, settings) == 0
    assert wait_us(1, 0.0, 7 * SECOND_US, settings) == 7 * SECOND_US


# ---- the door, with a bare socket --------------------------------------------------------------------------


@asynccontextmanager
async def socket_to(door: SyncDoor) -> AsyncIterator[ClientWebSocketResponse]:
    async with serving(door.handle) as url, ClientSession() as http:
        async with asyncio.timeout(10), http.ws_connect(f"{url}/v1/sync", max_msg_size=0) as ws:
            yield ws
        await door.close()


@pytest.mark.parametrize(
    ("frame", "code"),
    [(b"\xc1", "malformed"), (bytes(65_537), "too_large"), (bytes(200_000), "too_large"), ("x", "malformed")],
)
async def test_law_12_a_device_that_talks_nonsense_is_told_and_sent_away(
    town: Town, frame: bytes | str, code: str
) -> None:
    """One refusal with its code, then the end. Sessions are not leaked."""
    door = SyncDoor(town.node)
    async with socket_to(door) as ws:
        assert isinstance(codec.decode(await ws.receive_bytes()), m.Challenge)
        await (ws.send_str(frame) if isinstance(frame, str) else ws.send_bytes(frame))
        last = await ws.receive()
        if last.type is WSMsgType.BINARY:
            assert codec.decode(last.data) == m.Refusal(code=code)
            last = await ws.receive()
        else:
            assert code == "too_large"
        assert last.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
        await until(lambda: door.sessions == 0)


async def test_law_11_a_device_that_never_says_hello_is_sent_away(town: Town) -> None:
    """A socket without a Hello is closed after the hello timeout."""
    impatient = replace(town.node, settings=replace(town.settings, hello_timeout_us=20_000))
    door = SyncDoor(impatient)
    async with socket_to(door) as ws:
        assert isinstance(codec.decode(await ws.receive_bytes()), m.Challenge)
        await until(lambda: door.sessions == 0)


async def test_law_2_little_queues_ahead_of_a_withdrawal_in_the_socket(town: Town, kiosk: Kiosk) -> None:
    """A device that stops reading in mid-snapshot: the withdrawal comes long before the rest of the rows."""
    kiosk.give(ALICE)
    dialogue = kiosk.dialogue()
    town.put(2_000, pad=1_000)  # about 50 frames of 50 KB, 2.5 MB
    door = SyncDoor(town.node)
    async with socket_to(door) as ws:
        while dialogue.state is not State.LIVE or kiosk.stand()[0] == 0:
            await answer(ws, dialogue.hear(await ws.receive_bytes(), kiosk.clock.boot_us()))
        town.decide(ALICE, "withdrawn")
        ahead = 0
        while not isinstance(message := codec.decode(frame := await ws.receive_bytes()), m.Lane) or (
            message.upto < town.lane_head()
        ):
            ahead += isinstance(message, m.Delta)
            await answer(ws, dialogue.hear(frame, kiosk.clock.boot_us()))
        await answer(ws, dialogue.hear(frame, kiosk.clock.boot_us()))
        assert kiosk.keyring.key(ALICE, P) is None
        assert ahead < 20
        dialogue.close()


async def answer(ws: ClientWebSocketResponse, frames: list[bytes]) -> None:
    for frame in frames:
        await ws.send_bytes(frame)


# ---- in a thread -------------------------------------------------------------------------------------------


async def test_a_link_in_the_background_catches_up_and_stops(town: Town, kiosk: Kiosk) -> None:
    """For apps that are not async: wait, poke, close; closing twice is once."""
    town.put(20)
    door = SyncDoor(town.node)
    async with serving(door.handle) as url:
        background = await asyncio.to_thread(BackgroundSync, link_of(kiosk, url))
        await asyncio.to_thread(background.wait_caught_up, 10)
        assert background.state == "fresh"
        assert kiosk.stand() == town.head()
        kiosk.give(ALICE)
        background.poke()
        await until(lambda: town.lane_head() == 1)
        await asyncio.to_thread(background.close)
        background.close()
        await door.close()


async def test_the_app_steers_a_link_in_the_background_from_its_own_thread(
    town: Town, tmp_path: Path
) -> None:
    """Channels, a pause and the meter: the same names as on the link, and the states it says."""
    kiosk = Kiosk(town, tmp_path / "steered", patterns=("all", "segment:*"))
    town.put(5, channel="segment:gold")
    door, said = SyncDoor(town.node), list[tuple[str, str]]()
    async with serving(door.handle) as url:
        link = link_of(kiosk, url)
        link.on_state = lambda state, reason: said.append((state, reason))
        background = await asyncio.to_thread(BackgroundSync, link)
        background.follow("segment:gold")
        await until(lambda: kiosk.stand("segment:gold") == town.head("segment:gold"))
        await until(lambda: said[-1][0] == "fresh")
        background.unfollow("segment:gold")
        assert kiosk.rows() == {}
        background.pause()
        await until(lambda: said[-1] == ("stale", "paused by the app") and door.sessions == 0)
        assert background.standing == ("stale", "paused by the app")
        kiosk.give(ALICE)
        background.poke()
        background.resume()
        await until(lambda: town.lane_head() == 1)
        background.metered = True
        assert background.metered
        assert link.metered
        await asyncio.to_thread(background.wait_caught_up, 10)
        await asyncio.to_thread(background.close)
        await door.close()
    assert ("fresh", "") in said
    kiosk.close()


def test_waiting_in_vain_raises_and_the_link_goes_on(kiosk: Kiosk) -> None:
    """A server that is not there: `SyncError` after the time given."""
    with BackgroundSync(link_of(kiosk, "http://127.0.0.1:9")) as background:
        with pytest.raises(SyncError):
            background.wait_caught_up(0.05)
        assert background.link.state == "locked"


async def test_run_alone_works_inside_a_running_loop() -> None:
    """It returns what the work returns and raises what it raises."""

    async def work(fail: bool) -> int:
        if fail:
            raise SyncError("no")
        return 7

    assert run_alone(work(False)) == 7
    with pytest.raises(SyncError, match="no"):
        run_alone(work(True))


async def test_caught_up_for_a_moment_is_caught_up(kiosk: Kiosk) -> None:
    """A frame that comes in the same turn does not make of it that the link has stopped."""
    link = link_of(kiosk, "http://127.0.0.1:1")
    waiting = asyncio.ensure_future(link.caught_up())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    link._caught.set()
    link._caught.clear()
    async with asyncio.timeout(10):
        await waiting
