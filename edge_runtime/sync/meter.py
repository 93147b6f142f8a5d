"""The byte budget of a metered network: what went up and down in the last hour and the last day.

Counted in 60 steps each, so that in any hour no more than the budget flows, and a step of it besides. Time is
boot time here; over a restart it is what the wall clock says has passed, never less than nothing: a wall
clock set back gives nothing back, and one set forward at most one whole budget.
"""

from __future__ import annotations

import threading
from typing import Final

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.clock import Clock
from edge_runtime.sync.settings import MINUTE_US, SyncSettings
from edge_runtime.wire.printing import prints_only

HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
STEPS: Final = 60
RESUME_PART: Final = 10
"""Rows flow again when a tenth of the budget is free: not a frame at a time."""
_META: Final = "sync.meter"


class Window:
    """Bytes spent in the last `span_us`, in `STEPS` steps of time that only goes forward."""

    def __init__(self, span_us: int, spent: dict[int, int] | None = None) -> None:
        self._step_us, self._spent = span_us // STEPS, dict(spent or {})

    def add(self, at_us: int, size: int) -> None:
        """Spend `size` bytes now."""
        step = at_us // self._step_us
        self._spent = {s: n for s, n in self._spent.items() if s >= step - STEPS}
        self._spent[step] = self._spent.get(step, 0) + size

    def total(self, at_us: int) -> int:
        """What was spent within the span before `at_us`, and the step that it began in."""
        oldest = at_us // self._step_us - STEPS
        return sum(size for step, size in self._spent.items() if step >= oldest)

    def steps(self) -> dict[int, int]:
        """What is to be stored."""
        return dict(self._spent)


@prints_only()
class _Stored(msgspec.Struct, frozen=True, array_like=True):
    at_us: int
    wall_us: int
    hour: dict[int, int]
    day: dict[int, int]


class Meter:
    """Counts while `metered`, and says when the budget is spent. Thread-safe.

    Args:
        database: keeps what was spent over restarts.
    """

    def __init__(self, database: Database, clock: Clock, settings: SyncSettings) -> None:
        self._database, self._clock, self._settings = database, clock, settings
        self.metered = False
        """Whether the network in use is a metered one, as the app says."""
        with database.read() as tx:
            raw = tx.meta(_META)
        stored = (
            _Stored(0, clock.now_us(), {}, {}) if raw is None else msgspec.msgpack.decode(raw, type=_Stored)
        )
        passed_us = min(max(clock.now_us() - stored.wall_us, 0), DAY_US + HOUR_US)
        self._at_us, self._seen_boot_us = stored.at_us + passed_us, clock.boot_us()
        self._hour, self._day = Window(HOUR_US, stored.hour), Window(DAY_US, stored.day)
        self._unkept = 0
        self._lean = False
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """So many bytes went over the network, overhead counted in."""
        if not self.metered:
            return
        with self._lock:
            at_us = self._now_us()
            self._hour.add(at_us, size)
            self._day.add(at_us, size)
            self._unkept += size

    @property
    def spent(self) -> tuple[int, int]:
        """Bytes in the last hour and in the last day, while metered."""
        with self._lock:
            at_us = self._now_us()
            return self._hour.total(at_us), self._day.total(at_us)

    @property
    def lean(self) -> bool:
        """Whether the budget is spent: only what must flow flows, until a tenth of it is free again."""
        hour, day = self.spent
        limits = ((hour, self._settings.bytes_per_hour), (day, self._settings.bytes_per_day))
        part = RESUME_PART if self._lean else 0
        over = any(limit and spent >= limit - (limit // part if part else 0) for spent, limit in limits)
        self._lean = self.metered and over
        return self._lean

    def keep(self) -> None:
        """Store what was spent, if any was since; a crash forgets what was not stored."""
        if self._unkept == 0:
            return
        with self._lock:
            steps = self._hour.steps(), self._day.steps()
            stored = _Stored(self._now_us(), self._clock.now_us(), *steps)
        with self._database.write("meter") as tx:
            tx.set_meta(_META, msgspec.msgpack.encode(stored))
        self._unkept = 0

    def _now_us(self) -> int:
        boot_us = self._clock.boot_us()
        self._at_us += max(boot_us - self._seen_boot_us, 0)
        self._seen_boot_us = boot_us
        return self._at_us
