"""What one round of upkeep did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Swept:
    """The summary of one round; counts of rows and bytes."""

    rows_let_go: int = 0
    """Server rows of which the values went, for their time was over or for room; their times stay."""
    events_dropped: int = 0
    """Rows of the journal."""
    states_ended: int = 0
    """Session states whose retention is over."""
    handles_ended: int = 0
    """Subjects and purposes of which nothing is left but consent and key."""
    freed_bytes: int = 0
    """By how much less of the database is in use."""
    returned_bytes: int = 0
    """By how much the file is shorter."""
