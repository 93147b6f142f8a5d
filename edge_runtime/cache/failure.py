"""Private causes to public errors, in one table: what SQLite said, and what the caller is told.

No SQL, path content or value is in a message: only what was expected, what came and the state after.
"""

from __future__ import annotations

import errno
from typing import Final

import apsw

from edge_runtime.errors import (
    DatabaseInUse,
    DatabaseReadOnly,
    DatabaseUnreadable,
    KeyMismatch,
    StorageError,
    StorageFull,
)

_DAMAGED: Final = "the database is damaged: a page of it cannot be read; the last write was undone"

_PUBLIC: Final[tuple[tuple[type[apsw.Error], type[StorageError], str], ...]] = (
    (apsw.BusyError, DatabaseInUse, "another connection holds the database; nothing changed"),
    (apsw.LockedError, DatabaseInUse, "another connection holds the database; nothing changed"),
    (apsw.FullError, StorageFull, "the disk is full; the last write was undone, earlier ones are safe"),
    (
        apsw.NotADBError,
        KeyMismatch,
        "the key does not open this file: expected the key it was made with, or the file is no database of "
        "ours (an encrypted file cannot say which); untouched",
    ),
    (apsw.CorruptError, DatabaseUnreadable, _DAMAGED),
    (apsw.CantOpenError, StorageError, "the database file cannot be opened"),
    (
        apsw.ReadOnlyError,
        DatabaseReadOnly,
        "the database or its folder cannot be written; nothing changed",
    ),
    (apsw.PermissionsError, StorageError, "the database file may not be read; nothing changed"),
    (apsw.IOError, StorageError, "the disk failed; the last write was undone"),
)


def public(error: apsw.Error) -> StorageError:
    """The public error for what SQLite raised; unexpected ones say only their class."""
    for private, kind, text in _PUBLIC:
        if isinstance(error, private):
            return kind(text)
    return StorageError(f"the database refused: {type(error).__name__}; the last write was undone")


def in_use(error: apsw.Error, *, looking: bool = False) -> StorageError:
    """The same for a file that has proven its key: its first page can no longer be another's.

    Args:
        looking: nothing was written, so what failed is a disk that does not give back what it was given.
    """
    damaged = isinstance(error, apsw.NotADBError) or (looking and isinstance(error, apsw.IOError))
    return DatabaseUnreadable(_DAMAGED) if damaged else public(error)


def of_file(error: OSError, what: str) -> StorageError:
    """The public error for a failed write of a file beside the database (`what` names it)."""
    if is_full(error):
        return StorageFull(f"the disk is full; the {what} is as it was")
    name = errno.errorcode.get(error.errno or 0, "error")
    return StorageError(f"the {what} cannot be read or written ({name}); it is as it was")


def is_full(error: OSError) -> bool:
    """Whether there was no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
