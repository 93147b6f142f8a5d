"""Opening the encrypted file: the checks that need no key, then the key, then proof that it fits.

Nothing is changed before the key has proven itself and the version is known, and nothing is ever opened in
plain text. The file is looked at through `open()` only while no connection of this process holds it: closing
such a descriptor would drop SQLite's locks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from edge_runtime.cache import failure, process
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.schema import SCHEMA, STEPS, VERSION
from edge_runtime.errors import (
    CipherMissing,
    DatabaseInUse,
    DatabaseTooNew,
    DatabaseUnreadable,
    KeyMismatch,
    KeyMissing,
    KeystoreMismatch,
    StorageError,
)

MEMORY: Final = ":memory:"
EXCL: Final = "-excl"
"""How the name of a VFS ends under which a process holds the file alone and may open it more than once: its
write-ahead log has its index in memory, so nothing of it is in a file beside the database."""
PAGE_BYTES: Final = 4096

Agree = Callable[[ReadTransaction], object]
"""Asked before an opening commits anything; what it raises leaves the file as it was."""
_INCREMENTAL: Final = 2
"""What `PRAGMA auto_vacuum` says of a file that can give free pages back in steps."""


class _Claims:
    """The files that connections of this process hold, or of the process that it was forked from."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: set[tuple[int, int]] = set()
        """(device, inode)"""
        self.inherited: set[tuple[int, int]] = set()
        """SQLite was copied with them, and would take the parent's locks for its own: they stay closed."""
        process.register(self)

    def hold_still(self, held: ExitStack) -> None:
        """See `process.Owned`."""
        process.take(self.lock, held)

    def disown(self) -> None:
        """See `process.Owned`."""
        self.lock = threading.Lock()
        self.inherited |= self.held
        self.held.clear()


_claims: Final = _Claims()


