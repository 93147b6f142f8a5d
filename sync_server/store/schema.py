"""The server's tables: the schema in one piece, and the steps that bring an older file to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sync_server.store.access import ACCESS_TABLES
from sync_server.store.aggregate_tables import AGGREGATE_TABLES, AGGREGATES_FROM_3
from sync_server.store.audit import AUDIT_TABLES
from sync_server.store.event_tables import EVENT_TABLES, EVENTS_FROM_2
from sync_server.store.forgetting import FORGETTING_TABLES
from sync_server.store.ledger import LEDGER_TABLES
from sync_server.store.registry import EVIDENCE_FROM_2, REGISTRY_TABLES
from sync_server.store.restores import RESTORE_TABLES
from sync_server.store.row_tables import ROW_TABLES, ROWS_FROM_1

APPLICATION_ID: Final = 0x45534E43  # "ESNC"
VERSION: Final = 4
KEY_VERSION: Final = 1
"""Of `keys.db`."""

_TABLES: Final = """
CREATE TABLE meta (
    key TEXT PRIMARY KEY,        -- partitions, active_catalog, tiers, rows_coming, flushed, longest_lease_us
    value BLOB NOT NULL
) WITHOUT ROWID;

-- ---- consent ---------------------------------------------------------------------------------------
CREATE TABLE evidence (
    seq INTEGER PRIMARY KEY,     -- ledger position, from 1, dense
    subject BLOB NOT NULL,       -- pseudonym
    purpose TEXT NOT NULL,
    state TEXT NOT NULL,         -- what was said
    outcome TEXT NOT NULL,       -- recorded | superseded
    notice TEXT NOT NULL,
    base INTEGER NOT NULL,       -- newest lane position seen when it was said
    actor TEXT NOT NULL,         -- api, or device:<id>
    decision BLOB,               -- id given by the actor, 16 bytes
    at_us INTEGER NOT NULL,      -- when it was said, by the actor's clock
    recorded_us INTEGER NOT NULL,
    grant_seq INTEGER NOT NULL,  -- live grant after this step; 0 for none
    salt BLOB NOT NULL,          -- opens the leaf's commitment
    leaf BLOB NOT NULL,          -- the bytes that the ledger hashes
    notice_hash BLOB NOT NULL DEFAULT x'', -- SHA-256 of the text shown, where its notice declares it
    registry BLOB NOT NULL DEFAULT x'', -- fingerprint of the privacy part in force
    signals TEXT NOT NULL DEFAULT '' -- what the subject's software said, blanks between: gpc
);
CREATE INDEX evidence_by_pair ON evidence (subject, purpose, seq);
CREATE INDEX evidence_by_actor ON evidence (actor, recorded_us);
CREATE UNIQUE INDEX evidence_by_decision ON evidence (actor, decision) WHERE decision IS NOT NULL;
CREATE TABLE ledger_nodes (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,      -- hash of leaves [place << level, (place + 1) << level)
    hash BLOB NOT NULL,
    PRIMARY KEY (level, place)
) WITHOUT ROWID;
CREATE TABLE lane (
    subject BLOB NOT NULL,       -- pseudonym
    purpose TEXT NOT NULL,
    seq INTEGER NOT NULL,        -- lane position of the pair's last change
    state TEXT NOT NULL,
    grant_seq INTEGER NOT NULL,  -- live grant; 0 for none
    denial INTEGER NOT NULL,     -- newest denial; 0 for none
    PRIMARY KEY (subject, purpose)
) WITHOUT ROWID;
CREATE UNIQUE INDEX lane_by_seq ON lane (seq);
CREATE TABLE decided_purposes (
    purpose TEXT PRIMARY KEY     -- every one that stands in the lane
) WITHOUT ROWID;
CREATE TABLE key_erasures (
    subject BLOB NOT NULL,       -- payload keys still to be destroyed in keys.db
    purpose TEXT NOT NULL,
    denial INTEGER NOT NULL,     -- those of every grant before this
    PRIMARY KEY (subject, purpose)
) WITHOUT ROWID;

