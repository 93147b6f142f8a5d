"""A database whose newest commits are in its log, as a killed process leaves them, and its log's bytes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_runtime.cache.database import Database
from tests.support.consent_room import die, killed

KEY = bytes(range(32))
HANDLE = b"h" * 16
HEADER, FRAME = 32, 24 + 4096


class Logged(NamedTuple):
    """The files of one folder."""

    path: Path
    log: bytes
    commits: list[int]
    """Frames at which a transaction ends."""

    @property
    def frames(self) -> int:
        return (len(self.log) - HEADER) // FRAME

    def write(self, log: bytes) -> Path:
        """Put another log in place."""
        wal = self.path.with_name("cache.db-wal")
        wal.write_bytes(log)
        return wal

    def at(self, frame: int, offset: int) -> int:
        """Where byte `offset` of a frame stands; frames count from 1."""
        return HEADER + (frame - 1) * FRAME + offset


def logged(folder: Path, commits: int = 12) -> Logged:
    """So many commits of one event each in the log, after one checkpoint."""
    path = folder / "cache.db"

    def work() -> None:
        database = Database.open(str(path), KEY)
        append(database, 1)
        database.checkpoint_truncate()
        for _ in range(commits):
            append(database, 1)
        die()

    assert killed(work)
    log = path.with_name("cache.db-wal").read_bytes()
    frames = (len(log) - HEADER) // FRAME
    ends = [n + 1 for n in range(frames) if any(log[HEADER + n * FRAME + 4 : HEADER + n * FRAME + 8])]
    return Logged(path, log, ends)


def append(database: Database, events: int) -> None:
    with database.write("test") as tx:
        tx.append_events([(HANDLE, 1, b"an event " * 40)] * events)


def flipped(raw: bytes, *offsets: int) -> bytes:
    """The same with one bit flipped at each place."""
    changed = bytearray(raw)
    for offset in offsets:
        changed[offset] ^= 4
    return bytes(changed)
