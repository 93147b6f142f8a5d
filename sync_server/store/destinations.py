"""SQL of destinations: streams, webhooks, and the callbacks of one revocation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edge_runtime.wire.printing import prints_only
from sync_server.store.aggregates import Statements

Method = Literal["poll", "push", "webhook", "callback"]
Status = Literal["enabled", "paused"]


@prints_only("id", "method", "host", "status", "failures")
@dataclass(frozen=True, slots=True)
class DestinationRow:
    """Whom events are told to, and how."""

    id: str
    method: Method
    url: str
    """Empty for poll."""
    host: str
    header: bytes
    """`Authorization` of a push; empty for none."""
    kinds: tuple[str, ...]
    purposes: tuple[str, ...] | None
    """None for all."""
    description: str
    revocation: str | None
    """The only one that a callback is about."""
    status: Status
    reason: str
    created_us: int
    next_us: int | None = None
    failures: int = 0
    failing_us: int | None = None
    error: str = ""


class DestinationRows:
    """The destinations inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def put(self, row: DestinationRow) -> None:
        """Insert a destination, or put it in the place of the one with its id."""
        purposes = None if row.purposes is None else json.dumps(row.purposes)
        self._db.execute(
            "INSERT OR REPLACE INTO destinations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(row.id, row.method, row.url, row.host, row.header, json.dumps(row.kinds), purposes),
                *(row.description, row.revocation, row.status, row.reason, row.created_us, row.next_us),
                *(row.failures, row.failing_us, row.error),
            ),
        )

    def find(self, destination: str) -> DestinationRow | None:
        """One destination."""
        row = self._db.execute("SELECT * FROM destinations WHERE id = ?", (destination,)).fetchone()
        return None if row is None else destination_of(row)

    def registered(self, methods: Sequence[Method] = ("poll", "push", "webhook")) -> list[DestinationRow]:
        """Everything that somebody registered by these methods, oldest first."""
        marks = ", ".join("?" * len(methods))
        found = self._db.execute(
            f"SELECT * FROM destinations WHERE revocation IS NULL AND method IN ({marks})"
            " ORDER BY created_us, id",
            tuple(methods),
        )
        return [destination_of(row) for row in found]

    def listening(self, revocation: str | None) -> list[DestinationRow]:
        """Whoever may have to be told of something: everybody registered, and the revocation's callbacks."""
        found = self._db.execute(
            "SELECT * FROM destinations WHERE revocation IS NULL OR revocation = ? ORDER BY created_us, id",
            (revocation,),
        )
        return [destination_of(row) for row in found]

    def drop_done_callback(self, destination: str) -> None:
        """Forget a callback whose revocation is completed and to which nothing is owed any more."""
        self._db.execute(
            "DELETE FROM destinations WHERE id = ?1 AND revocation IN"
            " (SELECT id FROM revocations WHERE completed_us IS NOT NULL)"
            " AND NOT EXISTS (SELECT 1 FROM deliveries WHERE destination = ?1)",
            (destination,),
        )

    def drop(self, destination: str) -> bool:
        """Forget a destination; False when there is none."""
        found = self._db.execute("DELETE FROM destinations WHERE id = ?", (destination,))
        return found.rowcount == 1


def destination_of(row: tuple[Any, ...]) -> DestinationRow:
    """A row of the table, in the order of its columns."""
    id_, method, url, host, header, kinds, purposes, *rest = row
    named = None if purposes is None else tuple(json.loads(purposes))
    return DestinationRow(id_, method, url, host, header, tuple(json.loads(kinds)), named, *rest)
