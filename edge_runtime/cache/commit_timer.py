"""The clockwork of group commit and upkeep: the only thread of a runtime that never syncs.

It waits for events, commits them within their interval, and does steps of upkeep between commits, with
a pause after each so that others get the locks. Its own pace comes from the machine's boot clock: a runtime
under a simulated clock sweeps no sooner for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.sweep import Sweeper
from edge_runtime.clock import SystemClock
from edge_runtime.errors import EdgeError

FIRST_ROUND_US: Final = 10_000_000
"""The first round of upkeep begins so long after opening, or sooner: apps may be open for a minute only."""
PAUSE_STEPS: Final = 4
"""After a step of upkeep, a pause of so many times its length."""
RETRY_US: Final = 5_000_000
"""Longest pause between two tries to commit while the disk takes nothing; the first is the usual one."""


class CommitTimer:
    """Flushes `commit` within `interval_us` of the first event that waits, and sweeps, until `stop`.

    Args:
        sweep_interval_us: pause between two rounds of upkeep; 0 for none.
        step_us: how long a step of upkeep should take.
        boot_us: the clock of the thread's own pace.
    """

    def __init__(
        self,
        commit: GroupCommit,
        interval_us: int,
        sweeper: Sweeper,
        sweep_interval_us: int,
        step_us: int,
        boot_us: Callable[[], int] | None = None,
    ) -> None:
        self._commit, self._interval_us = commit, interval_us
        self._sweeper, self._sweep_interval_us, self._step_us = sweeper, sweep_interval_us, step_us
        self._boot_us = SystemClock().boot_us if boot_us is None else boot_us
        self._stopping, self._hurried = False, threading.Event()
        self._retry_us = interval_us
        self._flush_at_us: int | None = None
        """When what waits is committed; None while nothing waits."""
        self._sweep_at_us = self._boot_us() + min(sweep_interval_us, FIRST_ROUND_US)
        self._failed: EdgeError | None = None
        self._thread = threading.Thread(target=self._body, name="edge-commit", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> EdgeError | None:
        """Why the last commit or round of upkeep failed; None once it went well. The next one tries again."""
        return self._failed or self._sweeper.trouble

    def hurry(self) -> None:
        """The next round of upkeep should not wait for its time."""
        self._sweep_at_us = 0
        self._wake()

    def stop(self) -> None:
        """End the thread and wait for it, a step of upkeep at most; what waits stays with the commit."""
        self._stopping = True
        self._wake()
        self._thread.join()

    def _wake(self) -> None:
        self._hurried.set()
        self._commit.work.set()

    def _body(self) -> None:
        while not self._stopping:
            self._wait()
            now_us = self._boot_us()
            if self._flush_at_us is not None and now_us >= self._flush_at_us and not self._stopping:
                self._flush()
            if self._sweep_interval_us and now_us >= self._sweep_at_us and not self._stopping:
                self._sweep()

    def _wait(self) -> None:
        """Until something is due, the first event comes, or somebody wakes the thread."""
        if self._flush_at_us is None and not self._commit.work.wait(self._left_s(None)):
            return
        if self._flush_at_us is None:
            self._flush_at_us = self._boot_us() + self._retry_us
        self._hurried.wait(self._left_s(self._flush_at_us))
        self._hurried.clear()

    def _left_s(self, flush_at_us: int | None) -> float | None:
        """How long until something is due; None for never."""
        sweep_at_us = self._sweep_at_us if self._sweep_interval_us else None
        due_us = min((us for us in (flush_at_us, sweep_at_us) if us is not None), default=None)
        return None if due_us is None else max(due_us - self._boot_us(), 0) / 1_000_000

    def _flush(self) -> None:
        self._flush_at_us = None
        try:
            self._commit.flush()
            self._failed, self._retry_us = None, self._interval_us
        except EdgeError as error:
            self._failed = error
            self._retry_us = max(min(self._retry_us * 2, RETRY_US), self._interval_us)

    def _sweep(self) -> None:
        goes_on = False
        try:
            goes_on = self._sweeper.step()
        except EdgeError as error:
            self._failed = error
        pause_us = PAUSE_STEPS * self._step_us if goes_on else self._sweep_interval_us
        self._sweep_at_us = self._boot_us() + pause_us
