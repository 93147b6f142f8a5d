"""`keys.db`: one payload key for each (subject, purpose, grant), apart from the rows they seal.

It is never in the same backup as the main store: destroying a key here erases every copy of its rows. No WAL:
a write-ahead log would keep the page that held a destroyed key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sync_server.devices.entropy import Entropy
from sync_server.errors import StoreForeign
from sync_server.store.schema import APPLICATION_ID, KEY_TABLES, KEY_VERSION

DECOY: Final = 0
"""Grant of a key that seals nothing."""
_CACHED_KEYS = 10_000


class KeyDatabase:
    """Makes, finds and destroys payload keys. Not thread-safe: the store's lock covers it."""

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self._entropy = entropy
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise StoreForeign(f"keys.db is not a key database ({type(error).__name__}); untouched") from None
        self._cache: dict[tuple[bytes, str, int], AESGCM] = {}

    def find(self, subject: bytes, purpose: str, grant: int) -> AESGCM | None:
        """The key under which this grant's rows are sealed, or None when it was destroyed or never made."""
        held = self._cache.get((subject, purpose, grant))
        if held is not None:
            return held
        row = self._db.execute(
            "SELECT key FROM payload_keys WHERE subject = ? AND purpose = ? AND grant_seq = ?",
            (subject, purpose, grant),
        ).fetchone()
        return None if row is None else self._remember((subject, purpose, grant), row[0])

    def make(self, subject: bytes, purpose: str, grant: int) -> AESGCM:
        """The grant's key, made when there is none. It lasts once `commit` returned."""
        found = self.find(subject, purpose, grant)
        if found is not None:
            return found
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
        key = self._entropy(32)
        self._db.execute("INSERT INTO payload_keys VALUES (?, ?, ?, ?)", (subject, purpose, grant, key))
        return self._remember((subject, purpose, grant), key)

    def commit(self) -> None:
        """Make new keys durable: always before the rows that they seal."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Forget the keys made since the last commit."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
            self._cache.clear()

    def destroy(self, pairs: Sequence[tuple[bytes, str, int]]) -> None:
        """Destroy each (subject, purpose)'s keys of every grant before a denial's seq, all in one commit.

        A decoy is made and destroyed with them, so that the same pages are written and synced, in about the
        same time, whether or not there was a key: how long a revocation takes must not tell who is known.
        """
        self._cache.clear()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for subject, purpose, before in pairs:
                decoy = (subject, purpose, DECOY, self._entropy(32))
                self._db.execute("INSERT OR REPLACE INTO payload_keys VALUES (?, ?, ?, ?)", decoy)
                self._db.execute(
                    "DELETE FROM payload_keys WHERE subject = ? AND purpose = ? AND grant_seq < ?",
                    (subject, purpose, before),
                )
            self._db.execute("COMMIT")
        except BaseException:
            self.rollback()
            raise

    def destroy_after(self, grant: int) -> int:
        """Destroy the keys of every later grant, which this ledger never gave; returns how many."""
        self._cache.clear()
        return self._db.execute("DELETE FROM payload_keys WHERE grant_seq > ?", (grant,)).rowcount

    def nonce(self) -> bytes:
        """A fresh nonce for one sealing; random, so a restored store never repeats one."""
        return self._entropy(12)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _prepare(self) -> None:
        for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "secure_delete = ON"):
            self._db.execute(f"PRAGMA {pragma}")
        if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
            self._db.executescript(
                f"BEGIN; {KEY_TABLES} PRAGMA user_version = {KEY_VERSION};"
                f" PRAGMA application_id = {APPLICATION_ID}; COMMIT;"
            )

    def _remember(self, name: tuple[bytes, str, int], key: bytes) -> AESGCM:
        if len(self._cache) >= _CACHED_KEYS:
            self._cache.clear()
        made = self._cache[name] = AESGCM(key)
        return made
