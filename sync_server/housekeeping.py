"""What a server does by itself: move its lines on, and forget what was kept long enough."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from typing import Protocol

from sync_server.clock import Clock
from sync_server.settings import DAY_US, HOUR_US, Settings
from sync_server.store.protocol import Store
from sync_server.sync.admission import Admission

log = logging.getLogger(__name__)


class Chore(Protocol):
    """Work that is done in bounded steps, each a short transaction."""

    def step(self, now_us: int) -> bool:
        """Do a part of what there is to do; whether more follows."""
        ...


class Housekeeping:
    """Runs beside the doors. Every step may be repeated, and none is needed for a promise to hold."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        clock: Clock,
        settings: Settings,
        chores: Sequence[Chore] = (),
    ) -> None:
        self._store, self._admission = store, admission
        self._clock, self._settings = clock, settings
        self._chores = tuple(chores)
        self._swept_us = 0

    async def run(self) -> None:
        """Take a turn every second, for ever; at once while there is more to do, after everybody else."""
        while True:
            busy = self.turn()
            await asyncio.sleep(0 if busy else 1)

    def turn(self) -> bool:
        """A step of everything; whether more follows. No long chore keeps the others waiting.

        A store that takes no writes just now is tried again at the next turn.
        """
        now_us = self._clock.now_us()
        self._admission.tick(now_us)
        try:
            busy = now_us - self._swept_us >= HOUR_US and self.sweep()
            return any([busy, *[chore.step(now_us) for chore in self._chores]])
        except sqlite3.OperationalError:
            log.warning("housekeeping waits: the store takes no writes")
            return False

    def sweep(self) -> bool:
        """Forget what was kept long enough: deletes, replies, tokens, the audit log; whether more is old.

        One step: deletes are counted in tens of thousands when a segment is emptied.
        """
        now_us, limit = self._clock.now_us(), self._settings.write_chunk_rows
        with self._store.write("sweep") as tx:
            more = tx.drop_deletes(now_us - self._settings.delete_kept_us, limit) >= limit
            tx.drop_replies(now_us - self._settings.idempotency_kept_us)
            tx.drop_lineages(limit)
            tx.drop_tokens(now_us - DAY_US)
            tx.access.drop_tokens_ended(now_us - self._settings.token_kept_us)
            more |= tx.audit.drop(now_us - self._settings.audit_kept_us, limit) >= limit
        if not more:
            self._swept_us = now_us
        return more
