"""The one thread of a runtime: commits in time, sweeps between them, and stops at once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.cache.commit_timer import FIRST_ROUND_US, PAUSE_STEPS, CommitTimer
from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.pace import FEWEST_ROWS, MOST_ROWS, Pace
from edge_runtime.cache.sweep import Sweeper
from tests.support.sweeping import QUIET, Kiosk, P

HOUR_US = 3_600_000_000
LONG_S = 60.0


class Steps:
    """A sweeper whose rounds are so many steps long; some fail."""

    def __init__(self, length: int = 1, failing: tuple[int, ...] = ()) -> None:
        self.length, self.failing = length, failing
        self.done = 0
        self.told = threading.Condition()
        self.trouble: er.EdgeError | None = None

    def step(self) -> bool:
        with self.told:
            self.done += 1
            self.told.notify_all()
            if self.done in self.failing:
                raise er.StorageFull("no room")
            return self.done % self.length != 0

    def wait_for(self, count: int) -> None:
        with self.told:
            assert self.told.wait_for(lambda: self.done >= count, LONG_S)


class Queue:
    """A group commit that always has something to write, or never."""

    def __init__(self, *, always: bool) -> None:
        self.work, self.always, self.flushes = threading.Event(), always, 0
        if always:
            self.work.set()

    def flush(self) -> None:
        self.flushes += 1
        if not self.always:
            self.work.clear()


class Watch:
    """The thread's own clock: moves by so much at every look."""

    def __init__(self, step_us: int) -> None:
        self.us, self.step_us = 0, step_us

    def __call__(self) -> int:
        self.us += self.step_us
        return self.us


def timer(
    queue: Queue, steps: Steps, watch: Watch, interval_us: int = HOUR_US, step_us: int = 1
) -> CommitTimer:
    paces = cast(GroupCommit, queue), 1, cast(Sweeper, steps), interval_us, step_us
    return CommitTimer(*paces, watch)


@pytest.fixture
def timers() -> Iterator[list[CommitTimer]]:
    made: list[CommitTimer] = []
    yield made
    for one in made:
        one.stop()


def test_rounds_come_by_themselves_and_the_first_one_soon(timers: list[CommitTimer]) -> None:
    """Ten seconds after opening, not an hour: an app may be open for a minute only."""
    steps, watch = Steps(), Watch(FIRST_ROUND_US)
    timers.append(timer(Queue(always=False), steps, watch))
    steps.wait_for(1)
    assert watch.us < HOUR_US


def test_a_queue_that_never_rests_does_not_starve_the_sweeper(timers: list[CommitTimer]) -> None:
    steps, queue = Steps(length=3), Queue(always=True)
    timers.append(timer(queue, steps, Watch(HOUR_US)))
    steps.wait_for(9)
    assert queue.flushes >= 9


def test_law_11_there_is_a_pause_after_each_step(timers: list[CommitTimer]) -> None:
    """Within a round so many times a step's length; others take the locks meanwhile."""
    steps, queue = Steps(length=1_000), Queue(always=True)
    watch = Watch(1)
    timers.append(timer(queue, steps, watch, interval_us=1, step_us=100))
    steps.wait_for(20)
    assert watch.us >= 19 * PAUSE_STEPS * 100
    assert queue.flushes > 20


def test_a_failed_step_does_not_end_the_thread(timers: list[CommitTimer]) -> None:
    steps = Steps(failing=(1, 2))
    timers.append(timer(Queue(always=False), steps, Watch(HOUR_US)))
    steps.wait_for(4)


def test_hurry_does_not_wait_for_the_hour(timers: list[CommitTimer]) -> None:
    steps = Steps()
    timers.append(timer(Queue(always=False), steps, Watch(0)))
    timers[0].hurry()
    steps.wait_for(1)


def test_no_interval_means_no_sweeps(timers: list[CommitTimer]) -> None:
    steps, queue = Steps(), Queue(always=True)
    timers.append(timer(queue, steps, Watch(HOUR_US), interval_us=0))
    timers[0].hurry()
    timers[0].stop()
    assert steps.done == 0


def test_stopping_does_not_wait_for_the_next_round() -> None:
    """The test itself would take an hour otherwise."""
    made = timer(Queue(always=False), Steps(), Watch(0))
    made.stop()
    assert not made._thread.is_alive()


@given(st.lists(st.integers(0, 100_000), max_size=60))
def test_law_11_the_pace_stays_within_its_bounds_and_follows_the_time(took: list[int]) -> None:
    pace = Pace(5_000)
    for us in took:
        before = pace.rows
        pace.took(us)
        assert FEWEST_ROWS <= pace.rows <= MOST_ROWS
        assert us <= 5_000 or pace.rows == max(before // 2, FEWEST_ROWS)
        assert us >= 1_250 or pace.rows == min(before * 2, MOST_ROWS)


def test_a_runtime_sweeps_by_itself(tmp_path: Path) -> None:
    """With nobody calling it: what is over goes in the background, and rows over the limit call it early."""
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 3)
        kiosk.days(40)
        kiosk.settings = dataclasses.replace(QUIET, sweep_interval_us=1_000)
        kiosk.reopen()
        _wait_for_rounds(kiosk, 2)
        assert not kiosk.rows("ann")
        for n in range(200):
            kiosk.put("lasting", f"{n}", "x" * 3_000)
        kiosk.settings = dataclasses.replace(QUIET, sweep_interval_us=HOUR_US, cache_limit_bytes=500_000)
        kiosk.reopen()
        assert kiosk.used_bytes() > 500_000
        with kiosk.rt._database.read() as tx:
            kiosk.rt._upkeep.room.keeps(tx)  # as the next frame will ask
        _wait_for_rounds(kiosk, 1)
        assert kiosk.used_bytes() <= 500_000


def _wait_for_rounds(kiosk: Kiosk, count: int) -> None:
    """Until so many more rounds came to compaction, which comes after everything else that is judged."""
    told, left = threading.Event(), [count]

    def compact() -> bool:
        left[0] -= 1
        if left[0] <= 0:
            told.set()
        return False

    kiosk.rt._upkeep.sweeper._compact = compact
    assert told.wait(LONG_S)


def test_keystore_compaction_goes_on_until_it_is_done_or_has_had_its_share(tmp_path: Path) -> None:
    with Kiosk(tmp_path) as kiosk:
        for more, share in ((3, 4), (1_000, 64)):
            left = [more]

            def compact(left: list[int] = left) -> bool:
                left[0] -= 1
                return left[0] >= 0

            kiosk.rt._upkeep.sweeper._compact = compact
            list(kiosk.steps())
            assert more - left[0] == share
