"""What a decision leaves in a caller's hand."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.wire.printing import prints_only


@prints_only("purposes", "state", "notice", "grants", "conflicts")
@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """What stands for one subject after a decision, purpose by purpose."""

    subject: str
    """Typed id."""
    purposes: tuple[str, ...]
    state: str
    notice: str
    at_us: int
    decisions: tuple[bytes, ...]
    """Decision ids, in the order of `purposes`."""
    grants: tuple[int, ...]
    """Ledger seq of each grant; 0 until the ledger numbered it."""
    conflicts: tuple[str, ...] = ()
    """Purposes that were asked for and are refused instead: the subject's software opts out (`gpc`)."""
