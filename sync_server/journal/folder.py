"""A journal as a folder of files: appended, synced, cut into segments that may go one by one.

`<folder>/<incarnation>/<number>.journal`. Beside the segments stands a file `whole` for as long as nothing is
missing: it goes when a write fails, and is touched now and then, so that a restore can see when the journal
was last known to be alive. It holds pseudonyms and salts and no raw id: it falls under evidence retention.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from edge_runtime.wire.messages import LedgerHead
from sync_server.journal.record import (
    CHAIN_BYTES,
    Begin,
    Entry,
    Place,
    Reading,
    Signed,
    Step,
    Upto,
    written,
)
from sync_server.store.lasting import sync_folder

_ZERO: Final = bytes(CHAIN_BYTES)


class FolderJournal:
    """The journal of one incarnation, in one folder. Every call may raise OSError.

    Args:
        segment_bytes: a segment that has become larger is followed by a new one.
    """

    def __init__(self, folder: Path, incarnation: bytes, segment_bytes: int) -> None:
        self.name = str(folder)
        self._folder, self._incarnation = folder / incarnation.hex(), incarnation
        self._segment_bytes = segment_bytes
        self._file: int | None = None
        self._chain, self._size = _ZERO, 0
        self._head: LedgerHead | None = None
        self._written = self._synced = 0
        """Bytes of the newest segment; and those that are surely on the disk."""
        self._unsynced = False

    def open(self, size: int) -> Upto | None:
        """Ready to append; returns how far it goes.

        A torn tail is cut off. Raises FileNotFoundError when the folder, which is perhaps a mount, is not
        there.

        Args:
            size: where the journal begins when there is none of this incarnation: it covers what comes after.

        Returns None when it began now.
        """
        self.close()
        if not self._folder.parent.is_dir():
            raise FileNotFoundError(f"no folder {self._folder.parent}")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        paths = segments(self._folder)
        if not paths:
            self._begin(size)
            return None
        self._go_on(paths)
        return Upto(self._size, self._head)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write `entries`; durable after the next `sync`."""
        assert self._file is not None
        buffer = bytearray()
        for entry in entries:
            made, self._chain = written(self._chain, entry)
            buffer += made
            if isinstance(entry, Step):
                self._size = entry.evidence.seq
        _write(self._file, buffer)
        self._written += len(buffer)
        self._unsynced = True

    def sync(self) -> None:
        """Wait for the disk; begin a new segment when this one is large enough."""
        assert self._file is not None
        if not self._unsynced:
            return
        try:
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # what a disk refused once it may call clean the next time
                os.ftruncate(self._file, self._synced)
            raise
        self._unsynced, self._synced = False, self._written
        if self._written >= self._segment_bytes:
            self._begin(self._size)

    def mark(self, whole_at_us: int | None) -> None:
        """Say, beside the segments, when it was last seen to be whole; None: something is missing."""
        path = self._folder / "whole"
        if whole_at_us is None:
            path.unlink(missing_ok=True)
        else:
            path.touch(mode=0o600)
            os.utime(path, ns=(whole_at_us * 1000, whole_at_us * 1000))

    def retire(self, size: int) -> int:
        """Delete the segments that only hold what happened before ledger step `size`; returns how many.

        The newest stays: the chain goes on from it.
        """
        paths, gone = segments(self._folder), 0
        for path, following in pairwise(paths):
            begin = next(iter(_records(following, None)), None)
            if begin is None or not isinstance(begin.entry, Begin) or begin.entry.size >= size:
                break
            path.unlink()
            gone += 1
        return gone

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)

    def _begin(self, size: int) -> None:
        """A new segment, whose first record goes on from the last one of the segment before."""
        self.close()
        number = len(segments(self._folder)) and int(segments(self._folder)[-1].stem) + 1
        path = self._folder / f"{number:012d}.journal"
        made, chain = written(self._chain, Begin(self._incarnation, size, self._chain))
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            _write(handle, made)
            os.fsync(handle)
            sync_folder(self._folder)
        except OSError:
            os.close(handle)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self._file, self._chain, self._size = handle, chain, size
        self._written = self._synced = len(made)

    def _go_on(self, paths: Sequence[Path]) -> None:
        """Append to the newest segment from its last whole record; one without any is made anew."""
        path, end = paths[-1], 0
        self._chain, self._size, self._head = _ZERO, 0, None
        for place in _records(path, None):
            self._chain, end = place.chain, place.end
            if isinstance(place.entry, Begin):
                self._size = place.entry.size
            elif isinstance(place.entry, Step):
                self._size = place.entry.evidence.seq
            elif isinstance(place.entry, Signed):
                self._head = place.entry.head
        if end == 0:
            path.unlink()
            earlier = segments(self._folder)
            if earlier:
                self._go_on(earlier)
            else:
                self._begin(0)
            return
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.ftruncate(self._file, end)
        os.fsync(self._file)
        self._written = self._synced = end


class FolderReading:
    """What a journal folder holds of one incarnation. After `entries`, `fault` says what is wrong."""

    def __init__(self, folder: Path, incarnation: bytes) -> None:
        self._folder = folder / incarnation.hex()
        self.fault: str | None = None
        self.alive_us: int | None = None
        """When it was last known to be whole; None when it says that something is missing."""
        with contextlib.suppress(FileNotFoundError):
            self.alive_us = (self._folder / "whole").stat().st_mtime_ns // 1000

    def entries(self) -> Iterator[Entry]:
        """Every entry in order, up to the first fault. A torn tail at the very end is none."""
        before: bytes | None = None
        paths = segments(self._folder)
        for path in paths:
            reading = Reading(path.read_bytes())
            for place in _joined(reading, before):
                before = place.chain
                yield place.entry
            if reading.fault is not None and not (reading.torn and path == paths[-1]):
                self.fault = f"{path.name}: {reading.fault}"
                return


def segments(folder: Path) -> list[Path]:
    """The segments of one incarnation, in order."""
    return sorted(folder.glob("*.journal"))


def _records(path: Path, before: bytes | None) -> Iterator[Place]:
    yield from _joined(Reading(path.read_bytes()), before)


def _joined(reading: Reading, before: bytes | None) -> Iterator[Place]:
    """The records of a segment. Where the one before is not known, its first record says what it was."""
    if before is None:
        first = reading.first_before()
        if first is None:
            reading.fault = "its first record is not whole"
            return
        before = first
    yield from reading.records(before)


def _write(handle: int, content: bytes | bytearray) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]
