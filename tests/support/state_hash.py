"""One hash over everything that rests on a side: equal before and after whatever changed nothing."""

from __future__ import annotations

import hashlib

from sync_server.store.protocol import Store
from tests.support.town import Kiosk

_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"


def server_state(store: Store) -> str:
    """Every table of the main store."""
    sums = hashlib.blake2b()
    with store.read() as tx:
        for (table,) in tx.execute(_TABLES).fetchall():
            sums.update(table.encode())
            for row in tx.execute(f'SELECT * FROM "{table}"').fetchall():
                sums.update(repr(row).encode())
    return sums.hexdigest()


def device_state(kiosk: Kiosk) -> str:
    """Every table of the cache, every living key and the root slot's counter."""
    sums = hashlib.blake2b()
    with kiosk.database.read() as tx:
        for (table,) in list(tx._connection.execute(_TABLES)):
            sums.update(str(table).encode())
            for row in tx._connection.execute(f'SELECT * FROM "{table}"'):
                sums.update(repr(row).encode())
    keys = sorted((key.handle, key.grant, str(key.barred)) for key in kiosk.keyring.every_key())
    sums.update(repr((keys, kiosk.keyring.counter)).encode())
    return sums.hexdigest()
