"""The link to the server: the only socket on the device.

It carries frames between a WebSocket and a `Dialogue`, reconnects with full jitter, and says how fresh this
device is. After any error it forgets where it was and works it out again from what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from edge_runtime.clock import Clock
from edge_runtime.errors import EdgeError, RuntimeClosed, SyncError, SyncRefused
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.backoff import wait_us
from edge_runtime.sync.dialogue import Dialogue, Frames, LeaseLost, Memory, Reporter, device_revoked
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

LinkState = Literal["fresh", "stale", "locked", "diverged"]


class Link:
    """Keeps one replica in sync while it runs. `async with Link(...) as link: await link.caught_up()`.

    Args:
        url: the server, `https://sync.example`; the one enrolled at by default.
        reporter: the aggregates room; None when this device answers no rounds.
        rng: nonces and jitter; the operating system's by default.
        channels: shared channels to follow besides those that the enrolment names.

    Raises:
        NotEnrolled: this device has no identity at a server yet.
    """

    def __init__(
        self,
        replica: Replica,
        url: str | None,
        clock: Clock,
        settings: SyncSettings | None = None,
        reporter: Reporter | None = None,
        rng: random.Random | None = None,
        channels: tuple[str, ...] = (),
    ) -> None:
        identity = replica.identity
        self._url = (url or identity.server_url or "").rstrip("/")
        self._replica, self._clock, self._reporter = replica, clock, reporter
        self._settings = settings or SyncSettings()
        self._rng = rng or random.SystemRandom()
        self._outbox = Outbox(replica.database, replica.consents, self._settings)
        self.memory = Memory(channels)
        """What happened in earlier sessions: repairs, diverged channels, tickets."""
        self.on_state: Callable[[LinkState], None] = lambda state: None
        """Called when `state` changes, in the link's thread."""
        self.on_applied: Callable[[m.Delta, Applied], None] = lambda delta, applied: None
        """Called in the link's thread once a delta's rows are durable and readable here: for measuring how
        fresh this device is. It must not block, nor raise: the link would stop."""
        self.memory.applied = lambda delta, applied: self.on_applied(delta, applied)
        self.trouble: EdgeError | None = None
        """Why the last session ended; None while one is open."""
        self._dialogue: Dialogue | None = None
        self._said: LinkState | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._closing, self._caught = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- for the app -------------------------------------------------------------------------------------

    @property
    def state(self) -> LinkState:
        """`diverged`: a channel could not be repaired; `locked`: no live lease; `fresh`: all is as the server
        has it; else `stale`."""
        if self.memory.diverged:
            return "diverged"
        if self._replica.leases.state == "locked":
            return "locked"
        return "fresh" if self._dialogue is not None and self._dialogue.caught_up else "stale"

    @property
    def refusals(self) -> Mapping[str, SyncRefused]:
        """Channel -> why the server does not serve it, until it does.

        Of a refusal for time, `server_time_us` is the server's clock, proved by its signature.
        """
        return dict(self.memory.refusals)

    async def caught_up(self) -> None:
        """Return once everything known to the server is here and everything said here is acknowledged.

        Raises `SyncError` when the link has stopped.
        """
        self._nudge()  # what was known a moment ago says nothing of what was queued since
        waiting = asyncio.ensure_future(self._caught.wait())
        watched = {waiting} if self._task is None else {waiting, self._task}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._caught.is_set():
            raise self.trouble or SyncError("the link has stopped")

    def poke(self) -> None:
        """Something waits in the outbox, or a channel opened. From any thread; forgetting it only delays."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between
                self._loop.call_soon_threadsafe(self._nudge)

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def stop(self) -> None:
        """Ask the link to end; call it in the link's own thread."""
        self._closing.set()

    async def stopped(self) -> None:
        """Return when somebody asked the link to end, or it broke."""
        asked = asyncio.ensure_future(self._closing.wait())
        watched = {asked} if self._task is None else {asked, self._task}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    async def close(self) -> None:
        """End the session and stop; what waits in the outbox stays there."""
        self._closing.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # ---- sessions ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and again after every end, until `close`."""
        import aiohttp  # here, so that a runtime that never syncs never loads it

        self._loop = asyncio.get_running_loop()
        failures, lost = 0, False
        async with aiohttp.ClientSession(trust_env=False) as http:
            while not self._closing.is_set():
                began_us = self._clock.boot_us()
                try:
                    if self._is_over():
                        self.trouble = device_revoked()
                        return
                    self._replica.fit_catalog()
                    await self._session(http)
                except RuntimeClosed:
                    return
                except EdgeError as error:
                    self.trouble = error
                finally:
                    self._end_session()
                healthy = self._clock.boot_us() - began_us >= self._settings.healthy_us
                failures = 1 if healthy else failures + 1
                # a lost lease is no fault of the server's: back at once, unless that just happened
                lost = isinstance(self.trouble, LeaseLost) and not lost
                if not lost:
                    await self._stay_away(failures)

    def _is_over(self) -> bool:
        """Whether the server shut this device out, everything is gone, and that was told."""
        self._replica.shut_out.finish()
        return self._replica.shut_out.standing == "wiped" and not self._outbox.receipts_wait

    async def _stay_away(self, failures: int) -> None:
        asked_us = 0
        if isinstance(self.trouble, SyncRefused):
            asked_us = self.trouble.retry_after_us or 0
            if self.trouble.code == "unsupported_version":  # until somebody updates one of the two
                asked_us = max(asked_us, self._settings.unsupported_us)
        delay_us = wait_us(failures, self._rng.random(), asked_us, self._settings)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), delay_us / 1_000_000)

    async def _session(self, http: ClientSession) -> None:
        """One socket from connect to end. Every way it can end is a `SyncError`."""
        import aiohttp

        try:
            async with asyncio.timeout(self._settings.connect_timeout_us / 1_000_000):
                ws = await http.ws_connect(
                    f"{self._url}/v1/sync",
                    max_msg_size=self._settings.frame_limit_bytes + 1,
                    compress=0,
                )
            async with ws:
                await self._converse(ws)
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(
                error.status, error.headers.get("Retry-After", "") if error.headers else ""
            ) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SyncError(f"the link broke: {type(error).__name__}") from None

    async def _converse(self, ws: ClientWebSocketResponse) -> None:
        dialogue = self._dialogue = Dialogue(
            self._replica,
            self._outbox,
            self.memory,
            self._settings,
            self._rng.randbytes,
            self._reporter,
        )
        self.trouble = None
        turn = asyncio.Lock()  # one act at a time: frames leave in the order in which they were decided
        ticking = asyncio.ensure_future(self._tick(ws, dialogue, turn))
        reading = asyncio.ensure_future(self._read(ws, dialogue, turn))
        try:
            done, _ = await asyncio.wait({ticking, reading}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WireFailure as failure:
            await self._part(ws, failure)
            if failure.code == "unsupported_version":
                raise SyncRefused(failure.code, failure.reason) from None
            raise SyncError(f"the server's frame was refused: {failure.code}") from None
        finally:
            for task in (ticking, reading):
                task.cancel()
            await asyncio.gather(ticking, reading, return_exceptions=True)

    async def _read(self, ws: ClientWebSocketResponse, dialogue: Dialogue, turn: asyncio.Lock) -> None:
        import aiohttp

        while True:
            message = await ws.receive(timeout=self._patience_us(dialogue) / 1_000_000)
            if message.type is aiohttp.WSMsgType.TEXT:
                raise WireFailure("malformed", "expected a binary frame")
            if message.type is aiohttp.WSMsgType.ERROR:
                raise WireFailure("too_large", "the frame is over the limit")
            if message.type is not aiohttp.WSMsgType.BINARY:
                raise SyncError("the server closed the session")
            async with turn:
                await self._send(ws, dialogue.hear(message.data, self._clock.boot_us()))
                self._tell()

    def _patience_us(self, dialogue: Dialogue) -> int:
        """How long the socket may be silent: three of the server's own pings, within an hour."""
        if not dialogue.opened:
            return self._settings.connect_timeout_us
        return max(self._settings.silence_us, min(3 * dialogue.ping_us, 3_600_000_000))

    async def _tick(self, ws: ClientWebSocketResponse, dialogue: Dialogue, turn: asyncio.Lock) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._settings.tick_us / 1_000_000)
            self._wake.clear()
            async with turn:
                await self._send(ws, dialogue.tick(self._clock.boot_us()))
                self._tell()

    async def _send(self, ws: ClientWebSocketResponse, frames: Frames) -> None:
        for frame in frames:
            async with asyncio.timeout(self._settings.send_timeout_us / 1_000_000):
                await ws.send_bytes(frame)

    async def _part(self, ws: ClientWebSocketResponse, failure: WireFailure) -> None:
        """Say why, if the socket still takes it."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(1):
                await ws.send_bytes(codec.encode(m.Refusal(code=failure.code)))

    # ---- saying how it stands ----------------------------------------------------------------------------

    def _nudge(self) -> None:
        self._caught.clear()
        self._wake.set()

    def _end_session(self) -> None:
        if self._dialogue is not None:
            self._dialogue.close()
            self._dialogue = None
        self._tell()

    def _tell(self) -> None:
        if self._dialogue is not None and self._dialogue.caught_up:
            self._caught.set()
        else:
            self._caught.clear()
        if self.state != self._said:
            self._said = self.state
            self.on_state(self._said)


def _refused(status: int, retry_after: str) -> SyncError:
    if status != 503:
        return SyncError(f"the server answered {status} where a session was expected")
    seconds = int(retry_after) if retry_after.isdecimal() else 0
    return SyncRefused("overloaded", retry_after_us=min(seconds, 3_600) * 1_000_000)
