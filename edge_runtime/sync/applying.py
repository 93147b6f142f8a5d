"""Rows of one frame on their way onto a shelf: each judged, hashed and put where the gate says it goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from edge_runtime.cache.records import LET_GO
from edge_runtime.catalog.model import CatalogModel
from edge_runtime.sync import gate
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.gate import Action
from edge_runtime.sync.shelf import Change, Shelf
from edge_runtime.wire import digest
from edge_runtime.wire.digest import RowHasher
from edge_runtime.wire.messages import Row


@dataclass(slots=True)
class Applied:
    """What one delta did here."""

    kept: int = 0
    deleted: int = 0
    stubs: Counter[str] = field(default_factory=Counter)
    """Reason -> rows of which only the hash was kept."""
    older: int = 0
    """Rows that came although a newer one is held: they changed nothing, and the digest says so."""
    trimmed: int = 0
    """Rows that lost features which do not fit the catalog."""
    let_go: int = 0
    """Rows kept without their values, for want of room."""


class Applying:
    """Puts the rows of one frame onto `shelf`, inside its transaction.

    Args:
        grant: of the key of a personal channel; 0 for a shared one.
        hasher: of this channel.
        room: whether values may be kept now.
    """

    def __init__(
        self,
        shelf: Shelf,
        channel: gate.Channel,
        grant: int,
        catalog: CatalogModel,
        fitting: Fitting,
        hasher: RowHasher,
        room: bool,
    ) -> None:
        self._shelf, self._channel, self._grant = shelf, channel, grant
        self._catalog, self._fitting, self._hasher, self._room = catalog, fitting, hasher, room
        self.applied = Applied()

    def take(self, rows: Sequence[Row], total: int) -> int:
        """Put rows where the gate says; returns the channel's digest after them, `total` before.

        Raises `WireFailure` for a row that must never stand in this channel: let nothing of the frame stand.
        """
        added = self._take(rows) if self._room else sum(map(self._judge, rows))
        return (total + added) % digest.MODULUS

    def _take(self, rows: Sequence[Row]) -> int:
        """What rows add to the digest: in one go when all are whole, else half after half."""
        if self._fitting.keeps(rows, self._channel, self._grant):
            return self._keep(rows)
        if len(rows) < 2:
            return sum(map(self._judge, rows))
        middle = len(rows) // 2
        return self._take(rows[:middle]) + self._take(rows[middle:])

    def _keep(self, rows: Sequence[Row]) -> int:
        """What rows that are kept as they are add to the digest."""
        kept, added = self._put(rows, self._hasher.hashes(rows))
        self.applied.kept += kept
        return added

    def _judge(self, row: Row) -> int:
        """What one row adds to the digest, put where the gate says."""
        verdict = gate.judge(row, self._channel, self._catalog, self._grant)
        if verdict.action is Action.DELETE or row.deleted:
            self.applied.deleted += 1
            return -self._shelf.delete(row)
        crowded = not self._room and len(verdict.values) > len(LET_GO)
        rest = msgspec.structs.replace(row, values=LET_GO if crowded else verdict.values)
        kept, added = self._put([rest], [self._hasher.hash(row)])  # the hash is of what was delivered
        if verdict.action is Action.STUB:
            self.applied.stubs[verdict.reason] += kept
        else:
            self.applied.kept += kept
            self.applied.let_go += kept * crowded
            self.applied.trimmed += kept * bool(verdict.reason)
        return added

    def _put(self, rows: Sequence[Row], hashes: Sequence[bytes]) -> Change:
        change = self._shelf.put(rows, hashes)
        self.applied.older += len(rows) - change.kept
        return change
