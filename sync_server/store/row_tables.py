"""The tables of rows: what is, where it stands, who belongs to which segment, and which job wrote it.

A row is stored once. A *placement* says that it stands in a channel, or stood there until some seq: a row may
stand in several channels, and in none (tier `warm` and `cold`, or kept out by a byte budget).
"""

from __future__ import annotations

from typing import Final

_PARTITIONS: Final = """
-- ---- rows ------------------------------------------------------------------------------------------
CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL         -- newest sequence number taken; dense
);
"""

_FROM_2: Final = """
CREATE TABLE channels (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL UNIQUE,
    partition INTEGER NOT NULL,
    seq INTEGER NOT NULL,        -- the channel's newest change
    digest BLOB NOT NULL,        -- sum of the hashes of the rows that stand in it, 16 bytes
    floor INTEGER NOT NULL,      -- a cursor below this gets a replacing snapshot
    bytes INTEGER NOT NULL,      -- ids and payloads of the rows that stand in it
    demoted INTEGER NOT NULL     -- rows that its byte budget keeps out
);
CREATE INDEX channels_beside ON channels (channel) -- with rows beside `all`: is there any?
    WHERE channel >= 'segment:' AND channel < 'segment;' AND (bytes > 0 OR demoted > 0);
CREATE TABLE rows (
    id INTEGER PRIMARY KEY,
    entity TEXT NOT NULL,        -- plain typed id, or subject token
    view TEXT NOT NULL,
    version INTEGER NOT NULL,
    event_time_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    subject BLOB,                -- pseudonym of a personal row
    purpose TEXT,                -- of a personal row
    grant_seq INTEGER NOT NULL,  -- grant under which a personal row was accepted; else 0
    deleted INTEGER NOT NULL,
    payload BLOB NOT NULL,       -- msgpack values; sealed under a key of keys.db for a personal row
    lineage INTEGER NOT NULL,    -- the job whose publish wrote it; 0 for not known
    use REAL NOT NULL,           -- decayed count of publishes and fetches, as it was at used_us; 0: personal
    used_us INTEGER NOT NULL,
    UNIQUE (entity, view, version)
);
CREATE INDEX rows_by_subject ON rows (subject, purpose) WHERE subject IS NOT NULL;
CREATE INDEX rows_deleted ON rows (created_us) WHERE deleted = 1;
CREATE TABLE placements (
    row INTEGER NOT NULL,        -- which row
    channel INTEGER NOT NULL,    -- stands in which channel
    seq INTEGER NOT NULL,        -- of the last change there, in the channel's partition
    range INTEGER NOT NULL,      -- sub-range that a repair resends, 0..63
    deleted INTEGER NOT NULL,    -- the row was deleted, or has left the channel
    left_us INTEGER NOT NULL,    -- since when; 0 while it stands
    bytes INTEGER NOT NULL,      -- id and payload; 0 when deleted
    hash BLOB NOT NULL,          -- what it adds to the channel's digest, 16 bytes
    PRIMARY KEY (row, channel)
) WITHOUT ROWID;
CREATE INDEX placements_by_channel ON placements (channel, seq, range, deleted, hash); -- sums need no row
CREATE INDEX placements_left ON placements (left_us) WHERE deleted = 1;
CREATE TABLE demoted (
    row INTEGER NOT NULL,        -- a row that the channel's byte budget keeps out
    channel INTEGER NOT NULL,
    since_us INTEGER NOT NULL,
    PRIMARY KEY (row, channel)
) WITHOUT ROWID;
CREATE INDEX demoted_by_channel ON demoted (channel);
CREATE TABLE importance (
    view TEXT NOT NULL,
    entity TEXT NOT NULL,        -- '' for the whole view
    value REAL NOT NULL,         -- 0..1, set by the operator
    PRIMARY KEY (view, entity)
) WITHOUT ROWID;
CREATE TABLE segments (
    segment TEXT PRIMARY KEY,
    members INTEGER NOT NULL,    -- how many
    changed_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE segment_members (
    entity TEXT NOT NULL,        -- as in rows; never personal
    segment TEXT NOT NULL,
    PRIMARY KEY (entity, segment)
) WITHOUT ROWID;
CREATE UNIQUE INDEX segment_members_by_segment ON segment_members (segment, entity);
CREATE TABLE lineages (
    id INTEGER PRIMARY KEY,
    who TEXT NOT NULL,           -- as the publisher said
    name TEXT NOT NULL,
    run TEXT NOT NULL,
    code_version TEXT NOT NULL,
    first_us INTEGER NOT NULL,   -- first publish
    rows INTEGER NOT NULL,       -- rows that it wrote and nobody changed since; at 0 it may go
    UNIQUE (who, name, run, code_version)
);
CREATE INDEX lineages_unused ON lineages (id) WHERE rows = 0;
"""

ROW_TABLES: Final = _PARTITIONS + _FROM_2
"""As a new file gets them."""

ROWS_FROM_1: Final = f"""
DROP INDEX rows_by_channel;
DROP INDEX rows_by_subject;
DROP INDEX rows_deleted;
ALTER TABLE rows RENAME TO rows_of_1;
ALTER TABLE channels RENAME TO channels_of_1;
{_FROM_2}
INSERT INTO channels (channel, partition, seq, digest, floor, bytes, demoted)
    SELECT channel, partition, seq, digest, floor, 0, 0 FROM channels_of_1 ORDER BY channel;
INSERT INTO rows (entity, view, version, event_time_us, created_us, subject, purpose, grant_seq, deleted,
        payload, lineage, use, used_us)
    SELECT entity, view, version, event_time_us, created_us, subject, purpose, grant_seq, deleted,
        payload, 0, 0, 0 FROM rows_of_1 ORDER BY entity, view, version;
INSERT INTO placements
    SELECT r.id, c.id, o.seq, range_of(o.entity, o.view, o.version), o.deleted,
        iif(o.deleted, o.created_us, 0),
        iif(o.deleted, 0, length(CAST(o.entity AS BLOB)) + length(o.payload)), o.hash
    FROM rows_of_1 o JOIN rows r USING (entity, view, version) JOIN channels c ON c.channel = o.channel
    ORDER BY r.id;
UPDATE channels SET bytes = (SELECT coalesce(sum(bytes), 0) FROM placements WHERE channel = channels.id);
DROP TABLE rows_of_1;
DROP TABLE channels_of_1;
UPDATE catalogs SET document = pushed(document);
UPDATE catalogs SET fingerprint = fingerprint(document, fingerprint);
"""
"""A row of version 1 stood in the one channel that it named; there it keeps its seq and its hash.

Its catalogs are brought to what they meant: see `old_catalogs`."""
