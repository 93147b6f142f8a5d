"""The Merkle log of RFC 9162 (section 2.1): appending, roots, proofs, and their verification. Pure.

Hashes are SHA-256, leaves `0x00 || leaf`, nodes `0x01 || left || right`. Complete subtrees are kept by
(level, place): the hash of leaves [place << level, (place + 1) << level), so that every answer costs
O(log n) reads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

NodeReader = Callable[[int, int], bytes]
"""`node(level, place)`: the kept hash of one complete subtree."""

EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of one leaf's bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


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


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Whether `proof` shows `leaf` at `index` under `root_hash` (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, made = index, size - 1, leaf_hash(leaf)
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            made = node_hash(step, made)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            made = node_hash(made, step)
        place, last = place >> 1, last >> 1
    return last == 0 and made == root_hash


def verify_consistency(
    first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes
) -> bool:
    """Whether `proof` shows that the first log is a prefix of the second (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    steps = list(proof)
    if first & (first - 1) == 0:
        steps.insert(0, first_root)
    if not steps:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, step)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


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
