"""SQL of the aggregates: rounds, sealed reports, tallies, tickets, spends and releases.

No answer is stored in the clear: it is sealed until it is added to the tally, and then gone. A ticket names
its subject and device only until it is used or the round closes; what stays for the cap is a blind tag.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from edge_runtime.wire.printing import prints_only

T = TypeVar("T")
_NEW_IN_4: Final = (
    "aggregate_rounds",
    "aggregate_tallies",
    "aggregate_sealed",
    "aggregate_refusals",
    "aggregate_tickets",
)
AGGREGATE_TABLES: Final = """
-- ---- aggregates ------------------------------------------------------------------------------------
CREATE TABLE aggregate_rounds (
    id BLOB PRIMARY KEY,         -- 16 bytes
    metric TEXT NOT NULL,
    definition BLOB NOT NULL,    -- hash of every parameter, 16 bytes
    parameters BLOB NOT NULL,    -- JSON, frozen when the round opened
    collector BLOB NOT NULL,     -- X25519 public key that its reports are sealed to
    opened_us INTEGER NOT NULL,
    closes_us INTEGER NOT NULL,
    closed_us INTEGER,
    subjects INTEGER NOT NULL,   -- tickets used by the reports counted
    reports INTEGER NOT NULL     -- reports counted; a kiosk's covers many subjects
) WITHOUT ROWID;
CREATE UNIQUE INDEX aggregate_rounds_open ON aggregate_rounds (metric) WHERE closed_us IS NULL;
CREATE TABLE aggregate_tallies (
    round BLOB NOT NULL,
    cell INTEGER NOT NULL,
    amount INTEGER NOT NULL,     -- sum of what the answers counted add to it
    PRIMARY KEY (round, cell)
) WITHOUT ROWID;
CREATE TABLE aggregate_sealed (
    round BLOB NOT NULL,
    id BLOB NOT NULL,            -- `report_id`
    sealed BLOB NOT NULL,        -- as it came; who brought it is not kept
    PRIMARY KEY (round, id)
) WITHOUT ROWID;
CREATE TABLE aggregate_refusals (
    round BLOB NOT NULL,
    code TEXT NOT NULL,          -- why, a code of the wire
    reports INTEGER NOT NULL,    -- reports that were not counted
    PRIMARY KEY (round, code)
) WITHOUT ROWID;
CREATE TABLE aggregate_tickets (
    ticket BLOB PRIMARY KEY,     -- 16 random bytes, so the order of rows says nothing
    round BLOB NOT NULL,
    tag BLOB NOT NULL,           -- blind keyed hash of (round, subject)
    subject BLOB,                -- pseudonym, gone when the ticket is used
    device_id TEXT,              -- whom it was promised to, gone when the ticket is used
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX aggregate_tickets_by_subject ON aggregate_tickets (round, tag);
CREATE INDEX aggregate_tickets_open ON aggregate_tickets (subject) WHERE subject IS NOT NULL;
CREATE TABLE aggregate_spends (
    tag BLOB NOT NULL,           -- blind keyed hash of the subject
    day INTEGER NOT NULL,        -- days since 1970 UTC, by the server's clock
    micros INTEGER NOT NULL,     -- millionths of epsilon promised on that day
    PRIMARY KEY (tag, day)
) WITHOUT ROWID;
CREATE INDEX aggregate_spends_by_day ON aggregate_spends (day);
CREATE TABLE aggregate_releases (
    round BLOB PRIMARY KEY,
    metric TEXT NOT NULL,
    released_us INTEGER NOT NULL,
    body BLOB NOT NULL           -- JSON, as published
) WITHOUT ROWID;
CREATE INDEX aggregate_releases_by_time ON aggregate_releases (released_us, round);
CREATE TRIGGER aggregate_releases_stand BEFORE UPDATE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
CREATE TRIGGER aggregate_releases_stay BEFORE DELETE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
"""

AGGREGATES_FROM_3: Final = """
DROP TABLE aggregate_counts;
DROP TABLE aggregate_tickets;
DROP TABLE aggregate_rounds;
""" + "".join(
    statement + ";\n"
    for statement in AGGREGATE_TABLES.split(";\n")
    if any(name in statement for name in _NEW_IN_4)
)
"""Rounds of version 3 asked devices in other words: those open then end unreleased. Releases stand."""


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


@prints_only("device_id", "used")
@dataclass(frozen=True, slots=True)
class TicketRow:
    """One ticket. `subject` and `device_id` are None once it was used."""

    ticket: bytes
    round: bytes
    subject: bytes | None
    device_id: str | None
    used: bool


PAGE_BYTES: Final = 1 << 20
"""Bytes of releases after which a list of them ends: one may have a thousand numbers."""
_ROUND: Final = (
    "id, metric, definition, parameters, collector, opened_us, closes_us, closed_us, subjects, reports"
)
_TICKET: Final = "ticket, round, subject, device_id, used"


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
            f"INSERT INTO aggregate_rounds ({_ROUND}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
            ),
        )

    def round(self, round_id: bytes) -> RoundRow | None:
        """The round with this id."""
        found = self._db.execute(
            f"SELECT {_ROUND} FROM aggregate_rounds WHERE id = ?", (round_id,)
        ).fetchone()
        return None if found is None else RoundRow(*found)

    def open_rounds(self) -> list[RoundRow]:
        """All rounds not closed yet, by metric."""
        rows = self._db.execute(
            f"SELECT {_ROUND} FROM aggregate_rounds WHERE closed_us IS NULL ORDER BY metric"
        )
        return [RoundRow(*row) for row in rows]

    def close_round(self, round_id: bytes, at_us: int) -> None:
        """Mark the round closed and forget its tickets, its tally and what is still sealed."""
        self._db.execute("UPDATE aggregate_rounds SET closed_us = ? WHERE id = ?", (at_us, round_id))
        self._db.execute("DELETE FROM aggregate_tickets WHERE round = ?", (round_id,))
        self._db.execute("DELETE FROM aggregate_tallies WHERE round = ?", (round_id,))
        self._db.execute("DELETE FROM aggregate_sealed WHERE round = ?", (round_id,))

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

    def ticket(self, ticket: bytes) -> TicketRow | None:
        """The ticket with this id."""
        return self._ticket("ticket = ?", (ticket,))

    def ticket_of(self, round_id: bytes, tag: bytes) -> TicketRow | None:
        """The ticket of the subject with this blind tag in a round."""
        return self._ticket("round = ? AND tag = ?", (round_id, tag))

    def add_ticket(self, row: TicketRow, tag: bytes) -> None:
        """Insert a ticket; one for each (round, tag)."""
        self._db.execute(
            f"INSERT INTO aggregate_tickets ({_TICKET}, tag) VALUES (?, ?, ?, ?, ?, ?)",
            (row.ticket, row.round, row.subject, row.device_id, row.used, tag),
        )

    def use_ticket(self, ticket: bytes) -> None:
        """Mark the ticket used and cut its link to subject and device."""
        self._db.execute(
            "UPDATE aggregate_tickets SET used = 1, subject = NULL, device_id = NULL WHERE ticket = ?",
            (ticket,),
        )

    def void_tickets(self, subject: bytes) -> int:
        """Void the subject's tickets not used yet, keeping the tag so that no other is issued; how many."""
        return self._db.execute(
            "UPDATE aggregate_tickets SET subject = NULL, device_id = NULL WHERE subject = ?", (subject,)
        ).rowcount

    def spent(self, tag: bytes, first_day: int) -> int:
        """Millionths of epsilon promised to the subject behind `tag` on `first_day` or later."""
        total: int = self._db.execute(
            "SELECT coalesce(sum(micros), 0) FROM aggregate_spends WHERE tag = ? AND day >= ?",
            (tag, first_day),
        ).fetchone()[0]
        return total

    def spend(self, tag: bytes, day: int, micros: int) -> None:
        """Debit the subject behind `tag`."""
        self._db.execute(
            "INSERT INTO aggregate_spends VALUES (?, ?, ?)"
            " ON CONFLICT (tag, day) DO UPDATE SET micros = micros + excluded.micros",
            (tag, day, micros),
        )

    def forget_spends(self, before_day: int) -> None:
        """Forget what was spent before `before_day`: no window reaches back so far."""
        self._db.execute("DELETE FROM aggregate_spends WHERE day < ?", (before_day,))

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

    def _ticket(self, where: str, values: tuple[bytes, ...]) -> TicketRow | None:
        found = self._db.execute(f"SELECT {_TICKET} FROM aggregate_tickets WHERE {where}", values).fetchone()
        if found is None:
            return None
        ticket, round_id, subject, device_id, used = found
        return TicketRow(ticket, round_id, subject, device_id, bool(used))


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
