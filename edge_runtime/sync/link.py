"""The link to the server: sessions one after another, and how fresh this device is between and during them.

It carries frames between a `Carrier` and a `Dialogue`, comes back at its `Pace` by the way that `Ways` names,
and spends what its `Meter` allows. After any error it forgets where it was and works it out again from what
is stored. It opens no socket itself: `network.py` does.
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
from edge_runtime.errors import EdgeError, RuntimeClosed, SyncError, SyncRefused
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.carrier import Carrier, Network, Way
from edge_runtime.sync.dialogue import Dialogue
from edge_runtime.sync.exchange import Exchange, first, set_within
from edge_runtime.sync.leaving import device_revoked
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.meter import Meter
from edge_runtime.sync.network import open_network
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.pace import Pace
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.reporting import Reporter
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.sync.standing import Facts, LinkState, Standing, judge
from edge_runtime.sync.ways import Ways
from edge_runtime.sync.wishes import Wishes
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure

ANY_VERSION = range(1, 2**16 + 1)
"""A Challenge is the same in all of them."""
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
        self._replica, self._clock, self._reporter, self._settings = replica, clock, reporter, settings
        self._rng = rng or random.SystemRandom()
        self._outbox = Outbox(replica.database, replica.consents, settings)
        self._wishes = Wishes(replica.database, channels, settings.channels)
        self._meter = Meter(replica.database, clock, settings)
        self._pace, self._ways = Pace(settings), Ways(settings)
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
        self.trouble: EdgeError | None = None
        """Why the last session ended; None while one is open."""
        self.way: Way = "websocket"
        """How the session is carried, or the last one was."""
        self._carrier: Carrier | None = None
        self._dialogue: Dialogue | None = None
        self._live_us: int | None = None
        """Boot time at which the session was open with the server proven."""
        self._said: Standing | None = None
        self._done = False
        """Whether all is as the server has it, as the link's thread saw it last."""
        self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake, self._closing, self._caught = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._halt, self._resumed = asyncio.Event(), asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- how it stands -----------------------------------------------------------------------------------

    @property
    def standing(self) -> Standing:
        """The state, and why it is that."""
        carrier, leases = self._carrier, self._replica.leases
        return judge(
            Facts(
                diverged=len(self.memory.diverged),
                locked=leases.reason() if leases.state == "locked" else "",
                paused=self._paused,
                lean=self.memory.lean,
                connected=self._dialogue is not None,
                steady=carrier is None or carrier.steady,
                caught_up=self._done,
                trouble=self.trouble,
            )
        )

    @property
    def state(self) -> LinkState:
        """`diverged`: a channel could not be repaired; `locked`: no live lease; `fresh`: all is as the server
        has it; else `stale`."""
        return self.standing.state

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
            "paused": self._paused,
            "metered": self.metered,
            "metered_bytes_hour": hour,
            "metered_bytes_day": day,
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
        self._paused = True
        self._in_loop(self._halt_now)

    def resume(self) -> None:
        """End a `pause`. The link comes back at its pace: what the server asked for before it still waits."""
        self._paused = False
        self._in_loop(self._resumed.set)

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
        self._loop = asyncio.get_running_loop()
        watching = asyncio.ensure_future(self._watch())
        try:
            async with self._network() as network:
                while not self._closing.is_set():
                    await self._unpaused()
                    await self._once(network)
                    await self._stay_away()
        except RuntimeClosed:
            return
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    def _is_over(self) -> bool:
        """Whether the server shut this device out, everything is gone, and that was told."""
        self._replica.shut_out.finish()
        return self._replica.shut_out.standing == "wiped" and not self._outbox.receipts_wait

    async def _once(self, network: Network) -> None:
        """One session from its attempt to its end."""
        self.way, self._live_us = self._ways.next(self._clock.boot_us()), None
        self._halt.clear()
        self.memory.lean = self._meter.lean
        self._pace.began(self._clock.boot_us())
        trouble: EdgeError | None = None
        try:
            if self._is_over():
                self._closing.set()
                raise device_revoked()
            self._replica.continuity.fit_catalog()
            async with network.open(self.way, self._spend) as carrier:
                if self.way == "poll":
                    await first(self._converse(carrier), self._websocket_lives(network))
                else:
                    await self._converse(carrier)
        except RuntimeClosed:
            raise
        except WireFailure as failure:
            trouble = _frame_refused(failure)
        except EdgeError as error:
            trouble = error
        finally:
            self._end_session(trouble)

    async def _websocket_lives(self, network: Network) -> None:
        """Return when a WebSocket would do again: tried now and then beside the polls, which go on."""
        while True:
            await asyncio.sleep(self._settings.tick_us / SECOND_US)
            if self._ways.over(self._clock.boot_us()):
                self._pace.began(self._clock.boot_us())
                if await self._speaks(network):
                    return
                self._ways.put_off(self._clock.boot_us())

    async def _speaks(self, network: Network) -> bool:
        """Whether a server says its first word over a WebSocket."""
        try:
            async with network.open("websocket", self._spend) as carrier:
                frame = await carrier.receive(self._settings.connect_timeout_us)
            return frame is not None and isinstance(codec.decode(frame, spoken=ANY_VERSION), m.Challenge)
        except (SyncError, WireFailure):
            return False

    async def _stay_away(self) -> None:
        """Wait as long as the pace says; nobody's poke shortens that."""
        wait_us = self._pace.wait_us(self._clock.boot_us(), self._rng.random())
        await set_within(self._closing, wait_us)

    async def _unpaused(self) -> None:
        while self._paused and not self._closing.is_set():
            self._resumed.clear()
            await first(self._resumed.wait(), self._closing.wait())

    async def _watch(self) -> None:
        """Say within a tick what time alone has changed, session or not."""
        while True:
            await asyncio.sleep(self._settings.tick_us / SECOND_US)
            with contextlib.suppress(EdgeError):  # a full disk: the count is stored later
                self._meter.keep()
                self._tell()

    def _spend(self, size: int) -> None:
        self._meter.spend(size)
        if self._meter.lean != self.memory.lean:
            self._wake.set()

    async def _converse(self, carrier: Carrier) -> None:
        rooms = (self._replica, self._outbox, self.memory, self._settings, self._rng.randbytes)
        dialogue = self._dialogue = Dialogue(*rooms, self._reporter)
        self._carrier, self.trouble = carrier, None
        session = Exchange(carrier, dialogue, self._clock, self._settings, self._wake, self)
        await session.run(self._halt)

    # ---- what an exchange asks and tells, see `exchange.Owner` ------------------------------------

    @property
    def silent(self) -> bool:
        """Whether nothing may be sent."""
        return self._paused

    def moved(self) -> None:
        """Something was heard or done."""
        self._tell()

    def look(self) -> None:
        """Before a tick: look at the budget."""
        self.memory.lean = self._meter.lean

    # ---- saying how it stands ----------------------------------------------------------------------------

    def _in_loop(self, act: Callable[[], None]) -> None:
        """Call `act` in the link's thread soon, if it runs."""
        if self._loop is not None and not self._loop.is_closed():
            with contextlib.suppress(RuntimeError):  # closed in between
                self._loop.call_soon_threadsafe(act)

    def _nudge(self) -> None:
        self._caught.clear()
        self._wake.set()

    def _wished(self) -> None:
        self.memory.wanted, self.memory.unwanted = self._wishes.wanted, self._wishes.unwanted
        self.poke()

    def _halt_now(self) -> None:
        """End the session, also when it was resumed meanwhile: what it held back is told in the next."""
        self._halt.set()
        self._tell()

    def _end_session(self, trouble: EdgeError | None) -> None:
        boot_us = self._clock.boot_us()
        live_us = None if self._live_us is None else max(boot_us - self._live_us, 0)
        self.trouble = trouble
        self._pace.ended(trouble, live_us, boot_us)
        self._ways.ended(self.way, trouble, live_us, boot_us)
        if self._dialogue is not None:
            self._dialogue.close()
        self._dialogue = self._carrier = None
        self._tell()

    def _tell(self) -> None:
        """Say how it stands when that has changed."""
        if self._dialogue is not None and self._dialogue.opened and self._live_us is None:
            self._live_us = self._clock.boot_us()
        self._done = self._dialogue is not None and self._dialogue.caught_up
        if self._done:
            self._caught.set()
        else:
            self._caught.clear()
        standing = self.standing
        if standing != self._said:
            self._said = standing
            self.on_state(*standing)


def _frame_refused(failure: WireFailure) -> SyncError:
    if failure.code == "unsupported_version":
        return SyncRefused(failure.code, failure.reason)
    return SyncError(f"the server's frame was refused: {failure.code}")
