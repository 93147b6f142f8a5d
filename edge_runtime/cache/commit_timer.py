"""The group commit's clockwork: the only thread of a runtime that never syncs."""

from __future__ import annotations

import threading

from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.errors import EdgeError


class CommitTimer:
    """Flushes `commit` within `interval_us` of the first event that waits, until `stop`."""

    def __init__(self, commit: GroupCommit, interval_us: int) -> None:
        self._commit, self._interval_s = commit, interval_us / 1_000_000
        self._stopping = threading.Event()
        self.trouble: EdgeError | None = None
        """Why the last round failed; None once one went well. The events wait, and the next round tries."""
        self._thread = threading.Thread(target=self._body, name="edge-commit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; what waits stays with the group commit."""
        self._stopping.set()
        self._commit.work.set()
        self._thread.join()

    def _body(self) -> None:
        while not self._stopping.is_set():
            self._commit.work.wait()
            if self._stopping.wait(self._interval_s):
                return
            try:
                self._commit.flush()
                self.trouble = None
            except EdgeError as error:
                self.trouble = error