-- ---- revocations -----------------------------------------------------------------------------------
CREATE TABLE revocations (
    id TEXT PRIMARY KEY,
    subject BLOB NOT NULL,       -- pseudonym
    initiator TEXT NOT NULL,     -- subject | controller
    actor TEXT NOT NULL,         -- api, or device:<id>
    accepted_us INTEGER NOT NULL,
    due_us INTEGER NOT NULL,     -- targets without a receipt then are overdue
    server_erased_us INTEGER,    -- when this server's own copies were unreadable
    server_rows INTEGER NOT NULL, -- rows deleted here
    completed_us INTEGER         -- every target had answered, and so had the server
) WITHOUT ROWID;
CREATE INDEX revocations_unerased ON revocations (id) WHERE server_erased_us IS NULL;
CREATE INDEX revocations_by_time ON revocations (accepted_us);
CREATE TABLE denials (
    seq INTEGER PRIMARY KEY,     -- ledger seq
    revocation TEXT NOT NULL,
    subject BLOB NOT NULL,
    purpose TEXT NOT NULL
);
CREATE INDEX denials_by_revocation ON denials (revocation);
CREATE INDEX denials_by_pair ON denials (subject, purpose, seq);
CREATE TABLE targets (
    revocation TEXT NOT NULL,
    device_id TEXT NOT NULL,
    position INTEGER NOT NULL,   -- lane position to acknowledge
    lease_bound_us INTEGER NOT NULL, -- locked by itself from here on
    acked_us INTEGER,            -- acknowledged the position
    erased_us INTEGER,           -- answered every denial
    late INTEGER NOT NULL,       -- not live at commit, but held some and said so later
    cold_start TEXT NOT NULL DEFAULT 'server', -- as of the device at commit
    PRIMARY KEY (revocation, device_id)
) WITHOUT ROWID;
CREATE INDEX targets_open ON targets (device_id, position) WHERE acked_us IS NULL;
CREATE INDEX targets_owing ON targets (revocation) WHERE erased_us IS NULL;
CREATE TABLE answers (
    denial INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    receipt BLOB NOT NULL,       -- id of the receipt that answers
    kind TEXT NOT NULL,          -- erased | held_none | wiped
    PRIMARY KEY (denial, device_id)
) WITHOUT ROWID;
CREATE TABLE receipts (
    id BLOB PRIMARY KEY,
    device_id TEXT NOT NULL,
    body BLOB NOT NULL,
    signature BLOB NOT NULL,
    received_us INTEGER NOT NULL
) WITHOUT ROWID;

-- ---- devices ---------------------------------------------------------------------------------------
CREATE TABLE device_tokens (
    hash BLOB PRIMARY KEY,       -- of the token; the token itself is nowhere
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    patterns TEXT NOT NULL,      -- JSON list of channel patterns
    used_us INTEGER
) WITHOUT ROWID;
CREATE TABLE devices (
    device_id TEXT PRIMARY KEY,
    public_key BLOB NOT NULL UNIQUE,
    patterns TEXT NOT NULL,      -- JSON list of channel patterns
    enrolled_us INTEGER NOT NULL,
    contact_us INTEGER,          -- last opened session
    lane_acked INTEGER NOT NULL, -- newest lane position enforced there
    counter INTEGER NOT NULL,    -- highest root counter it ever reported
    lease_until_us INTEGER NOT NULL, -- by the server's clock, with drift and margin; 0 for none
    revoked_us INTEGER,
    wiped_us INTEGER,            -- when it said, revoked, that it erased everything
    leased_us INTEGER,           -- when its newest lease was granted
    limits TEXT NOT NULL DEFAULT '{}', -- JSON purpose -> microseconds: shorter leases that it named
    unlimited_us INTEGER NOT NULL DEFAULT 0, -- when leases that named others have ended; as lease_until_us
    cold_start TEXT NOT NULL DEFAULT 'server', -- lease: its leases outlive restarts, by its wall clock
    revoked_why TEXT,            -- why it was shut out, as the operator said
    enrolled_lane INTEGER NOT NULL DEFAULT 0 -- lane position at its enrolment: what is older never was there
) WITHOUT ROWID;
CREATE INDEX devices_live ON devices (lease_until_us);
CREATE TABLE device_keys (
    public_key BLOB PRIMARY KEY, -- one that a device signed with before it named the next
    device_id TEXT NOT NULL,
    until_us INTEGER NOT NULL    -- when that was
) WITHOUT ROWID;
CREATE INDEX device_keys_by_device ON device_keys (device_id);

