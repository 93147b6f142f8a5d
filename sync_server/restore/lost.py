"""Steps of the ledger of which only the number is left: so that no number is ever given twice (the epoch)."""

from __future__ import annotations

from typing import Final

from edge_runtime.wire.messages import LaneEntry
from sync_server.consent.decisions import API, Proposal, evidence_of, record
from sync_server.restore.again import Recorder, bars_of
from sync_server.store.protocol import WriteTx
from sync_server.store.records import LOST

NOBODY: Final = bytes(16)
"""The subject of a lost step."""


def fill(tx: WriteTx, upto: int, recorder: Recorder) -> int:
    """Append lost steps until the ledger has `upto` of them; returns how many were missing.

    What was decided since the restore is then said again, with a number that nobody has heard yet: a device
    that knew of `upto` would take the earlier one for old. A pair that was denied since is denied again, even
    if it was given after that: whoever still held some must not take it up.
    """
    head, restore = tx.lane_head(), tx.restores.latest()
    now_us = recorder.now_us
    nothing = Proposal(NOBODY, "", LOST, "", 0, now_us, API)
    for seq in range(head + 1, upto + 1):
        tx.append_evidence(evidence_of(tx, nothing, seq, "superseded", 0, now_us, recorder.salt()))
    if upto > head and restore is not None:
        for entry in tx.lane_since(restore.kept, upto):
            _say_again(tx, entry, restore.kept, upto, recorder)
    return max(upto - head, 0)


def _say_again(tx: WriteTx, entry: LaneEntry, kept: int, upto: int, recorder: Recorder) -> None:
    bars = bars_of(entry, kept, API)
    for bar in bars:
        recorder.bar(tx, bar, upto)
    if bars:
        return
    before = tx.evidence(entry.seq)
    notice = "" if before is None else before.notice
    same = (entry.subject, entry.purpose, entry.state, notice, tx.lane_head(), recorder.now_us, API)
    record(tx, Proposal(*same), now_us=recorder.now_us, salt=recorder.salt())
