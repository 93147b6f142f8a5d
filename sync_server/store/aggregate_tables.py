"""Tables of the aggregates, and how those of version 3 become them."""

from __future__ import annotations

from typing import Final

_ROUND_TABLES: Final = """
-- ---- aggregates ------------------------------------------------------------------------------------
CREATE TABLE aggregate_rounds (
    id BLOB PRIMARY KEY,         -- 16 bytes
    metric TEXT NOT NULL,
    definition BLOB NOT NULL,    -- hash of every parameter, 16 bytes
    parameters BLOB NOT NULL,    -- JSON, frozen when the round opened
    collector BLOB NOT NULL,     -- X25519 public key that its reports are sealed to
    opened_us INTEGER NOT NULL,
    closes_us INTEGER NOT NULL,
    closed_us INTEGER,           -- when its release was made
    subjects INTEGER NOT NULL,   -- tickets used by the reports counted
    reports INTEGER NOT NULL,    -- reports counted; a kiosk's covers many subjects
    stopped_us INTEGER,          -- since when it takes no more reports
    ending TEXT                  -- why it ends without a number, however many came
) WITHOUT ROWID;
CREATE UNIQUE INDEX aggregate_rounds_open ON aggregate_rounds (metric) WHERE stopped_us IS NULL;
CREATE INDEX aggregate_rounds_stopped ON aggregate_rounds (stopped_us)
    WHERE stopped_us IS NOT NULL AND closed_us IS NULL;
CREATE TABLE aggregate_tallies (
    round BLOB NOT NULL,
    cell INTEGER NOT NULL,
    amount INTEGER NOT NULL,     -- sum of what the answers counted add to it
    PRIMARY KEY (round, cell)
) WITHOUT ROWID;
CREATE TABLE aggregate_sealed (
    round BLOB NOT NULL,
    id BLOB NOT NULL,            -- `report_id`
    sealed BLOB NOT NULL,        -- as it came; who brought it is not kept
    PRIMARY KEY (round, id)
) WITHOUT ROWID;
CREATE TABLE aggregate_taken (
    round BLOB NOT NULL,
    id BLOB NOT NULL,            -- `report_id` of what came: the same bytes are not taken twice
    PRIMARY KEY (round, id)
) WITHOUT ROWID;
CREATE TABLE aggregate_refusals (
    round BLOB NOT NULL,
    code TEXT NOT NULL,          -- why, a code of the wire
    reports INTEGER NOT NULL,    -- reports that were not counted
    PRIMARY KEY (round, code)
) WITHOUT ROWID;
CREATE TABLE aggregate_tickets (
    ticket BLOB PRIMARY KEY,     -- 16 random bytes, so the order of rows says nothing
    round BLOB NOT NULL,
    tag BLOB NOT NULL,           -- blind keyed hash of (round, subject)
    subject BLOB,                -- pseudonym, gone when the ticket is used
    device_id TEXT,              -- whom it was promised to, gone when the ticket is used
    used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX aggregate_tickets_by_subject ON aggregate_tickets (round, tag);
CREATE INDEX aggregate_tickets_open ON aggregate_tickets (subject) WHERE subject IS NOT NULL;
CREATE INDEX aggregate_tickets_promised ON aggregate_tickets (device_id) WHERE device_id IS NOT NULL;
CREATE TABLE aggregate_allowances (
    round BLOB NOT NULL,
    device_id TEXT NOT NULL,
    tickets INTEGER NOT NULL,    -- given to the device in this round
    reports INTEGER NOT NULL,    -- that it brought; which ones is not kept
    bytes INTEGER NOT NULL,      -- of them all
    PRIMARY KEY (round, device_id)
) WITHOUT ROWID;
"""

_HOME_TABLES: Final = """
CREATE TABLE aggregate_homes (
    tag BLOB PRIMARY KEY,        -- blind keyed hash of (metric, subject)
    device BLOB NOT NULL,        -- blind keyed hash of the device that answers for the subject
    day INTEGER NOT NULL         -- newest day, as the ledger counts, on which it asked to
) WITHOUT ROWID;
CREATE INDEX aggregate_homes_by_day ON aggregate_homes (day);
"""

_STANDING_TABLES: Final = """
CREATE TABLE aggregate_spends (
    tag BLOB NOT NULL,           -- blind keyed hash of the subject
    day INTEGER NOT NULL,        -- days since 1970 UTC, by the server's clock
    micros INTEGER NOT NULL,     -- millionths of epsilon promised on that day
    PRIMARY KEY (tag, day)
) WITHOUT ROWID;
CREATE INDEX aggregate_spends_by_day ON aggregate_spends (day);
CREATE TABLE aggregate_releases (
    round BLOB PRIMARY KEY,
    metric TEXT NOT NULL,
    released_us INTEGER NOT NULL,
    body BLOB NOT NULL           -- JSON, as published
) WITHOUT ROWID;
CREATE INDEX aggregate_releases_by_time ON aggregate_releases (released_us, round);
CREATE TRIGGER aggregate_releases_stand BEFORE UPDATE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
CREATE TRIGGER aggregate_releases_stay BEFORE DELETE ON aggregate_releases
BEGIN SELECT RAISE(ABORT, 'a release is immutable'); END;
"""

AGGREGATE_TABLES: Final = _ROUND_TABLES + _HOME_TABLES + _STANDING_TABLES

_PARAMETERS_FROM_3: Final = """
CAST(json_object(
    'purposes', json_extract(CAST(parameters AS TEXT), '$.purposes'),
    'question', json_object(
        'kind', 'histogram', 'mode', 'local', 'mechanism', 'subset_selection',
        'epsilon', json_extract(CAST(parameters AS TEXT), '$.epsilon'),
        'categories', json_extract(CAST(parameters AS TEXT), '$.categories')),
    'cost_micros', json_extract(CAST(parameters AS TEXT), '$.cost_micros'),
    'window_days', json_extract(CAST(parameters AS TEXT), '$.window_days'),
    'min_subjects', json_extract(CAST(parameters AS TEXT), '$.min_subjects'),
    'catalog', '') AS BLOB)
"""

AGGREGATES_FROM_3: Final = f"""
DROP TABLE aggregate_counts;
DROP TABLE aggregate_tickets;
DROP INDEX aggregate_rounds_open;
ALTER TABLE aggregate_rounds RENAME TO old_rounds;
{_ROUND_TABLES}
{_HOME_TABLES}
INSERT INTO aggregate_rounds SELECT id, metric, definition, {_PARAMETERS_FROM_3}, x'', opened_us, closes_us,
    closed_us, 0, 0, closed_us, CASE WHEN closed_us IS NULL THEN 'upgraded' END FROM old_rounds;
DROP TABLE old_rounds;
"""
"""Rounds of version 3 asked devices in other words: those open then end without a number. Releases stand."""