-- ---- doors -----------------------------------------------------------------------------------------
CREATE TABLE idempotency (
    door TEXT NOT NULL,          -- which route
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,   -- keyed hash of the body
    status INTEGER NOT NULL,     -- 0: begun, and not answered yet
    headers TEXT NOT NULL,       -- JSON
    body BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (door, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_us);
CREATE TABLE catalogs (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    document BLOB NOT NULL,      -- JSON
    registered_us INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
"""

TABLES: Final = (
    _TABLES
    + ROW_TABLES
    + AGGREGATE_TABLES
    + ACCESS_TABLES
    + AUDIT_TABLES
    + REGISTRY_TABLES
    + LEDGER_TABLES
    + FORGETTING_TABLES
    + RESTORE_TABLES
    + EVENT_TABLES
)
"""The whole schema, as a new file gets it."""

_DEVICES_FROM_1: Final = """
ALTER TABLE devices ADD COLUMN wiped_us INTEGER;
CREATE TABLE device_keys (
    public_key BLOB PRIMARY KEY,
    device_id TEXT NOT NULL,
    until_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_keys_by_device ON device_keys (device_id);
"""

_DECIDED_FROM_2: Final = """
CREATE TABLE decided_purposes (
    purpose TEXT PRIMARY KEY
) WITHOUT ROWID;
INSERT INTO decided_purposes SELECT DISTINCT purpose FROM lane;
"""

_LEASES_FROM_2: Final = """
ALTER TABLE devices ADD COLUMN leased_us INTEGER;
ALTER TABLE devices ADD COLUMN limits TEXT NOT NULL DEFAULT '{}';
ALTER TABLE devices ADD COLUMN unlimited_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN cold_start TEXT NOT NULL DEFAULT 'server';
ALTER TABLE devices ADD COLUMN revoked_why TEXT;
ALTER TABLE devices ADD COLUMN enrolled_lane INTEGER NOT NULL DEFAULT 0;
ALTER TABLE targets ADD COLUMN cold_start TEXT NOT NULL DEFAULT 'server';
"""

_FROM_2: Final[Sequence[str]] = (
    _LEASES_FROM_2,
    EVIDENCE_FROM_2,
    _DECIDED_FROM_2,
    ACCESS_TABLES,
    AUDIT_TABLES,
    REGISTRY_TABLES,
    LEDGER_TABLES,
    FORGETTING_TABLES,
    RESTORE_TABLES,
    EVENTS_FROM_2,
)
"""What version 3 adds, a part for each subject matter; a new file gets the same at its place in `TABLES`."""

STEPS: Final[Sequence[str]] = (ROWS_FROM_1 + _DEVICES_FROM_1, "".join(_FROM_2), AGGREGATES_FROM_3)
"""Step i brings a file of version i + 1 to i + 2. The oldest file upgraded equals a new one (tested).

A step may call what the store registers before it takes any: `range_of(entity, view, version)`,
`pushed(document)` and `fingerprint(document, before)`.
"""

KEY_TABLES: Final = """
CREATE TABLE payload_keys (
    subject BLOB NOT NULL,       -- pseudonym
    purpose TEXT NOT NULL,
    grant_seq INTEGER NOT NULL,  -- the grant whose rows this key seals
    key BLOB NOT NULL,           -- AES-256
    PRIMARY KEY (subject, purpose, grant_seq)
) WITHOUT ROWID;
"""
