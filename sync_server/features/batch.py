"""One batch on its way in: some rows a transaction, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sync_server.errors import ROW_CODES
from sync_server.features.incoming import Incoming, RowCheck
from sync_server.features.publish import Publishing
from sync_server.features.values import RowFault
from sync_server.store.protocol import WriteTx


class Refused(msgspec.Struct):
    """Why the row at `index` does not stand."""

    index: int
    """Place in the batch, from 0."""
    code: str
    """Programs decide by it."""
    reason: str
    """What was expected, and of which field; never the value."""


class Batch:
    """Rows of one view. Every chunk may be written again: what stands already is counted as unchanged."""

    def __init__(
        self, check: RowCheck, publishing: Publishing, rows: Sequence[object], chunk_rows: int
    ) -> None:
        self._check, self._publishing, self._rows, self._chunk_rows = check, publishing, rows, chunk_rows
        self._next = 0
        self.refused: list[Refused] = []
        self.unchanged = 0
        """Accepted rows that stood there already, word for word."""

    @property
    def begun(self) -> bool:
        """Whether any chunk was read."""
        return self._next > 0

    @property
    def whole(self) -> bool:
        """Whether every row was judged."""
        return self._next >= len(self._rows)

    @property
    def accepted(self) -> int:
        """Rows that stand."""
        return self._next - len(self.refused)

    def check_chunk(self) -> list[tuple[int, Incoming]]:
        """Read the next rows, with their indexes; those that are none are refused. Before the transaction."""
        good: list[tuple[int, Incoming]] = []
        part = self._rows[self._next : self._next + self._chunk_rows]
        for index, raw in enumerate(part, self._next):
            try:
                good.append((index, self._check.check(raw)))
            except RowFault as fault:
                self._refuse(index, fault.code, fault.place)
        self._next += len(part)
        return good

    def write_chunk(self, tx: WriteTx, good: Sequence[tuple[int, Incoming]]) -> None:
        """Write what `check_chunk` returned."""
        for (index, _), outcome in zip(
            good, self._publishing.write_rows(tx, [r for _, r in good]), strict=True
        ):
            if outcome.code is not None:
                self._refuse(index, outcome.code)
            self.unchanged += outcome.unchanged
        self.refused.sort(key=lambda r: r.index)

    def _refuse(self, index: int, code: str, place: str = "") -> None:
        reason = f"{place}: {ROW_CODES[code]}" if place else ROW_CODES[code]
        self.refused.append(Refused(index, code, reason))
