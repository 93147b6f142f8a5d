"""The link over long polls, on real sockets: lost replies, caches, impatient and endless servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_runtime.sync.carrier import Blocked, Gone, Unreachable, no_session
from edge_runtime.sync.link import Link
from edge_runtime.sync.long_poll import Waits
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import bundle
from sync_server.sync.door import SyncDoor
from tests.support.town import ALICE, Kiosk, P, Town

HOUR_US = 3_600 * SECOND_US
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NoWait(random.Random):
    """Chance that never makes anybody wait."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=50))
    yield made
    made.close()


@asynccontextmanager
async def polled(
    kiosk: Kiosk, handler: Handler, door: SyncDoor | None = None, **more: Any
) -> AsyncIterator[Link]:
    """A link to a server that takes no WebSocket and hands polls to `handler`."""
    app = web.Application()
    app.router.add_post("/v1/sync", handler)
    server = TestServer(app)
    await server.start_server()
    settings = replace(SyncSettings(tick_us=HOUR_US, attempts_per_minute=1_000), **more)
    url = str(server.make_url("")).rstrip("/")
    try:
        async with (
            asyncio.timeout(20),
            Link(kiosk.replica, url, kiosk.clock, settings, rng=NoWait(1)) as link,
        ):
            yield link
    finally:
        if door is not None:
            await door.close()
        await server.close()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not true():
            await asyncio.sleep(0)


async def test_a_device_syncs_by_polls_alone(town: Town, kiosk: Kiosk) -> None:
    """From nothing to the head, a row that comes by itself, a decision that is told at once."""
    town.put(500)
    door = SyncDoor(town.node)
    async with polled(kiosk, door.polls.handle, door) as link:
        await link.caught_up()
        assert (link.way, link.state) == ("poll", "fresh")
        assert kiosk.stand() == town.head()
        town.put(1, start=500)
        await until(lambda: kiosk.stand() == town.head())
        kiosk.give(ALICE)
        link.poke()
        await link.caught_up()
        assert town.lane_head() == 1
        town.put_profile(ALICE)
        await until(lambda: kiosk.sealed_rows(ALICE) == 2)
        town.decide(ALICE, "withdrawn")
        await until(lambda: kiosk.keyring.key(ALICE, P) is None)
        assert door.sessions == 1
    assert link.state == "stale"


async def test_law_11_what_does_not_fit_one_body_goes_with_the_next_at_once(town: Town, kiosk: Kiosk) -> None:
    """One frame a poll, and no poll is waited for meanwhile; a body is bounded by its bytes too."""
    door, most = SyncDoor(town.node), [0]

    async def measuring(request: web.Request) -> web.StreamResponse:
        most[0] = max(most[0], request.content_length or 0)
        return await door.polls.handle(request)

    async with polled(kiosk, measuring, poll_frames=1) as link, asyncio.timeout(8):
        await link.caught_up()
        for n in range(3):
            kiosk.give(f"user:u{n}")
        link.poke()
        await link.caught_up()
        assert town.lane_head() == 3
    most[0] = 0
    async with polled(kiosk, measuring, poll_body_bytes=2_000, batch=4) as link, asyncio.timeout(8):
        await link.caught_up()
        for n in range(3, 40):
            kiosk.give(f"user:u{n}")
        link.poke()
        await link.caught_up()
        assert town.lane_head() == 40
    assert 0 < most[0] <= 2_000
    await door.close()


async def test_a_device_that_closes_tells_the_server(town: Town, kiosk: Kiosk) -> None:
    door = SyncDoor(town.node)
    async with polled(kiosk, door.polls.handle) as link:
        await link.caught_up()
        await link.close()
        assert door.sessions == 0


async def test_law_6_replies_that_are_lost_are_asked_for_again_and_nothing_is_said_twice(
    town: Town, kiosk: Kiosk
) -> None:
    """Every second reply never arrives: one session all the same, every decision recorded once."""
    town.put(400)
    door, count = SyncDoor(town.node), [0]

    async def losing(request: web.Request) -> web.StreamResponse:
        reply = await door.polls.handle(request)
        count[0] += 1
        if count[0] % 2 == 0 and request.headers[bundle.POLL_HEADER] != "0":
            assert request.transport is not None
            request.transport.close()
        return reply

    async with polled(kiosk, losing, door, poll_wait_least_us=SECOND_US) as link:
        await link.caught_up()
        for n in range(5):
            kiosk.give(f"user:u{n}")
            link.poke()
            await link.caught_up()
        assert kiosk.stand() == town.head()
        assert link.trouble is None
    assert town.lane_head() == 5
    assert town.store.transactions()["contact"] == 1  # one Hello
    assert count[0] > 10


