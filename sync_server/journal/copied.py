"""The store's ledger, as its journal asks for it."""

from __future__ import annotations

from collections.abc import Iterable

from edge_runtime.wire.messages import LedgerHead
from sync_server.clock import Clock
from sync_server.consent import ledger
from sync_server.devices.authority import Authority
from sync_server.journal.record import Entry
from sync_server.store.journalled import entries_after
from sync_server.store.protocol import Store


class CopiedLedger:
    """See `journal.Ledger`."""

    def __init__(self, store: Store, authority: Authority, clock: Clock) -> None:
        self._store, self._authority, self._clock = store, authority, clock

    def size(self) -> int:
        """How many steps there are."""
        with self._store.read() as tx:
            return tx.lane_head()

    def begins(self) -> int:
        """A journal of a restored server begins where the ledgers part; else it covers what is to come."""
        with self._store.read() as tx:
            restore = tx.restores.latest()
            return tx.lane_head() if restore is None else restore.kept

    def after(self, size: int, *, devices: bool) -> Iterable[Entry]:
        """Every step after the first `size`; see `entries_after`."""
        with self._store.read() as tx:
            return list(entries_after(tx, size, devices=devices))

    def head(self, size: int) -> LedgerHead:
        """The signed head at `size` steps."""
        authority = self._authority
        with self._store.read() as tx:
            one = (size, tx.ledger_node, self._clock.now_us(), authority.incarnation)
            return ledger.sign_head(authority.signing, *one)
