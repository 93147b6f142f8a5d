"""A damaged write-ahead log, written again so that SQLite reads all of it.

Behind one bad frame SQLite reads nothing, although all the others are whole. Written again with checksums
that go on over it, the log gives every page it holds; a page that was damaged itself still fails its own
seal, and is then missing like one that was damaged in the file.

What may not happen is that a page goes by another's number: then an older page would stand in its own place,
unnoticed. The checksums tell. They say what the number before them must have been, given all the rest; so if
that is a number that can be, the number was damaged and is known again, and else it was the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np

from edge_runtime.cache import failure
from edge_runtime.cache.log_frames import (
    FRAME_HEADER_BYTES,
    HEADER_BYTES,
    LogHeader,
    Words,
    checksum,
    first_two,
    stored,
    sums_in,
    words_of,
)
from edge_runtime.cache.write_ahead_log import LogState
from edge_runtime.wire.printing import prints_only

_COMMON: Final = 16
"""Frames of which the most frequent salts are the log's, where its header does not tell."""


@prints_only("sums")
class _Frame(NamedTuple):
    """One frame."""

    number: bytes
    """8 bytes: the page's number, and the size of the file where a transaction ends, else 0."""
    salts: bytes
    sums: Words
    page: bytes

    @classmethod
    def read(cls, file: BinaryIO, header: LogHeader) -> _Frame:
        raw = file.read(header.frame_bytes)
        return cls(raw[:8], raw[8:16], sums_in(raw[16:24]), raw[FRAME_HEADER_BYTES:])

    def words(self, order: str) -> Words:
        """What its checksum is about."""
        return words_of(self.number + self.page, order)

    def goes_on_from(self, sums: Words, order: str) -> Words:
        """The checksum that it should have."""
        made: Words = checksum(sums[None], self.words(order)[None])[0]
        return made

    def can_be(self, pages: int) -> bool:
        """Whether its number can be one."""
        page, size = (int.from_bytes(self.number[n : n + 4], "big") for n in (0, 4))
        return 1 <= page <= pages and size <= pages


def mend(path: str, state: LogState, target: str, pages: int) -> bool:
    """Write the log at `path` again at `target`, up to the last commit that is whole.

    Args:
        state: of that log.
        pages: no page has a higher number.

    Returns whether nothing of it had to be left out. Raises `StorageFull`, `StorageError`.
    """
    try:
        with open(path, "rb") as old, open(target, "wb") as new:
            old_header = LogHeader(old.read(HEADER_BYTES))
            salts = old_header.salts if old_header.sound else _salts(old, old_header)
            header = LogHeader.made(salts, old_header.page_bytes, state.order)
            new.write(header.raw)
            old.seek(HEADER_BYTES)
            return _Mending(old, new, header, old_header.sums, pages).run(state.last_frame)
    except OSError as error:
        Path(target).unlink(missing_ok=True)
        raise failure.of_file(error, "write-ahead log") from None


class _Mending:
    """Goes over the frames once."""

    def __init__(self, old: BinaryIO, new: BinaryIO, header: LogHeader, sums: Words, pages: int) -> None:
        self._old, self._new, self._header, self._pages = old, new, header, pages
        self._order = header.order
        self._before, self._after = sums, header.sums

    def run(self, last: int) -> bool:
        frame = _Frame.read(self._old, self._header)
        for number in range(1, last + 1):
            following = _Frame.read(self._old, self._header) if number < last else None
            mended = self._mended(frame, following)
            if mended is None:
                return False  # SQLite ends the log at the commit before
            self._write(mended)
            if following is not None:
                frame = following
        return True

    def _mended(self, frame: _Frame, following: _Frame | None) -> _Frame | None:
        """The frame as it was, or with a page that was damaged; None where its number cannot be known.

        Moves on to the checksum that it had.
        """
        due = frame.goes_on_from(self._before, self._order)
        if following is not None and _same(following.goes_on_from(due, self._order), following.sums):
            self._before = due  # if anything was damaged, it was the checksum itself
            return frame
        before, self._before = self._before, frame.sums
        if _same(due, frame.sums):
            return frame
        number = first_two(before, frame.words(self._order), frame.sums)
        guess = frame._replace(number=number.astype(f"{self._order}u4").tobytes())
        if guess.can_be(self._pages):
            return guess
        return frame if frame.can_be(self._pages) and frame.salts == self._header.salts else None

    def _write(self, frame: _Frame) -> None:
        self._after = frame.goes_on_from(self._after, self._order)
        self._new.write(frame.number + self._header.salts + stored(self._after) + frame.page)


def _same(some: Words, others: Words) -> bool:
    return bool(np.array_equal(some, others))


def _salts(file: BinaryIO, header: LogHeader) -> bytes:
    """The salts that most of the first frames have."""
    found = [_Frame.read(file, header).salts for _ in range(_COMMON)]
    return max(found, key=found.count)
