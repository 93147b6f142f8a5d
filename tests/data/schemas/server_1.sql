PRAGMA application_id=1163087427;
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE aggregate_counts (
    round BLOB NOT NULL,
    category INTEGER NOT NULL,
    answers INTEGER NOT NULL,    -- noised answers that name this category
    PRIMARY KEY (round, category)
) WITHOUT ROWID;
CREATE TABLE aggregate_releases (
    round BLOB PRIMARY KEY,
    metric TEXT NOT NULL,
    released_us INTEGER NOT NULL,
    body BLOB NOT NULL           -- JSON, as published
) WITHOUT ROWID;
CREATE TABLE aggregate_rounds (
    id BLOB PRIMARY KEY,         -- 16 bytes
    metric TEXT NOT NULL,
    definition BLOB NOT NULL,    -- hash of every parameter, 16 bytes
    parameters BLOB NOT NULL,    -- JSON, frozen when the round opened
    opened_us INTEGER NOT NULL,
    closes_us INTEGER NOT NULL,
    closed_us INTEGER,
    subjects INTEGER NOT NULL    -- answers counted, one a subject
) WITHOUT ROWID;
CREATE TABLE aggregate_spends (
    tag BLOB NOT NULL,           -- blind keyed hash of the subject
    day INTEGER NOT NULL,        -- days since 1970 UTC, by the server's clock
    micros INTEGER NOT NULL,     -- millionths of epsilon promised on that day
    PRIMARY KEY (tag, day)
) WITHOUT ROWID;
CREATE TABLE aggregate_tickets (
    ticket BLOB PRIMARY KEY,     -- 16 random bytes, so the order of rows says nothing
    round BLOB NOT NULL,
    tag BLOB NOT NULL,           -- blind keyed hash of (round, subject)
    subject BLOB,                -- pseudonym, gone when the ticket is used
    device_id TEXT,              -- whom it was promised to, gone when the ticket is used
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE answers (
    denial INTEGER NOT NULL,
    device_id TEXT NOT NULL,
    receipt BLOB NOT NULL,       -- id of the receipt that answers
    kind TEXT NOT NULL,          -- erased | held_none
    PRIMARY KEY (denial, device_id)
) WITHOUT ROWID;
CREATE TABLE catalogs (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    fingerprint TEXT NOT NULL,
    document BLOB NOT NULL,      -- JSON
    registered_us INTEGER NOT NULL,
    PRIMARY KEY (name, version)
) WITHOUT ROWID;
CREATE TABLE channels (
    channel TEXT PRIMARY KEY,
    partition INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- the channel's newest change
    digest BLOB NOT NULL,        -- sum of the row hashes, 16 bytes
    floor INTEGER NOT NULL       -- a cursor below this gets a replacing snapshot
) WITHOUT ROWID;
INSERT INTO "channels" VALUES('all',11,6,X'1331C60C97796079855876C31E09EB9A',0);
INSERT INTO "channels" VALUES('segment:gold',15,3,X'A85919B09EDB7FBDB59CF75C6F37D5E5',3);
INSERT INTO "channels" VALUES('~mfwgsy3ffvqwy2ldmuwwc3djmm/ads',8,2,X'77200A5747F03B3FF8845A27E5C423B3',0);
CREATE TABLE denials (
    seq INTEGER PRIMARY KEY,     -- ledger seq
    revocation TEXT NOT NULL,
    subject BLOB NOT NULL,
    purpose TEXT NOT NULL
);
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
    revoked_us INTEGER
) WITHOUT ROWID;
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
    leaf BLOB NOT NULL           -- the bytes that the ledger hashes
);
CREATE TABLE idempotency (
    door TEXT NOT NULL,          -- which route
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,   -- keyed hash of the body
    status INTEGER NOT NULL,
    headers TEXT NOT NULL,       -- JSON
    body BLOB NOT NULL,
    created_us INTEGER NOT NULL,
    PRIMARY KEY (door, key)
) WITHOUT ROWID;
CREATE TABLE key_erasures (
    subject BLOB NOT NULL,       -- payload keys still to be destroyed in keys.db
    purpose TEXT NOT NULL,
    denial INTEGER NOT NULL,     -- those of every grant before this
    PRIMARY KEY (subject, purpose)
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
CREATE TABLE ledger_nodes (
    level INTEGER NOT NULL,
    place INTEGER NOT NULL,      -- hash of leaves [place << level, (place + 1) << level)
    hash BLOB NOT NULL,
    PRIMARY KEY (level, place)
) WITHOUT ROWID;
CREATE TABLE meta (
    key TEXT PRIMARY KEY,        -- incarnation, partitions, active_catalog
    value BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('partitions','16');
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL         -- newest sequence number taken; dense
);
INSERT INTO "partitions" VALUES(8,2);
INSERT INTO "partitions" VALUES(11,6);
INSERT INTO "partitions" VALUES(15,3);
CREATE TABLE receipts (
    id BLOB PRIMARY KEY,
    device_id TEXT NOT NULL,
    body BLOB NOT NULL,
    signature BLOB NOT NULL,
    received_us INTEGER NOT NULL
) WITHOUT ROWID;
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
CREATE TABLE rows (
    entity TEXT NOT NULL,        -- plain typed id, or subject token
    view TEXT NOT NULL,
    version INTEGER NOT NULL,
    channel TEXT NOT NULL,
    seq INTEGER NOT NULL,        -- of the last change, in the channel's partition
    event_time_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    subject BLOB,                -- pseudonym of a personal row
    purpose TEXT,                -- of a personal row
    grant_seq INTEGER NOT NULL,  -- grant under which a personal row was accepted; else 0
    deleted INTEGER NOT NULL,
    payload BLOB NOT NULL,       -- msgpack values; sealed under a key of keys.db for a personal row
    hash BLOB NOT NULL,          -- what this row adds to the channel's digest, 16 bytes
    PRIMARY KEY (entity, view, version)
) WITHOUT ROWID;
INSERT INTO "rows" VALUES('item:é0','v',1,'segment:gold',1,10,20,NULL,NULL,0,0,X'81A17800',X'A85919B09EDB7FBDB59CF75C6F37D5E5');
INSERT INTO "rows" VALUES('item:é1','v',1,'all',5,30,31,NULL,NULL,0,1,X'',X'00000000000000000000000000000000');
INSERT INTO "rows" VALUES('item:é2','v',1,'all',2,12,22,NULL,NULL,0,0,X'81A17802',X'531E7AA30AD40AF38EF874051555F001');
INSERT INTO "rows" VALUES('item:é3','v',1,'all',6,40,41,NULL,NULL,0,0,X'81A17809',X'D630073513097DAE2B2F1DD5103FEA18');
INSERT INTO "rows" VALUES('item:é4','v',1,'all',3,14,24,NULL,NULL,0,0,X'81A17804',X'A859527C621852984E52C2D9D926F7A9');
INSERT INTO "rows" VALUES('item:é5','v',1,'all',4,15,25,NULL,NULL,0,0,X'81A17805',X'4189F1B81783853F7CDE220F1F4D19D8');
INSERT INTO "rows" VALUES('~mfwgsy3ffvqwy2ldmuwwc3djmm','w',2,'~mfwgsy3ffvqwy2ldmuwwc3djmm/ads',1,5,6,X'616C6963652D616C6963652D616C6963','ads',3,0,X'0A20FE0A1128A3D399D205BAB3BD880EFBA9B3432417ECEF30901189AB73BBE9',X'77200A5747F03B3FF8845A27E5C423B3');
INSERT INTO "rows" VALUES('~mfwgsy3ffvqwy2ldmuwwc3djmm','w',3,'~mfwgsy3ffvqwy2ldmuwwc3djmm/ads',2,5,6,X'616C6963652D616C6963652D616C6963','ads',3,1,X'',X'00000000000000000000000000000000');
CREATE TABLE targets (
    revocation TEXT NOT NULL,
    device_id TEXT NOT NULL,
    position INTEGER NOT NULL,   -- lane position to acknowledge
    lease_bound_us INTEGER NOT NULL, -- locked by itself from here on
    acked_us INTEGER,            -- acknowledged the position
    erased_us INTEGER,           -- answered every denial
    late INTEGER NOT NULL,       -- not live at commit, but held some and said so later
    PRIMARY KEY (revocation, device_id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX rows_by_channel ON rows (channel, seq);
CREATE INDEX rows_by_subject ON rows (subject, purpose) WHERE subject IS NOT NULL;
CREATE INDEX rows_deleted ON rows (created_us) WHERE deleted = 1;
CREATE INDEX evidence_by_pair ON evidence (subject, purpose, seq);
CREATE INDEX evidence_by_actor ON evidence (actor, recorded_us);
CREATE UNIQUE INDEX evidence_by_decision ON evidence (actor, decision) WHERE decision IS NOT NULL;
CREATE UNIQUE INDEX lane_by_seq ON lane (seq);
CREATE INDEX revocations_unerased ON revocations (id) WHERE server_erased_us IS NULL;
CREATE INDEX revocations_by_time ON revocations (accepted_us);
CREATE INDEX denials_by_revocation ON denials (revocation);
CREATE INDEX denials_by_pair ON denials (subject, purpose, seq);
CREATE INDEX targets_open ON targets (device_id, position) WHERE acked_us IS NULL;
CREATE INDEX targets_owing ON targets (revocation) WHERE erased_us IS NULL;
CREATE INDEX devices_live ON devices (lease_until_us);
CREATE INDEX idempotency_by_age ON idempotency (created_us);
CREATE UNIQUE INDEX aggregate_rounds_open ON aggregate_rounds (metric) WHERE closed_us IS NULL;
CREATE UNIQUE INDEX aggregate_tickets_by_subject ON aggregate_tickets (round, tag);
CREATE INDEX aggregate_tickets_open ON aggregate_tickets (subject) WHERE subject IS NOT NULL;
CREATE INDEX aggregate_spends_by_day ON aggregate_spends (day);
CREATE INDEX aggregate_releases_by_time ON aggregate_releases (released_us, round);
CREATE TRIGGER aggregate_releases_stand BEFORE UPDATE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
CREATE TRIGGER aggregate_releases_stay BEFORE DELETE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
COMMIT;
