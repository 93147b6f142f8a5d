"""What waits for the disk, kept within bounds: also while the disk takes nothing.

An event that was taken is in the states in memory, so it counts at once. It waits for the group commit, and
states wait to be stored before they may leave memory. Full things say what they do:

- a full queue commits by itself; if the disk takes nothing, its entries are folded into the states that hold
  them (see `GroupCommit.fold`);
- too many states: those that are stored as they are leave memory. While none can be stored, twice as many are
  held; beyond that an event that needs one more is not taken (`NO_ROOM`).
"""

from __future__ import annotations

from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.working_set import WorkingSet
from edge_runtime.errors import StorageError, StorageFull


class Backlog:
    """The bounds of one runtime's memory. Thread-safe; never call it under the runtime's lock."""

    def __init__(self, commit: GroupCommit, states: WorkingSet, pending_limit: int) -> None:
        self._commit, self._states, self._limit = commit, states, pending_limit

    def make_room(self) -> None:
        """A full queue is committed, or folded; too many states are stored and let go."""
        if self._commit.size >= self._limit:
            self._commit_or_fold()
        if self._states.full:
            self.let_go()

    def let_go(self) -> None:
        """Store every state and let go of those beyond the limit; on a full disk, of those stored already."""
        if self._commit.stuck is None:
            try:
                self._commit.flush(everything=True, then=self._states.let_go)
                return
            except StorageError:
                pass  # `stuck` says why
        with self._commit.still():
            self._states.let_go()

    def _commit_or_fold(self) -> None:
        try:
            self._commit.flush()
        except StorageError:
            with self._commit.still():
                if self._commit.size >= self._limit:
                    self._commit.fold()

    def degraded(self) -> list[str]:
        """Plain reasons why what was tracked is in memory only; empty when all is well."""
        stuck, folded = self._commit.stuck, self._commit.keys_folded
        if stuck is None:
            return []
        why = "the disk is full" if isinstance(stuck, StorageFull) else "the disk failed"
        reasons = [f"{why}: {self._commit.size} events wait in memory for the next commit"]
        if folded:
            reasons.append(f"too many events waited: the states of {folded} keys are to be stored whole")
        if self._states.cramped:
            reasons.append("no room for one more state in memory: events that need one are not taken")
        return reasons
