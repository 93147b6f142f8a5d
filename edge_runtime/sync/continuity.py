"""Whether server, device and catalog are those of the last session, and what becomes of the rows if not.

A server that was restored speaks from another incarnation, another catalog may have a place for what the last
one had none for: every channel starts over. A device that was restored counts less than the server has seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import CATALOG, ON_DEMAND, ChannelState
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.consent.decisions import Consents
from edge_runtime.keys.keyring import Keyring
from edge_runtime.sync.fetched import Changed, FetchedRows
from edge_runtime.sync.shelf import PersonalShelf, personal_state
from edge_runtime.wire.messages import Restore

INCARNATION = "sync.incarnation"
RESTORES = "sync.restores"
OFFSET = "sync.counter_offset"


class Continuity:
    """What one device remembers of itself and its server; arguments as in `Replica`."""

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        fetched: FetchedRows,
        changed: Changed,
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._fetched, self._changed = consents, fetched, changed

    def incarnation(self) -> bytes | None:
        """The server's incarnation at the last session; None before the first."""
        with self._database.read() as tx:
            return tx.meta(INCARNATION)

    def restores(self) -> list[Restore]:
        """The restores that led to that incarnation, as the server told them."""
        with self._database.read() as tx:
            raw = tx.meta(RESTORES)
        return [] if raw is None else msgspec.msgpack.decode(raw, type=list[Restore])

    def begin(self, incarnation: bytes, restores: Sequence[Restore], *, restored: bool) -> None:
        """Remember whom we speak to. After a restore of the server every channel starts over."""
        with self._database.write("begin") as tx:
            tx.set_meta(INCARNATION, incarnation)
            tx.set_meta(RESTORES, msgspec.msgpack.encode(restores))
            if restored:
                self._start_over(tx)
        if restored:
            self._changed([(None, ON_DEMAND)])

    def counter(self) -> int:
        """The root slot's counter, as this device tells it: never lower than it was before a rollback."""
        with self._database.read() as tx:
            return self._keyring.counter + _offset(tx)

    def rolled_back(self, seen: int) -> int:
        """The server has seen counter `seen`, higher than ours: we are an older copy of ourselves.

        What rests on consent is erased: what the newer copy erased must not come back. Returns how many keys
        were erased; from here on we count from `seen`.
        """
        erased = self._consents.rolled_back()
        with self._database.write("rolled_back") as tx:
            behind = seen - self._keyring.counter - _offset(tx)
            tx.set_meta(OFFSET, (_offset(tx) + max(behind, 0)).to_bytes(8, "big"))
        return erased

    def fit_catalog(self) -> None:
        """Start every channel over when the catalog is another one than at the last session.

        What did not fit the old catalog was kept as a stub; a new one may have a place for it.
        """
        mark = self._catalog.fingerprint.encode()
        with self._database.write("fit_catalog") as tx:
            other = tx.meta(CATALOG) not in (None, mark)
            if other:
                self._start_over(tx)
            tx.set_meta(CATALOG, mark)
        if other:
            self._changed([(None, ON_DEMAND)])

    def _start_over(self, tx: WriteTransaction) -> None:
        """Cursors to 0; the rows stay until the replacing snapshot comes. None brings what was asked for."""
        for name in tx.channels():
            tx.set_channel(name, 0, 0)
        keys = list(self._keyring.every_key())
        self._fetched.forget_all(tx, keys)
        for key in keys:
            if personal_state(tx, key) not in (None, ChannelState(0, 0)):
                PersonalShelf(tx, key).move(0, 0)


def _offset(tx: ReadTransaction) -> int:
    raw = tx.meta(OFFSET)
    return 0 if raw is None else int.from_bytes(raw, "big")
