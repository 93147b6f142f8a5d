"""How much room the cache has: under its own limit, and on the volume where it rests.

Whoever brings server rows asks `keeps`, which costs some microseconds a frame. Where there is no room, a row
is kept without its values: its times and its part of the digest stand, reads say NOT_SYNCED. Events go on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from edge_runtime.cache.cipher import MEMORY
from edge_runtime.cache.reading import ReadTransaction

_MIB: Final = 1 << 20


def free_bytes_at(path: str) -> Callable[[], int] | None:
    """What tells the free bytes of the volume that holds `path`; None for a cache in memory."""
    return None if path == MEMORY else partial(_free_bytes, Path(path).absolute().parent)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Room:
    """The bounds of one database. Thread-safe.

    Args:
        limit_bytes: of the database in use; 0 for none.
        free_space_bytes: least free space on its volume; 0 for none.
        free: tells that free space; None where there is no volume.
    """

    def __init__(self, limit_bytes: int, free_space_bytes: int, free: Callable[[], int] | None) -> None:
        self.limit_bytes, self._least_bytes, self._free = limit_bytes, free_space_bytes, free
        self._low = False
        self.crowded = False
        """Whether it is over its limit though all went that may go."""
        self.wanted: Callable[[], None] = lambda: None
        """Called when rows have brought it over its limit: the sweeper should not wait for its time."""

    def look(self) -> None:
        """Ask the volume anew."""
        if self._free is None or not self._least_bytes:
            return
        try:
            self._low = self._free() < self._least_bytes
        except OSError:
            self._low = (
                False  # a volume that does not tell is not known to be full; a full one says so itself
            )

    def keeps(self, tx: ReadTransaction) -> bool:
        """Whether values of server rows may be kept now.

        Over the limit by up to a sixteenth they are, for the sweeper is about to make room.
        """
        if self._low:
            return False
        if not self.limit_bytes:
            return True
        used_bytes = tx.size().used_bytes
        if used_bytes <= self.limit_bytes:
            return True
        if not self.crowded:
            self.wanted()
        return not self.crowded and used_bytes <= self.limit_bytes + self.limit_bytes // 16

    def degraded(self) -> list[str]:
        """Plain reasons why server rows are not kept; empty when all is well."""
        reasons = []
        if self._low:
            least = self._least_bytes / _MIB
            reasons.append(f"less than {least:g} MiB are free on the volume: server rows are not kept")
        if self.crowded:
            limit = self.limit_bytes / _MIB
            reasons.append(f"over the limit of {limit:g} MiB with what may not go: server rows are not kept")
        return reasons


def unlimited() -> Room:
    """Room without bounds."""
    return Room(0, 0, None)
