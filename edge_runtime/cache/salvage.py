"""Opening what remains of a damaged database.

As it stands; with its log mended, where that was damaged; with another list of tables, where pages of that
are; without its log, where nothing else opens.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from edge_runtime.cache import failure
from edge_runtime.cache.cipher import PAGE_BYTES
from edge_runtime.cache.mended_log import mend
from edge_runtime.cache.remains import Remains
from edge_runtime.cache.schema import PERSONAL_TABLES, VERSION
from edge_runtime.cache.table_list import table_list
from edge_runtime.cache.untouched import OWN_LOG, untouched
from edge_runtime.cache.write_ahead_log import LogState, read_log
from edge_runtime.errors import KeyMismatch

_OURS: Final = frozenset([*PERSONAL_TABLES, "trimmed", "meta", "lane", "denial", "outbox", "budget"])
_FEWEST_PAGES: Final = 2
"""In a file with fewer whole pages it cannot be told whether the key fits."""


class _Way(NamedTuple):
    """How a file may be opened."""

    pages: Mapping[int, bytes]
    log: str | None


@contextmanager
def remains_of(path: str, page_key: bytes, scratch: str) -> Iterator[Remains]:
    """What remains of the database at `path`, read without changing it; nobody can write it meanwhile.

    Args:
        scratch: see `table_list`; only a damaged list needs it.

    Raises:
        KeyMismatch: no page of the file opens under this key, or it is another database under it.
        DatabaseInUse: a connection, here or in another process, has it open.
        StorageError, StorageFull: a file beside it could not be read or made. In each case it is as it was.
    """
    pages, state = _whole_pages(path), read_log(f"{path}-wal")
    if pages < _FEWEST_PAGES:
        with untouched(path, page_key):
            yield Remains(None, version=VERSION, log_cut=True)
        return
    with _log(path, state, scratch, pages) as (log, whole):
        way = _found(path, page_key, scratch, pages + state.last_frame, log)
        if way is None:
            yield Remains(None, version=VERSION, log_cut=True)
            return
        with untouched(path, page_key, pages=way.pages, log=way.log) as connection:
            version = connection.pragma("user_version")
            assert isinstance(version, int)
            hidden = way.log is None and state.last_frame > 0
            yield Remains(connection, version=version, log_cut=not whole or hidden)


@contextmanager
def _log(path: str, state: LogState, scratch: str, pages: int) -> Iterator[tuple[str, bool]]:
    """(the log to show, whether it has all that was acknowledged in it)."""
    if not state.commits_behind:
        yield OWN_LOG, True
        return
    mended = f"{scratch}.log"  # with a dash SQLite looks for a file of the name before it
    try:
        yield mended, mend(f"{path}-wal", state, mended, pages + state.last_frame) and not state.torn
    finally:
        Path(mended).unlink(missing_ok=True)


def _found(path: str, page_key: bytes, scratch: str, pages: int, log: str) -> _Way | None:
    """The way that shows most: of the list of tables only the first page, or all of it, is another's.

    None where the key fits the first page, and nothing else opens.
    """
    if _leads_somewhere(path, page_key, _Way({}, log)):
        return _Way({}, log)
    made = table_list(scratch, page_key, 0)  # enough to see where tables begin
    for shown in (log, None):
        for numbers in (set[int](), {1}, made.keys()):
            if _leads_somewhere(path, page_key, _Way(_only(made, numbers), shown)):
                whole = table_list(scratch, page_key, pages) if numbers else made
                return _Way(_only(whole, numbers), shown)
    if _opens(path, page_key):
        return None
    raise KeyMismatch(
        "expected the key under which the file was made: no page of it opens under this one; untouched"
    )


def _only(made: Mapping[int, bytes], numbers: Collection[int]) -> dict[int, bytes]:
    return {number: page for number, page in made.items() if number in numbers}


def _leads_somewhere(path: str, page_key: bytes, way: _Way) -> bool:
    """Whether our tables are listed, and at least one of them begins with a page that opens."""
    with untouched(path, page_key, pages=way.pages, log=way.log) as connection:
        try:
            tables = {str(name) for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        except apsw.Error:
            return False
        if tables and not tables >= _OURS:
            raise KeyMismatch("the file opens but is no cache of ours; untouched")
        return bool(tables) and any(_begins(connection, table) for table in sorted(_OURS))


def _opens(path: str, page_key: bytes) -> bool:
    """Whether the file's own first page does."""
    with untouched(path, page_key, log=None) as connection:
        try:
            connection.pragma("user_version")
        except apsw.Error:
            return False
    return True


def _begins(connection: apsw.Connection, table: str) -> bool:
    try:
        connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall()
    except apsw.Error:
        return False
    return True


def _whole_pages(path: str) -> int:
    try:
        return os.path.getsize(path) // PAGE_BYTES
    except OSError as error:
        raise failure.of_file(error, "database") from None
