"""SQL of the tickets: who may answer, once, from which device, and what that costs.

A ticket names its subject and device only until it is used or its round closes; what stays for the cap is a
blind tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge_runtime.wire.printing import prints_only
from sync_server.store.aggregates import Statements

_TICKET: Final = "ticket, round, subject, device_id, used"


@prints_only("device_id", "used")
@dataclass(frozen=True, slots=True)
class TicketRow:
    """One ticket. `subject` and `device_id` are None once it was used."""

    ticket: bytes
    round: bytes
    subject: bytes | None
    device_id: str | None
    used: bool


class TicketRows:
    """The tickets' rows inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def by_id(self, ticket: bytes) -> TicketRow | None:
        """The ticket with this id."""
        return self._ticket("ticket = ?", (ticket,))

    def of(self, round_id: bytes, tag: bytes) -> TicketRow | None:
        """The ticket of the subject with this blind tag in a round."""
        return self._ticket("round = ? AND tag = ?", (round_id, tag))

    def add(self, row: TicketRow, tag: bytes) -> None:
        """Insert a ticket, one for each (round, tag); its device may bring one report more."""
        self._db.execute(
            f"INSERT INTO aggregate_tickets ({_TICKET}, tag) VALUES (?, ?, ?, ?, ?, ?)",
            (row.ticket, row.round, row.subject, row.device_id, row.used, tag),
        )
        self._db.execute(
            "INSERT INTO aggregate_allowances VALUES (?, ?, 1, 0, 0)"
            " ON CONFLICT (round, device_id) DO UPDATE SET tickets = tickets + 1",
            (row.round, row.device_id),
        )

    def use(self, tickets: Iterable[bytes]) -> None:
        """Mark tickets used and cut their links to subject and device."""
        self._db.execute_many(
            "UPDATE aggregate_tickets SET used = 1, subject = NULL, device_id = NULL WHERE ticket = ?",
            [(ticket,) for ticket in tickets],
        )

    def void(self, subject: bytes) -> int:
        """Void the subject's tickets not used yet, keeping the tag so that no other is issued; how many."""
        return self._db.execute(
            "UPDATE aggregate_tickets SET subject = NULL, device_id = NULL WHERE subject = ?", (subject,)
        ).rowcount

    def void_of(self, device_id: str) -> int:
        """Void the tickets that a device was given and that are not used yet; how many."""
        return self._db.execute(
            "UPDATE aggregate_tickets SET subject = NULL, device_id = NULL WHERE device_id = ?", (device_id,)
        ).rowcount

    # ---- what tickets cost -------------------------------------------------------------------------------

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

    def home(self, tag: bytes) -> bytes | None:
        """The blind tag of the device that answers for the subject behind `tag`; None for none."""
        found = self._db.execute("SELECT device FROM aggregate_homes WHERE tag = ?", (tag,)).fetchone()
        return None if found is None else bytes(found[0])

    def set_home(self, tag: bytes, device: bytes, day: int) -> None:
        """From `day` on, `device` answers for the subject behind `tag`."""
        self._db.execute(
            "INSERT INTO aggregate_homes VALUES (?, ?, ?)"
            " ON CONFLICT (tag) DO UPDATE SET device = excluded.device, day = excluded.day",
            (tag, device, day),
        )

    def forget_homes(self, before_day: int) -> None:
        """Forget devices that have not asked since `before_day`: another may answer in their place."""
        self._db.execute("DELETE FROM aggregate_homes WHERE day < ?", (before_day,))

    def _ticket(self, where: str, values: tuple[bytes, ...]) -> TicketRow | None:
        found = self._db.execute(f"SELECT {_TICKET} FROM aggregate_tickets WHERE {where}", values).fetchone()
        if found is None:
            return None
        ticket, round_id, subject, device_id, used = found
        return TicketRow(ticket, round_id, subject, device_id, bool(used))
