"""A denial that a restored ledger has lost, recorded again: with a number and targets of its own."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Literal

from edge_runtime.wire.messages import LaneEntry
from edge_runtime.wire.printing import prints_only
from sync_server.catalog.purpose_leases import PurposeLeases
from sync_server.consent import ledger
from sync_server.consent.decisions import Proposal, record
from sync_server.consent.revocations import Bound, Revoking, name_targets, revoke
from sync_server.devices.entropy import Entropy
from sync_server.events.telling import begin
from sync_server.store.protocol import WriteTx
from sync_server.store.records import DENIALS, RESTRICTED, Denial, Evidence, RevocationRow

_BY_OTHERS = frozenset({"revoked", "expired"})


@prints_only("purpose", "state", "actor")
@dataclass(frozen=True, slots=True)
class Bar:
    """What took a permission away, as somebody knows it who outlived the ledger."""

    subject: bytes
    purpose: str
    state: str
    actor: str


def bars_of(entry: LaneEntry, kept: int, actor: str) -> list[Bar]:
    """What a pair's state says was taken away after step `kept`.

    >>> [b.state for b in bars_of(LaneEntry(9, bytes(16), "p", "given", 9, 7), 5, "api")]
    ['revoked']
    """
    found = []
    if entry.denial > kept:
        found.append(entry.state if entry.state in DENIALS else "revoked")
    if entry.state == RESTRICTED and entry.seq > kept:
        found.append(RESTRICTED)
    return [Bar(entry.subject, entry.purpose, state, actor) for state in found]


@dataclass(frozen=True, slots=True, repr=False)
class Recorder:
    """With what the restored server records: its time, its entropy, and what it knows of leases."""

    now_us: int
    due_us: int
    """When targets without a receipt are overdue."""
    entropy: Entropy
    leases: PurposeLeases
    bound: Bound

    def bar(self, tx: WriteTx, bar: Bar, kept: int) -> bool:
        """Record `bar`, unless the pair was barred so after step `kept`; whether it was."""
        standing, head = tx.decision_state(bar.subject, bar.purpose), tx.lane_head()
        proposal = Proposal(bar.subject, bar.purpose, bar.state, "", head, self.now_us, bar.actor)
        salt = self.salt()
        if bar.state == RESTRICTED:
            if standing.state == RESTRICTED and standing.since > kept:
                return False
            record(tx, proposal, now_us=self.now_us, salt=salt)
            return True
        if standing.denial > kept:
            return False
        name = self._name()
        initiator: Literal["subject", "controller"] = "controller" if bar.state in _BY_OTHERS else "subject"
        revoking = Revoking(name, initiator, [proposal], [salt], self.due_us)
        revoke(tx, revoking, self.leases, self.bound, now_us=self.now_us)
        return True

    def revocation_of(self, tx: WriteTx, step: Evidence) -> None:
        """A revocation for a denial that stands in the ledger without one."""
        initiator: Literal["subject", "controller"] = "controller" if step.state in _BY_OTHERS else "subject"
        name = self._name()
        row = RevocationRow(
            *(name, step.subject, initiator, step.actor, step.recorded_us, self.due_us, None, 0, None)
        )
        tx.add_revocation(row, [Denial(step.seq, name, step.subject, step.purpose)])
        name_targets(tx, row, [step.purpose], step.seq, self.leases, self.bound)
        begin(tx, row)

    def _name(self) -> str:
        return "rev-" + base64.b32encode(self.entropy(15)).decode().lower()

    def salt(self) -> bytes:
        """For one leaf."""
        return self.entropy(ledger.SALT_BYTES)
