"""`POST /v1/sync`: the same session for devices that no WebSocket reaches, one HTTP request after another.

A poll without a token opens a session; its reply gives the token. Every reply says `no-store`: a cache that
answered a device would keep withdrawals from it. What ends a session says so as a frame in the reply to the
poll that waits, or as a problem document to the next one.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from edge_runtime.wire import bundle
from edge_runtime.wire.failure import WireFailure
from sync_server.api.body import read_body
from sync_server.api.problem import problem_reply
from sync_server.errors import Problem
from sync_server.settings import SECOND_US
from sync_server.sync.admission import Turned
from sync_server.sync.node import Node
from sync_server.sync.parting import back_within_us, going_away, longest_s, whole_seconds
from sync_server.sync.poll_session import PollSession
from sync_server.sync.turn import Turn

AT_ONCE: Final = 3
"""Requests of one session at once: one that waits, the next that ends its wait, and one sent again."""
NO_STORE: Final = {"Cache-Control": "no-store"}


@dataclass(slots=True, eq=False)
class _Held:
    """A session and what keeps it."""

    session: PollSession
    age: asyncio.TimerHandle
    """Ends it when it is too old."""
    idle: asyncio.TimerHandle | None = None
    """Ends it when no poll comes; None while one is under way."""
    requests: int = 0
    """Under way now."""
    kept_bytes: int = 0


class PollDoor:
    """Every polled session of this node."""

    def __init__(self, node: Node, turn: Turn) -> None:
        self._node, self._turn = node, turn
        self._held: OrderedDict[str, _Held] = OrderedDict()
        """By token; the one whose last reply was made longest ago first."""
        self._kept_bytes = 0

    @property
    def sessions(self) -> int:
        """Sessions open now."""
        return len(self._held)

    @property
    def waiting(self) -> int:
        """Polls under way now."""
        return sum(held.requests for held in self._held.values())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one poll."""
        try:
            return await self._answer(request)
        except Problem as problem:
            return problem_reply(problem, NO_STORE)

    async def close(self) -> None:
        """End every session; a poll that waits is told so."""
        sessions, window_us = [held.session for held in self._held.values()], back_within_us(self._node)
        for session in sessions:
            session.end("going_away", going_away(self._node, window_us).retry_after_us)
            self._forget(session)
        for session in sessions:
            await session.finished()

    # ---- one request -------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        token, word = request.headers.get(bundle.SESSION_HEADER), request.headers.get(bundle.POLL_HEADER, "")
        wait_s = self._wait_s(request)
        if token is None:
            return await self._open(word)
        number = -1 if word == bundle.END else _number(word)
        held = self._held.get(token)
        if held is None:
            raise Problem("session_closed")
        if word == bundle.END:
            self._end(held.session, "going_away")
            return _reply(b"", {})
        if held.requests >= AT_ONCE:
            raise Problem("poll_out_of_order", "too many requests of one session at once")
        with self._under_way(held):
            body = await self._body(request)
            reply = await held.session.ask(number, body, self._frames(body), wait_s)
        return _reply(reply, {bundle.POLL_HEADER: word})

    async def _open(self, word: str) -> web.Response:
        """Admission is judged in memory, before anything is read."""
        settings = self._node.settings
        if word != "0":
            raise Problem("invalid_request", f"expected {bundle.POLL_HEADER}: 0 without a session")
        if len(self._held) >= settings.poll_sessions:
            raise Problem("overloaded")
        try:
            visit = self._node.knock()
        except Turned as turned:
            raise Problem("overloaded", retry_after_s=whole_seconds(turned)) from None
        token = urlsafe_b64encode(self._node.chance(32)).rstrip(b"=").decode()
        session = PollSession(self._node, self._turn, token, visit)
        loop = asyncio.get_running_loop()
        age = loop.call_later(longest_s(self._node), self._end, session, "going_away")
        held = self._held[token] = _Held(session, age)
        with self._under_way(held):
            reply = await session.ask(0, b"", [], 0)
        return _reply(reply, {bundle.POLL_HEADER: word, bundle.SESSION_HEADER: token})

    async def _body(self, request: web.Request) -> bytes:
        settings = self._node.settings
        if request.can_read_body and request.content_type != bundle.MEDIA_TYPE:
            raise Problem("unsupported_media", f"expected {bundle.MEDIA_TYPE}")
        try:
            async with asyncio.timeout(settings.send_timeout_us / SECOND_US):
                return await read_body(request, settings.poll_body_bytes)
        except TimeoutError:
            raise Problem("too_slow") from None

    def _frames(self, body: bytes) -> list[bytes]:
        try:
            return bundle.split(body, self._node.settings.poll_frames)
        except WireFailure as failure:
            code = "too_large" if failure.code == "too_large" else "malformed_frames"
            raise Problem(code, failure.reason) from None

    def _wait_s(self, request: web.Request) -> float:
        most_us, asked = self._node.settings.poll_wait_us, request.headers.get(bundle.WAIT_HEADER)
        if asked is None:
            return most_us / SECOND_US
        if not (asked.isascii() and asked.isdecimal() and len(asked) <= 9):
            raise Problem("invalid_request", f"expected {bundle.WAIT_HEADER} in whole milliseconds")
        return min(most_us, int(asked) * 1_000) / SECOND_US

    # ---- how long a session stays ------------------------------------------------------------------------

    @contextmanager
    def _under_way(self, held: _Held) -> Iterator[None]:
        """A request of this session; between two of them it is kept for a while, and one reply with it."""
        held.requests += 1
        if held.idle is not None:
            held.idle.cancel()
            held.idle = None
        try:
            yield
        finally:
            held.requests -= 1
            if held.session.ended:
                self._forget(held.session)
            elif held.session.token in self._held:
                self._keep(held)
                self._rest(held)

    def _rest(self, held: _Held) -> None:
        if held.requests == 0 and not held.session.ended:
            settings = self._node.settings
            wait_us = settings.poll_idle_us if held.session.greeted else settings.hello_timeout_us
            loop = asyncio.get_running_loop()
            held.idle = loop.call_later(wait_us / SECOND_US, self._end, held.session, "going_away")

    def _keep(self, held: _Held) -> None:
        """Law 11: what is kept of all sessions is bounded; the one kept longest goes, and its session."""
        self._kept_bytes += held.session.kept_bytes - held.kept_bytes
        held.kept_bytes = held.session.kept_bytes
        self._held.move_to_end(held.session.token)
        while self._kept_bytes > self._node.settings.poll_kept_bytes:
            self._end(next(h.session for h in self._held.values() if h.kept_bytes), "overloaded")

    def _end(self, session: PollSession, code: str) -> None:
        session.end(code)
        self._forget(session)

    def _forget(self, session: PollSession) -> None:
        held = self._held.pop(session.token, None)
        if held is None:
            return
        self._kept_bytes -= held.kept_bytes
        held.age.cancel()
        if held.idle is not None:
            held.idle.cancel()


def _number(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 15):
        raise Problem("invalid_request", f"expected {bundle.POLL_HEADER}: the poll's number")
    return int(word)


def _reply(body: bytes, headers: dict[str, str]) -> web.Response:
    return web.Response(body=body, headers={**NO_STORE, **headers}, content_type=bundle.MEDIA_TYPE)
