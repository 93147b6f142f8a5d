"""The upkeep of one runtime: what keeps memory, disk and retention within their bounds, tied together."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_runtime.cache.aging import Terms
from edge_runtime.cache.backlog import Backlog
from edge_runtime.cache.commit_timer import CommitTimer
from edge_runtime.cache.database import Database
from edge_runtime.cache.evictable import ColdRows, CoveredEvents, SubjectRows
from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.hands import Hands, Memory
from edge_runtime.cache.pace import Pace
from edge_runtime.cache.relief import Relief
from edge_runtime.cache.room import Room, free_bytes_at
from edge_runtime.cache.row_sweep import RowSweep
from edge_runtime.cache.subject_sweep import SubjectSweep
from edge_runtime.cache.sweep import Sweeper
from edge_runtime.cache.swept import Swept
from edge_runtime.cache.working_set import WorkingSet
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.consent.grace import Grace
from edge_runtime.errors import EdgeError
from edge_runtime.keys.keyring import Keyring
from edge_runtime.session.plan import Plan
from edge_runtime.settings import Settings


class Upkeep:
    """Bounds, sweeps and the thread that sees to them. Never call it under the runtime's lock.

    Args:
        lock: the runtime's lock.
        free_bytes: tells the free space on the database's volume; None asks the volume.
    """

    def __init__(
        self,
        catalog: Catalog,
        plan: Plan,
        database: Database,
        keyring: Keyring,
        states: WorkingSet,
        commit: GroupCommit,
        memory: Memory,
        clock: Clock,
        lock: threading.RLock,
        settings: Settings,
        grace: Grace,
        *,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        free_bytes = free_bytes_at(database.path) if free_bytes is None else free_bytes
        self.room = Room(settings.cache_limit_bytes, settings.free_space_bytes, free_bytes)
        self._backlog = Backlog(commit, states, settings.pending_events)
        self.make_room: Callable[[], None] = self._backlog.make_room
        """After events: a full queue is committed, too many states are let go; see `backlog`."""
        pace = Pace(settings.sweep_step_us)
        hands = Hands(database, keyring, states, commit, clock, plan, memory, lock, pace)
        ttls_us = {view.key: view.ttl_us for view in catalog.views.values() if view.source == "server"}
        terms = {p.name: Terms.of(p, catalog.views) for p in catalog.purposes.values() if p.on_disk}
        rows = RowSweep(hands, ttls_us)
        asking = {p.name for p in catalog.purposes.values() if p.asks}

        def lapsed(purpose: str) -> bool:
            return purpose in asking and grace.over

        subjects = SubjectSweep(hands, terms, Terms.about_nobody(catalog), lapsed)
        stages = (ColdRows(hands, rows), SubjectRows(hands, subjects), CoveredEvents(hands, subjects))
        relief = Relief(hands, self.room, stages)
        self.sweeper = Sweeper(
            hands,
            self.room,
            rows,
            subjects,
            relief,
            self._backlog,
            settings.sweep_step_us,
            keyring.upkeep.advance,
            grace.look,
        )
        paces = (
            settings.commit_interval_us,
            self.sweeper,
            settings.sweep_interval_us,
            settings.sweep_step_us,
        )
        self._timer = CommitTimer(commit, *paces)
        self.room.wanted = self._timer.hurry

    def sweep(self) -> Swept:
        """One whole round now; see `Sweeper.sweep`."""
        return self.sweeper.sweep()

    def degraded(self) -> list[str]:
        """Plain reasons why something is in memory only, or is not kept; empty when all is well."""
        return [*self._backlog.degraded(), *self.room.degraded()]

    @property
    def trouble(self) -> EdgeError | None:
        """Why the last commit or round of upkeep failed; None once it went well."""
        return self._timer.trouble

    def stop(self) -> None:
        """End the thread; what waits stays with the group commit."""
        self._timer.stop()
