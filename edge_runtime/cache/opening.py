"""Opening the encrypted file: the checks that need no key, then the key, then proof that it fits.

Nothing is changed before the key has proven itself and the version is known. The file is looked at through
`open()` only while no connection of this process holds it: closing such a descriptor would drop SQLite's
locks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from edge_runtime.cache import cipher, failure, leaving
from edge_runtime.cache.cipher import MEMORY, PAGE_BYTES
from edge_runtime.cache.claims import CLAIMS, Claim
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.schema import SCHEMA, STEPS, VERSION
from edge_runtime.cache.write_ahead_log import read_log
from edge_runtime.errors import (
    CipherMismatch,
    DatabaseInUse,
    DatabaseReadOnly,
    DatabaseTooNew,
    DatabaseUnreadable,
    KeyMismatch,
    KeyMissing,
    StorageError,
)

Agree = Callable[[ReadTransaction], object]
"""Asked before an opening commits anything; what it raises leaves the file as it was."""

_INCREMENTAL: Final = 2
"""What `PRAGMA auto_vacuum` says of a file that can give free pages back in steps."""


class Opened:
    """A connection that proved its key, and the claim on its file that `close` gives back.

    Attributes:
        page_key: the key that fits.
        shared: whether this process may have more connections to the file.
    """

    def __init__(
        self, path: str, vfs: str | None, page_key: bytes, connection: apsw.Connection, claim: Claim | None
    ) -> None:
        self.connection, self.page_key = connection, page_key
        self.shared = claim is not None and vfs is not None and vfs.endswith(cipher.EXCL)
        self._path, self._vfs, self._claim = path, vfs, claim

    def reader(self) -> apsw.Connection:
        """One more connection, which cannot write."""
        return cipher.reader(self._path, self.page_key, self._vfs)

    def rekey(self, page_key: bytes) -> None:
        """See `Database.rekey`; this is the only connection. Raises `apsw.Error`."""
        self._cut_log()
        try:
            cipher.change_key(self.connection, page_key)
            self.page_key = page_key
        finally:
            self._cut_log()  # also after a failure: pages of the key that did not come to be go with it

    def _cut_log(self) -> None:
        self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """Close the connection, then let others in this process open the file, whatever the disk said."""
        try:
            self.connection.close()
        finally:
            self.connection.close(True)
            if self._claim is not None:
                CLAIMS.give_back(self._claim)


def open_encrypted(
    path: str,
    page_key: bytes,
    *,
    next_page_key: bytes | None,
    vfs: str | None,
    create: bool,
    agree: Agree,
) -> Opened:
    """Open `path`, prove a key, ask `agree`, bring the schema up to date.

    `agree` is called with the lock held and nothing committed: what it raises leaves the file as it was.

    Raises `DatabaseInUse`, `DatabaseUnreadable`, `DatabaseTooNew`, `DatabaseReadOnly`, `KeyMismatch`,
    `CipherMismatch` or `KeyMissing` (no file and `create` is false), each with the file as it was.
    """
    cipher.require_cipher()
    keys = [page_key] if next_page_key is None else [next_page_key, page_key]
    for key in keys:
        cipher.check_key(key)
    if path == MEMORY:
        connection = _prepared(apsw.Connection(MEMORY), None, agree, alone=True)
        return Opened(path, None, page_key, connection, None)
    vfs = cipher.best_vfs() if vfs is None else vfs
    with CLAIMS.lock:
        _look(path, create)
        with _nothing_left_behind(path):
            connection, fits = _fitting(path, keys, vfs, create, agree)
            return Opened(path, vfs, fits, connection, CLAIMS.hold(os.stat(path)))


# ---- before the key ------------------------------------------------------------------------------------


def _look(path: str, create: bool) -> None:
    """What can be said of the file without a key and without a connection."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        if not create:
            raise KeyMissing("a key without its database: the file is not there; nothing created") from None
        _check_writable(path, exists=False)
        return
    except OSError as error:
        raise failure.of_file(error, "database") from None
    CLAIMS.check(stat)
    _check_writable(path, exists=True)
    if _head(path).startswith(b"SQLite format 3"):
        raise DatabaseUnreadable("expected an encrypted database, got a plain SQLite file; untouched")
    if create and (stat.st_size == 0 or os.path.exists(path + "-journal")):
        return  # its making was cut short: SQLite takes back what its journal says
    if stat.st_size == 0:
        raise DatabaseUnreadable("expected an encrypted database, got a file of zero bytes; untouched")
    if stat.st_size < PAGE_BYTES:
        raise DatabaseUnreadable(
            f"expected at least {PAGE_BYTES} bytes, got {stat.st_size}: truncated or foreign; untouched"
        )
    if stat.st_size % PAGE_BYTES and not _has_wal(path):
        raise DatabaseUnreadable(f"expected whole pages, got {stat.st_size} bytes: truncated; untouched")


