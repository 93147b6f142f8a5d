"""SQL of access: API tokens (never the secret, only its hash), and the audit log."""

from __future__ import annotations

from typing import Final

ACCESS_TABLES: Final = """
-- ---- access ----------------------------------------------------------------------------------------
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,         -- tok-<16 of base32>
    name TEXT NOT NULL,          -- for people
    scopes TEXT NOT NULL,        -- JSON list
    teams TEXT,                  -- JSON list: owners of the views that it may touch; NULL: any view
    per_s INTEGER,               -- requests a second; NULL: the server's setting
    burst INTEGER,               -- requests at once; NULL: the server's setting
    created_us INTEGER NOT NULL,
    created_by TEXT NOT NULL,    -- actor, as in audit
    expires_us INTEGER,          -- NULL: never
    revoked_us INTEGER,
    used_us INTEGER              -- last use, coarse
) WITHOUT ROWID;
CREATE TABLE api_token_secrets (
    hash BLOB PRIMARY KEY,       -- SHA-256 of the token's text; the text is nowhere
    token TEXT NOT NULL,
    made_us INTEGER NOT NULL,
    until_us INTEGER             -- replaced by a newer one, and good until then; NULL: the present one
) WITHOUT ROWID;
CREATE INDEX api_token_secrets_by_token ON api_token_secrets (token);
CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,     -- dense; the oldest go first, the newest stays
    at_us INTEGER NOT NULL,      -- the first of the calls that this row counts
    last_us INTEGER NOT NULL,    -- the last of them
    count INTEGER NOT NULL,
    actor TEXT NOT NULL,         -- bootstrap | token:<id> | oidc:<keyed hash> | nobody
    name TEXT NOT NULL,          -- of the token
    method TEXT NOT NULL,
    route TEXT NOT NULL,         -- as in the route table, never a path
    outcome TEXT NOT NULL,       -- changed | answered | refused | failed
    status INTEGER NOT NULL,
    code TEXT NOT NULL,          -- of the problem; empty for none
    resource TEXT NOT NULL,      -- id of what it was about; empty for none; never a subject
    hash BLOB NOT NULL           -- SHA-256 over the hash before it and this row
);
CREATE TRIGGER audit_stands BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_ends_at_its_front BEFORE DELETE ON audit
WHEN OLD.seq <> (SELECT min(seq) FROM audit) OR OLD.seq = (SELECT max(seq) FROM audit)
BEGIN SELECT RAISE(ABORT, 'only the oldest go, and never the newest'); END;
"""
