"""Whether anything may be given now: not while it is unknown what was denied, or while it could be lost."""

from __future__ import annotations

from sync_server.errors import Problem
from sync_server.journal.journal import Journal
from sync_server.restore.catching_up import RETRY_US, CatchingUp


class Gives:
    """The two reasons for which a `given` has to wait. Denials never do (law 2)."""

    def __init__(self, catching_up: CatchingUp, journal: Journal) -> None:
        self._catching_up, self._journal = catching_up, journal

    def check(self) -> None:
        """Raise `Problem`: `catching_up` after a restore, `journal` while every journal fails."""
        if self._catching_up.closed:
            raise Problem("catching_up", retry_after_s=RETRY_US // 1_000_000)
        if self._journal.failing:
            raise Problem("journal", retry_after_s=RETRY_US // 1_000_000)
