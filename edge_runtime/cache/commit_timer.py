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
RETRY_S: Final = 5.0
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
        self._commit, self._interval_s = commit, interval_us / 1_000_000
        self._sweeper, self._sweep_interval_us, self._step_us = sweeper, sweep_interval_us, step_us
        self._boot_us = SystemClock().boot_us if boot_us is None else boot_us
        self._stopping = threading.Event()
        self._retry_s = self._interval_s
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
        self._commit.work.set()

    def stop(self) -> None:
        """End the thread and wait for it, a step of upkeep at most; what waits stays with the commit."""
        self._stopping.set()
        self._commit.work.set()
        self._thread.join()

    def _body(self) -> None:
        while not self._stopping.is_set():
            if self._commit.work.wait(self._left_s()):
                if self._stopping.wait(self._retry_s):
                    return
                self._flush()
            if self._sweep_interval_us and self._boot_us() >= self._sweep_at_us:
                self._sweep()

    def _left_s(self) -> float | None:
        """How long until the next step of upkeep; None for ever."""
        if not self._sweep_interval_us:
            return None
        return max(self._sweep_at_us - self._boot_us(), 0) / 1_000_000

    def _flush(self) -> None:
        try:
            self._commit.flush()
            self._failed, self._retry_s = None, self._interval_s
        except EdgeError as error:
            self._failed = error
            self._retry_s = max(min(self._retry_s * 2, RETRY_S), self._interval_s)

    def _sweep(self) -> None:
        goes_on = False
        try:
            goes_on = self._sweeper.step()
        except EdgeError as error:
            self._failed = error
        pause_us = PAUSE_STEPS * self._step_us if goes_on else self._sweep_interval_us
        self._sweep_at_us = self._boot_us() + pause_us
