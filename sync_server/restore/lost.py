"""Steps of the ledger of which only the number is left: so that no number is ever given twice (the epoch)."""

from __future__ import annotations

from typing import Final

from edge_runtime.wire.messages import LaneEntry
from sync_server.consent import ledger
from sync_server.consent.decisions import API
from sync_server.restore.again import Recorder, bars_of
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DENIALS, LOST, Evidence

NOBODY: Final = bytes(16)
"""The subject of a lost step."""


def fill(tx: WriteTx, upto: int, recorder: Recorder) -> int:
    """Append lost steps until the ledger has `upto` of them; returns how many were missing.

    What was decided since the restore is then said again, with a number that nobody has heard yet: a device
    that knew of `upto` would take the earlier one for old. A pair that was denied since is denied again, even
    if it was given after that: whoever still held some must not take it up.
    """
    head, restore = tx.lane_head(), tx.restores.latest()
    for seq in range(head + 1, upto + 1):
        tx.append_evidence(_lost(seq, recorder.now_us, recorder.salt()))
    if upto > head and restore is not None:
        for entry in tx.lane_since(restore.kept, upto):
            bars = [] if entry.state in DENIALS else bars_of(entry, restore.kept, API)
            for bar in bars:
                recorder.bar(tx, bar, upto)
            if not bars:
                _say_again(tx, entry, recorder.now_us, recorder.salt())
    return max(upto - head, 0)


def _lost(seq: int, now_us: int, salt: bytes) -> Evidence:
    leaf = ledger.Leaf(
        v=ledger.LEAF_VERSION,
        seq=seq,
        commitment=ledger.commitment(salt, NOBODY),
        purpose="",
        state=LOST,
        outcome="superseded",
        notice="",
        base=0,
        actor="api",
        at_us=now_us,
        recorded_us=now_us,
        grant=0,
    )
    said = (now_us, now_us, 0, salt, ledger.leaf_bytes(leaf), b"", b"", ())
    return Evidence(seq, NOBODY, "", LOST, "superseded", "", 0, API, None, *said)


def _say_again(tx: WriteTx, entry: LaneEntry, now_us: int, salt: bytes) -> None:
    """The same state of a pair at the next step; no decision, so whatever hangs on the first one stays."""
    seq = tx.lane_head() + 1
    before = tx.evidence(entry.seq)
    assert before is not None
    denial = seq if entry.state in DENIALS else entry.denial
    leaf = ledger.Leaf(
        v=ledger.LEAF_VERSION,
        seq=seq,
        commitment=ledger.commitment(salt, entry.subject),
        purpose=entry.purpose,
        state=entry.state,
        outcome="recorded",
        notice=before.notice,
        base=entry.seq,
        actor="api",
        at_us=before.at_us,
        recorded_us=now_us,
        grant=entry.grant,
    )
    pair, opens = (entry.subject, entry.purpose), (salt, ledger.leaf_bytes(leaf), b"", b"", ())
    said = (entry.state, "recorded", before.notice, entry.seq, API, None, before.at_us, now_us, entry.grant)
    tx.append_evidence(Evidence(seq, *pair, *said, *opens))  # type: ignore[arg-type]
    tx.put_lane(LaneEntry(seq, *pair, entry.state, entry.grant, denial))
