"""What of one handle's sessions can still be believed. Pure.

A session state is its stored snapshot and the rows of the journal behind it. Whatever is missing of these
must show: a value is the one that a replay of everything gives, or it says that it is not whole (laws 7, 8).

Rows before a lost one are of no use. No feature may look back over the hole, and the journal must not seem to
reach back farther than it is whole. So everything up to the newest row that may be lost goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from edge_runtime.cache.stored_state import Lost

NOT_KNOWN: Final = 1 << 62
"""As the number of a row: any may be lost."""


class Span(NamedTuple):
    """When the events of a row of the journal were received, microseconds UTC."""

    oldest_us: int
    newest_us: int


class Found(NamedTuple):
    """What could be read under one handle, and what not."""

    rows: Mapping[int, Span]
    """The rows of the journal that open."""
    lost_row: int = 0
    """The newest row that may be lost; 0 when none is, `NOT_KNOWN` when any may be."""
    covered: int = 0
    """Up to which row every state is stored."""
    states_lost: bool = False
    """Whether a stored state may be lost, or what stands beside the states."""


class Verdict(NamedTuple):
    """What becomes of it."""

    cut: int
    """Rows up to this one go, and the journal counts as trimmed; 0 keeps all."""
    lost: Lost | None
    """What must be made up for when the states are next brought to a catalog; None for nothing."""


def judge(found: Found, now_us: int, ahead_us: int) -> Verdict:
    """Decide about one handle.

    Args:
        ahead_us: how far ahead of its receipt an event may lie.
    """
    if not found.lost_row and not found.states_lost:
        return Verdict(0, None)
    tail = found.lost_row > found.covered
    whole_us = _whole_us(found, now_us) + ahead_us if found.lost_row else 0
    return Verdict(found.lost_row, Lost(found.states_lost, tail, whole_us))


def _whole_us(found: Found, now_us: int) -> int:
    """Since when every event received is in the rows behind the newest that may be lost.

    That is when the first of them was received. Only where the clock was set back around the hole, what was
    lost may have come at a later time than what is left: then nothing before now is sure.
    """
    behind = [n for n in found.rows if n > found.lost_row]
    before_us = max((span.newest_us for n, span in found.rows.items() if n < found.lost_row), default=0)
    if behind:
        first_us = found.rows[min(behind)].oldest_us
        if before_us <= first_us:
            return first_us
    return max([now_us, *(span.newest_us for span in found.rows.values())])