async def test_a_poll_that_is_not_answered_is_told_before_it_is_given_up(town: Town, kiosk: Kiosk) -> None:
    """Stale at the first lost reply, with the reason, and fresh again after the second try."""
    door, lose, said = SyncDoor(town.node), [False], list[tuple[str, str]]()

    async def losing(request: web.Request) -> web.StreamResponse:
        reply = await door.polls.handle(request)
        if lose[0] and request.headers[bundle.POLL_HEADER] != bundle.END:
            assert request.transport is not None
            request.transport.close()
        return reply

    async with polled(kiosk, losing, door, tick_us=5_000) as link:
        await link.caught_up()
        link.on_state = lambda state, reason: said.append((state, reason))
        lose[0] = True
        town.put(1)
        await until(lambda: ("stale", "the server's answer is overdue: asking again") in said)
        lose[0] = False
        await until(lambda: kiosk.stand() == town.head() and link.state == "fresh")
        assert link.trouble is None


async def test_a_session_that_the_server_forgot_is_followed_by_another(town: Town, kiosk: Kiosk) -> None:
    """410: back at once by the same way; what was queued is told in the next."""
    door, gone = SyncDoor(town.node), [0]

    async def whichever(request: web.Request) -> web.StreamResponse:
        reply = await door.polls.handle(request)
        gone[0] += reply.status == 410 and request.headers[bundle.POLL_HEADER] != bundle.END
        return reply

    async with polled(kiosk, whichever) as link:
        await link.caught_up()
        old, door = door, SyncDoor(town.node)
        kiosk.give(ALICE)
        link.poke()
        await until(lambda: town.lane_head() == 1)
        await link.caught_up()
        assert link.way == "poll"
        assert gone[0] == 1  # it is not asked again
        for each in (old, door):
            await each.close()


async def test_a_cache_in_between_is_noticed(town: Town, kiosk: Kiosk) -> None:
    """A reply to another poll is not taken: nothing of it is heard, and the session ends."""
    door, kept = SyncDoor(town.node), list[web.Response]()

    async def caching(request: web.Request) -> web.StreamResponse:
        if len(kept) == 3:
            return web.Response(body=kept[1].body, headers=kept[1].headers)
        reply = await door.polls.handle(request)
        assert isinstance(reply, web.Response)
        kept.append(reply)
        return reply

    async with polled(kiosk, caching, door, poll_retries=1) as link:
        await until(lambda: link.trouble is not None and "keeps replies" in str(link.trouble))


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            lambda: web.Response(text="<h1>Welcome to our hotel</h1>", content_type="text/html"),
            "answered 200",
        ),
        (lambda: web.Response(status=302, headers={"Location": "/v1/sync"}), "answered 302"),
        (lambda: web.Response(status=502, text="bad gateway"), "answered 502"),
        (lambda: web.Response(body=b"", content_type=bundle.MEDIA_TYPE), "another poll"),
        (
            lambda: web.Response(
                body=b"\0\0\0", content_type=bundle.MEDIA_TYPE, headers={bundle.POLL_HEADER: "0"}
            ),
            "no session",
        ),
        (
            lambda: web.Response(
                body=b"\0\0\0",
                content_type=bundle.MEDIA_TYPE,
                headers={bundle.POLL_HEADER: "0", bundle.SESSION_HEADER: "t"},
            ),
            "malformed",
        ),
        (
            lambda: web.Response(
                body=bytes(5_000_000),
                content_type=bundle.MEDIA_TYPE,
                headers={bundle.POLL_HEADER: "0", bundle.SESSION_HEADER: "t"},
            ),
            "too_large",
        ),
    ],
)
async def test_law_12_what_is_no_session_changes_nothing(
    kiosk: Kiosk, reply: Callable[[], web.Response], told: str
) -> None:
    troubles: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        return reply()

    before = kiosk.stand()
    async with polled(kiosk, other) as link:
        link.on_state = lambda state, reason: troubles.append(str(link.trouble))
        while not any(told in trouble for trouble in troubles):
            troubles.append(str(link.trouble))
            await asyncio.sleep(0)
        assert link.state == "locked"
    assert kiosk.stand() == before


