"""What every chapter of a transaction stands on: a connection, the payload keys, the tenant's digest key."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from sync_server.journal.record import Entry
from sync_server.store.access import AccessRows
from sync_server.store.aggregate_tickets import TicketRows
from sync_server.store.aggregates import AggregateRows
from sync_server.store.audit import AuditRows
from sync_server.store.destinations import DestinationRows
from sync_server.store.events import EventRows
from sync_server.store.forgetting import ForgettingRows
from sync_server.store.keys import KeyDatabase
from sync_server.store.ledger import LedgerRows
from sync_server.store.recipients import RecipientRows
from sync_server.store.registry import RegistryRows
from sync_server.store.restores import RestoreRows


class Chapter:
    """SQL of one subject matter; a transaction is made of all chapters over one connection."""

    def __init__(self, connection: sqlite3.Connection, keys: KeyDatabase, digest_key: bytes) -> None:
        self._connection, self._keys, self._digest_key = connection, keys, digest_key
        self.told: list[Entry] = []
        """What this transaction tells the journal, once it is committed."""

    @property
    def access(self) -> AccessRows:
        """The API tokens' rows, inside this transaction."""
        return AccessRows(self)

    @property
    def audit(self) -> AuditRows:
        """The audit log, inside this transaction."""
        return AuditRows(self)

    @property
    def aggregates(self) -> AggregateRows:
        """The aggregates' rows, inside this transaction."""
        return AggregateRows(self)

    @property
    def tickets(self) -> TicketRows:
        """The tickets of aggregate rounds and what they cost, inside this transaction."""
        return TicketRows(self)

    @property
    def forgetting(self) -> ForgettingRows:
        """Evidence that is no longer needed, inside this transaction."""
        return ForgettingRows(self)

    @property
    def ledger(self) -> LedgerRows:
        """The whole ledger, inside this transaction."""
        return LedgerRows(self)

    @property
    def registry(self) -> RegistryRows:
        """The registry of purposes and notices, inside this transaction."""
        return RegistryRows(self)

    @property
    def restores(self) -> RestoreRows:
        """What is known of a restore, inside this transaction."""
        return RestoreRows(self)

    @property
    def events(self) -> EventRows:
        """What came true and to whom it is owed, inside this transaction."""
        return EventRows(self)

    @property
    def destinations(self) -> DestinationRows:
        """Whom events are told to, inside this transaction."""
        return DestinationRows(self)

    @property
    def recipients(self) -> RecipientRows:
        """The onward recipients, inside this transaction."""
        return RecipientRows(self)

    def execute(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> sqlite3.Cursor:
        """Run one statement. For files in `store/` only: there is no SQL elsewhere."""
        return self._connection.execute(sql, values)

    def execute_many(self, sql: str, values: Sequence[Sequence[object]]) -> None:
        """Run one statement for each tuple of values. For files in `store/` only."""
        self._connection.executemany(sql, values)
