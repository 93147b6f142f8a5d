"""SQL of access: API tokens. Never a secret, only its hash."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.wire.printing import prints_only
from sync_server.store.aggregates import Statements

ACCESS_TABLES: Final = """
-- ---- access ----------------------------------------------------------------------------------------
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,         -- tok-<16 of base32>
    name TEXT NOT NULL,          -- for people
    scopes TEXT NOT NULL,        -- JSON list
    teams TEXT,                  -- JSON list: owners of the views that it may touch; NULL: any view
    destinations TEXT,           -- JSON list: recipients, streams, webhooks it is bound to; NULL: to none
    per_s INTEGER,               -- requests a second; NULL: the server's setting
    burst INTEGER,               -- requests at once; NULL: the server's setting
    created_us INTEGER NOT NULL,
    created_by TEXT NOT NULL,    -- actor, as in audit
    expires_us INTEGER,          -- NULL: never
    revoked_us INTEGER,
    used_us INTEGER,             -- last use, coarse
    change INTEGER NOT NULL      -- number of its last change among those of all tokens
) WITHOUT ROWID;
CREATE INDEX api_tokens_by_change ON api_tokens (change);
CREATE TABLE api_token_secrets (
    hash BLOB PRIMARY KEY,       -- SHA-256 of the token's text; the text is nowhere
    token TEXT NOT NULL,
    made_us INTEGER NOT NULL,
    until_us INTEGER             -- replaced by a newer one, and good until then; NULL: the present one
) WITHOUT ROWID;
CREATE INDEX api_token_secrets_by_token ON api_token_secrets (token);
"""


@prints_only("made_us", "until_us")
@dataclass(frozen=True, slots=True)
class TokenSecret:
    """What is kept of one secret of a token."""

    hash: bytes
    made_us: int
    until_us: int | None
    """A newer one took its place, and it is good until then; None: the present one."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token as it stands."""

    id: str
    name: str
    scopes: tuple[str, ...]
    teams: tuple[str, ...] | None
    """Owners of the views that it may touch; None: any."""
    destinations: tuple[str, ...] | None
    """Recipients, streams and webhooks for whose receiver alone it speaks; None: it is bound to none."""
    per_s: int | None
    """Requests a second; None: the server's setting. So with `burst`, requests at once."""
    burst: int | None
    created_us: int
    created_by: str
    """Actor, as in the audit log."""
    expires_us: int | None
    revoked_us: int | None
    used_us: int | None
    """Last use, coarse."""


SECRETS: Final = 8
"""Most secrets of one token at a time; who rotates faster than grace ends loses the oldest."""
_TOKEN: Final = (
    "id, name, scopes, teams, destinations, per_s, burst, created_us, created_by, expires_us, revoked_us,"
    " used_us"
)


class AccessRows:
    """The tokens' rows inside one transaction of the store; it neither begins nor ends one."""

    def __init__(self, tx: Statements) -> None:
        self._db = tx

    def token(self, token_id: str) -> ApiToken | None:
        """The token with this id."""
        found = self._db.execute(f"SELECT {_TOKEN} FROM api_tokens WHERE id = ?", (token_id,)).fetchone()
        return None if found is None else _token(found)

    def tokens(self, after: str, limit: int) -> list[ApiToken]:
        """A page of tokens, by id."""
        found = self._db.execute(
            f"SELECT {_TOKEN} FROM api_tokens WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return [_token(row) for row in found]

    def tokens_changed(self, after: int) -> list[tuple[int, ApiToken]]:
        """(number of the change, token) of those that changed after that number, in order."""
        found = self._db.execute(
            f"SELECT change, {_TOKEN} FROM api_tokens WHERE change > ? ORDER BY change", (after,)
        )
        return [(row[0], _token(row[1:])) for row in found]

    def number_change(self, token_id: str, number: int) -> None:
        """Give a token's change its number, higher than all before."""
        self._db.execute("UPDATE api_tokens SET change = ? WHERE id = ?", (number, token_id))

    def count_tokens(self) -> int:
        """How many there are, ended ones too."""
        return int(self._db.execute("SELECT count(*) FROM api_tokens").fetchone()[0])

    def secrets(self, token_id: str) -> list[TokenSecret]:
        """The secrets of a token, the newest first."""
        found = self._db.execute(
            "SELECT hash, made_us, until_us FROM api_token_secrets WHERE token = ?"
            " ORDER BY until_us IS NOT NULL, made_us DESC, hash",
            (token_id,),
        )
        return [TokenSecret(*row) for row in found]

    def add_token(self, token: ApiToken) -> None:
        """Insert a token that has no secret yet."""
        bounds = [None if names is None else json.dumps(names) for names in (token.teams, token.destinations)]
        self._db.execute(
            f"INSERT INTO api_tokens ({_TOKEN}, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
            (
                *(token.id, token.name, json.dumps(token.scopes), *bounds, token.per_s, token.burst),
                *(token.created_us, token.created_by, token.expires_us, token.revoked_us, token.used_us),
            ),
        )

    def add_secret(self, token_id: str, digest: bytes, now_us: int, until_us: int) -> None:
        """Give a token its newest secret; those before it are good until `until_us` at most.

        Of those the newest `SECRETS` - 1 are kept.
        """
        of_token = "api_token_secrets WHERE token = ?1"
        kept = f"SELECT hash FROM {of_token} ORDER BY until_us IS NOT NULL, made_us DESC LIMIT {SECRETS - 1}"
        self._db.execute(f"DELETE FROM {of_token} AND hash NOT IN ({kept})", (token_id,))
        self._db.execute(
            "UPDATE api_token_secrets SET until_us = min(coalesce(until_us, ?1), ?1) WHERE token = ?2",
            (until_us, token_id),
        )
        self._db.execute(f"DELETE FROM {of_token} AND until_us <= ?2", (token_id, now_us))
        self._db.execute("INSERT INTO api_token_secrets VALUES (?, ?, ?, NULL)", (digest, token_id, now_us))

    def revoke_token(self, token_id: str, now_us: int) -> None:
        """End a token; its hashes go, so nothing brings it back."""
        self._db.execute(
            "UPDATE api_tokens SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL", (now_us, token_id)
        )
        self._db.execute("DELETE FROM api_token_secrets WHERE token = ?", (token_id,))

    def revoke_all(self, now_us: int) -> int:
        """End every token; returns how many were good until now."""
        ended = self._db.execute(
            "UPDATE api_tokens SET revoked_us = ?1"
            " WHERE revoked_us IS NULL AND (expires_us IS NULL OR expires_us > ?1)",
            (now_us,),
        )
        self._db.execute("DELETE FROM api_token_secrets")
        return ended.rowcount

    def note_uses(self, uses: Iterable[tuple[str, int]]) -> None:
        """(token, when) of last uses."""
        self._db.execute_many(
            "UPDATE api_tokens SET used_us = ? WHERE id = ?", [(at_us, token) for token, at_us in uses]
        )

    def drop_tokens_ended(self, before_us: int) -> int:
        """Forget tokens that ended before then; returns how many."""
        ended = "SELECT id FROM api_tokens WHERE revoked_us < ?1 OR expires_us < ?1"
        self._db.execute(f"DELETE FROM api_token_secrets WHERE token IN ({ended})", (before_us,))
        return self._db.execute(f"DELETE FROM api_tokens WHERE id IN ({ended})", (before_us,)).rowcount


def _token(row: tuple[Any, ...]) -> ApiToken:
    token_id, name, scopes, teams, destinations, *rest = row
    return ApiToken(token_id, name, tuple(json.loads(scopes)), _names(teams), _names(destinations), *rest)


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))
