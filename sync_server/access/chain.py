"""The audit log's rows and how they are chained: whoever keeps one hash notices every later edit. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from sync_server.errors import ChainBroken

FIRST: Final = bytes(32)
"""What stands in place of a hash before the first row."""


class AuditEntry(NamedTuple):
    """Calls alike, as the log keeps them; number and hash are given when they are written."""

    at_us: int
    """The first of the calls."""
    last_us: int
    calls: int
    actor: str
    name: str
    method: str
    route: str
    outcome: str
    status: int
    code: str
    resource: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the log."""

    seq: int
    entry: AuditEntry
    hash: bytes


def chained(before: bytes, seq: int, entry: AuditEntry) -> bytes:
    """SHA-256 over the hash of the row before and this row as a JSON list without spaces, in UTF-8."""
    return hashlib.sha256(before + msgspec.json.encode([seq, *entry])).digest()


def walk(rows: Iterable[AuditRow], seq: int, before: bytes | None) -> tuple[int, bytes | None]:
    """Recompute the chain; returns number and hash of its last row, or what was given when there is none.

    Args:
        rows: in order, beginning after row `seq`.
        before: the hash of row `seq`; None: not known, and the first row is taken on trust.

    Raises `ChainBroken`.
    """
    for row in rows:
        if before is not None and row.seq != seq + 1:
            raise ChainBroken(f"expected row {seq + 1}, got {row.seq}: rows are missing")
        if before is not None and row.hash != chained(before, row.seq, row.entry):
            raise ChainBroken(f"row {row.seq} or the one before it is not as it was written")
        seq, before = row.seq, row.hash
    return seq, before
