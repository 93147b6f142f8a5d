"""SQL of onward recipients (GDPR Art. 19): who must hear of a revocation, and what each answered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sync_server.store.aggregates import Statements

RecipientOutcome = Literal["erased", "held_none", "cannot", "removed"]


@dataclass(frozen=True, slots=True)
class RecipientRow:
    """A system to which data went on."""

    name: str
    purposes: tuple[str, ...] | None
    """None for all."""
    destination: str
    created_us: int


@dataclass(frozen=True, slots=True)
class RecipientAnswer:
    """What one recipient said to one revocation. Times are None until then."""

    revocation: str
    recipient: str
    destination: str
    told_us: int | None
    answered_us: int | None
    outcome: RecipientOutcome | None
    reason: str


_ANSWER: Final = "revocation, recipient, destination, told_us, answered_us, outcome, reason"


class RecipientRows:
    """The recipients inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def all(self) -> list[RecipientRow]:
        """Every registered recipient, by name."""
        found = self._db.execute("SELECT * FROM recipients ORDER BY name")
        return [_recipient(row) for row in found]

    def find(self, name: str) -> RecipientRow | None:
        """One recipient."""
        row = self._db.execute("SELECT * FROM recipients WHERE name = ?", (name,)).fetchone()
        return None if row is None else _recipient(row)

    def of_destination(self, destination: str) -> list[str]:
        """Names of the recipients that are told there."""
        found = self._db.execute(
            "SELECT name FROM recipients WHERE destination = ? ORDER BY name", (destination,)
        )
        return [row[0] for row in found]

    def add(self, row: RecipientRow) -> None:
        """Register a recipient; its name is new."""
        purposes = None if row.purposes is None else json.dumps(row.purposes)
        self._db.execute(
            "INSERT INTO recipients VALUES (?, ?, ?, ?)",
            (row.name, purposes, row.destination, row.created_us),
        )

    def drop(self, name: str) -> bool:
        """Forget a recipient; its answers stay. False when there is none."""
        return self._db.execute("DELETE FROM recipients WHERE name = ?", (name,)).rowcount == 1

    def ask(self, revocation: str, recipients: Sequence[RecipientRow]) -> None:
        """From now on the revocation waits for the answer of each of these."""
        self._db.execute_many(
            "INSERT INTO recipient_answers VALUES (?, ?, ?, NULL, NULL, NULL, '')",
            [(revocation, r.name, r.destination) for r in recipients],
        )

    def answers(self, revocation: str) -> list[RecipientAnswer]:
        """What the recipients of a revocation said, or have not said yet, by name."""
        found = self._db.execute(
            f"SELECT {_ANSWER} FROM recipient_answers WHERE revocation = ? ORDER BY recipient", (revocation,)
        )
        return [RecipientAnswer(*row) for row in found]

    def owing(self, name: str) -> list[str]:
        """Revocations to which this recipient owes an answer."""
        found = self._db.execute(
            "SELECT revocation FROM recipient_answers WHERE recipient = ? AND answered_us IS NULL"
            " ORDER BY revocation",
            (name,),
        )
        return [row[0] for row in found]

    def answer(self, revocation: str, name: str, at_us: int, outcome: RecipientOutcome, reason: str) -> None:
        """The recipient said what it did; the time of its first word stays."""
        self._db.execute(
            "UPDATE recipient_answers SET answered_us = coalesce(answered_us, ?), outcome = ?, reason = ?"
            " WHERE revocation = ? AND recipient = ?",
            (at_us, outcome, reason, revocation, name),
        )

    def count(self, now_us: int) -> dict[str, int]:
        """`registered` recipients, and the answers that are `unanswered` and `overdue`."""
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM recipients), count(*), count(*) FILTER (WHERE r.due_us <= ?)"
            " FROM recipient_answers a JOIN revocations r ON r.id = a.revocation WHERE a.answered_us IS NULL",
            (now_us,),
        ).fetchone()
        return dict(zip(("registered", "unanswered", "overdue"), row, strict=True))


def _recipient(row: tuple[Any, ...]) -> RecipientRow:
    name, purposes, destination, created_us = row
    return RecipientRow(
        name, None if purposes is None else tuple(json.loads(purposes)), destination, created_us
    )
