"""The write-ahead log as a file: how far SQLite will read it, and whether acknowledged commits lie behind.

SQLite takes frames while each one's checksum goes on from the one before, and nothing behind the first that
does not: that is how it forgets a commit which a power cut tore. A frame that was damaged later ends the log
in the same way, and with it every commit behind the damage, silently. What tells the two apart: nobody writes
a commit behind a torn one. So where a commit stands behind the end, and after it another one whose checksums
go on from it, something that was acknowledged cannot be reached.

Damage in the very last commit looks like a torn one, and is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime.cache import failure
from edge_runtime.cache.log_frames import (
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    LogHeader,
    Words,
    checksum,
    sums_in,
)

_AT_ONCE: Final = 64
"""Frames that are looked at together: about 256 KiB."""


class LogState(NamedTuple):
    """What stands in a write-ahead log."""

    frames: int = 0
    """Frames that SQLite will read: up to the last commit before the log ends."""
    commits_behind: int = 0
    """At least so many whole commits lie behind that end and were acknowledged; 0 for a log that is well."""
    last_frame: int = 0
    """The last frame of the last commit that is whole, behind that end or before."""
    torn: bool = False
    """Whether one more commit begins behind that: torn by a power cut, or damaged too."""
    order: str = "<"
    """The order of bytes of its checksums."""


class _Frames(NamedTuple):
    """Some frames that follow one another."""

    commit: NDArray[np.bool_]
    """Whether each ends a transaction."""
    ours: NDArray[np.bool_]
    """Whether each was written since the log was last begun."""
    follows: NDArray[np.bool_]
    """Whether the checksum of each goes on from the one that stands before it."""
    belongs: NDArray[np.bool_]
    """Whether it goes on from that, or from the one that should stand there."""


def read_log(path: str | Path) -> LogState:
    """Look at the write-ahead log at `path`; one that is not there, or empty, is well.

    Memory stays below 2 MiB, whatever the log's size. Raises `StorageError` when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            header = LogHeader(file.read(HEADER_BYTES))
            if len(header.raw) < HEADER_BYTES or not any(header.raw):
                return LogState()
            orders = (header.order,) if header.sound else (">", "<")  # a damaged header does not tell
            found = [_judged(header, order, _chunks(file, header)) for order in orders]
    except FileNotFoundError:
        return LogState()
    except OSError as error:
        raise failure.of_file(error, "write-ahead log") from None
    return max(found, key=lambda state: state.commits_behind)


def _chunks(file: BinaryIO, header: LogHeader) -> Iterator[bytes]:
    """The frames, some at a time."""
    file.seek(HEADER_BYTES)
    return iter(lambda: file.read(_AT_ONCE * header.frame_bytes), b"")


def _judged(header: LogHeader, order: str, chunks: Iterator[bytes]) -> LogState:
    """Walk over all frames once."""
    sound, before = header.sound, (header.sums, header.sums)
    salts = header.salts if sound else None
    frames = reached = behind = last = newest = 0
    passed = chain = False  # behind the end: a commit; and since it, frames that go on from one another
    before_ours = True  # a frame whose salts alone are damaged stands among others that are ours
    for chunk in chunks:
        salts = salts or chunk[8:16]
        found, before = _looked(chunk, salts, order, before, header.frame_bytes)
        for commit, ours, follows, belongs in zip(*found, strict=True):
            frames += 1
            sound = sound and bool(ours and follows)
            mine, before_ours = bool(ours or (belongs and before_ours)), bool(ours)
            newest = frames if commit and mine else newest
            if sound:
                reached = last = frames if commit else reached
                continue
            chain = chain and bool(belongs and mine)
            if commit and passed and chain:
                behind, last = behind + 1, frames
            if commit and mine:
                passed = chain = True
    return LogState(reached, behind, last, newest > last, order)


def _looked(
    chunk: bytes, salts: bytes, order: str, before: tuple[Words, Words], frame_bytes: int
) -> tuple[_Frames, tuple[Words, Words]]:
    """What the frames of a chunk are; and the checksum that stands in the last one, and should stand there.

    Args:
        before: the same two of the frame before.
    """
    whole = np.frombuffer(chunk, np.uint8, len(chunk) // frame_bytes * frame_bytes).reshape(-1, frame_bytes)
    if not len(whole):
        empty = np.zeros(0, np.bool_)
        return _Frames(empty, empty, empty, empty), before
    heads = np.ascontiguousarray(whole[:, :FRAME_HEADER_BYTES]).view(">u4").astype(np.uint32)
    summed = np.ascontiguousarray(np.delete(whole, np.s_[8:FRAME_HEADER_BYTES], axis=1))
    words, sums = summed.view(f"{order}u4").astype(np.uint32), heads[:, 4:6]
    due = checksum(np.vstack([before[0], sums[:-1]]), words)
    follows = (due == sums).all(axis=1)
    belongs = follows | (checksum(np.vstack([before[1], due[:-1]]), words) == sums).all(axis=1)
    ours = (heads[:, 2:4] == sums_in(salts)).all(axis=1)
    return _Frames(heads[:, 1] != 0, ours, follows, belongs), (sums[-1], due[-1])
