CREATE TABLE meta(              -- single facts about this database
  key TEXT PRIMARY KEY,         -- name of the fact
  value BLOB NOT NULL           -- its bytes, as its owner encodes them
) WITHOUT ROWID;

CREATE TABLE journal(           -- acknowledged events, one row per purpose that uses the event
  n INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so a snapshot can say how far it reaches
  handle BLOB NOT NULL,         -- whose key seals it
  day INTEGER NOT NULL,         -- days since 1970 at arrival, for retention
  sealed BLOB NOT NULL          -- the event
);
CREATE INDEX journal_by_handle ON journal(handle, n);

CREATE TABLE trimmed(           -- handles whose journal is no longer whole
  handle BLOB PRIMARY KEY,      -- whose
  n INTEGER NOT NULL            -- newest row dropped
) WITHOUT ROWID;

CREATE TABLE state(             -- stored session states
  handle BLOB NOT NULL,         -- whose key seals it
  slot BLOB NOT NULL,           -- 16-byte hash of (view, entity)
  sealed BLOB NOT NULL,         -- the state
  day INTEGER NOT NULL DEFAULT 0, -- days since 1970 of its newest event, for retention; 0 = not known
  PRIMARY KEY(handle, slot)
) WITHOUT ROWID;

CREATE TABLE personal(          -- server rows of subjects
  handle BLOB NOT NULL,         -- whose key seals it
  slot BLOB NOT NULL,           -- 16-byte hash of (view, version, entity)
  day INTEGER NOT NULL,         -- days since 1970 at arrival, for retention
  sealed BLOB NOT NULL,         -- the row
  PRIMARY KEY(handle, slot)
) WITHOUT ROWID;

CREATE TABLE feature(           -- server rows that are about nobody
  entity TEXT NOT NULL,         -- typed id
  view TEXT NOT NULL,           -- view name
  version INTEGER NOT NULL,     -- view version
  channel TEXT NOT NULL,        -- the channel that delivered it
  seq INTEGER NOT NULL,         -- its place in the partition
  event_time_us INTEGER NOT NULL, -- when the values were true
  created_us INTEGER NOT NULL,  -- when they were computed
  vals BLOB NOT NULL,           -- msgpack map feature -> value; empty: a stub; `LET_GO`: no longer held
  hash BLOB NOT NULL,           -- its 16 bytes in the channel's digest
  used_day INTEGER NOT NULL DEFAULT 0, -- days since 1970 when it was last brought or read; 0 = not known
  PRIMARY KEY(entity, view, version, channel)
) WITHOUT ROWID;
CREATE INDEX feature_by_channel ON feature(channel);

CREATE TABLE channel(           -- channels followed
  name TEXT PRIMARY KEY,        -- `all`, `segment:x` or a subject token and purpose
  cursor INTEGER NOT NULL,      -- newest seq applied
  digest BLOB NOT NULL,         -- 16 bytes: sum of the rows delivered
  whole INTEGER                 -- 1: what is not in it is nowhere; 0: it may be; NULL: not equal yet
) WITHOUT ROWID;

CREATE TABLE lane(              -- what the ledger last said of each (subject, purpose)
  subject BLOB NOT NULL,        -- 16-byte pseudonym
  purpose TEXT NOT NULL,        -- purpose name
  seq INTEGER NOT NULL,         -- lane position of this state
  state TEXT NOT NULL,          -- DPV state
  live_grant INTEGER NOT NULL,  -- seq of the live grant, 0 for none
  denial INTEGER NOT NULL,      -- seq of the newest denial, 0 for none
  PRIMARY KEY(subject, purpose)
) WITHOUT ROWID;

CREATE INDEX lane_by_state ON lane(purpose, state);

CREATE TABLE denial(            -- denials this device took or enforced, and how far each erasure got
  id BLOB PRIMARY KEY,          -- decision id
  body BLOB NOT NULL,           -- the denial
  open INTEGER NOT NULL DEFAULT 1 -- 1 until the erasure it asks for is finished
) WITHOUT ROWID;
CREATE INDEX denial_open ON denial(id) WHERE open = 1;

CREATE TABLE outbox(            -- what the server has not acknowledged yet, in order
  n INTEGER PRIMARY KEY AUTOINCREMENT, -- order of sending
  kind TEXT NOT NULL,           -- decision, receipt or report
  id BLOB NOT NULL,             -- what its acknowledgement names
  payload BLOB NOT NULL,        -- what is sent
  UNIQUE(kind, id)
);

CREATE TABLE budget(            -- privacy budget spent; survives erasures as blind tags
  tag BLOB NOT NULL,            -- 16-byte keyed tag of (subject, metric family)
  win INTEGER NOT NULL,         -- number of the budget window
  spent INTEGER NOT NULL,       -- micro-epsilon
  PRIMARY KEY(tag, win)
) WITHOUT ROWID;
