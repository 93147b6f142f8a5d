"""The form of SQLite's write-ahead log: a header, frames of one page each, and checksums that go on and on.

Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log. Headers, page numbers and checksums lie
outside the encryption; pages are as they will stand in the file.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
_MAGIC: Final = 0x377F0682
_VERSION: Final = 3_007_000
_USUAL_PAGE_BYTES: Final = 4096

Words = NDArray[np.uint32]


class LogHeader(NamedTuple):
    """The first 32 bytes of a log."""

    raw: bytes

    @classmethod
    def made(cls, salts: bytes, page_bytes: int, order: str) -> Self:
        """A header that SQLite takes."""
        words = [_MAGIC | (order == ">"), _VERSION, page_bytes, 0]
        head = np.array(words, ">u4").tobytes() + salts
        return cls(head + stored(checksum(np.zeros((1, 2), np.uint32), words_of(head, order)[None])[0]))

    @property
    def page_bytes(self) -> int:
        """Size of the pages; the usual one where the header does not say anything sensible."""
        size = int.from_bytes(self.raw[8:12], "big")
        return size if size in (512 << n for n in range(8)) else _USUAL_PAGE_BYTES

    @property
    def frame_bytes(self) -> int:
        """Size of a frame."""
        return FRAME_HEADER_BYTES + self.page_bytes

    @property
    def order(self) -> str:
        """The order of bytes in which checksums take words."""
        return ">" if self.raw[3] & 1 else "<"

    @property
    def salts(self) -> bytes:
        """8 bytes that every frame since the log was last begun repeats."""
        return self.raw[16:24]

    @property
    def sums(self) -> Words:
        """The checksum that the first frame goes on from."""
        return sums_in(self.raw[24:32])

    @property
    def sound(self) -> bool:
        """Whether SQLite takes it; else it sees no log at all."""
        magic = int.from_bytes(self.raw[:4], "big") & ~1
        if magic != _MAGIC or self.page_bytes != int.from_bytes(self.raw[8:12], "big"):
            return False
        made = checksum(np.zeros((1, 2), np.uint32), words_of(self.raw[:24], self.order)[None])
        return bool((made[0] == self.sums).all())


def words_of(raw: bytes, order: str) -> Words:
    """Bytes as the words that a checksum takes."""
    return np.frombuffer(raw, f"{order}u4").astype(np.uint32)


def sums_in(raw: bytes) -> Words:
    """The two sums in 8 bytes of a header."""
    return np.frombuffer(raw, ">u4").astype(np.uint32)


def stored(sums: Words) -> bytes:
    """The same as they stand in a header."""
    return sums.astype(">u4").tobytes()


def checksum(before: Words, words: Words) -> Words:
    """SQLite's checksum of each row of `words`, going on from `before`: Fibonacci-weighted sums mod 2^32."""
    start, weights = _weights(words.shape[1])
    return before @ start + words @ weights


def first_two(before: Words, words: Words, after: Words) -> Words:
    """Which first two words the rest must have had for the checksum to be `after`; there is one answer."""
    _, weights = _weights(len(words))
    rest = words.copy()
    rest[:2] = 0
    (a, b), (c, d) = weights[:2].tolist()  # of determinant 1
    inverse = np.array([[d, -b], [-c, a]], np.int64).astype(np.uint32)
    found: Words = (after - checksum(before[None], rest[None])[0]) @ inverse
    return found


_known: dict[int, tuple[Words, Words]] = {}


def _weights(count: int) -> tuple[Words, Words]:
    """What the two sums before, and each word, weigh in the two sums after `count` words.

    Two words at a time: s0 += w0 + s1; s1 += w1 + s0.
    """
    if count not in _known:
        step = np.array([[1, 1], [1, 2]], np.uint32)  # of (s0, s1), as rows
        word = np.array([[1, 1], [0, 1]], np.uint32)  # of (w0, w1)
        weights, power = np.empty((count, 2), np.uint32), np.eye(2, dtype=np.uint32)
        for n in range(count - 2, -1, -2):
            weights[n : n + 2] = word @ power
            power = step @ power
        _known[count] = power, weights
    return _known[count]
