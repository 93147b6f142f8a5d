"""SQL of the registry: every version of the privacy part that was ever in force, and every notice.

Neither is ever changed or deleted, but for a newer signature: the ledger names both by their hashes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

REGISTRY_TABLES: Final = """
-- ---- registry of purposes and notices --------------------------------------------------------------
CREATE TABLE registry_versions (
    version INTEGER PRIMARY KEY, -- from 1, dense, in the order in which they came into force
    fingerprint BLOB NOT NULL UNIQUE, -- SHA-256 of the canonical privacy part
    part BLOB NOT NULL,          -- the privacy part, canonical JSON
    signature BLOB,              -- the newest one over it, JSON; NULL: nobody signed it
    registered_us INTEGER NOT NULL
);
CREATE TABLE notices (
    version TEXT PRIMARY KEY,
    notice BLOB NOT NULL,        -- as its catalog declared it, JSON
    content_hash BLOB NOT NULL,  -- SHA-256 of its text; empty when not declared
    registered_us INTEGER NOT NULL
) WITHOUT ROWID;
"""

EVIDENCE_FROM_2: Final = """
ALTER TABLE evidence ADD COLUMN notice_hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE evidence ADD COLUMN registry BLOB NOT NULL DEFAULT x'';
ALTER TABLE evidence ADD COLUMN signals TEXT NOT NULL DEFAULT '';
"""

_NOTE: Final = "version, fingerprint, signature, registered_us"
_IN_FORCE: Final = "registry"
"""In `meta`: the version in force, as decimal digits."""


@dataclass(frozen=True, slots=True)
class RegistryNote:
    """One version of the privacy part, by what names it."""

    version: int
    fingerprint: bytes
    signature: bytes | None
    """The newest one over it, JSON; None: nobody signed it."""
    registered_us: int


@dataclass(frozen=True, slots=True)
class RegistryRow(RegistryNote):
    """One version of the privacy part, whole."""

    part: bytes
    """Canonical JSON."""


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """One notice as it was first declared."""

    version: str
    notice: bytes
    """JSON."""
    content_hash: bytes
    """SHA-256 of its text; empty when not declared."""
    registered_us: int


class _Transaction(Protocol):
    def execute(self, sql: str, values: Sequence[object] = ()) -> sqlite3.Cursor: ...


class RegistryRows:
    """The registry's part of a transaction."""

    def __init__(self, tx: _Transaction) -> None:
        self._tx = tx

    # ---- the privacy part --------------------------------------------------------------------------------

    def in_force(self) -> RegistryRow | None:
        """The version in force; None before the first catalog."""
        row = self._tx.execute(
            f"SELECT {_NOTE}, part FROM registry_versions"
            " WHERE version = (SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?)",
            (_IN_FORCE,),
        ).fetchone()
        return None if row is None else RegistryRow(*row)

    def named(self, fingerprint: bytes) -> RegistryRow | None:
        """The version with this fingerprint."""
        row = self._tx.execute(
            f"SELECT {_NOTE}, part FROM registry_versions WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        return None if row is None else RegistryRow(*row)

    def fingerprint(self) -> bytes:
        """Of the version in force; empty before the first catalog."""
        row = self._tx.execute(
            "SELECT fingerprint FROM registry_versions"
            " WHERE version = (SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?)",
            (_IN_FORCE,),
        ).fetchone()
        return b"" if row is None else bytes(row[0])

    def versions(self, limit: int) -> list[RegistryNote]:
        """At most `limit` versions, newest first."""
        found = self._tx.execute(
            f"SELECT {_NOTE} FROM registry_versions ORDER BY version DESC LIMIT ?", (limit,)
        )
        return [RegistryNote(*row) for row in found]

    def purpose(self, name: str, limit: int) -> list[tuple[RegistryNote, str]]:
        """A purpose as JSON in each of the newest `limit` versions that declare it, newest first.

        Args:
            name: of letters, digits, `_` and `-`, as purposes are named.
        """
        newest = f"SELECT {_NOTE}, part FROM registry_versions ORDER BY version DESC LIMIT ?"
        found = self._tx.execute(
            f"SELECT {_NOTE}, json_extract(CAST(part AS TEXT), ?) FROM ({newest})",
            (f'$.purposes."{name}"', limit),
        )
        return [(RegistryNote(*row[:-1]), row[-1]) for row in found if row[-1] is not None]

    def put_in_force(self, fingerprint: bytes, part: bytes, signature: bytes | None, now_us: int) -> int:
        """Make this privacy part the one in force; it gets the next version unless it has one. Returns it."""
        row = self._tx.execute(
            "SELECT version FROM registry_versions WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        version = self._add(fingerprint, part, now_us) if row is None else int(row[0])
        if signature is not None:
            self._tx.execute(
                "UPDATE registry_versions SET signature = ? WHERE version = ?", (signature, version)
            )
        self._tx.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_IN_FORCE, str(version).encode()))
        return version

    def _add(self, fingerprint: bytes, part: bytes, now_us: int) -> int:
        added = self._tx.execute(
            "INSERT INTO registry_versions (fingerprint, part, registered_us) VALUES (?, ?, ?)",
            (fingerprint, part, now_us),
        ).lastrowid
        assert added is not None
        return added

    # ---- notices -----------------------------------------------------------------------------------------

    def notice(self, version: str) -> NoticeRow | None:
        """A notice that some catalog declares or declared."""
        row = self._tx.execute(
            "SELECT version, notice, content_hash, registered_us FROM notices WHERE version = ?", (version,)
        ).fetchone()
        return None if row is None else NoticeRow(*row)

    def notice_hash(self, version: str) -> bytes:
        """SHA-256 of a notice's text; empty when nobody declared it."""
        row = self._tx.execute("SELECT content_hash FROM notices WHERE version = ?", (version,)).fetchone()
        return b"" if row is None else bytes(row[0])

    def notices(self, limit: int) -> list[NoticeRow]:
        """Notices by version."""
        found = self._tx.execute(
            "SELECT version, notice, content_hash, registered_us FROM notices ORDER BY version LIMIT ?",
            (limit,),
        )
        return [NoticeRow(*row) for row in found]

    def add_notice(self, row: NoticeRow) -> None:
        """Register a notice for ever."""
        self._tx.execute(
            "INSERT INTO notices VALUES (?, ?, ?, ?)",
            (row.version, row.notice, row.content_hash, row.registered_us),
        )
