"""The sweeper: upkeep of everything that rests here, round and round, one bounded step at a time.

A round, in this order: the volume and the size are looked at; what was read is noted; rows about nobody past
their ttl are let go; once a day, or when the cache is over its limit, everything under keys is judged
(retention, `keep_events`, ttl); the size budget; one part of the keystore is compacted; free pages go back to
the disk. A round that was interrupted begins anew and finds what is still to be done.

A step ends when its time is used up or it has touched `STEP_ROWS` rows. It holds each lock for one unit's
write at most, in the order commit, runtime, database, and none between two units.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from edge_runtime.cache.backlog import Backlog
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.relief import Relief
from edge_runtime.cache.room import Room
from edge_runtime.cache.row_sweep import RowSweep
from edge_runtime.cache.subject_sweep import SubjectSweep
from edge_runtime.cache.swept import Swept
from edge_runtime.errors import RuntimeClosed, StorageError, StorageFull

STEP_ROWS: Final = 512
"""A step that has touched so many rows is over, however fast it was; its last unit may touch some more."""
VACUUM_PAGES: Final = 64
VACUUM_FROM_BYTES: Final = 1 << 20
"""Free pages are worth giving back from so many bytes on, if they are an eighth of the file: the rest is used
again soon."""
COMPACTIONS: Final = 64
"""Most steps of keystore compaction in one round."""


class Sweeper:
    """Upkeep of one runtime. Thread-safe; never call it under the runtime's lock.

    Args:
        step_us: how long a step should take, on the clock that cannot be set.
        compact: does one step of keystore compaction; whether there is more to do.
        begins: called as a round begins.
    """

    def __init__(
        self,
        hands: Hands,
        room: Room,
        rows: RowSweep,
        subjects: SubjectSweep,
        relief: Relief,
        backlog: Backlog,
        step_us: int,
        compact: Callable[[], bool],
        begins: Callable[[], None] = lambda: None,
    ) -> None:
        self._hands, self._room, self._step_us = hands, room, step_us
        self._rows, self._subjects, self._relief = rows, subjects, relief
        self._backlog, self._compact, self._begins = backlog, compact, begins
        self._turn = threading.Lock()
        self._round: Steps | None = None
        self._walked_day: int | None = None
        self._gives_back = True
        self._failed: StorageError | None = None

    @property
    def trouble(self) -> StorageError | None:
        """Why something was left undone, in the last round or under a key in the last walk; else None."""
        return self._failed or self._subjects.trouble

    def step(self) -> bool:
        """One step of the round that is going on, or of a new one; whether it goes on after this.

        A failure ends the round and is noted as `trouble`.
        """
        with self._turn:
            if self._round is None:
                self._round = self._steps(full=False)
            try:
                if self._advance(self._round):
                    return True
            except StorageError as error:
                self._failed = error
            self._round = None
            return False

    def sweep(self) -> Swept:
        """One whole round at once, with everything judged; one that was going on gives way to it.

        Raises what kept it from its work, when the rest was done.
        """
        with self._turn:
            self._round, steps = None, self._steps(full=True)
            try:
                while self._advance(steps):
                    pass
            except StorageError as error:
                self._failed = error
            if self.trouble is not None:
                raise self.trouble
            return self._hands.swept

    def _advance(self, steps: Steps) -> bool:
        """Units until the step is over; whether the round goes on."""
        clock, pace, rows = self._hands.clock, self._hands.pace, 0
        begun_us = at_us = clock.boot_us()
        for touched in steps:
            before_us, at_us = at_us, clock.boot_us()
            pace.took(at_us - before_us)
            rows += max(touched, 1)
            if rows >= STEP_ROWS or at_us - begun_us >= self._step_us:
                return True
        return False

    # ---- a round -----------------------------------------------------------------------------------------

    def _steps(self, *, full: bool) -> Steps:
        hands, self._failed = self._hands, None
        swept = hands.swept = Swept()
        self._begins()
        self._room.look()
        with hands.database.read() as tx:
            before = tx.size()
        limit = self._room.limit_bytes
        day, over = hands.clock.now_us() // DAY_US, self._relief.due
        if self._walked_day != day and limit and before.used_bytes > limit // 2:
            hands.memory.begin_day()
        yield from self._tried(self._rows.note(wanted=bool(limit) and before.used_bytes > limit // 2))
        if full or over or self._rows.due(hands.clock.now_us()):
            yield from self._tried(self._rows.expire())
        if full or over or self._walked_day != day:
            yield from self._subjects.walk()
            self._walked_day = day
        yield from self._tried(self._relief.run())
        yield from self._tried(self._compacted())
        yield from self._tried(self._tidy(swept))
        with hands.database.read() as tx:
            after = tx.size()
        swept.freed_bytes = max(before.used_bytes - after.used_bytes, 0)
        swept.returned_bytes = max(before.file_bytes - after.file_bytes, 0)

    def _tried(self, steps: Steps) -> Steps:
        """One part of a round: its failure does not hold up the next part, unless the disk is full."""
        try:
            yield from steps
        except StorageFull:
            raise
        except StorageError as error:
            self._failed = error
        except RuntimeClosed:
            if self._hands.database.closed:
                raise
            # a key was destroyed in the middle of it: the next round goes on

    def _compacted(self) -> Steps:
        for _ in range(COMPACTIONS):
            more = self._compact()
            yield 1
            if not more:
                return

    def _tidy(self, swept: Swept) -> Steps:
        """Cut the log if something personal went, give free pages back, let states go that are too many."""
        hands = self._hands
        if swept.handles_ended or swept.states_ended:
            hands.database.checkpoint_truncate()
            yield 1
        while self._gives_back and self._much_is_free():
            with hands.database.write("vacuum") as tx:
                given = tx.incremental_vacuum(VACUUM_PAGES)
            self._gives_back = given > 0
            yield given
        if hands.states.over:
            self._backlog.let_go()
            yield 1

    def _much_is_free(self) -> bool:
        with self._hands.database.read() as tx:
            size = tx.size()
        return size.file_bytes - size.used_bytes >= max(VACUUM_FROM_BYTES, size.file_bytes // 8)
