"""The pages on which a file lists its tables, from a new file under the same key.

The first page says how long a file is and leads to the list; the list leads to every table. Where one of
these pages is damaged, that of a new file can stand in its place: a file is laid out like every other one of
its release. In one that was laid out otherwise (by an earlier release) it leads nowhere, or to rows that do
not fit the table they are looked for in, which whoever reads them must refuse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from edge_runtime.cache import failure
from edge_runtime.cache.cipher import PAGE_BYTES
from edge_runtime.cache.opening import open_encrypted

_BLOB_BYTES: Final = 256 << 20


def table_list(scratch: str, page_key: bytes, pages: int) -> dict[int, bytes]:
    """Number -> encrypted page, of every page that lists tables in a new file of at least `pages` pages.

    Args:
        scratch: path of a file that may be made here; gone when this returns. It grows to the size of so many
            pages, and its log for a moment with it.

    Raises `StorageFull` and other `StorageError`s with nothing left behind.
    """
    _remove(scratch)
    try:
        opened = open_encrypted(scratch, page_key, next_page_key=None, vfs=None, create=True, agree=bool)
        try:
            _grow(opened.connection, pages)
            found = opened.connection.execute("SELECT pageno FROM dbstat WHERE name = 'sqlite_schema'")
            numbers = [int(str(number)) for (number,) in found]
        finally:
            opened.close()
        return _read(scratch, numbers)
    except apsw.Error as error:
        raise failure.public(error) from None
    except OSError as error:
        raise failure.of_file(error, "scratch file") from None
    finally:
        _remove(scratch)


def _grow(connection: apsw.Connection, pages: int) -> None:
    """Fill a table that is there: one more would change the list."""
    connection.pragma("synchronous", "off")
    while (missing := pages - _count(connection)) > 0:
        size = min(missing * PAGE_BYTES, _BLOB_BYTES)
        filler = "INSERT INTO meta(key, value) VALUES(?, zeroblob(?))"
        connection.execute(filler, (f"{missing} missing", size))
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _count(connection: apsw.Connection) -> int:
    count = connection.pragma("page_count")
    assert isinstance(count, int)
    return count


def _read(path: str, numbers: list[int]) -> dict[int, bytes]:
    pages = {}
    with open(path, "rb") as file:
        for number in numbers:
            file.seek((number - 1) * PAGE_BYTES)
            pages[number] = file.read(PAGE_BYTES)
    return pages


def _remove(path: str) -> None:
    for name in (path, f"{path}-wal", f"{path}-shm"):
        Path(name).unlink(missing_ok=True)
