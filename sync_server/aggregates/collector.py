"""The collector: opens what devices brought, counts it, and releases rounds that are over.

It alone holds the key that reports are sealed to. It works in the event loop, a few reports at a time, with a
breath between: opening takes some 40 us and lets no other thread run, so a thread of its own would hold up
the loop for longer, a whole switch interval. Everything it does may be done twice: a report counts in the
transaction that drops it, a release is made in the one that closes its round.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sync_server.aggregates.counting import Asked, Opened, count, opened
from sync_server.aggregates.release import Release
from sync_server.aggregates.rounds import Counted, Rounds, parameters_of
from sync_server.settings import Settings
from sync_server.store.aggregates import SealedRow
from sync_server.store.protocol import ReadTx, Store

log = logging.getLogger(__name__)


class Collector:
    """One per node. Call it in the event loop's thread.

    Args:
        key: what reports are sealed to; those sealed to another count as `unsealed`.
        told: called when a round was stopped, so that devices hear of it.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        rounds: Rounds,
        key: X25519PrivateKey,
        told: Callable[[], object],
    ) -> None:
        self._settings, self._store, self._rounds = settings, store, rounds
        self._key, self._told = key, told
        self._came = asyncio.Event()
        self._turn, self._releasing = asyncio.Lock(), asyncio.Lock()
        self._runs = False

    def wake(self) -> None:
        """Reports came, or a round is over. A hint: without it they are found a little later."""
        self._came.set()

    async def run(self) -> None:
        """Collect whenever woken, for ever; what no hint told of is found by the chore (`step`)."""
        self._runs = True
        while True:
            await self._came.wait()
            self._came.clear()
            try:
                while await self.turn():
                    pass
                for round_id in self._ready():
                    await self._release_aside(round_id)
            except sqlite3.OperationalError:
                log.warning("the collector waits: the store takes no writes")

    async def turn(self, round_id: bytes | None = None) -> bool:
        """Open and count one batch, of one round or of any; whether there was one."""
        async with self._turn:
            batch, asked = self._batch(round_id)
            found: list[Opened] = []
            for some in self._breaths(batch):
                found += [opened(self._key, asked[row.round], row) for row in some]
                await asyncio.sleep(0)
            self._count(asked, found)
        return bool(batch)

    async def close(self, round_id: bytes) -> Release:
        """Stop a round now, open what waits for it, and release it; doing it again gives the same release.

        Raises `Problem("not_found")` for a round that never was.
        """
        self._stop(round_id)
        while (release := await self._release_aside(round_id)) is None:
            await self.turn(round_id)
        return release

    async def settle(self) -> None:
        """Release every round whose time is over."""
        self._stop_due()
        with self._store.read() as tx:
            waiting = tx.aggregates.stopped_rounds()
        for row in waiting:
            await self.close(row.id)

    # ---- without a loop ----------------------------------------------------------------------------------

    def step(self, now_us: int) -> bool:
        """A chore of the housekeeping: stop what is over, open one batch, release what is empty.

        Whether more follows. Nothing while `turn` is at it. Where `run` runs, it is told to do the rest.
        """
        if self._turn.locked():
            return False
        self._stop_due()
        if self._runs:
            self.wake()
            return False
        batch, asked = self._batch(None)
        self._count(asked, [opened(self._key, asked[row.round], row) for row in batch])
        if not batch:
            for round_id in self._ready():
                self._release(round_id)
        return bool(batch)

    # ---- within ------------------------------------------------------------------------------------------

    def _batch(self, round_id: bytes | None) -> tuple[list[SealedRow], dict[bytes, Asked]]:
        with self._store.read() as tx:
            batch = tx.aggregates.waiting(self._settings.collect_reports, round_id)
            return batch, {id_: _asked(tx, id_) for id_ in {row.round for row in batch}}

    def _breaths(self, batch: list[SealedRow]) -> Iterator[list[SealedRow]]:
        size = self._settings.collect_breath_reports
        return (batch[at : at + size] for at in range(0, len(batch), size))

    def _count(self, asked: dict[bytes, Asked], found: list[Opened]) -> None:
        """Not durable at once: with the power lost, the reports are there again and nothing was counted."""
        if found:
            with self._store.write("collect", durable=False) as tx:
                count(tx, asked, found)

    def _stop(self, round_id: bytes) -> None:
        with self._store.write("stop_round") as tx:
            self._rounds.stop(tx, round_id)
        self._told()

    def _stop_due(self) -> None:
        with self._store.read() as reading:
            if not self._rounds.due(reading):
                return
        with self._store.write("stop_due_rounds") as tx:
            self._rounds.stop_due(tx)
        self._told()

    def _ready(self) -> list[bytes]:
        with self._store.read() as tx:
            return [row.id for row in tx.aggregates.stopped_rounds() if not tx.aggregates.waits(row.id)]

    async def _release_aside(self, round_id: bytes) -> Release | None:
        """Worked out in a thread: thousands of categories take seconds, and a revocation waits for none."""
        async with self._releasing:
            counted = self._counted(round_id)
            if not isinstance(counted, Counted):
                return counted
            return self._publish(round_id, await asyncio.to_thread(counted.release))

    def _release(self, round_id: bytes) -> Release | None:
        counted = self._counted(round_id)
        return self._publish(round_id, counted.release()) if isinstance(counted, Counted) else counted

    def _counted(self, round_id: bytes) -> Counted | Release | None:
        with self._store.read() as tx:
            return self._rounds.published(tx, round_id) or self._rounds.counted(tx, round_id)

    def _publish(self, round_id: bytes, release: Release) -> Release:
        """And the log of the store, which has what was opened and whose it was, begins anew."""
        with self._store.write("release") as tx:
            published = self._rounds.publish(tx, round_id, release)
        self._store.scrub()
        return published


def _asked(tx: ReadTx, round_id: bytes) -> Asked:
    row = tx.aggregates.round(round_id)
    assert row is not None, "reports wait for rounds that are there"
    return Asked(row.definition, parameters_of(row))
