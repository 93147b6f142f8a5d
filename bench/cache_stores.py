"""Stores that `bench cache` compares: the same tables, rows, transactions and pragmas, behind two verbs.

Ours seals each row under its subject's key and goes through the cache's own doors. All others write the rows
as they are, in the quickest way their library has (`executemany`): plain apsw is the limit, our encrypted
connection with nothing sealed tells what pages cost, SQLCipher and the standard library's SQLite are peers.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import apsw

from edge_runtime.cache.cipher import open_encrypted
from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import SCHEMA
from edge_runtime.keys.datakey import DataKey

DAY: Final = 20_000
PAGE_KEY: Final = bytes(range(32))
PRAGMAS: Final = (
    "page_size",
    "cache_size",
    "locking_mode",
    "journal_mode",
    "synchronous",
    "secure_delete",
    "temp_store",
    "wal_autocheckpoint",
)
"""What every store takes over from ours, in an order in which SQLite accepts it."""

_WRITE: Final = {
    "personal": "INSERT INTO personal(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
    " ON CONFLICT(handle, slot) DO UPDATE SET day = excluded.day, sealed = excluded.sealed",
    "state": "INSERT INTO state(handle, slot, sealed) VALUES(?, ?, ?)"
    " ON CONFLICT(handle, slot) DO UPDATE SET sealed = excluded.sealed",
    "journal": "INSERT INTO journal(handle, day, sealed) VALUES(?, ?, ?)",
}
_READ: Final = {
    "personal": "SELECT sealed FROM personal WHERE handle = ? AND slot = ?",
    "state": "SELECT sealed FROM state WHERE handle = ? AND slot = ?",
}


class Place(NamedTuple):
    """Where a row lies, and the key of its subject."""

    key: DataKey
    slot: bytes


Frame = list[tuple[Place, bytes]]
"""Rows of one transaction."""


class Store(Protocol):
    """One contestant, on a file of its own."""

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        """Write each frame in a transaction that is durable at its end."""
        ...

    def read(self, table: str, places: Iterable[Place]) -> int:
        """Read single rows in the order given; returns how many bytes they had."""
        ...

    def settle(self) -> None:
        """Bring the write-ahead log into the file."""
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


class Make(Protocol):
    """Makes a store on a fresh file, with the pragmas of ours."""

    def __call__(self, path: Path, pragmas: Mapping[str, object]) -> Store: ...


class Ours:
    """The product: rows sealed under their subject's key, pages encrypted, the cache's own doors."""

    def __init__(self, path: Path) -> None:
        self._database = Database.open(str(path), PAGE_KEY)

    def pragmas(self) -> dict[str, object]:
        """What our connection runs with."""
        with self._database.read() as tx:
            return {name: tx._connection.pragma(name) for name in PRAGMAS}

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        write = {"personal": self._personal, "state": self._state, "journal": self._journal}[table]
        for frame in frames:
            write(frame)

    def _personal(self, frame: Frame) -> None:
        with self._database.write("bench") as tx:
            for (key, slot), plain in frame:
                tx.put_personal_row(key.handle, slot, DAY, key.seal("personal", slot, plain))

    def _state(self, frame: Frame) -> None:
        with self._database.write("bench") as tx:
            for (key, slot), plain in frame:
                tx.put_state(key.handle, slot, key.seal("state", slot, plain))

    def _journal(self, frame: Frame) -> None:
        with self._database.write("bench") as tx:
            tx.append_events(
                [(key.handle, DAY, key.seal("journal", key.handle, plain)) for (key, _), plain in frame]
            )

    def read(self, table: str, places: Iterable[Place]) -> int:
        read = {"personal": self._personal_row, "state": self._state_row}[table]
        return sum(len(read(key, slot)) for key, slot in places)

    def _personal_row(self, key: DataKey, slot: bytes) -> bytes:
        with self._database.read() as tx:
            sealed = tx.personal_row(key.handle, slot)
        assert sealed is not None
        return key.open("personal", slot, sealed)

    def _state_row(self, key: DataKey, slot: bytes) -> bytes:
        with self._database.read() as tx:
            sealed = tx.state(key.handle, slot)
        assert sealed is not None
        return key.open("state", slot, sealed)

    def settle(self) -> None:
        self._database.checkpoint_truncate()

    def close(self) -> None:
        self._database.close()


class Unsealed:
    """Rows as they are, through a connection of any SQLite library.

    Args:
        connection: without a transaction of its own making.
        pragmas: those of ours.
    """

    def __init__(self, connection: Any, pragmas: Mapping[str, object]) -> None:
        self._connection = connection
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}").fetchall()

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        sql, connection, values = _WRITE[table], self._connection, _VALUES[table]
        for frame in frames:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(sql, [values(place, plain) for place, plain in frame])
            connection.execute("COMMIT")

    def read(self, table: str, places: Iterable[Place]) -> int:
        sql, execute = _READ[table], self._connection.execute
        return sum(len(execute(sql, (key.handle, slot)).fetchone()[0]) for key, slot in places)

    def settle(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._connection.close()


_VALUES: Final[Mapping[str, Callable[[Place, bytes], tuple[object, ...]]]] = {
    "personal": lambda place, plain: (place.key.handle, place.slot, DAY, plain),
    "state": lambda place, plain: (place.key.handle, place.slot, plain),
    "journal": lambda place, plain: (place.key.handle, DAY, plain),
}


def plain_apsw(path: Path, pragmas: Mapping[str, object]) -> Store:
    """The limit: the library that we use, no cipher, nothing sealed."""
    store = Unsealed(connection := apsw.Connection(str(path)), pragmas)
    connection.execute(SCHEMA)
    return store


def pages_only(path: Path, pragmas: Mapping[str, object]) -> Store:
    """Our encrypted connection, as the product opens it, with nothing sealed."""
    opened = open_encrypted(str(path), PAGE_KEY, vfs=None, create=True, agree=bool)
    return Unsealed(opened.connection, pragmas)


def sqlite_plain(path: Path, pragmas: Mapping[str, object]) -> Store:
    """The standard library's SQLite."""
    store = Unsealed(connection := sqlite3.connect(path, isolation_level=None), pragmas)
    connection.executescript(SCHEMA)
    return store


def sqlcipher() -> Make | None:
    """SQLCipher by the package `sqlcipher3`, with a raw key; None where it is not installed."""
    try:
        library: Any = importlib.import_module("sqlcipher3.dbapi2")
    except ImportError:
        return None

    def made(path: Path, pragmas: Mapping[str, object]) -> Store:
        connection = library.connect(str(path), isolation_level=None)
        connection.execute(f"PRAGMA key = \"x'{PAGE_KEY.hex()}'\"")
        store = Unsealed(connection, pragmas)
        connection.executescript(SCHEMA)
        return store

    return made
