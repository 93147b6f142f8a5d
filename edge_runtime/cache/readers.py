"""Read-only connections beside the writer: a look at the tables never waits for a commit's disk.

Each look is a read transaction of its own and sees the last commit before it began. That needs a VFS under
which several connections of one process share a write-ahead log without a shared-memory file; see decision
0016.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, TypeVar

import apsw

from edge_runtime.cache import process
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.errors import RuntimeClosed

T = TypeVar("T")
READER_CONNECTIONS: Final = 2
"""Most connections that look at the same time; more looks than that wait for one another, not for a commit.
Each is opened when it is first needed and keeps at most 8 MB of pages."""


class Look:
    """A look that has begun, with the lock that keeps it; it goes on until `end`.

    Args:
        readers: whose snapshot it is; None for the only connection, which has none apart.
    """

    __slots__ = ("_lock", "_readers", "tx")

    def __init__(self, tx: ReadTransaction, lock: threading.Lock, readers: Readers | None) -> None:
        self.tx, self._lock, self._readers = tx, lock, readers

    def end(self) -> None:
        """Let the snapshot go: nothing was changed. Raises `apsw.Error`; it is over all the same."""
        try:
            if self._readers is not None and not self._readers.foreign:
                self.tx.end()
        finally:
            self._lock.release()


class _Reader:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: apsw.Connection | None = None
        self.tx: ReadTransaction | None = None
        """What asks the connection."""

    def close(self) -> None:
        connection, self.connection, self.tx = self.connection, None, None
        if connection is not None:
            connection.close(True)


class Readers:
    """The readers of one file. Thread-safe; no thread may look while it looks already.

    Args:
        connect: opens one more connection that cannot write; the key has been proven.
    """

    def __init__(self, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._closed = self.foreign = False
        self._readers = tuple(_Reader() for _ in range(READER_CONNECTIONS))

    def look(self) -> Look:
        """One snapshot of the tables. Raises `apsw.Error`, or `RuntimeClosed` after `close`."""
        reader = self._free()
        try:
            tx = reader.tx or self._connected(reader)
            tx.begin()
            return Look(tx, reader.lock, self)
        except BaseException:
            reader.lock.release()
            raise

    def ask(self, question: Callable[[ReadTransaction], T]) -> T:
        """The answer to a question of one statement, which is a snapshot by itself. Raises as `look`."""
        reader = self._free()
        try:
            return question(reader.tx or self._connected(reader))
        finally:
            reader.lock.release()

    def _connected(self, reader: _Reader) -> ReadTransaction:
        if self._closed:
            raise RuntimeClosed("the database is closed; nothing changed")
        reader.connection = self._connect()
        reader.tx = ReadTransaction(reader.connection)
        return reader.tx

    @contextmanager
    def gone(self) -> Iterator[None]:
        """No connection looks, and none is there: nothing keeps the log from being cut.

        Not even rows that somebody kept from a look that is over. The next look connects anew.
        """
        with ExitStack() as held:
            for reader in self._readers:
                held.enter_context(reader.lock)
                reader.close()
            yield

    def close(self) -> None:
        """Close every connection, each when its look is over; there is no other look."""
        self._closed = True
        for reader in self._readers:
            with reader.lock:
                reader.close()

    def hold_still(self, held: ExitStack) -> None:
        """See `process.Owned`."""
        for reader in self._readers:
            process.take(reader.lock, held)

    def disown(self) -> None:
        """See `process.Owned`."""
        self.foreign = True
        for reader in self._readers:
            reader.lock = threading.Lock()

    def _free(self) -> _Reader:
        for reader in self._readers:
            if reader.lock.acquire(blocking=False):
                return reader
        reader = self._readers[threading.get_ident() % READER_CONNECTIONS]
        reader.lock.acquire()
        return reader
