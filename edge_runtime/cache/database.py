"""The encrypted database: two doors, `read()` and `write()`, each handing out a typed transaction.

One process holds the file. Inside it one thread writes at a time, whichever it is, and a few may look beside
it: a look sees the last commit before it began and never waits for the disk. Where a process cannot open a
file twice (Windows, `":memory:"`), looks and writes take turns on one connection.

A thread is in one transaction at a time. What a write has changed so far is seen through its own transaction
alone; asking the database for another one inside it is a programmer's error and says so.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import apsw

from edge_runtime.cache import cipher, failure, process
from edge_runtime.cache.cipher import MEMORY
from edge_runtime.cache.opening import Opened, open_encrypted
from edge_runtime.cache.readers import Look, Readers
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import DatabaseUnreadable, RuntimeClosed, StorageError

T = TypeVar("T", bound=ReadTransaction)
A = TypeVar("A")


class _Current(threading.local):
    """What this thread does with the database right now."""

    doing: str | None = None
    tx: ReadTransaction | None = None


class Database:
    """The device's encrypted cache. Make one with `Database.open`.

    Every commit is durable when `write()` returns (`synchronous=FULL`). `writes` counts commits by name.
    """

    def __init__(self, path: str, opened: Opened) -> None:
        self.path = path
        self.writes: Counter[str] = Counter()
        self.damaged: str | None = None
        """What damage a look or a write has met so far; None when all is well as far as anybody looked."""
        self._opened: Opened | None = opened
        self._readers = Readers(opened.reader) if opened.shared else None
        self._lock = threading.Lock()
        self._current = _Current()
        self._foreign = False
        process.register(self)

    @classmethod
    def open(
        cls,
        path: str,
        page_key: bytes,
        vfs: str | None = None,
        *,
        next_page_key: bytes | None = None,
        create: bool = True,
        agree: Callable[[ReadTransaction], object] = bool,
    ) -> Database:
        """Open or create the file at `path` (`":memory:"` makes no file).

        Args:
            page_key: 32 random bytes; used raw, never derived.
            vfs: a SQLite VFS to go through, for tests that make the disk fail; readers beside the writer
                need one over `unix-excl`, whose name ends in `-excl`.
            next_page_key: the key of a rekey that may have been cut short: the file is under this one, or
                under `page_key` still. `page_key` of the database says which.
            create: False refuses to make a file (`KeyMissing`).
            agree: called once the key is proven and the lock is held, before anything is committed; what it
                raises leaves the file as it was.

        Raises `DatabaseInUse`, `DatabaseReadOnly`, `DatabaseTooNew`, `DatabaseUnreadable`, `KeyMismatch`,
        `CipherMismatch`, `CipherMissing`, `StorageFull`; in each case the file is as it was.
        """
        opened = open_encrypted(
            path, page_key, next_page_key=next_page_key, vfs=vfs, create=create, agree=agree
        )
        return cls(path, opened)

    @property
    def in_memory(self) -> bool:
        """Whether nothing of this database is on disk."""
        return self.path == MEMORY

    @property
    def page_key(self) -> bytes:
        """The key that the file is under. Raises `RuntimeClosed` after `close`."""
        return self._open().page_key

    def read(self) -> AbstractContextManager[ReadTransaction]:
        """A consistent look at what is committed. Do not keep the transaction after the block.

        Raises `RuntimeError` inside another transaction of this thread: go on with that one.
        """
        return _Read(self)

    def ask(self, question: Callable[[ReadTransaction], A]) -> A:
        """The answer to a question that takes one statement: what is committed, for less than half of a look.

        Raises as `read`.

        Example: `sealed = database.ask(lambda tx: tx.personal_row(handle, slot))`
        """
        current = self._begin("ask()")
        try:
            if self._readers is not None:
                return self._readers.ask(question)
            with self._lock:
                return question(ReadTransaction(self._connection()))
        except apsw.Error as error:
            raise self._noted(failure.in_use(error, looking=True)) from None
        except DatabaseUnreadable as error:  # a sealed row that does not open
            raise self._noted(error) from None
        finally:
            current.doing = None

    @contextmanager
    def glance(self) -> Iterator[ReadTransaction]:
        """A look for a room that may be asked from inside its caller's transaction, as when a key is loaded.

        It sees what is committed; inside a look of this thread what that look sees; and with one connection,
        inside a write of this thread, what that write has changed.
        """
        tx = self._current.tx
        if tx is not None and (self._readers is None or not isinstance(tx, WriteTransaction)):
            yield tx
            return
        look = self._look()
        try:
            try:
                yield look.tx
            finally:
                look.end()
        except apsw.Error as error:
            raise self._noted(failure.in_use(error, looking=True)) from None

    @contextmanager
    def write(self, name: str) -> Iterator[WriteTransaction]:
        """A transaction that is durable when the block ends, and undone when it raises.

        Raises `RuntimeError` inside another transaction of this thread: go on with that one.

        Args:
            name: what it is for, in metrics: `journal`, `lane`, `denial`.
        """
        with self._doing(f"write({name!r})"), self._lock:
            connection = self._connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield self._begun(WriteTransaction(connection))
                self._check_owner()
                connection.execute("COMMIT")
                self.writes[name] += 1
            except apsw.Error as error:
                self._roll_back(connection)
                raise self._noted(failure.in_use(error)) from None
            except DatabaseUnreadable as error:
                self._roll_back(connection)
                raise self._noted(error) from None
            except BaseException:
                self._roll_back(connection)
                raise

    def checkpoint_truncate(self) -> bool:
        """Move the write-ahead log into the file and cut it to nothing: old row versions go with it.

        Waits for the looks that are going on. Returns False for a database in memory, which has none.
        """
        if self.in_memory:
            return False
        with self._doing("checkpoint_truncate()"), self._lock, self._nobody_looks():
            connection = self._connection()
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.Error as error:
                raise self._noted(failure.in_use(error)) from None
        return self.wal_bytes() == 0

    def rekey(self, page_key: bytes) -> None:
        """Put the whole file under another page key: every page, free ones too, and an empty log.

        It is one transaction. Killed anywhere, the file is under one key or the other: keep both until this
        returns, and open with `next_page_key`. Waits for the looks that are going on. Needs as much room
        again as the file has; no plain page leaves memory. A database in memory has no page key.

        Args:
            page_key: 32 random bytes.

        Raises:
            StorageFull, StorageError: the file is under the key that `page_key` says, and goes on to work;
                keep both, for what failed on the way may show after a kill.
        """
        cipher.check_key(page_key)
        if self.in_memory:
            return
        with self._doing("rekey()"), self._lock, self._nobody_looks():
            opened = self._open()
            try:
                opened.rekey(page_key)
            except apsw.Error as error:
                raise failure.public(error) from None

    def wal_bytes(self) -> int:
        """Size of the write-ahead log now."""
        wal = Path(self.path + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def close(self) -> None:
        """Close the file; closing twice is harmless. Waits for the transactions that are going on.

        In a child of the process that opened it, it does nothing.
        """
        if self._foreign:
            return
        with self._doing("close()"), self._lock:
            opened, self._opened = self._opened, None
            if opened is None:
                return
            try:
                if self._readers is not None:
                    self._readers.close()  # first: the last to close moves the log into the file
                opened.close()
            except apsw.Error as error:
                raise failure.public(error) from None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._opened is None

    # ---- forks ------------------------------------------------------------------------------------------

    def hold_still(self, held: ExitStack) -> None:
        """See `process.Owned`. A thread that forks inside a transaction of its own waits for nobody."""
        if self._foreign or self._current.doing is not None:
            return
        process.take(self._lock, held)
        if self._readers is not None:
            self._readers.hold_still(held)

    def disown(self) -> None:
        """See `process.Owned`: the file, its locks and its log are the parent's."""
        self._foreign, self._lock = True, threading.Lock()
        if self._readers is not None:
            self._readers.disown()
        if self._current.tx is not None:
            self._current.tx.disown()

    def _check_owner(self) -> None:
        if self._foreign:
            raise process.foreign("database")

    # ---- inside -----------------------------------------------------------------------------------------

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        current = self._begin(what)
        try:
            yield
        finally:
            current.doing = current.tx = None

    def _begin(self, what: str) -> _Current:
        """This thread does `what` from here on, and nothing beside it."""
        self._check_owner()
        current = self._current
        if current.doing is not None:
            raise RuntimeError(f"{what} inside {current.doing}: pass the transaction on instead")
        current.doing = what
        return current

    def _begun(self, tx: T) -> T:
        self._current.tx = tx
        return tx

    def _look(self) -> Look:
        """A look, begun; raises what is public."""
        try:
            if self._readers is not None:
                self._connection()
                return self._readers.look()
            self._lock.acquire()
            try:
                return Look(ReadTransaction(self._connection()), self._lock, None)
            except BaseException:
                self._lock.release()
                raise
        except apsw.Error as error:
            raise self._noted(failure.in_use(error, looking=True)) from None

    @contextmanager
    def _nobody_looks(self) -> Iterator[None]:
        if self._readers is None:
            yield
            return
        with self._readers.gone():
            yield

    def _noted(self, error: StorageError) -> StorageError:
        if isinstance(error, DatabaseUnreadable):
            self.damaged = str(error)
        return error

    def _connection(self) -> apsw.Connection:
        return self._open().connection

    def _open(self) -> Opened:
        if self._opened is None:
            raise RuntimeClosed("the database is closed; nothing changed")
        return self._opened

    def _roll_back(self, connection: apsw.Connection) -> None:
        if self._foreign:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except apsw.Error as error:
            raise StorageError(f"undoing a failed write failed: {type(error).__name__}") from None


class _Read:
    """What `Database.read` hands out. A look at one row is short, and generators would take most of it."""

    __slots__ = ("_current", "_database", "_look")

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> ReadTransaction:
        database = self._database
        self._current = database._begin("read()")
        try:
            self._look = database._look()
        except BaseException:
            self._current.doing = None
            raise
        self._current.tx = tx = self._look.tx
        return tx

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._look.end()
        except apsw.Error as ended:
            error = error or ended
        self._current.doing = self._current.tx = None
        if isinstance(error, apsw.Error):
            raise self._database._noted(failure.in_use(error, looking=True)) from None
        if isinstance(error, DatabaseUnreadable):  # a sealed row that does not open
            self._database._noted(error)
