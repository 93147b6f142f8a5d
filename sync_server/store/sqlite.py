"""The embedded store: the standard library's SQLite, one process, one writer.

Calls are short and happen in the event loop's thread: a commit costs some 30 µs and its fsync, and long
publishes are cut into chunks (`Settings.write_chunk_rows`), so nothing waits for a thread and no transaction
is open across an `await`. A lock makes it safe from other threads too (tools, tests).
"""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from edge_runtime.wire import digest
from sync_server.devices.entropy import Entropy
from sync_server.errors import StoreForeign, StoreTooNew
from sync_server.journal.journal import Journal
from sync_server.journal.record import Entry
from sync_server.store import old_catalogs
from sync_server.store.keys import KeyDatabase
from sync_server.store.protocol import Listener, ReadTx, Witness, WriteTx
from sync_server.store.records import Committed
from sync_server.store.schema import APPLICATION_ID, STEPS, TABLES, VERSION


class SqliteStore:
    """Holds `server.db` and `keys.db`; see `store.protocol.Store` for its promises."""

    def __init__(
        self, database: Path, key_database: Path, *, digest_key: bytes, entropy: Entropy, partitions: int = 16
    ) -> None:
        """Open or create the store.

        Args:
            digest_key: the tenant's 32-byte key for row hashes.
            entropy: source of unpredictable bytes, for payload keys and nonces.
            partitions: number of sequences, fixed when the store is created.

        Raises:
            StoreTooNew: written by a newer release; untouched.
            StoreForeign: not a store, damaged, or its `keys.db` is missing; untouched.
        """
        if database.exists() and not key_database.exists():
            raise StoreForeign(f"expected keys.db at {key_database}, found none; nothing was created")
        self._digest_key, self._lock = digest_key, threading.RLock()
        self._counts: Counter[str] = Counter()
        self._together = self._owing = self._unsynced = False
        self._listeners: list[Listener] = []
        self._witnesses: list[Witness] = []
        self._journal: Journal | None = None
        self._keys = KeyDatabase(
            key_database, entropy
        )  # first: a kill in between leaves no store without keys
        try:
            self._writer = _open(database)
            try:
                _upgrade(self._writer, partitions, digest_key)
                self._reader = _open(database)
            except BaseException:
                self._writer.close()
                raise
        except BaseException:
            self._keys.close()
            raise
        self._recover()

    @contextmanager
    def read(self) -> Iterator[ReadTx]:
        """See `Store.read`."""
        with self._lock:
            self._reader.execute("BEGIN")
            try:
                yield ReadTx(self._reader, self._keys, self._digest_key)
            finally:
                self._reader.execute("COMMIT")

    @contextmanager
    def write(self, name: str, *, durable: bool = True) -> Iterator[WriteTx]:
        """See `Store.write`."""
        with self._lock:
            at_once = durable and not self._together
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if at_once else 'NORMAL'}")
            self._writer.execute("BEGIN IMMEDIATE")
            before = self._writer.total_changes
            try:
                tx = WriteTx(self._writer, self._keys, self._digest_key)
                yield tx
                changed = self._writer.total_changes != before
                seen = [witness(tx) for witness in self._witnesses] if changed else []
                moved = Committed(tx.lane_moved, tx.settle_rows(), frozenset(tx.devices_moved))
                self._keys.commit()  # a key before the rows it seals
                self._writer.execute("COMMIT")
            except BaseException:
                self._keys.rollback()
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise
            for stands in seen:
                stands()
            self._counts[name] += 1
            self._owing |= durable and not at_once
            self._unsynced = not at_once
            if moved.lane:
                self._flush()  # a denial before the keys it destroys
            self._copy(tx.told)
        try:
            if moved.lane:
                self._erase_keys()
        finally:
            self._tell(moved)  # a denial stands, whatever becomes of the keys

    @contextmanager
    def together(self) -> Iterator[None]:
        """See `Store.together`."""
        with self._lock:
            self._together = True
            try:
                yield
            finally:
                self._together = False
                self._flush()
                if self._journal is not None:
                    self._journal.settle()

    def attach(self, journal: Journal) -> None:
        """See `Store.attach`."""
        with self._lock:
            self._journal = journal
            journal.open()

    def flush(self) -> None:
        """See `Store.flush`."""
        with self._lock:
            self._owing |= self._unsynced
            self._flush()

    def scrub(self) -> None:
        """See `Store.scrub`. Freed space was overwritten as it was freed (`secure_delete`)."""
        with self._lock:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def listen(self, listener: Listener) -> None:
        """See `Store.listen`."""
        self._listeners.append(listener)

    def witness(self, witness: Witness) -> None:
        """See `Store.witness`."""
        self._witnesses.append(witness)

    def forget_keys_after(self, grant: int) -> None:
        """Destroy payload keys of grants later than this: of a ledger that is lost, whatever its numbers."""
        with self._lock:
            self._keys.destroy_after(grant)

    def transactions(self) -> dict[str, int]:
        """See `Store.transactions`."""
        return dict(self._counts)

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            for connection in (self._reader, self._writer):
                connection.close()
            self._keys.close()
            if self._journal is not None:
                self._journal.close()

    def _copy(self, told: Sequence[Entry]) -> None:
        """Tell the journal; it is waited for at the end of what is done together, else at once."""
        if self._journal is None or not told:
            return
        self._journal.tell(told)
        if not self._together:
            self._journal.settle()

    def _flush(self) -> None:
        """Wait for the disk once for all that `together` put off: one commit syncs the log before it too."""
        if not self._owing:
            return
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('flushed', x'')")
        self._owing = self._unsynced = False

    def _erase_keys(self) -> None:
        """Keep the promises that the last commit made; what a kill leaves over is kept at the next start."""
        with self._lock:
            pending = ReadTx(self._writer, self._keys, self._digest_key).pending_key_erasures()
            if not pending:
                return
            self._keys.destroy(pending)
            with self.write("keys_erased", durable=False) as tx:  # lost with the power, it is done again
                for subject, purpose, denial in pending:
                    tx.keys_erased(subject, purpose, denial)

    def _recover(self) -> None:
        """Finish what a kill interrupted, and drop rows whose keys are gone (a restored copy of the rows)."""
        self._erase_keys()
        with self.write("recover") as tx:
            tx.drop_keyless()

    def _tell(self, moved: Committed) -> None:
        if moved.lane or moved.channels or moved.devices:
            for listener in self._listeners:
                listener(moved)


