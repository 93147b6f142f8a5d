"""The Merkle log of RFC 9162 (section 2.1): appending, roots, and proofs. Pure.

What is hashed how, and how a proof is checked, is in `edge_runtime.wire.merkle`. Complete subtrees are
kept by (level, place): the hash of leaves [place << level, (place + 1) << level), so that every answer costs
O(log n) reads.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.wire.merkle import EMPTY_ROOT, leaf_hash, node_hash

NodeReader = Callable[[int, int], bytes]
"""`node(level, place)`: the kept hash of one complete subtree."""


def append(size: int, leaf: bytes, node: NodeReader) -> list[tuple[int, int, bytes]]:
    """The nodes (level, place, hash) that appending `leaf` to a log of `size` leaves completes."""
    level, place, made = 0, size, leaf_hash(leaf)
    nodes = [(level, place, made)]
    while place & 1:
        made = node_hash(node(level, place - 1), made)
        level, place = level + 1, place >> 1
        nodes.append((level, place, made))
    return nodes


def root(size: int, node: NodeReader) -> bytes:
    """The log's root hash at `size` leaves (MTH)."""
    return EMPTY_ROOT if size == 0 else _subtree(0, size, node)


def inclusion(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The audit path of leaf `index` (from 0) in the log of `size` leaves (PATH)."""
    if not 0 <= index < size:
        raise ValueError("expected 0 <= index < size")
    return _path(index, 0, size, node)


def consistency(first: int, second: int, node: NodeReader) -> list[bytes]:
    """The proof that the log of `first` leaves is a prefix of that of `second` leaves (PROOF)."""
    if not 0 < first <= second:
        raise ValueError("expected 0 < first <= second")
    return _subproof(first, 0, second, True, node)


class RightEdge:
    """A log that only grows: the complete subtrees at its right edge are all that its root needs."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes | None] = []
        """By level; None where there is none that is complete and not part of a higher one."""

    def add(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """The nodes (level, place, hash) that appending `leaf` completes; see `append`."""
        level, place, made = 0, self.size, leaf_hash(leaf)
        nodes = [(level, place, made)]
        self.size += 1
        while level < len(self._subtrees) and (left := self._subtrees[level]) is not None:
            self._subtrees[level] = None
            made, level, place = node_hash(left, made), level + 1, place >> 1
            nodes.append((level, place, made))
        if level == len(self._subtrees):
            self._subtrees.append(None)
        self._subtrees[level] = made
        return nodes

    def root(self) -> bytes:
        """The root over all that was added."""
        found: bytes | None = None
        for left in self._subtrees:
            if left is not None:
                found = left if found is None else node_hash(left, found)
        return EMPTY_ROOT if found is None else found


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(start: int, count: int, node: NodeReader) -> bytes:
    """Root over leaves [start, start + count); `start` is always a multiple of what is kept there."""
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    left = _split(count)
    return node_hash(_subtree(start, left, node), _subtree(start + left, count - left, node))


def _path(index: int, start: int, count: int, node: NodeReader) -> list[bytes]:
    if count == 1:
        return []
    left = _split(count)
    if index < left:
        return [*_path(index, start, left, node), _subtree(start + left, count - left, node)]
    return [
        *_path(index - left, start + left, count - left, node),
        _subtree(start, left, node),
    ]


def _subproof(first: int, start: int, count: int, whole: bool, node: NodeReader) -> list[bytes]:
    if first == count:
        return [] if whole else [_subtree(start, count, node)]
    left = _split(count)
    if first <= left:
        return [
            *_subproof(first, start, left, whole, node),
            _subtree(start + left, count - left, node),
        ]
    return [
        *_subproof(first - left, start + left, count - left, False, node),
        _subtree(start, left, node),
    ]
