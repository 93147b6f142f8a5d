"""One session in motion: what is heard and what is due goes in turn through the dialogue and out again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Protocol

from edge_runtime.clock import Clock
from edge_runtime.sync.carrier import Carrier, Cut
from edge_runtime.sync.dialogue import Dialogue, Frames
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure


class Owner(Protocol):
    """The link, as its session needs it."""

    @property
    def silent(self) -> bool:
        """Whether nothing may be sent."""
        ...

    def moved(self) -> None:
        """Something was heard or done."""
        ...

    def look(self) -> None:
        """Told before every tick."""
        ...


class Exchange:
    """Carries frames between `carrier` and `dialogue` until one of them ends.

    Args:
        wake: set when there may be something to do before the next tick.
    """

    def __init__(
        self,
        carrier: Carrier,
        dialogue: Dialogue,
        clock: Clock,
        settings: SyncSettings,
        wake: asyncio.Event,
        owner: Owner,
    ) -> None:
        self._carrier, self._dialogue, self._owner = carrier, dialogue, owner
        self._clock, self._settings, self._wake = clock, settings, wake
        self._turn = asyncio.Lock()
        """One act at a time: frames leave in the order in which they were decided."""

    async def run(self, halt: asyncio.Event) -> None:
        """Return when `halt` is set. Raises what ends a session: every `SyncError`, and
        `WireFailure` after the server was told of it."""
        try:
            await first(self._tick(), self._read(), halt.wait())
        except WireFailure as failure:
            await self._carrier.part(codec.encode(m.Refusal(code=failure.code)))
            raise

    async def _read(self) -> None:
        dialogue, began_us = self._dialogue, self._clock.boot_us()
        while True:
            frame = await self._carrier.receive(self._patience_us())
            if frame is None and not dialogue.opened:
                waited_us = self._clock.boot_us() - began_us
                if not 0 <= waited_us <= self._settings.connect_timeout_us:
                    raise Cut("the server does not open the session")
            async with self._turn:
                if frame is not None:
                    await self._send(dialogue.hear(frame, self._clock.boot_us()))
                self._owner.moved()

    def _patience_us(self) -> int:
        """How long the carrier may be silent: three of the server's own pings, within an hour."""
        if not self._dialogue.opened:
            return self._settings.connect_timeout_us
        return max(self._settings.silence_us, min(3 * self._dialogue.ping_us, 3_600 * SECOND_US))

    async def _tick(self) -> None:
        while True:
            await set_within(self._wake, self._settings.tick_us)
            self._wake.clear()
            async with self._turn:
                self._owner.look()
                await self._send(self._dialogue.tick(self._clock.boot_us()))
                self._owner.moved()

    async def _send(self, frames: Frames) -> None:
        if not self._owner.silent:
            await self._carrier.send(frames)


async def set_within(event: asyncio.Event, wait_us: int) -> None:
    """Return when `event` is set, at the latest after `wait_us`.

    Not by `asyncio.wait_for`: when the event comes in the same turn as a cancellation, it swallows that, and
    who closes the link waits for ever.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait_us / SECOND_US):
            await event.wait()


async def first(*works: Coroutine[object, object, object]) -> None:
    """Run `works` until one ends; raise what it raised. The others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