def _open(path: Path) -> sqlite3.Connection:
    try:
        path.touch(mode=0o600)
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        application, version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
    except sqlite3.DatabaseError as error:
        raise StoreForeign(f"server.db is not a store ({type(error).__name__}); untouched") from None
    if version > VERSION and application == APPLICATION_ID:
        connection.close()
        raise StoreTooNew(f"expected schema {VERSION} or older, found {version}; untouched")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application != APPLICATION_ID and (version or tables):
        connection.close()
        raise StoreForeign("server.db belongs to another program; untouched")
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _upgrade(connection: sqlite3.Connection, partitions: int, digest_key: bytes) -> None:
    """Create the tables, or take the steps from the file's version to ours, in one transaction."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == VERSION:
        return
    if version == 0:
        steps = f"{TABLES} INSERT INTO meta VALUES ('partitions', '{int(partitions)}');"
    else:
        connection.create_function("range_of", 3, partial(digest.range_of, digest_key))
        connection.create_function("pushed", 1, old_catalogs.pushed)
        connection.create_function("fingerprint", 2, old_catalogs.fingerprint)
        steps = "".join(STEPS[version - 1 :])
    connection.executescript(
        f"BEGIN IMMEDIATE; {steps} PRAGMA application_id = {APPLICATION_ID};"
        f" PRAGMA user_version = {VERSION}; COMMIT;"
    )
