"""Sessions one after another: connect, converse, and after any end stay away and come back.

Each comes at its `Pace`, by the way that `Ways` names, and spends what the `Meter` allows. After any error it
is forgotten where the last one was: the next works that out again from what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from edge_runtime.clock import Clock
from edge_runtime.errors import EdgeError, RuntimeClosed, SyncError, SyncRefused
from edge_runtime.sync.carrier import Carrier, Network, Way
from edge_runtime.sync.dialogue import ANY_VERSION, Dialogue
from edge_runtime.sync.exchange import Exchange, first, set_within
from edge_runtime.sync.leaving import Leaving, device_revoked
from edge_runtime.sync.memory import Memory
from edge_runtime.sync.meter import Meter
from edge_runtime.sync.outbox import Outbox
from edge_runtime.sync.pace import Pace
from edge_runtime.sync.replica import Replica
from edge_runtime.sync.reporting import Reporter
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.sync.ways import Ways
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure


class Sessions:
    """The sessions of one link. What is called here is called in the link's thread, but for `paused`.

    Args:
        reporter: the aggregates room; None when this device answers no rounds.
        rng: nonces and jitter.
        told: called when they may stand otherwise than before.
    """

    def __init__(
        self,
        replica: Replica,
        outbox: Outbox,
        memory: Memory,
        meter: Meter,
        clock: Clock,
        settings: SyncSettings,
        reporter: Reporter | None,
        rng: random.Random,
        told: Callable[[], None],
    ) -> None:
        self._replica, self._outbox, self._memory, self._meter = replica, outbox, memory, meter
        self._clock, self._settings, self._reporter, self._rng = clock, settings, reporter, rng
        self._told = told
        self._pace, self._ways = Pace(settings), Ways(settings)
        self._leaving = Leaving(replica.shut_out, outbox)
        self.trouble: EdgeError | None = None
        """Why the last session ended; None while one is open."""
        self.way: Way = "websocket"
        """How the session is carried, or the last one was."""
        self.paused = False
        """Whether the app wants nothing to flow."""
        self._carrier: Carrier | None = None
        self._dialogue: Dialogue | None = None
        self._live_us: int | None = None
        """Boot time at which the session was open with the server proven."""
        self._wake, self._closing = asyncio.Event(), asyncio.Event()
        self._halt, self._resumed = asyncio.Event(), asyncio.Event()

    # ---- how they stand ----------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether a session is under way."""
        return self._dialogue is not None

    @property
    def steady(self) -> bool:
        """Whether the connection is not known to be in trouble."""
        carrier = self._carrier
        return carrier is None or carrier.steady

    @property
    def caught_up(self) -> bool:
        """Whether all is as the server has it; see `Dialogue.caught_up`."""
        return self._dialogue is not None and self._dialogue.caught_up

    # ---- what is asked of them ---------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something to do before the next tick."""
        self._wake.set()

    def halt(self) -> None:
        """End the session, also when it was resumed meanwhile: what it held back is told in the next."""
        self._halt.set()
        self.moved()

    def resume(self) -> None:
        """A pause is over."""
        self._resumed.set()

    def stop(self) -> None:
        """Let no other session follow."""
        self._closing.set()

    async def stopping(self) -> None:
        """Return when somebody, or this device's end, let no other session follow."""
        await self._closing.wait()

    # ---- what an exchange asks and tells, see `exchange.Owner` -------------------------------------------

    @property
    def silent(self) -> bool:
        """Whether nothing may be sent."""
        return self.paused

    def moved(self) -> None:
        """Something was heard or done."""
        if self._dialogue is not None and self._dialogue.opened and self._live_us is None:
            self._live_us = self._clock.boot_us()
        self._told()

    def look(self) -> None:
        """Before a tick: look at the budget."""
        self._memory.lean = self._meter.lean

    # ---- one after another -------------------------------------------------------------------------------

    async def run(self, open_network: Callable[[], AbstractAsyncContextManager[Network]]) -> None:
        """Connect, and again after every end, until `stop` or until the runtime is closed."""
        watching = asyncio.ensure_future(self._watch())
        try:
            async with open_network() as network:
                while not self._closing.is_set():
                    await self._unpaused()
                    await self._once(network)
                    await self._stay_away()
        except RuntimeClosed:
            return
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _once(self, network: Network) -> None:
        """One session from its attempt to its end."""
        self.way, self._live_us = self._ways.next(self._clock.boot_us()), None
        self._halt.clear()
        self.look()
        self._pace.began(self._clock.boot_us())
        trouble: EdgeError | None = None
        try:
            if self._leaving.over:
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
            self._ended(trouble)

    async def _converse(self, carrier: Carrier) -> None:
        rooms = (self._replica, self._outbox, self._memory, self._settings, self._rng.randbytes)
        dialogue = self._dialogue = Dialogue(*rooms, self._reporter)
        self._carrier, self.trouble = carrier, None
        session = Exchange(carrier, dialogue, self._clock, self._settings, self._wake, self)
        await session.run(self._halt)

    def _ended(self, trouble: EdgeError | None) -> None:
        boot_us = self._clock.boot_us()
        live_us = None if self._live_us is None else max(boot_us - self._live_us, 0)
        self.trouble = trouble
        self._pace.ended(trouble, live_us, boot_us)
        self._ways.ended(self.way, trouble, live_us, boot_us)
        if self._dialogue is not None:
            self._dialogue.close()
        self._dialogue = self._carrier = None
        self._told()

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
        while self.paused and not self._closing.is_set():
            self._resumed.clear()
            await first(self._resumed.wait(), self._closing.wait())

    async def _watch(self) -> None:
        """Say within a tick what time alone has changed, session or not."""
        while True:
            await asyncio.sleep(self._settings.tick_us / SECOND_US)
            with contextlib.suppress(EdgeError):  # a full disk: the count is stored later
                self._meter.keep()
                self.moved()

    def _spend(self, size: int) -> None:
        self._meter.spend(size)
        if self._meter.lean != self._memory.lean:
            self._wake.set()


def _frame_refused(failure: WireFailure) -> SyncError:
    if failure.code == "unsupported_version":
        return SyncRefused(failure.code, failure.reason)
    return SyncError(f"the server's frame was refused: {failure.code}")
