"""The encrypted database: two doors, `read()` and `write()`, each handing out a typed transaction.

One process holds the file (SQLite's exclusive lock); inside it the doors are thread-safe, one at a time.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from edge_runtime.cache import failure
from edge_runtime.cache.cipher import MEMORY, Opened, open_encrypted
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import RuntimeClosed, StorageError


class Database:
    """The device's encrypted cache. Make one with `Database.open`.

    Every commit is durable when `write()` returns (`synchronous=FULL`). `writes` counts commits by name.
    """

    def __init__(self, path: str, opened: Opened) -> None:
        self.path = path
        self.writes: Counter[str] = Counter()
        self._opened: Opened | None = opened
        self._lock = threading.RLock()
        self._writing = False

    @classmethod
    def open(
        cls,
        path: str,
        page_key: bytes,
        vfs: str | None = None,
        *,
        create: bool = True,
        agree: Callable[[], object] = bool,
    ) -> Database:
        """Open or create the file at `path` (`":memory:"` makes no file).

        Args:
            page_key: 32 random bytes; used raw, never derived.
            vfs: a SQLite VFS to go through, for tests that make the disk fail.
            create: False refuses to make a file (`KeyMissing`).
            agree: called once the key is proven and the lock is held, before anything is written; what it
                raises leaves the file as it was.

        Raises `DatabaseInUse`, `DatabaseTooNew`, `DatabaseUnreadable`, `KeyMismatch`, `CipherMissing`; in
        each case the file is as it was.
        """
        return cls(path, open_encrypted(path, page_key, vfs=vfs, create=create, agree=agree))

    @property
    def in_memory(self) -> bool:
        """Whether nothing of this database is on disk."""
        return self.path == MEMORY

    @contextmanager
    def read(self) -> Iterator[ReadTransaction]:
        """A consistent look at the tables. Do not keep the transaction after the block."""
        with self._lock:
            connection = self._connection()
            try:
                yield ReadTransaction(connection)
            except apsw.Error as error:
                raise failure.public(error) from None

    @contextmanager
    def write(self, name: str) -> Iterator[WriteTransaction]:
        """A transaction that is durable when the block ends, and undone when it raises.

        Args:
            name: what it is for, in metrics: `journal`, `lane`, `denial`.
        """
        with self._lock:
            connection = self._connection()
            if self._writing:
                raise RuntimeError(f"write({name!r}) inside another write: pass the transaction on instead")
            self._writing = True
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield WriteTransaction(connection)
                connection.execute("COMMIT")
                self.writes[name] += 1
            except apsw.Error as error:
                _roll_back(connection)
                raise failure.public(error) from None
            except BaseException:
                _roll_back(connection)
                raise
            finally:
                self._writing = False

    def checkpoint_truncate(self) -> bool:
        """Move the write-ahead log into the file and cut it to nothing: old row versions go with it.

        Returns False for a database in memory, which has none.
        """
        if self.in_memory:
            return False
        with self._lock:
            connection = self._connection()
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.Error as error:
                raise failure.public(error) from None
        return self.wal_bytes() == 0

    def wal_bytes(self) -> int:
        """Size of the write-ahead log now."""
        wal = Path(self.path + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def close(self) -> None:
        """Close the file; closing twice is harmless."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                try:
                    opened.close()
                except apsw.Error as error:
                    raise failure.public(error) from None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._opened is None

    def _connection(self) -> apsw.Connection:
        if self._opened is None:
            raise RuntimeClosed("the database is closed; nothing changed")
        return self._opened.connection


def _roll_back(connection: apsw.Connection) -> None:
    try:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    except apsw.Error as error:
        raise StorageError(f"undoing a failed write failed: {type(error).__name__}") from None
