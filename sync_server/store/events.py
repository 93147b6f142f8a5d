"""SQL of events: what came true, and to whom it is still owed.

A delivery's row stands from the transaction that made its event true until the destination acknowledged. An
event goes with its last delivery.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from edge_runtime.wire.printing import prints_only
from sync_server.store.aggregates import Statements
from sync_server.store.destinations import DestinationRow, destination_of

DeliveryState = Literal["waiting", "dead"]


@prints_only("seq", "jti", "kind", "revocation", "at_us")
@dataclass(frozen=True, slots=True)
class EventRow:
    """One thing that came true."""

    seq: int
    jti: str
    kind: str
    revocation: str | None
    subject: bytes | None
    """Pseudonym; None for a verification."""
    at_us: int
    noticed_us: int
    body: dict[str, Any]
    """Plain JSON, without a subject."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event that a destination has not acknowledged."""

    destination: str
    event: EventRow
    state: DeliveryState
    attempts: int
    tried_us: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Told:
    """Which changes of a revocation were made events, and when they came true."""

    enforced_us: int | None
    erased_us: int | None
    completed_us: int | None
    overdue_us: int | None
    amendments: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides, cheaply, whether it is worth a look how far a revocation has come."""

    noted: Told
    due_us: int
    server_erased: bool
    completed_us: int | None
    in_use_until_us: int | None
    """End of the last lease of a device that neither acknowledged nor erased; None: none may use it."""
    devices_owing: bool
    """A device owes a receipt."""
    recipients_owing: bool
    """An onward recipient owes an answer."""


_EVENT: Final = "e.seq, e.jti, e.kind, e.revocation, e.subject, e.at_us, e.noticed_us, e.body"
_DELIVERY: Final = f"{_EVENT}, d.destination, d.state, d.attempts, d.tried_us, d.error"
_JOINED: Final = "deliveries d JOIN events e ON e.seq = d.event"


class EventRows:
    """The events' rows inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    # ---- what came true ----------------------------------------------------------------------------------

    def begin(self, revocation: str) -> None:
        """Watch a revocation that was accepted just now."""
        self._db.execute(
            "INSERT INTO revocation_told VALUES (?, NULL, NULL, NULL, NULL, 0, NULL)", (revocation,)
        )

    def facts(self, revocation: str, now_us: int) -> Facts | None:
        """What is stored about how far the revocation has come."""
        row = self._db.execute(
            "SELECT t.enforced_us, t.erased_us, t.completed_us, t.overdue_us, t.amendments, r.due_us,"
            " r.server_erased_us IS NOT NULL, r.completed_us,"
            " (SELECT max(lease_bound_us) FROM targets WHERE revocation = r.id AND acked_us IS NULL"
            "  AND erased_us IS NULL AND lease_bound_us > ?2),"
            " EXISTS (SELECT 1 FROM targets WHERE revocation = r.id AND erased_us IS NULL),"
            " EXISTS (SELECT 1 FROM recipient_answers WHERE revocation = r.id AND answered_us IS NULL)"
            " FROM revocation_told t JOIN revocations r ON r.id = t.revocation WHERE t.revocation = ?1",
            (revocation, now_us),
        ).fetchone()
        if row is None:
            return None
        return Facts(Told(*row[:5]), row[5], bool(row[6]), row[7], row[8], bool(row[9]), bool(row[10]))

    def put_told(self, revocation: str, told: Told, next_us: int | None) -> None:
        """Write down which changes were told, and when to look again."""
        self._db.execute(
            "UPDATE revocation_told SET enforced_us = ?, erased_us = ?, completed_us = ?, overdue_us = ?,"
            " amendments = ?, next_us = ? WHERE revocation = ?",
            (
                *(told.enforced_us, told.erased_us, told.completed_us, told.overdue_us, told.amendments),
                *(next_us, revocation),
            ),
        )

    def to_look_at(self, now_us: int, limit: int) -> list[str]:
        """Revocations of which time may have made something true."""
        found = self._db.execute(
            "SELECT revocation FROM revocation_told WHERE next_us <= ? ORDER BY next_us LIMIT ?",
            (now_us, limit),
        )
        return [row[0] for row in found]

    def add(self, event: EventRow, destinations: Sequence[str]) -> None:
        """Write an event down, owed to `destinations`; one that is owed to nobody is not kept."""
        if not destinations:
            return
        made = self._db.execute(
            "INSERT INTO events (jti, kind, revocation, subject, at_us, noticed_us, body)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(event.jti, event.kind, event.revocation, event.subject, event.at_us, event.noticed_us),
                json.dumps(event.body).encode(),
            ),
        )
        self._db.execute_many(
            "INSERT INTO deliveries VALUES (?, ?, 'waiting', ?, 0, NULL, '')",
            [(d, made.lastrowid, event.noticed_us) for d in destinations],
        )
        self._db.execute_many(
            "UPDATE destinations SET next_us = coalesce(next_us, ?) WHERE id = ? AND method <> 'poll'",
            [(event.noticed_us, d) for d in destinations],
        )

    # ---- what is owed ------------------------------------------------------------------------------------

    def owed(self, destination: str, limit: int) -> list[Delivery]:
        """The oldest events that `destination` has not acknowledged, in order; none that it refused."""
        found = self._db.execute(
            f"SELECT {_DELIVERY} FROM {_JOINED} WHERE d.destination = ? AND d.state = 'waiting'"
            " ORDER BY d.event LIMIT ?",
            (destination, limit),
        )
        return [_delivery(row) for row in found]

    def next_of(self, destination: str, now_us: int) -> Delivery | None:
        """What to try next: the delivery that has waited longest for its turn."""
        row = self._db.execute(
            f"SELECT {_DELIVERY} FROM {_JOINED} WHERE d.destination = ? AND d.state = 'waiting'"
            " AND d.next_us <= ? ORDER BY d.next_us, d.event LIMIT 1",
            (destination, now_us),
        ).fetchone()
        return None if row is None else _delivery(row)

    def delivery(self, destination: str, jti: str) -> Delivery | None:
        """One delivery that is not acknowledged."""
        row = self._db.execute(
            f"SELECT {_DELIVERY} FROM {_JOINED} WHERE d.destination = ? AND e.jti = ?", (destination, jti)
        ).fetchone()
        return None if row is None else _delivery(row)

    def dead(self, limit: int) -> list[Delivery]:
        """Deliveries that were given up, or refused by their receiver, oldest event first."""
        found = self._db.execute(
            f"SELECT {_DELIVERY} FROM {_JOINED} WHERE d.state = 'dead'"
            " ORDER BY d.event, d.destination LIMIT ?",
            (limit,),
        )
        return [_delivery(row) for row in found]

    def acknowledged(self, destination: str, jti: str, at_us: int) -> bool:
        """The destination has it: nothing is owed any more. False when nothing was; that changes nothing."""
        found = self.delivery(destination, jti)
        if found is None:
            return False
        event = found.event
        self._db.execute(
            "DELETE FROM deliveries WHERE destination = ? AND event = ?", (destination, event.seq)
        )
        self._db.execute(
            "UPDATE recipient_answers SET told_us = coalesce(told_us, ?)"
            " WHERE revocation = ? AND destination = ?",
            (at_us, event.revocation, destination),
        )
        self._forget(event.seq)
        return True

    def failed(
        self, destination: str, jti: str, at_us: int, next_us: int, error: str, state: DeliveryState
    ) -> None:
        """An attempt came to nothing; not again before `next_us`, or not by itself when `dead`."""
        self._db.execute(
            "UPDATE deliveries SET attempts = attempts + 1, tried_us = ?, next_us = ?, error = ?, state = ?"
            " WHERE destination = ? AND event = (SELECT seq FROM events WHERE jti = ?)",
            (at_us, next_us, error, state, destination, jti),
        )

    def give_up(self, destination: str, jti: str) -> bool:
        """Forget a dead delivery; False when none is dead there."""
        found = self.delivery(destination, jti)
        if found is None or found.state != "dead":
            return False
        self._db.execute(
            "DELETE FROM deliveries WHERE destination = ? AND event = ?", (destination, found.event.seq)
        )
        self._forget(found.event.seq)
        return True

    def revive(self, destination: str, jti: str, now_us: int) -> bool:
        """Let a dead delivery wait again, as if it had never been tried; False when none is dead there."""
        found = self._db.execute(
            "UPDATE deliveries SET state = 'waiting', attempts = 0, next_us = ?, error = ''"
            " WHERE destination = ? AND state = 'dead' AND event = (SELECT seq FROM events WHERE jti = ?)",
            (now_us, destination, jti),
        )
        self._db.execute(
            "UPDATE destinations SET next_us = ? WHERE id = ? AND method <> 'poll'", (now_us, destination)
        )
        return found.rowcount == 1

    def drop_destination(self, destination: str) -> None:
        """Forget what is owed to a destination that is no more."""
        self._db.execute(
            "DELETE FROM events WHERE seq IN (SELECT event FROM deliveries WHERE destination = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = events.seq AND destination <> ?1)",
            (destination,),
        )
        self._db.execute("DELETE FROM deliveries WHERE destination = ?", (destination,))

    def ready(
        self, now_us: int, busy: Sequence[str], full_hosts: Sequence[str], limit: int
    ) -> list[DestinationRow]:
        """Destinations to which something may be sent now, longest waiting first; none of `busy`, and none
        on `full_hosts`."""
        ids, hosts = ", ".join("?" * len(busy)), ", ".join("?" * len(full_hosts))
        found = self._db.execute(
            "SELECT * FROM destinations WHERE next_us <= ? AND status = 'enabled'"
            f" AND id NOT IN ({ids}) AND host NOT IN ({hosts}) ORDER BY next_us LIMIT ?",
            (now_us, *busy, *full_hosts, limit),
        )
        return [destination_of(row) for row in found]

    def tried(self, destination: str, failures: int, gate_us: int, now_us: int, error: str) -> None:
        """After an attempt: how many failed in a row, and when to look at the destination next."""
        self._db.execute(
            "UPDATE destinations SET failures = ?2, error = ?5,"
            " failing_us = CASE WHEN ?2 = 0 THEN NULL ELSE coalesce(failing_us, ?4) END,"
            " next_us = (SELECT max(?3, min(next_us)) FROM deliveries"
            "  WHERE destination = ?1 AND state = 'waiting') WHERE id = ?1",
            (destination, failures, gate_us, now_us, error),
        )

    # ---- counting ----------------------------------------------------------------------------------------

    def backlog(self, destination: str) -> dict[str, int]:
        """`waiting` and `dead` deliveries of one destination."""
        rows = self._db.execute(
            "SELECT state, count(*) FROM deliveries WHERE destination = ? GROUP BY state", (destination,)
        )
        return {"waiting": 0, "dead": 0, **dict(rows)}

    def verifications(self, destination: str) -> int:
        """Verifications of a stream that it has not acknowledged."""
        row = self._db.execute(
            f"SELECT count(*) FROM {_JOINED} WHERE d.destination = ? AND e.kind = 'verification'",
            (destination,),
        ).fetchone()
        return int(row[0])

    def count(self) -> dict[str, int]:
        """`events` not acknowledged by all, and their `waiting` and `dead` deliveries."""
        rows = self._db.execute("SELECT state, count(*) FROM deliveries GROUP BY state")
        events = self._db.execute("SELECT count(*) FROM events").fetchone()[0]
        return {"events": events, "waiting": 0, "dead": 0, **dict(rows)}

    def _forget(self, seq: int) -> None:
        self._db.execute(
            "DELETE FROM events WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = ?1)",
            (seq,),
        )


def _delivery(row: tuple[Any, ...]) -> Delivery:
    seq, jti, kind, revocation, subject, at_us, noticed_us, body, destination, *rest = row
    event = EventRow(seq, jti, kind, revocation, subject, at_us, noticed_us, json.loads(body))
    return Delivery(destination, event, *rest)
