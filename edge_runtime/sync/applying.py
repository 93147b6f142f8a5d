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
from edge_runtime.sync.shelf import Shelf
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
        places = {(row.entity, row.view, row.version) for row in rows}
        if len(places) == len(rows):  # rows of different places do not meet: all that are whole in one go
            return (total + self._take(rows)) % digest.MODULUS
        return (total + sum(self._take([row]) for row in rows)) % digest.MODULUS

    def _take(self, rows: Sequence[Row]) -> int:
        """What rows of different places add to the digest."""
        keeps, channel, grant = self._fitting.keeps, self._channel, self._grant
        whole: list[Row] = []
        others: list[Row] = []
        for row in rows:
            (whole if self._room and keeps(row, channel, grant) else others).append(row)
        kept, added = self._put(whole, [self._hasher.hash(row) for row in whole])
        self.applied.kept += kept
        return added + sum(self._judge(row) for row in others)

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

    def _put(self, rows: Sequence[Row], hashes: Sequence[bytes]) -> tuple[int, int]:
        """(how many are kept, what they add to the digest)."""
        placed = self._shelf.put(rows, hashes)
        self.applied.older += len(rows) - len(placed)
        added = sum(digest.from_bytes(new) for new, _ in placed)
        return len(placed), added - sum(digest.from_bytes(old) for _, old in placed if old is not None)
