"""What one column came to: its numbers, what they are, and why."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from edge_runtime.serving.reads import Missing
from edge_runtime.serving.status import Status
from edge_runtime.wire.printing import prints_only


@prints_only("status", "reason")
class Cell(NamedTuple):
    """One column of one row: `width` numbers under one status."""

    numbers: tuple[float, ...]
    status: Status
    reason: str
    """Empty when PRESENT, else the cause's status name and what is known about it."""


_GIVES_WAY: Final = frozenset({Status.NULL, Status.NOT_FOUND, Status.NOT_SYNCED})
"""What a declared default turns into DEFAULTED; the others keep their status beside the default."""


def settle(status: Status, has_default: bool) -> Status:
    """The status of a cell without a usable value (law 7: a default never hides the cause)."""
    return Status.DEFAULTED if has_default and status in _GIVES_WAY else status


def cause(status: Status, reason: str) -> str:
    """The reason as shown: the cause's name first, for a default keeps it only here."""
    return f"{status.name}: {reason}" if reason else status.name


class Fallback:
    """What stands in a column without a usable value: the declared default's numbers, or NaN."""

    __slots__ = ("declared", "numbers")

    def __init__(self, default: tuple[float, ...] | None, width: int) -> None:
        self.declared = default is not None
        self.numbers = default if default is not None else (math.nan,) * width

    def cell(self, missing: Missing) -> Cell:
        """The cell for a missing value."""
        status = settle(missing.status, self.declared)
        return Cell(self.numbers, status, cause(missing.status, missing.reason))
