"""SQL of the aggregates: rounds, sealed reports, tallies and releases. Tickets are in `aggregate_tickets.py`.

No answer is stored in the clear: it is sealed until it is added to the tally, and then gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from edge_runtime.wire.printing import prints_only

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round as it stands."""

    id: bytes
    metric: str
    definition: bytes
    parameters: bytes
    collector: bytes
    opened_us: int
    closes_us: int
    closed_us: int | None
    subjects: int
    reports: int
    stopped_us: int | None = None
    ending: str | None = None


@prints_only()
@dataclass(frozen=True, slots=True)
class SealedRow:
    """A report that waits to be opened."""

    round: bytes
    id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one device brought in one round, beside how many tickets it was given."""

    tickets: int
    reports: int
    bytes: int


PAGE_BYTES: Final = 1 << 20
"""Bytes of releases after which a list of them ends: one may have a thousand numbers."""
_ROUND: Final = (
    "id, metric, definition, parameters, collector, opened_us, closes_us, closed_us, subjects, reports,"
    " stopped_us, ending"
)
_FORGOTTEN: Final = (
    "aggregate_tickets",
    "aggregate_allowances",
    "aggregate_tallies",
    "aggregate_sealed",
    "aggregate_taken",
)


class Statements(Protocol):
    """What is needed of a transaction of the store (its chapters offer it)."""

    def execute(self, sql: str, values: Sequence[object] = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        ...

    def execute_many(self, sql: str, values: Sequence[Sequence[object]], /) -> None:
        """Run one statement for each tuple of values."""
        ...


class AggregateRows:
    """The aggregates' rows inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def add_round(self, row: RoundRow) -> None:
        """Insert an open round; at most one is open for each metric."""
        self._db.execute(
            f"INSERT INTO aggregate_rounds ({_ROUND}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.id,
                row.metric,
                row.definition,
                row.parameters,
                row.collector,
                row.opened_us,
                row.closes_us,
                row.closed_us,
                row.subjects,
                row.reports,
                row.stopped_us,
                row.ending,
            ),
        )

    def round(self, round_id: bytes) -> RoundRow | None:
        """The round with this id."""
        found = self._db.execute(
            f"SELECT {_ROUND} FROM aggregate_rounds WHERE id = ?", (round_id,)
        ).fetchone()
        return None if found is None else RoundRow(*found)

    def open_rounds(self) -> list[RoundRow]:
        """All rounds that nobody stopped yet, by metric; some may be past their time."""
        return self._rounds("stopped_us IS NULL ORDER BY metric")

    def stopped_rounds(self) -> list[RoundRow]:
        """Rounds that take no more reports and are not released yet, the oldest first."""
        return self._rounds("stopped_us IS NOT NULL AND closed_us IS NULL ORDER BY stopped_us, id")

    def stop_round(self, round_id: bytes, at_us: int) -> None:
        """From now on the round takes nothing more; the first time stays."""
        self._db.execute(
            "UPDATE aggregate_rounds SET stopped_us = ? WHERE id = ? AND stopped_us IS NULL",
            (at_us, round_id),
        )

    def end_rounds(self, why: str) -> int:
        """End every round that is not released yet without a number, and drop what waits for it; how many."""
        self._db.execute(
            "DELETE FROM aggregate_sealed WHERE round IN"
            " (SELECT id FROM aggregate_rounds WHERE closed_us IS NULL)"
        )
        return self._db.execute(
            "UPDATE aggregate_rounds SET ending = ? WHERE closed_us IS NULL", (why,)
        ).rowcount

    def close_round(self, round_id: bytes, at_us: int) -> None:
        """Mark the round released and forget its tickets, its tally and what came in it."""
        self._db.execute("UPDATE aggregate_rounds SET closed_us = ? WHERE id = ?", (at_us, round_id))
        for table in _FORGOTTEN:
            self._db.execute(f"DELETE FROM {table} WHERE round = ?", (round_id,))

    # ---- sealed reports ----------------------------------------------------------------------------------

    def take_sealed(self, round_id: bytes, report: bytes, sealed: bytes) -> None:
        """Store a sealed report for the collector. `came` must have said that it is new."""
        self._db.execute("INSERT INTO aggregate_taken VALUES (?, ?)", (round_id, report))
        self._db.execute("INSERT INTO aggregate_sealed VALUES (?, ?, ?)", (round_id, report, sealed))

    def came(self, round_id: bytes, report: bytes) -> bool:
        """Whether this sealed report was taken in before, opened since or not."""
        found = self._db.execute(
            "SELECT 1 FROM aggregate_taken WHERE round = ? AND id = ?", (round_id, report)
        )
        return found.fetchone() is not None

    def waiting(self, limit: int, round_id: bytes | None = None) -> list[SealedRow]:
        """At most `limit` reports for the collector, of one round or of any.

        In the order of their hashes, which says nothing of who came when.
        """
        rows = self._db.execute(
            "SELECT round, id, sealed FROM aggregate_sealed WHERE ?1 IS NULL OR round = ?1 LIMIT ?2",
            (round_id, limit),
        )
        return [SealedRow(*row) for row in rows]

    def waits(self, round_id: bytes) -> bool:
        """Whether a report of this round is not opened yet."""
        found = self._db.execute("SELECT 1 FROM aggregate_sealed WHERE round = ? LIMIT 1", (round_id,))
        return found.fetchone() is not None

    def drop_sealed(self, round_id: bytes, report: bytes) -> bool:
        """Drop a report that was opened; False when somebody else did."""
        return (
            self._db.execute(
                "DELETE FROM aggregate_sealed WHERE round = ? AND id = ?", (round_id, report)
            ).rowcount
            == 1
        )

    def allowance(self, round_id: bytes, device_id: str) -> Allowance:
        """What a device may still bring in a round."""
        found = self._db.execute(
            "SELECT tickets, reports, bytes FROM aggregate_allowances WHERE round = ? AND device_id = ?",
            (round_id, device_id),
        ).fetchone()
        return Allowance(0, 0, 0) if found is None else Allowance(*found)

    def use_allowance(self, round_id: bytes, device_id: str, reports: int, bytes_: int) -> None:
        """Note what a device brought in a round: how much, not what."""
        self._db.execute(
            "UPDATE aggregate_allowances SET reports = reports + ?, bytes = bytes + ?"
            " WHERE round = ? AND device_id = ?",
            (reports, bytes_, round_id, device_id),
        )

    # ---- the tally ---------------------------------------------------------------------------------------

    def tally(self, round_id: bytes) -> Mapping[int, int]:
        """cell -> sum; cells that nothing moved are absent."""
        return dict(
            self._db.execute("SELECT cell, amount FROM aggregate_tallies WHERE round = ?", (round_id,))
        )

    def count(self, round_id: bytes, moves: Iterable[tuple[int, int]], subjects: int, reports: int) -> None:
        """Add what `reports` reports of `subjects` subjects move."""
        self._db.execute_many(
            "INSERT INTO aggregate_tallies VALUES (?, ?, ?)"
            " ON CONFLICT (round, cell) DO UPDATE SET amount = amount + excluded.amount",
            [(round_id, cell, amount) for cell, amount in moves],
        )
        self._db.execute(
            "UPDATE aggregate_rounds SET subjects = subjects + ?, reports = reports + ? WHERE id = ?",
            (subjects, reports, round_id),
        )

    def refuse(self, round_id: bytes, code: str, reports: int = 1) -> None:
        """Say that so many reports of this round were not counted, and why."""
        self._db.execute(
            "INSERT INTO aggregate_refusals VALUES (?, ?, ?)"
            " ON CONFLICT (round, code) DO UPDATE SET reports = reports + excluded.reports",
            (round_id, code, reports),
        )

    def refusals(self, round_id: bytes) -> Mapping[str, int]:
        """code -> reports of this round that were not counted."""
        return dict(
            self._db.execute(
                "SELECT code, reports FROM aggregate_refusals WHERE round = ? ORDER BY code", (round_id,)
            )
        )

    def refused_in_all(self) -> Mapping[str, int]:
        """code -> reports of all closed rounds that were not counted: of others nothing is told yet."""
        return dict(
            self._db.execute(
                "SELECT code, sum(reports) FROM aggregate_refusals"
                " WHERE round IN (SELECT id FROM aggregate_rounds WHERE closed_us IS NOT NULL)"
                " GROUP BY code ORDER BY code"
            )
        )

    # ---- releases ----------------------------------------------------------------------------------------

    def add_release(self, round_id: bytes, metric: str, at_us: int, body: bytes) -> None:
        """Publish; the database refuses any later change."""
        self._db.execute(
            "INSERT INTO aggregate_releases VALUES (?, ?, ?, ?)", (round_id, metric, at_us, body)
        )

    def release(self, round_id: bytes) -> bytes | None:
        """The release of one round, as published."""
        found = self._db.execute(
            "SELECT body FROM aggregate_releases WHERE round = ?", (round_id,)
        ).fetchone()
        return None if found is None else bytes(found[0])

    def releases(
        self, metric: str | None, limit: int, after: bytes | None = None
    ) -> tuple[list[bytes], bool]:
        """A page of the releases of one metric, or of all, newest first, and whether more are behind it.

        Args:
            limit: most releases; the page ends too when they come to `PAGE_BYTES`.
            after: the round of the last one of the page before.
        """
        rows = self._db.execute(
            "SELECT body FROM aggregate_releases WHERE (?1 IS NULL OR metric = ?1) AND (?3 IS NULL OR"
            " (-released_us, round) > (SELECT -released_us, round FROM aggregate_releases WHERE round = ?3))"
            " ORDER BY released_us DESC, round LIMIT ?2 + 1",
            (metric, limit, after),
        )
        return _page((bytes(body) for (body,) in rows), limit, len)

    def rounds(
        self, metric: str | None, limit: int, after: bytes | None = None
    ) -> tuple[list[tuple[RoundRow, bytes | None]], bool]:
        """A page of rounds, newest first, each with its release; see `releases`."""
        rows = self._db.execute(
            f"SELECT {_ROUND}, (SELECT body FROM aggregate_releases r WHERE r.round = id)"
            " FROM aggregate_rounds WHERE (?1 IS NULL OR metric = ?1) AND (?3 IS NULL OR"
            " (-opened_us, id) > (SELECT -opened_us, id FROM aggregate_rounds WHERE id = ?3))"
            " ORDER BY opened_us DESC, id LIMIT ?2 + 1",
            (metric, limit, after),
        )
        return _page(((RoundRow(*row), body) for *row, body in rows), limit, lambda row: len(row[1] or b""))

    def _rounds(self, where: str) -> list[RoundRow]:
        rows = self._db.execute(f"SELECT {_ROUND} FROM aggregate_rounds WHERE {where}")
        return [RoundRow(*row) for row in rows]


def _page(rows: Iterable[T], limit: int, size: Callable[[T], int]) -> tuple[list[T], bool]:
    """The first of `rows`, and whether there are more: `limit` of them, fewer when they are large."""
    found: list[T] = []
    room = PAGE_BYTES
    for row in rows:
        if len(found) == limit or room <= 0:
            return found, True
        found.append(row)
        room -= size(row)
    return found, False
