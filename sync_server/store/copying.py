"""A consistent copy of a database of ours while its server runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sync_server.consent import merkle
from sync_server.errors import StoreForeign
from sync_server.store.schema import APPLICATION_ID


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy of `server.db` holds."""

    schema: int
    size: int
    """Steps of the ledger."""
    root: bytes
    lease_us: int
    """Longest lease that its server was ever set to grant."""
    catalog: str
    """`name@version` in force, or registered last; empty for none."""


def copy_database(source: Path, target: Path) -> None:
    """Copy a database page by page (SQLite's backup API), as of one moment; `target` is private to its owner.

    The whole copy is one read transaction, so a server that writes meanwhile is neither stopped nor seen.
    Raises `StoreForeign` for a source that is not a database of ours, or a disk that has no room; then there
    is no `target`.
    """
    target.touch(mode=0o600)
    try:
        _copy(source, target)
    except BaseException:
        target.unlink()
        raise


def _copy(source: Path, target: Path) -> None:
    with closing(_read_only(source)) as old, closing(sqlite3.connect(target, isolation_level=None)) as new:
        try:
            if old.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StoreForeign(f"{source.name} is no database of this server; nothing was copied")
            old.backup(new)
        except sqlite3.DatabaseError as error:
            raise StoreForeign(f"{source.name} cannot be copied: {error}; nothing was kept") from None
        new.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself


def look_at(database: Path) -> Copied:
    """What stands in a copy of `server.db`. Raises `StoreForeign` for one that is damaged or none of ours."""
    with closing(_read_only(database)) as copy:
        try:
            schema = int(copy.execute("PRAGMA user_version").fetchone()[0])
            fault = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if copy.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID or fault != "ok":
                raise StoreForeign(f"{database.name} is damaged or no store of ours; untouched")
            size = int(copy.execute("SELECT coalesce(max(seq), 0) FROM evidence").fetchone()[0])
            found = copy.execute(
                "SELECT name || '@' || version FROM catalogs"
                " ORDER BY registered_us DESC, version DESC LIMIT 1"
            ).fetchone()
            lease = copy.execute("SELECT value FROM meta WHERE key = 'longest_lease_us'").fetchone()
            root = merkle.root(size, lambda level, place: _node(copy, level, place))
        except sqlite3.DatabaseError as error:
            raise StoreForeign(f"{database.name} is no store ({type(error).__name__}); untouched") from None
    lease_us = 0 if lease is None else int(lease[0])
    return Copied(schema, size, root, lease_us, "" if found is None else found[0])


def _node(copy: sqlite3.Connection, level: int, place: int) -> bytes:
    row = copy.execute(
        "SELECT hash FROM ledger_nodes WHERE level = ? AND place = ?", (level, place)
    ).fetchone()
    if row is None:
        raise StoreForeign(f"the ledger has lost node {level}:{place}; untouched")
    return bytes(row[0])


def _read_only(path: Path) -> sqlite3.Connection:
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    except sqlite3.OperationalError:
        raise StoreForeign(f"expected {path.name} in {path.parent}, found none; nothing was made") from None
