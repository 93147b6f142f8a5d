"""The journal told again to a store that is older: the very same ledger, and everything it denied erased."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import verify_head
from edge_runtime.wire.messages import LaneEntry, LedgerHead
from sync_server.consent import merkle
from sync_server.consent.decisions import API, judge
from sync_server.consent.receipts import accept, conclude
from sync_server.consent.revocations import erase_rows, name_targets
from sync_server.errors import NotRestored
from sync_server.events.telling import begin
from sync_server.journal.record import Begin, Entry, Known, Revoked, Signed, Step, Wiped
from sync_server.restore.again import Bar, Recorder
from sync_server.store.protocol import WriteTx
from sync_server.store.records import BARS, DENIALS, LOST, Evidence


@dataclass(slots=True)
class Replayed:
    """What a journal brought."""

    steps: int = 0
    denials: int = 0
    devices: int = 0
    top: int = 0
    """Newest ledger step that it knows."""
    gap: int | None = None
    """First ledger step that neither the backup nor a journal knows; None: none is missing between others."""


class Replay:
    """Tells entries, in order, to a transaction.

    Args:
        keys: those that this server ever signed with.
        until: ledger steps after which nothing counts: a later incarnation took another way from there.
        recorder: of the server that is being restored.
    """

    def __init__(self, tx: WriteTx, keys: Collection[bytes], recorder: Recorder) -> None:
        self._tx, self._keys, self._recorder = tx, keys, recorder
        self.found = Replayed()
        self._unclaimed: dict[int, Evidence] = {}
        """Denials, by seq, whose revocation was not told: the journal ended between the two."""
        self.bars: list[tuple[int, Bar]] = []
        """(seq, what it took away) beyond a gap: it cannot have its place in this ledger, but it holds."""

    def tell(self, entries: Iterable[Entry], until: int | None) -> None:
        """Take in one incarnation's entries. Raises `NotRestored` where they contradict the store."""
        tx = self._tx
        for entry in entries:
            match entry:
                case Step(evidence):
                    if until is not None and evidence.seq > until:
                        return
                    self.found.top = max(self.found.top, evidence.seq)
                    if evidence.seq > tx.lane_head() + 1:
                        self._beyond(evidence)
                    else:
                        self._step(evidence)
                case Signed(head):
                    self._check(head)
                case Revoked():
                    self._revoked(entry)
                case Known():
                    self._device(entry)
                case Wiped():
                    self._wiped(entry)
                case Begin():
                    pass

    def finish(self) -> None:
        """A denial without its revocation gets one: it is owed answers like any other."""
        for step in self._unclaimed.values():
            self._recorder.revocation_of(self._tx, step)

    def _step(self, evidence: Evidence) -> None:
        known = self._tx.evidence(evidence.seq)
        if known is not None:
            if known.leaf != evidence.leaf:
                raise NotRestored(
                    f"the journal's ledger step {evidence.seq} is another than the backup's: they are of two"
                    " servers, or of two incarnations; nothing was restored"
                )
            return
        before = self._tx.decision_state(evidence.subject, evidence.purpose)
        replay_step(self._tx, evidence)
        if evidence.state in DENIALS and (evidence.state != "refused" or before.grant):
            self._unclaimed[evidence.seq] = evidence
        self.found.steps += 1
        self.found.denials += evidence.state in DENIALS

    def _beyond(self, evidence: Evidence) -> None:
        """A step after one that is missing: the ledger cannot go on; what it took away is told anew."""
        self.found.gap = self._tx.lane_head() + 1
        if evidence.state in BARS and evidence.outcome == "recorded":
            bar = Bar(evidence.subject, evidence.purpose, evidence.state, API)
            self.bars.append((evidence.seq, bar))

    def _check(self, head: LedgerHead) -> None:
        """A head that the server signed: the ledger must have that root, or it is not the same."""
        if head.size > self._tx.lane_head():
            return
        for key in self._keys:
            try:
                verify_head(head, key)
            except WireFailure:
                continue
            if merkle.root(head.size, self._tx.ledger_node) != head.root:
                raise NotRestored(
                    f"the ledger's root at step {head.size} is not the one that the journal's head says;"
                    " nothing was restored"
                )
            return
        raise NotRestored(
            f"the journal's head at step {head.size} is not this server's; nothing was restored"
        )

    def _revoked(self, entry: Revoked) -> None:
        """Its targets are all devices that may have had a lease: who answered is not known any more."""
        tx = self._tx
        if tx.revocation(entry.row.id) is not None or entry.denials[-1].seq > tx.lane_head():
            return
        tx.add_revocation(entry.row, entry.denials)
        for denial in entry.denials:
            self._unclaimed.pop(denial.seq, None)
        purposes, position = [d.purpose for d in entry.denials], entry.denials[-1].seq
        name_targets(tx, entry.row, purposes, position, self._recorder.leases, self._recorder.bound)
        begin(tx, entry.row)  # told before, perhaps: whoever hears it again knows it by its `jti`

    def _wiped(self, entry: Wiped) -> None:
        """Its one receipt answers whatever it owed, and it is waited for no more."""
        device = self._tx.device(entry.device_id)
        if device is None:
            return
        with contextlib.suppress(WireFailure):  # signed by a key of before: then it is owed once more
            now_us = self._recorder.now_us
            taken = accept(self._tx, device, entry.body, entry.signature, now_us=now_us)
            conclude(self._tx, taken.revocations, now_us)

    def _device(self, entry: Known) -> None:
        device = entry.device
        revoked_us = self._recorder.now_us if device.revoked else None
        patterns = json.dumps(list(device.patterns))
        self._tx.restores.put_device(
            (
                device.device_id,
                device.public_key,
                patterns,
                device.enrolled_us,
                device.enrolled_lane,
                revoked_us,
                device.revoked_why,
            )
        )
        self.found.devices += 1


def replay_step(tx: WriteTx, evidence: Evidence) -> None:
    """Append a step as it was, and let it do what it did; a denial erases here again."""
    pair = (evidence.subject, evidence.purpose)
    tx.append_evidence(evidence)
    if evidence.state == LOST or evidence.outcome == "superseded":
        return
    verdict = judge(tx.decision_state(*pair), evidence.state, evidence.base, evidence.seq)
    after = verdict.now
    if after is None or after.grant != evidence.grant:
        raise NotRestored(
            f"ledger step {evidence.seq} does not follow from those before it; nothing was restored"
        )
    tx.put_lane(LaneEntry(evidence.seq, *pair, after.state, after.grant, after.denial))
    if evidence.state in DENIALS:
        erase_rows(tx, *pair, evidence.seq)
