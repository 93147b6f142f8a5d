"""Stores that `bench cache` compares: the same tables, rows, transactions and settings, behind two verbs.

Ours seals each row under its subject's key and goes through the cache's own doors. All others write the rows
as they are, in the quickest way their library has (`executemany`): plain apsw is the limit, our encrypted
connection with nothing sealed tells what pages cost, SQLCipher and the standard library's SQLite are peers.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, cast

import apsw
import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import SCHEMA
from edge_runtime.cache.stored_state import Snapshot, StoredState, open_state, seal_state
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.keys.datakey import DataKey
from edge_runtime.sync.personal_rows import open_row, seal_row
from edge_runtime.wire.messages import Row

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
"""In an order in which SQLite accepts them."""

HASH: Final = bytes(16)
"""What a server row has in its channel's digest."""

Record = Row | StoredState | bytes
"""A row before it is packed: of `personal`, `state`, `journal` (entries come packed)."""


class Place(NamedTuple):
    """Where a row lies, and the key of its subject."""

    key: DataKey
    slot: bytes


class Settings(NamedTuple):
    """What every store takes over from ours."""

    vfs: str
    pragmas: dict[str, object]


Frame = list[tuple[Place, Record]]
"""Rows of one transaction."""


class Store(Protocol):
    """One contestant, on a file of its own."""

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        """Write each frame in a transaction that is durable at its end."""
        ...

    def read(self, table: str, places: Iterable[Place]) -> list[Record | None]:
        """Read single rows in the order given."""
        ...

    def settle(self) -> None:
        """Bring the write-ahead log into the file."""
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


class Make(Protocol):
    """Makes a store on a fresh file, with the settings of ours."""

    def __call__(self, path: Path, settings: Settings) -> Store: ...


class Ours:
    """The product: rows sealed under their subject's key, pages encrypted, the cache's own doors."""

    def __init__(self, path: Path) -> None:
        self._database = Database.open(str(path), PAGE_KEY)

    def settings(self) -> Settings:
        """What our writing connection runs with."""
        connection = self._database._connection()
        pragmas = {name: connection.pragma(name) for name in PRAGMAS}
        return Settings(str(connection.vfsname("main")).rpartition("/")[2], pragmas)

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        write = {"personal": self._personal, "state": self._state, "journal": self._journal}[table]
        for frame in frames:
            with self._database.write("bench") as tx:
                write(tx, frame)

    def _personal(self, tx: WriteTransaction, frame: Frame) -> None:
        """As the shelf of a subject's channel does it."""
        key = frame[0][0].key
        rows = [(slot, DAY, seal_row(key, slot, cast(Row, row), HASH)) for (_, slot), row in frame]
        tx.put_personal_rows(key.handle, rows)

    def _state(self, tx: WriteTransaction, frame: Frame) -> None:
        """As the group commit stores states."""
        for (key, slot), state in frame:
            kept = cast(StoredState, state)
            snapshot = Snapshot(key, slot, kept.view, kept.entity, kept.dump, kept.since, DAY, DAY)
            tx.put_state(key.handle, slot, DAY, seal_state(snapshot, kept.through))

    def _journal(self, tx: WriteTransaction, frame: Frame) -> None:
        """As the group commit appends events."""
        tx.append_events(
            [(key.handle, DAY, key.seal("journal", key.handle, cast(bytes, row))) for (key, _), row in frame]
        )

    def read(self, table: str, places: Iterable[Place]) -> list[Record | None]:
        read = {"personal": self._personal_row, "state": self._state_row}[table]
        return [read(key, slot) for key, slot in places]

    def _personal_row(self, key: DataKey, slot: bytes) -> Row | None:
        sealed = self._database.ask(lambda tx: tx.personal_row(key.handle, slot))
        return None if sealed is None else open_row(key, slot, sealed)

    def _state_row(self, key: DataKey, slot: bytes) -> StoredState | None:
        sealed = self._database.ask(lambda tx: tx.state(key.handle, slot))
        return None if sealed is None else open_state(key, slot, sealed)

    def settle(self) -> None:
        self._database.checkpoint_truncate()

    def close(self) -> None:
        self._database.close()


