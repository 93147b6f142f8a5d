"""Which files this process holds: a second opening of one is refused before it is looked at.

SQLite's lock keeps other processes out, not this one, and a file descriptor that this process closes drops
that lock. So everything that looks at a file by itself asks here first.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from os import stat_result
from typing import Final

from edge_runtime.cache import process
from edge_runtime.errors import DatabaseInUse

Claim = tuple[int, int]
"""(device, inode): the file itself, whatever its name."""


class Claims:
    """The files that connections of this process hold, or of the process that it was forked from.

    Attributes:
        lock: held from the first look at a file until it is claimed.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._held: set[Claim] = set()
        self._inherited: set[Claim] = set()
        process.register(self, last=True)

    def check(self, stat: stat_result) -> None:
        """Raise `DatabaseInUse` for a file that is held; the caller has the lock."""
        if (stat.st_dev, stat.st_ino) in self._held:
            raise DatabaseInUse("this process has the database open already; nothing changed")
        if (stat.st_dev, stat.st_ino) in self._inherited:
            raise DatabaseInUse("a process that this one was forked from had it open; nothing changed")

    def hold(self, stat: stat_result) -> Claim:
        """Claim a file; the caller has the lock."""
        claim = stat.st_dev, stat.st_ino
        self._held.add(claim)
        return claim

    def give_back(self, claim: Claim) -> None:
        """Others in this process may open it from now on."""
        with self.lock:
            self._held.discard(claim)

    def hold_still(self, held: ExitStack) -> None:
        """See `process.Owned`."""
        process.take(self.lock, held)

    def disown(self) -> None:
        """See `process.Owned`: SQLite was copied too, and would take the parent's locks for its own."""
        self.lock = threading.Lock()
        self._inherited |= self._held
        self._held.clear()


CLAIMS: Final = Claims()
"""Of this process."""
