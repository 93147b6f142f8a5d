"""Rotation: new secrets in the root slot, without losing anything at any kill.

The root changes by itself with every decision; a rotation seals every node of the keystore anew, so that an
older slot that got into wrong hands opens nothing that is written from now on. A rekey writes every page of
the database anew under a fresh page key. Both count as a key epoch.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.cache.database import Database
from edge_runtime.consent.restored import counter_is_reached, expect_counter
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.vault import no_step


def rotate_root(keyring: Keyring, database: Database, step: Callable[[str], None] = no_step) -> None:
    """Seal the whole keystore under new keys.

    Points for `step`: `expected`, then those of `Compaction.advance`.

    Raises `StorageFull`, `StorageError` with everything as it was.
    """
    with database.write("rotate") as tx:
        expect_counter(tx, keyring.counter + 1, turning=True)
    step("expected")
    keyring.upkeep.rotate(step)
    _turned(database)


def rekey(keyring: Keyring, database: Database, step: Callable[[str], None] = no_step) -> None:
    """Write every page anew under a fresh page key; the one before opens nothing any more.

    While it runs the slot holds both, so that a kill leaves a file that one of them opens.
    Points for `step`: `expected`, `slot_both`, `pages`, `slot_new`.

    Raises `StorageFull`, `StorageError` with the pages as they were.
    """
    with database.write("rekey") as tx:
        expect_counter(tx, keyring.counter + 1, turning=True)
    step("expected")
    fresh = keyring.begin_rekey()
    step("slot_both")
    database.rekey(fresh)
    step("pages")
    keyring.end_rekey(fresh)
    step("slot_new")
    _turned(database)


def _turned(database: Database) -> None:
    with database.write("turned") as tx:
        counter_is_reached(tx)
