"""The link to the server, as the app has it: what it wishes for, and how fresh this device is.

The `Sessions` that it runs do the talking, in the link's thread; the app may be in any. No socket is opened
here: `network.py` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

from edge_runtime.clock import Clock
from edge_runtime.errors import EdgeError, SyncError, SyncRefused
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.carrier import Network, Way
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.meter import Meter
from edge_runtime.sync.network import open_network
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.reporting import Reporter
from edge_runtime.sync.sessions import Sessions
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.sync.standing import Facts, LinkState, Standing, judge
from edge_runtime.sync.wishes import Wishes
from edge_runtime.wire import messages as m

OnState = Callable[[LinkState, str], None]
"""Called with the state and its reason."""


class Link:
    """Keeps one replica in sync while it runs. `async with Link(...) as link: await link.caught_up()`.

    What the app calls may be called from any thread, but for what is `async`, and for `stop`.

    Args:
        url: the server, `https://sync.example`; the one enrolled at by default.
        reporter: the aggregates room; None when this device answers no rounds.
        rng: nonces and jitter; the operating system's by default.
        channels: shared channels to follow in this run besides those that the enrolment names.
        on_state: see `on_state`.
        network: opens the network; HTTP by default.

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
        on_state: OnState | None = None,
        network: Callable[[], AbstractAsyncContextManager[Network]] | None = None,
    ) -> None:
        identity, settings = replica.identity, settings or SyncSettings()
        url = (url or identity.server_url or "").rstrip("/")
        self._network = network or (lambda: open_network(url, settings))
        self._replica = replica
        self._wishes = Wishes(replica.database, channels, settings.channels)
        self._meter = Meter(replica.database, clock, settings)
        self.memory = Memory(self._wishes.wanted)
        """What happened in earlier sessions: repairs, diverged channels, tickets."""
        self.memory.unwanted = self._wishes.unwanted
        self.on_state: OnState = on_state or (lambda state, reason: None)
        """Called in the link's thread when the state or its reason changes: at once when the connection
        breaks, within a tick when a lease ends. It must not block, nor raise: the link would stop."""
        self.on_applied: Callable[[m.Delta, Applied], None] = lambda delta, applied: None
        """Called in the link's thread once a delta's rows are durable and readable here: for measuring how
        fresh this device is. It must not block, nor raise: the link would stop."""
        self.memory.applied = lambda delta, applied: self.on_applied(delta, applied)
        outbox = Outbox(replica.database, replica.consents, settings)
        rooms = (replica, outbox, self.memory, self._meter, clock, settings, reporter)
        self._sessions = Sessions(*rooms, rng or random.SystemRandom(), self._tell)
        self._said: Standing | None = None
        self._done = False
        """Whether all is as the server has it, as the link's thread saw it last."""
        self._caught = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    # ---- how it stands -----------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """The state, and why it is that."""
        sessions, leases = self._sessions, self._replica.leases
        return judge(
            Facts(
                diverged=len(self.memory.diverged),
                locked=leases.reason() if leases.state == "locked" else "",
                paused=sessions.paused,
                lean=self.memory.lean,
                connected=sessions.connected,
                steady=sessions.steady,
                caught_up=self._done,
                trouble=sessions.trouble,
            )
        )

    @property
    def state(self) -> LinkState:
        """`diverged`: a channel could not be repaired; `locked`: no live lease; `fresh`: all is as the server
        has it; else `stale`."""
        return self.standing.state

    @property
    def trouble(self) -> EdgeError | None:
        """Why the last session ended; None while one is open."""
        return self._sessions.trouble

    @property
    def way(self) -> Way:
        """How the session is carried, or the last one was."""
        return self._sessions.way

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    def status(self) -> dict[str, object]:
        """How this link stands, in plain words; nothing personal in it."""
        hour, day = self._meter.spent
        return {
            "state": self.standing.state,
            "reason": self.standing.reason,
            "way": self.way,
            "paused": self._sessions.paused,
            "metered": self.metered,
            "metered_bytes_hour": hour,
            "metered_bytes_day": day,
            "ledger": self._replica.leases.witness.status(),
        }

    # ---- for the app -------------------------------------------------------------------------------------

    def follow(self, channel: str) -> None:
        """Follow a shared channel from now on, over restarts too, until `unfollow`; durable when it returns.

        Whether the server lets this device is another question: it says no by leaving the channel out.

        Raises:
            MalformedRequest: a subject's channel (a consent opens that), no name, or too many; nothing
                changed.
        """
        self._wishes.follow(channel)
        self._wished()

    def unfollow(self, channel: str) -> None:
        """Have none of it from now on, whoever names it, until `follow`: its rows and cursor are deleted when
        this returns. Durable, and raises, as `follow`."""
        self._wishes.unfollow(channel)
        self._wished()
        self._replica.drop_channel(channel)

    @property
    def metered(self) -> bool:
        """Whether the network is metered, as the app says: then the byte budget of the settings holds."""
        return self._meter.metered

    @metered.setter
    def metered(self, metered: bool) -> None:
        self._meter.metered = metered
        self.poke()

    def pause(self) -> None:
        """Let nothing flow until `resume`: the session ends, and no frame is handed to the network any more.

        Leases go on to their end and lock what rests on them; decisions taken meanwhile wait in the outbox.
        """
        self._sessions.paused = True
        self._in_loop(self._sessions.halt)

    def resume(self) -> None:
        """End a `pause`. The link comes back at its pace: what the server asked for before it still waits."""
        self._sessions.paused = False
        self._in_loop(self._sessions.resume)

    @property
    def refusals(self) -> Mapping[str, SyncRefused]:
        """Channel -> why the server does not serve it, until it does.

        Of a refusal for time, `server_time_us` is the server's clock, proved by its signature.
        """
        return dict(self.memory.refusals)

    async def caught_up(self) -> None:
        """Return once everything known to the server is here and everything said here is acknowledged.

        While it is paused, or its byte budget is spent, that is not so. Raises `SyncError` when the link has
        stopped.
        """
        self._nudge()  # what was known a moment ago says nothing of what was queued since
        waiting = asyncio.ensure_future(self._caught.wait())
        watched = {waiting} if self._task is None else {waiting, self._task}
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if waiting not in done:  # else it was so a moment ago, whatever has come since
            raise self.trouble or SyncError("the link has stopped")

    def poke(self) -> None:
        """Something waits in the outbox, or a channel opened. From any thread; forgetting it only delays."""
        self._in_loop(self._nudge)

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def stop(self) -> None:
        """Ask the link to end; call it in the link's own thread."""
        self._sessions.stop()

    async def stopped(self) -> None:
        """Return when somebody asked the link to end, or it broke."""
        asked = asyncio.ensure_future(self._sessions.stopping())
        watched = {asked} if self._task is None else {asked, self._task}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    async def close(self) -> None:
        """End the session and stop; what waits in the outbox stays there."""
        self._sessions.stop()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        """Connect, and again after every end, until `close`."""
        self._loop = asyncio.get_running_loop()
        await self._sessions.run(self._network)

    # ---- saying how it stands ----------------------------------------------------------------------------

    def _in_loop(self, act: Callable[[], None]) -> None:
        """Call `act` in the link's thread soon, if it runs."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between
                self._loop.call_soon_threadsafe(act)

    def _nudge(self) -> None:
        self._caught.clear()
        self._sessions.wake()

    def _wished(self) -> None:
        self.memory.wanted, self.memory.unwanted = self._wishes.wanted, self._wishes.unwanted
        self.poke()

    def _tell(self) -> None:
        """Say how it stands when that has changed."""
        self._done = self._sessions.caught_up
        if self._done:
            self._caught.set()
        else:
            self._caught.clear()
        standing = self.standing
        if standing != self._said:
            self._said = standing
            self.on_state(*standing)