class Opened:
    """A connection that proved its key, and the claim on its file that `close` gives back.

    Attributes:
        reader: opens one more connection to the same file, which cannot write; None where one process cannot
            have several.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        claim: tuple[int, int] | None,
        reader: Callable[[], apsw.Connection] | None,
    ) -> None:
        self.connection, self._claim, self.reader = connection, claim, reader

    def close(self) -> None:
        """Close the connection, then let others in this process open the file, whatever the disk said."""
        try:
            self.connection.close()
        finally:
            self.connection.close(True)
            if self._claim is not None:
                with _claims.lock:
                    _claims.held.discard(self._claim)


def require_cipher() -> None:
    """Raise `CipherMissing` unless `apsw` is the build with SQLite3 Multiple Ciphers and safe defaults."""
    if not getattr(apsw, "mc_version", ""):
        raise CipherMissing("apsw is here without SQLite3 Multiple Ciphers: install apsw-sqlite3mc instead")
    if "TEMP_STORE=2" not in apsw.compile_options and "TEMP_STORE=3" not in apsw.compile_options:
        raise CipherMissing("this SQLite may write temporary files in plain text: install apsw-sqlite3mc")


def open_encrypted(
    path: str,
    page_key: bytes,
    *,
    vfs: str | None,
    create: bool,
    agree: Agree,
) -> Opened:
    """Open `path`, prove `page_key`, ask `agree`, bring the schema up to date.

    `agree` is called with the lock held and nothing committed: what it raises leaves the file as it was.

    Raises `DatabaseInUse`, `DatabaseUnreadable`, `DatabaseTooNew`, `KeyMismatch` or `KeyMissing` (no file and
    `create` is false), each with the file as it was.
    """
    require_cipher()
    if len(page_key) != 32:
        raise KeyMissing(f"expected a page key of 32 bytes, got {len(page_key)}; nothing opened")
    if path == MEMORY:
        return Opened(_prepared(apsw.Connection(MEMORY), None, agree, alone=True), None, None)
    vfs = _vfs() if vfs is None else vfs
    shared = vfs is not None and vfs.endswith(EXCL)
    with _claims.lock:
        _look(path, create)
        connection = _connected(path, page_key, vfs, create, agree, alone=not shared)
        stat = os.stat(path)
        claim = (stat.st_dev, stat.st_ino)
        _claims.held.add(claim)
    return Opened(connection, claim, partial(_reader, path, page_key, vfs) if shared else None)


def raw_key(page_key: bytes) -> bytes:
    """The form in which the cipher takes 32 bytes as the key itself.

    Plain bytes it would take for a passphrase and stretch: 30 ms and 19 MiB at each opening, for nothing.
    """
    return b"raw:" + page_key.hex().encode()


def _look(path: str, create: bool) -> None:
    """What can be said of the file without a key and without a connection."""
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        if create:
            return
        raise KeyMissing("a key without its database: the file is not there; nothing created") from None
    except OSError as error:
        raise failure.of_file(error, "database") from None
    if (stat.st_dev, stat.st_ino) in _claims.held:
        raise DatabaseInUse("this process has the database open already; nothing changed")
    if (stat.st_dev, stat.st_ino) in _claims.inherited:
        raise DatabaseInUse(
            "the process that this one was forked from had the database open; nothing changed"
        )
    if stat.st_size == 0 and create:
        return
    head = _head(path)
    if head.startswith(b"SQLite format 3"):
        raise DatabaseUnreadable("expected an encrypted database, got a plain SQLite file; untouched")
    if stat.st_size < PAGE_BYTES:
        raise DatabaseUnreadable(
            f"expected at least {PAGE_BYTES} bytes, got {stat.st_size}: truncated or foreign; untouched"
        )
    if stat.st_size % PAGE_BYTES and not _has_wal(path):
        raise DatabaseUnreadable(f"expected whole pages, got {stat.st_size} bytes: truncated; untouched")


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16)
    except OSError as error:
        raise failure.of_file(error, "database") from None


def _has_wal(path: str) -> bool:
    wal = Path(path + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def _connected(
    path: str,
    page_key: bytes,
    vfs: str | None,
    create: bool,
    agree: Agree,
    *,
    alone: bool,
) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    had_wal, existed = os.path.exists(path + "-wal"), os.path.exists(path)
    try:
        connection = apsw.Connection(path, flags=flags, vfs=vfs)
        if not existed:
            os.chmod(path, 0o600)  # its log takes the same mode
    except apsw.Error as error:
        raise failure.public(error) from None
    except OSError as error:
        raise failure.of_file(error, "database") from None
    try:
        return _prepared(connection, page_key, agree, alone=alone)
    except (KeyMismatch, KeystoreMismatch, DatabaseUnreadable, DatabaseTooNew):
        # SQLite makes an empty log before it finds the file damaged; a refusal leaves nothing behind
        if not had_wal and not _has_wal(path):
            Path(path + "-wal").unlink(missing_ok=True)
        raise


def _prepared(
    connection: apsw.Connection,
    page_key: bytes | None,
    agree: Agree,
    *,
    alone: bool,
) -> apsw.Connection:
    """Key, exclusive lock, version check and schema; closes the connection and leaves the file on failure."""
    try:
        # until the key and the version are known, not even a checkpoint at close may touch the file
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        _key(connection, page_key)
        if alone:  # elsewhere the VFS keeps other processes out
            connection.pragma("locking_mode", "exclusive")
        version = _version(connection)
        _take_lock(connection, version)
        _settle(connection, version, agree)
        _shrinkable(connection)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    except apsw.Error as error:
        connection.close()
        raise failure.public(error) from None
    except StorageError:
        connection.close()
        raise
    return connection


def _key(connection: apsw.Connection, page_key: bytes | None) -> None:
    """What every connection is told before it touches a page."""
    if page_key is not None:
        connection.pragma("cipher", "aegis")
        connection.pragma("hexkey", raw_key(page_key).hex())
    connection.set_busy_timeout(0)
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)


def _reader(path: str, page_key: bytes, vfs: str | None) -> apsw.Connection:
    """One more connection to a file that this process holds."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    _key(connection, page_key)
    return connection


def _vfs() -> str | None:
    """The VFS for files: with one process and several connections where that is to be had."""
    return f"multipleciphers-unix{EXCL}" if f"unix{EXCL}" in apsw.vfs_names() else None


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


def _take_lock(connection: apsw.Connection, version: int) -> None:
    if version == 0:  # it counts before the first table only, and would be a write to any other file
        connection.pragma("auto_vacuum", _INCREMENTAL)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("secure_delete", True)
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
