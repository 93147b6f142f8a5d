"""What the parts of the sweeper work with, tied together once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from edge_runtime.cache.database import Database
from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.pace import Pace
from edge_runtime.cache.swept import Swept
from edge_runtime.cache.working_set import WorkingSet
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.session.plan import Plan

KEYS_AT_ONCE = 64
Steps = Iterator[int]
"""Upkeep in bounded units: each `next` does one, holds no lock when it is over, and says how many rows it
touched."""


class Memory(Protocol):
    """What reads keep in memory. Each call takes the runtime's lock."""

    def changed(self, places: Iterable[tuple[str, str]]) -> None:
        """Rows at these (view key, typed entity) went, or are others."""
        ...

    def forget_held(self) -> None:
        """States ended: no number made of them stays."""
        ...

    def note_use(self, wanted: bool) -> set[tuple[str, str, int]]:
        """(entity, view, version) of rows read from the cache since the last call; whether to go on."""
        ...

    def begin_day(self) -> None:
        """Forget all decoded rows, so that the first use of each on a new day is noted."""
        ...


@dataclass(slots=True)
class Hands:
    """One runtime's rooms, as the sweeper needs them."""

    database: Database
    keyring: Keyring
    states: WorkingSet
    commit: GroupCommit
    clock: Clock
    plan: Plan
    memory: Memory
    lock: threading.RLock
    pace: Pace
    swept: Swept = field(default_factory=Swept)
    """What the round that is going on did so far."""

    def every_key(self) -> Iterator[DataKey]:
        """The device's own key, then every key of a subject; a few at a time, under the runtime's lock."""
        with self.lock:
            found, device = iter(self.keyring.every_key()), self.keyring.device_key()
        yield device
        while some := self._some(found):
            yield from some

    def _some(self, found: Iterator[DataKey]) -> list[DataKey]:
        with self.lock:
            return list(islice(found, KEYS_AT_ONCE))

    def used_bytes(self) -> int:
        """Bytes of the database in use."""
        with self.database.read() as tx:
            return tx.size().used_bytes