async def test_law_11_a_server_that_answers_nothing_at_once_is_not_asked_in_a_tight_loop(
    town: Town, kiosk: Kiosk
) -> None:
    """After the session is open, empty replies that come too soon are asked for ever more slowly."""
    door, times = SyncDoor(town.node), list[float]()

    async def hasty(request: web.Request) -> web.StreamResponse:
        reply = await door.polls.handle(replace_wait(request))
        times.append(asyncio.get_running_loop().time())
        return reply

    def replace_wait(request: web.Request) -> web.Request:
        headers = request.headers.copy()
        headers[bundle.WAIT_HEADER] = "0"
        return request.clone(headers=headers)

    async with polled(kiosk, hasty, door) as link:
        await link.caught_up()
        opened = len(times)
        await until(lambda: len(times) >= opened + 5)
        gaps = [b - a for a, b in zip(times[-5:], times[-4:], strict=False)]
        assert gaps[-1] > gaps[0]
        assert times[-1] - times[-5] > 0.1 + 0.2 + 0.4


def test_law_11_waits_come_down_where_they_are_cut_and_up_again_where_they_are_not() -> None:
    """Never under the least nor over the most."""
    waits = Waits(SyncSettings(poll_wait_us=20 * SECOND_US, poll_wait_least_us=SECOND_US))
    waits.cut(4 * SECOND_US)
    assert waits.us == 3 * SECOND_US
    waits.cut(100)
    assert waits.us == SECOND_US
    for _ in range(7):
        waits.waited()
    assert waits.us == SECOND_US
    waits.waited()
    assert waits.us == SECOND_US * 5 // 4
    for _ in range(1_000):
        waits.waited()
    assert waits.us == 20 * SECOND_US
    waits.cut(19 * SECOND_US)
    assert waits.us == 10 * SECOND_US


PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("status", "kind", "body", "wanted"),
    [
        (503, PROBLEM, b'{"code":"overloaded"}', "overloaded"),
        (503, PROBLEM, None, "overloaded"),
        (429, "text/html", None, "overloaded"),
        (403, PROBLEM, b'{"code":"device_revoked"}', "device_revoked"),
        (403, PROBLEM, b'{"code":"no such code"}', Unreachable),
        (403, PROBLEM, b"\xff", Unreachable),
        (410, PROBLEM, b'{"code":"session_closed"}', Gone),
        (426, PROBLEM, None, Blocked),
        (500, PROBLEM, None, Unreachable),
        (502, "text/html", None, Unreachable),
        (403, "text/html", None, Blocked),
        (404, "text/html", b'{"code":"overloaded"}', Blocked),
        (200, "text/html", None, Blocked),
    ],
)
def test_what_an_answer_says_of_the_way(status: int, kind: str, body: bytes | None, wanted: object) -> None:
    """Only what somebody in between says of it: a server's own no is a no by every way."""
    found = no_session(status, kind, {}, body)
    assert getattr(found, "code", type(found)) == wanted


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "99999999999"}, 86_400),
        ({"Retry-After": "-7"}, 0),
        ({"Retry-After": "soon"}, 0),
        (
            {
                "Retry-After": "Mon, 30 Nov 2026 10:02:00 GMT",
                "Date": "Mon, 30 Nov 2026 10:00:30 GMT",
            },
            90,
        ),
        ({"Retry-After": "Mon, 30 Nov 2026 10:02:00 GMT"}, 0),
        ({}, 0),
    ],
)
def test_how_long_an_answer_asks_to_wait(headers: dict[str, str], seconds: int) -> None:
    """Seconds, or a date measured by the answer's own clock."""
    found = no_session(503, "text/html", headers, None)
    assert getattr(found, "retry_after_us", None) == seconds * SECOND_US
