"""Two incarnations of one server: which is the later, and how much of the ledger both have. Pure.

A server that is restored from a backup starts a new incarnation and names, under its signature, every restore
before it. Of two that a device meets, the one that was restored last is the server; the other is over.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.wire.messages import Restore


def latest_us(restores: Sequence[Restore]) -> int:
    """When the incarnation that `restores` led to began; 0 for the one before any restore."""
    return restores[-1].at_us if restores else 0


def kept_by_both(before: Sequence[Restore], now: Sequence[Restore]) -> int | None:
    """How many steps from the first are surely the same in the ledgers of two incarnations.

    Args:
        before, now: the restores that led to each of them.

    Returns None when nothing tells them apart: one and the same.

    >>> a, b = Restore(b"a" * 16, 9, 1), Restore(b"b" * 16, 5, 2)
    >>> kept_by_both([a], [a, b]), kept_by_both([], [a, b]), kept_by_both([a], [b]), kept_by_both([a], [a])
    (5, 5, 5, None)
    """
    apart = [r.kept for r in before if r not in now] + [r.kept for r in now if r not in before]
    return min(apart) if apart else None
