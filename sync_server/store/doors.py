"""What the doors keep: replies under idempotency keys, registered catalogs, and a few named values."""

from __future__ import annotations

import json

from sync_server.store.chapter import Chapter
from sync_server.store.records import CatalogRow, KeptReply

_CATALOG = "name, version, fingerprint, document, registered_us"


class DoorReads(Chapter):
    """Questions that the doors ask."""

    def kept_reply(self, door: str, key: str) -> KeptReply | None:
        """The reply given before under this door's idempotency key."""
        row = self.execute(
            "SELECT fingerprint, status, headers, body FROM idempotency WHERE door = ? AND key = ?",
            (door, key),
        ).fetchone()
        if row is None:
            return None
        return KeptReply(row[0], row[1], tuple((a, b) for a, b in json.loads(row[2])), row[3])

    def catalog(self, name: str, version: int) -> CatalogRow | None:
        """One registered catalog version."""
        row = self.execute(
            f"SELECT {_CATALOG} FROM catalogs WHERE name = ? AND version = ?", (name, version)
        ).fetchone()
        return None if row is None else CatalogRow(*row)

    def catalogs(self, limit: int) -> list[CatalogRow]:
        """Registered versions, newest registration first."""
        found = self.execute(
            f"SELECT {_CATALOG} FROM catalogs ORDER BY registered_us DESC, version DESC, name LIMIT ?",
            (limit,),
        )
        return [CatalogRow(*row) for row in found]

    def meta(self, key: str) -> bytes | None:
        """A named value."""
        row = self.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])


class DoorWrites(DoorReads):
    """Changes that the doors make."""

    def keep_reply(self, door: str, key: str, reply: KeptReply, created_us: int) -> None:
        """Keep a reply, so that a repeat of the request gets the same. It takes the place of `BEGUN`."""
        self.execute(
            "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?)",
            (door, key, reply.fingerprint, reply.status, json.dumps(reply.headers), reply.body, created_us),
        )

    def drop_replies(self, before_us: int) -> int:
        """Forget replies kept since before then."""
        return self.execute("DELETE FROM idempotency WHERE created_us < ?", (before_us,)).rowcount

    def add_catalog(self, row: CatalogRow) -> None:
        """Register a catalog version."""
        self.execute(
            "INSERT INTO catalogs VALUES (?, ?, ?, ?, ?)",
            (row.name, row.version, row.fingerprint, row.document, row.registered_us),
        )

    def sign_catalog(self, row: CatalogRow) -> None:
        """Keep the document of a registered version with a newer signature in it."""
        self.execute(
            "UPDATE catalogs SET document = ? WHERE name = ? AND version = ? AND fingerprint = ?",
            (row.document, row.name, row.version, row.fingerprint),
        )

    def set_meta(self, key: str, value: bytes) -> None:
        """Set a named value."""
        self.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))