def _check_writable(path: str, *, exists: bool) -> None:
    """SQLite would open what it may only read, and fail later; a log that lies there must be written too."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise StorageError("expected a folder for the database, got none; nothing created")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise DatabaseReadOnly(
            "expected a folder that may be written, for the log beside the database; nothing created"
        )
    files = (path, path + "-wal") if exists else ()
    if any(os.path.exists(file) and not os.access(file, os.R_OK | os.W_OK) for file in files):
        raise DatabaseReadOnly(
            "expected a database that may be read and written, with its log; nothing changed"
        )


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError as error:
        raise failure.of_file(error, "database") from None


def _has_wal(path: str) -> bool:
    wal = Path(path + "-wal")
    return wal.exists() and wal.stat().st_size > 0


@contextmanager
def _nothing_left_behind(path: str) -> Iterator[None]:
    """What was not there before a refusal is not there after it: a new file, its journal, or an empty log.

    SQLite makes the log before it finds the file damaged or foreign.
    """
    had_wal, existed = os.path.exists(path + "-wal"), os.path.exists(path)
    fresh = not existed or os.path.getsize(path) == 0
    try:
        yield
    except DatabaseInUse:
        raise  # what lies there is another process's
    except StorageError:
        if not existed:
            Path(path).unlink(missing_ok=True)
        elif fresh:
            os.truncate(path, 0)
        if fresh:
            Path(path + "-journal").unlink(missing_ok=True)  # of the first page, from before there was a log
        if not had_wal and (fresh or not _has_wal(path)):
            Path(path + "-wal").unlink(missing_ok=True)
        raise


# ---- the key -------------------------------------------------------------------------------------------


def _fitting(
    path: str, keys: list[bytes], vfs: str | None, create: bool, agree: Agree
) -> tuple[apsw.Connection, bytes]:
    """The connection under the first key that fits, and that key."""
    for key in keys[:-1]:
        try:
            return _connected(path, key, vfs, create, agree), key
        except KeyMismatch:
            continue
    try:
        return _connected(path, keys[-1], vfs, create, agree), keys[-1]
    except KeyMismatch:
        for key in keys:
            found = cipher.other_cipher(path, key, vfs)
            if found is not None:
                raise CipherMismatch(
                    f"expected a file made with {cipher.CIPHER}, got one made with {found}; untouched"
                ) from None
        raise


def _connected(path: str, page_key: bytes, vfs: str | None, create: bool, agree: Agree) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    existed = os.path.exists(path)
    try:
        connection = apsw.Connection(path, flags=flags, vfs=vfs)
        if not existed:
            os.chmod(path, 0o600)  # its log takes the same mode
    except apsw.Error as error:
        raise failure.public(error) from None
    except OSError as error:
        raise failure.of_file(error, "database") from None
    alone = vfs is None or not vfs.endswith(cipher.EXCL)
    return _prepared(connection, page_key, agree, alone=alone)


def _prepared(
    connection: apsw.Connection, page_key: bytes | None, agree: Agree, *, alone: bool
) -> apsw.Connection:
    """Key, exclusive lock, version check and schema; closes the connection and leaves the file on failure."""
    try:
        # until the key and the version are known, not even a checkpoint at close may touch the file
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        cipher.set_key(connection, page_key)
        if alone:  # elsewhere the VFS keeps other processes out
            connection.pragma("locking_mode", "exclusive")
        version = _version(connection)
        _check_log(connection)
        _take_lock(connection, version)
        _settle(connection, version, agree)
        leaving.install(connection)
        _shrinkable(connection)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except apsw.Error as error:
        connection.close()
        raise failure.public(error) from None
    except StorageError:
        connection.close()
        raise
    return connection


def _version(connection: apsw.Connection) -> int:
    version = connection.pragma("user_version")
    assert isinstance(version, int)
    if version > VERSION:
        raise DatabaseTooNew(f"expected schema {VERSION} or older, got {version}; untouched")
    if version == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise DatabaseUnreadable(
            "the file opens but is no cache of ours: it has tables and no version; untouched"
        )
    return version


def _check_log(connection: apsw.Connection) -> None:
    """Refuse a file whose newest commits lie behind damage in its log, before the log is written over."""
    behind = read_log(f"{connection.filename}-wal").commits_behind if connection.filename else 0
    if behind:
        raise DatabaseUnreadable(
            f"the write-ahead log is damaged: at least {behind} acknowledged commits lie behind the damage; "
            "untouched"
        )


def _take_lock(connection: apsw.Connection, version: int) -> None:
    if version == 0:  # it counts before the first table only, and would be a write to any other file
        connection.pragma("auto_vacuum", _INCREMENTAL)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("secure_delete", True)
    connection.pragma("cache_size", -cipher.CACHE_KIB)
    connection.pragma("foreign_keys", True)


def _settle(connection: apsw.Connection, version: int, agree: Agree) -> None:
    """Write the version back (the proof that pages can be written under this key), with any upgrade."""
    connection.execute("BEGIN EXCLUSIVE")
    try:
        if version == 0:
            connection.execute(SCHEMA)
        for step in range(version or VERSION, VERSION):
            STEPS[step](connection)
        agree(ReadTransaction(connection))
        connection.pragma("user_version", VERSION)
        connection.execute("COMMIT")
    except (apsw.Error, StorageError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _shrinkable(connection: apsw.Connection) -> None:
    """Make a file of an earlier schema one that can give free pages back; what goes wrong leaves it as it is.

    It is written anew once, through memory and the log. Without the room for that it is tried at the next
    opening: a cache that does not shrink is better than none.
    """
    if connection.pragma("auto_vacuum") == _INCREMENTAL:
        return
    try:
        connection.pragma("auto_vacuum", _INCREMENTAL)
        connection.execute("VACUUM")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    except (apsw.FullError, apsw.IOError, apsw.NoMemError):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
