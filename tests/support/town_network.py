"""A network without sockets: real device sessions of a town's node, and the ways in which a network fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from edge_runtime.errors import SyncError
from edge_runtime.sync.carrier import Carrier, Cut, Network, Spend, Way
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.sync.stream import DeviceSession
from tests.support.town import Town


@dataclass(frozen=True)
class Serve:
    """The town's own server."""

    cut_after_s: float | None = None
    """The connection breaks then; None: never."""
    mute_after_s: float | None = None
    """Nothing comes through any more then, either way, and nobody says so."""


@dataclass(frozen=True)
class Say:
    """A server that says `messages` and hangs up."""

    messages: Sequence[m.Message]


Act = Serve | Say | SyncError


class TownNetwork:
    """See `carrier.Network`.

    Args:
        act: what becomes of an attempt, by its way and number.
    """

    def __init__(self, town: Town, act: Callable[[Way, int], Act] = lambda way, number: Serve()) -> None:
        self._town, self.act = town, act
        self.attempts: list[tuple[int, Way]] = []
        """(boot time, way) of each."""
        self.sessions: list[DeviceSession] = []
        self.heard: Callable[[bytes], None] = lambda frame: None
        """Called with every frame that the server hears."""

    def __call__(self) -> AbstractAsyncContextManager[Network]:
        return self._opened()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Network]:
        yield self

    @property
    def times_s(self) -> list[float]:
        """When each attempt began, in seconds since the first."""
        return [(at - self.attempts[0][0]) / 1_000_000 for at, _ in self.attempts]

    @asynccontextmanager
    async def open(self, way: Way, spend: Spend) -> AsyncIterator[Carrier]:
        self.attempts.append((self._town.clock.boot_us(), way))
        act = self.act(way, len(self.attempts))
        if isinstance(act, SyncError):
            raise act
        if isinstance(act, Say):
            yield _Saying(act.messages)
            return
        served = _Served(self._town, act, spend, self.heard)
        self.sessions.append(served.session)
        try:
            yield served
        finally:
            served.close()


class _Saying:
    steady = True

    def __init__(self, messages: Sequence[m.Message]) -> None:
        self._waiting = [codec.encode(message) for message in messages]

    async def receive(self, patience_us: int) -> bytes:
        if not self._waiting:
            raise Cut("the server closed the session")
        return self._waiting.pop(0)

    async def send(self, frames: Sequence[bytes]) -> None:
        """Nobody listens."""

    async def part(self, frame: bytes) -> None:
        """Nobody listens."""


class _Served:
    steady = True

    def __init__(self, town: Town, act: Serve, spend: Spend, heard: Callable[[bytes], None]) -> None:
        self._heard = heard
        self._subscription = town.node.hints.subscribe()
        self.session = DeviceSession(town.node, self._subscription)
        loop = asyncio.get_running_loop()
        self._spend, self._time = spend, loop.time
        self._cut_s = None if act.cut_after_s is None else loop.time() + act.cut_after_s
        self._mute_s = None if act.mute_after_s is None else loop.time() + act.mute_after_s

    async def receive(self, patience_us: int) -> bytes:
        silent_s = self._time() + patience_us / 1_000_000
        while True:
            now_s = self._time()
            if self._cut_s is not None and now_s >= self._cut_s:
                raise Cut("the link broke: ConnectionResetError")
            if now_s >= silent_s:
                raise Cut("the link broke: TimeoutError")
            frame = None if self._mute else self.session.next()
            if frame is not None:
                self._spend(len(frame))
                return frame
            ends = [s for s in (self._cut_s, silent_s) if s is not None]
            pinged = not self._mute
            try:
                async with asyncio.timeout(min(20.0 if pinged else 1e9, min(ends) - now_s + 1e-3)):
                    await self._subscription.wake.wait()
                self._subscription.wake.clear()
                self.session.look()
            except TimeoutError:
                if pinged and not self._mute:  # a ping of the server's
                    silent_s = self._time() + patience_us / 1_000_000

    @property
    def _mute(self) -> bool:
        return self._mute_s is not None and self._time() >= self._mute_s

    async def send(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._spend(len(frame))
            if not self._mute:
                self._heard(frame)
                self.session.hear(frame)
                self._subscription.wake.set()
        await asyncio.sleep(0)

    async def part(self, frame: bytes) -> None:
        await self.send([frame])

    def close(self) -> None:
        self.session.close()
        self._subscription.close()
