"""The tables of the device, in one piece; `STEPS` brings an older file to the newest shape.

Nothing here names a subject. Personal rows hang on a random 16-byte handle that only the keystore can tie to
one, and their content is sealed under a key of that subject; evidence (lane, denials, outbox) names subjects
by keyed pseudonym.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import apsw
import msgspec

VERSION: Final = 4
"""`user_version` of a file that this release writes. A greater one is refused untouched."""

_ANSWER: Final = """
CREATE TABLE answer(            -- noised answers, given again when the same is asked of the same value
  handle BLOB NOT NULL,         -- whose key seals it: that of the value's purpose
  slot BLOB NOT NULL,           -- 16-byte hash of the metric's name
  also BLOB NOT NULL,           -- whose key seals it as well: that of the metric's purpose
  outcome BLOB NOT NULL,        -- and that of an experiment's outcome; else one of the two
  sealed BLOB NOT NULL,         -- the answers, one an input
  PRIMARY KEY(handle, slot)
) WITHOUT ROWID;
CREATE INDEX answer_by_also ON answer(also);
CREATE INDEX answer_by_outcome ON answer(outcome);
"""

SCHEMA: Final = (
    """
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
"""
    + _ANSWER
)

Step = Callable[[apsw.Connection], None]
"""Brings a file one version further, inside the transaction that stamps the new version."""


def _to_2(connection: apsw.Connection) -> None:
    """Days for retention and eviction, and a short way to the denials that are not finished.

    Columns are added, not tables made anew: an update must fit on a disk that is nearly full.
    """
    connection.execute(
        """
        ALTER TABLE state ADD COLUMN day INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE feature ADD COLUMN used_day INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE denial ADD COLUMN open INTEGER NOT NULL DEFAULT 1;
        """
    )
    for id_, body in connection.execute("SELECT id, body FROM denial").fetchall():
        assert isinstance(body, bytes)
        if _evidence_in(body):
            connection.execute("UPDATE denial SET open = 0 WHERE id = ?", (id_,))
    connection.execute("CREATE INDEX denial_open ON denial(id) WHERE open = 1")


def _to_3(connection: apsw.Connection) -> None:
    """Whether a channel is whole; of none it is known before the next equal checkpoint."""
    connection.execute("ALTER TABLE channel ADD COLUMN whole INTEGER")


def _to_4(connection: apsw.Connection) -> None:
    """Answers are remembered; of those given before, none is."""
    connection.execute(_ANSWER)


def _evidence_in(body: bytes) -> bool:
    """Whether a denial of schema 1 had its evidence: the last of its fields."""
    try:
        fields: list[object] = msgspec.msgpack.decode(body, type=list)
    except msgspec.DecodeError:
        return False  # whoever reads it says that it is damaged
    return bool(fields) and fields[-1] is not None


STEPS: Final[dict[int, Step]] = {1: _to_2, 2: _to_3, 3: _to_4}
"""version -> what brings a file of that version one step further."""

PACKED: Final = {
    "feature": ("entity", "view", "version", "channel"),
    "personal": ("handle", "slot"),
    "state": ("handle", "slot"),
}
"""Tables kept in the order of their key, which `pack` can write close again -> that key."""

PERSONAL_TABLES: Final = ("journal", "state", "personal")
"""Tables whose rows hang on a handle and hold sealed content."""
