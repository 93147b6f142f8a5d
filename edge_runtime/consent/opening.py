"""Opening key, database and keystore in the one order in which no refusal touches a file.

The slot is read for its page key; the database proves it and takes the lock; only then is the keystore read,
and only then is anything written.
"""

from __future__ import annotations

import os
from typing import Literal

from edge_runtime.cache.cipher import MEMORY, require_cipher
from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.consent.restored import refuse_older_slot
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyProvider


def open_cache(
    path: str,
    provider: KeyProvider,
    *,
    vfs: str | None = None,
    recover: Literal["discard"] | None = None,
) -> tuple[Keyring, Database]:
    """Open or create the cache at `path` with its keystore `path + "-keys"`; `":memory:"` makes no file.

    A key and a database are made only when neither exists. Raises `KeyMissing`, `KeyMismatch`,
    `KeystoreMismatch`, `DatabaseInUse`, `DatabaseTooNew`, `DatabaseUnreadable`, `CipherMissing`, each with
    every file as it was. `recover="discard"` gives up a keystore that the key does not name: it is set aside,
    all personal rows and the identity go.
    """
    require_cipher()
    in_memory = path == MEMORY
    exists = not in_memory and os.path.exists(path)
    keystore_path = None if in_memory else f"{path}-keys"
    keyring = Keyring.open(provider, keystore_path, exists, recover=recover)

    def agree(tx: ReadTransaction) -> None:
        keyring.load()
        if not keyring.discarded:
            refuse_older_slot(tx, keyring)

    try:
        slot = keyring.slot
        database = Database.open(
            path, slot.page_key, vfs, next_page_key=slot.next_page_key, create=slot.fresh, agree=agree
        )
    except BaseException:
        keyring.close()
        raise
    try:
        keyring.settle()
        if keyring.slot.next_page_key is not None:  # a rekey was cut short: the file says on which side
            keyring.end_rekey(database.page_key)
    except BaseException:
        database.close()
        keyring.close()
        raise
    return keyring, database
