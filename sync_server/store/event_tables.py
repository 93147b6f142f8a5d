"""The tables of events: what came true, who is told, what is still owed, and who must acknowledge."""

from __future__ import annotations

from typing import Final

_TABLES: Final = """
-- ---- events ----------------------------------------------------------------------------------------
CREATE TABLE revocation_told (
    revocation TEXT PRIMARY KEY, -- one row a revocation: which of its changes were made events
    enforced_us INTEGER,         -- when each came true; NULL: not yet
    erased_us INTEGER,
    completed_us INTEGER,        -- the newest completion
    overdue_us INTEGER,
    amendments INTEGER NOT NULL, -- completions after the first
    next_us INTEGER              -- when time may make another one true; NULL: only an answer can
) WITHOUT ROWID;
CREATE INDEX revocation_told_due ON revocation_told (next_us) WHERE next_us IS NOT NULL;
CREATE INDEX targets_using ON targets (revocation, lease_bound_us) WHERE acked_us IS NULL;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,     -- order in which they came true
    jti TEXT NOT NULL UNIQUE,    -- one for each change, the same at every delivery
    kind TEXT NOT NULL,
    revocation TEXT,             -- which one it is about; NULL for a decision or a verification
    subject BLOB,                -- pseudonym; NULL for a verification
    at_us INTEGER NOT NULL,      -- when it came true
    noticed_us INTEGER NOT NULL, -- when it was written down
    body BLOB NOT NULL           -- JSON, without a subject
);
CREATE TABLE destinations (
    id TEXT PRIMARY KEY,
    method TEXT NOT NULL,        -- poll | push | webhook | callback
    url TEXT NOT NULL,           -- empty for poll
    host TEXT NOT NULL,          -- of the url
    header BLOB NOT NULL,        -- Authorization that a push carries; empty for none
    kinds TEXT NOT NULL,         -- JSON list
    purposes TEXT,               -- JSON list; NULL for all
    description TEXT NOT NULL,
    revocation TEXT,             -- the only one that a callback is about
    status TEXT NOT NULL,        -- enabled | paused
    reason TEXT NOT NULL,        -- for that status
    created_us INTEGER NOT NULL,
    next_us INTEGER,             -- when to look at it next; NULL: nothing waits
    failures INTEGER NOT NULL,   -- in a row
    failing_us INTEGER,          -- since when nothing arrives
    error TEXT NOT NULL          -- the last failure, in our words
) WITHOUT ROWID;
CREATE INDEX destinations_due ON destinations (next_us) WHERE next_us IS NOT NULL;
CREATE INDEX destinations_of_revocation ON destinations (revocation);
CREATE TABLE deliveries (
    destination TEXT NOT NULL,   -- a row stands until the destination has acknowledged
    event INTEGER NOT NULL,
    state TEXT NOT NULL,         -- waiting | dead
    next_us INTEGER NOT NULL,    -- not tried before
    attempts INTEGER NOT NULL,
    tried_us INTEGER,            -- last attempt
    error TEXT NOT NULL,
    PRIMARY KEY (destination, event)
) WITHOUT ROWID;
CREATE INDEX deliveries_waiting ON deliveries (destination, next_us, event) WHERE state = 'waiting';
CREATE INDEX deliveries_dead ON deliveries (event) WHERE state = 'dead';
CREATE INDEX deliveries_by_event ON deliveries (event);
CREATE TABLE recipients (
    name TEXT PRIMARY KEY,       -- an onward recipient (GDPR Art. 19)
    purposes TEXT,               -- JSON list; NULL for all
    destination TEXT NOT NULL,   -- webhook or stream by which it is told
    created_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX recipients_by_destination ON recipients (destination);
CREATE TABLE recipient_answers (
    revocation TEXT NOT NULL,
    recipient TEXT NOT NULL,
    destination TEXT NOT NULL,
    told_us INTEGER,             -- when its system took delivery
    answered_us INTEGER,
    outcome TEXT,                -- erased | held_none | cannot | removed
    reason TEXT NOT NULL,        -- for cannot
    PRIMARY KEY (revocation, recipient)
) WITHOUT ROWID;
CREATE INDEX recipient_answers_owing ON recipient_answers (revocation) WHERE answered_us IS NULL;
CREATE INDEX recipient_answers_by_name ON recipient_answers (recipient) WHERE answered_us IS NULL;
"""

EVENT_TABLES: Final = _TABLES
EVENTS_FROM_2: Final = (
    _TABLES + "INSERT INTO revocation_told SELECT id, NULL, NULL, NULL, NULL, 0, 0 FROM revocations;\n"
)
"""The same, and a look at each revocation of before: what is true of it by now is noticed, and told to
nobody, for nobody had registered."""