class Unsealed:
    """Rows as they are, through a connection of any SQLite library.

    Args:
        connection: without a transaction of its own making.
        pragmas: those of ours.
        close: how it is let go, where closing the connection is not enough.
    """

    def __init__(
        self, connection: Any, pragmas: Mapping[str, object], close: Callable[[], None] | None = None
    ) -> None:
        self._connection, self._close = connection, close or connection.close
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}").fetchall()

    def write(self, table: str, frames: Iterable[Frame]) -> None:
        form, connection = _FORMS[table], self._connection
        for frame in frames:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(form.write, [form.columns(place, record) for place, record in frame])
            connection.execute("COMMIT")

    def read(self, table: str, places: Iterable[Place]) -> list[Record | None]:
        execute, sql, unpack = self._connection.execute, _FORMS[table].read, _FORMS[table].unpack
        return [unpack(execute(sql, (key.handle, slot)).fetchone()[0]) for key, slot in places]

    def settle(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        self._close()


class _Plain(msgspec.Struct, frozen=True, array_like=True):
    """A server row with its hash, in the bytes that we seal."""

    row: Row
    hash: bytes


class _Form(NamedTuple):
    """How one table is written and read by hand."""

    write: str
    read: str
    columns: Callable[[Place, Any], tuple[object, ...]]
    unpack: Callable[[bytes], Record]


_pack = msgspec.msgpack.Encoder().encode
_unpack_row = msgspec.msgpack.Decoder(_Plain).decode
_FORMS: Final[Mapping[str, _Form]] = {
    "personal": _Form(
        "INSERT INTO personal(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
        " ON CONFLICT(handle, slot) DO UPDATE SET day = excluded.day, sealed = excluded.sealed",
        "SELECT sealed FROM personal WHERE handle = ? AND slot = ?",
        lambda place, row: (place.key.handle, place.slot, DAY, _pack(_Plain(row, HASH))),
        lambda packed: _unpack_row(packed).row,
    ),
    "state": _Form(
        "INSERT INTO state(handle, slot, day, sealed) VALUES(?, ?, ?, ?)"
        " ON CONFLICT(handle, slot) DO UPDATE SET day = excluded.day, sealed = excluded.sealed",
        "SELECT sealed FROM state WHERE handle = ? AND slot = ?",
        lambda place, state: (place.key.handle, place.slot, DAY, _pack(state)),
        msgspec.msgpack.Decoder(StoredState).decode,
    ),
    "journal": _Form(
        "INSERT INTO journal(handle, day, sealed) VALUES(?, ?, ?)",
        "",
        lambda place, entries: (place.key.handle, DAY, entries),
        bytes,
    ),
}


def plain_apsw(path: Path, settings: Settings) -> Store:
    """The limit: the library that we use, no cipher, nothing sealed."""
    store = Unsealed(connection := apsw.Connection(str(path), vfs=settings.vfs), settings.pragmas)
    connection.execute(SCHEMA)
    return store


def pages_only(path: Path, settings: Settings) -> Store:
    """Our encrypted connection, as the product opens it, with nothing sealed."""
    database = Database.open(str(path), PAGE_KEY)
    return Unsealed(database._connection(), settings.pragmas, database.close)


def sqlite_plain(path: Path, settings: Settings) -> Store:
    """The standard library's SQLite."""
    connection = sqlite3.connect(_uri(path, settings), isolation_level=None, uri=True)
    store = Unsealed(connection, settings.pragmas)
    connection.executescript(SCHEMA)
    return store


def sqlcipher() -> Make | None:
    """SQLCipher by the package `sqlcipher3`, with a raw key; None where it is not installed."""
    try:
        library: Any = importlib.import_module("sqlcipher3.dbapi2")
    except ImportError:
        return None

    def made(path: Path, settings: Settings) -> Store:
        connection = library.connect(_uri(path, settings), isolation_level=None, uri=True)
        connection.execute(f"PRAGMA key = \"x'{PAGE_KEY.hex()}'\"")
        store = Unsealed(connection, settings.pragmas)
        connection.executescript(SCHEMA)
        return store

    return made


def _uri(path: Path, settings: Settings) -> str:
    return f"{path.as_uri()}?vfs={settings.vfs}"
