"""A restriction (Art. 18) taken on this device: what is held stays, and is not used.

Three places say so, each for its time: the data key, until the ledger has the decision; this database's own
copy of the lane, until the lane itself brings it; then the lane.
"""

from __future__ import annotations

from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.consent.denying import NO_NOTICE
from edge_runtime.keys.datakey import DataKey, Restriction
from edge_runtime.wire.messages import Decision, LaneEntry

RESTRICTED = "restricted"


def decision_of(subject: bytes, purpose: str, said: Restriction, key: DataKey | None) -> Decision:
    """The decision as it is told to the ledger. `subject` is a pseudonym."""
    notice = (key.facts.notice if key is not None else "") or NO_NOTICE
    return Decision(said.id, subject, purpose, RESTRICTED, notice, said.base, said.at_us)


def mark(tx: WriteTransaction, subject: bytes, purpose: str, seq: int) -> None:
    """Let this database's copy of the lane say so from `seq` on; what it knows from later stays."""
    entry = tx.lane_entry(subject, purpose)
    grant, denial = (0, 0) if entry is None else (entry.grant, entry.denial)
    tx.put_lane([LaneEntry(seq, subject, purpose, RESTRICTED, grant, denial)])
