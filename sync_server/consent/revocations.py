"""Revoking: denials, lane entries, targets and the server's own erasure, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_runtime.wire.printing import prints_only
from sync_server.consent.decisions import Proposal, RecordedDecision, record
from sync_server.store.protocol import WriteTx
from sync_server.store.records import Denial, RevocationRow


@prints_only("id", "initiator", "due_us")
@dataclass(frozen=True, slots=True)
class Revoking:
    """A revocation to be made."""

    id: str
    initiator: Literal["subject", "controller"]
    proposals: Sequence[Proposal]
    """One denial for each purpose, of one subject."""
    salts: Sequence[bytes]
    due_us: int


def revoke(tx: WriteTx, revoking: Revoking, *, now_us: int) -> tuple[RevocationRow, list[RecordedDecision]]:
    """Deny every pair, erase the server's rows of it, and name all live devices as targets.

    The unknown and the already withdrawn are denied the same way: the answer tells nothing, and the denial
    stands as a fence against older gives. Payload keys go right after the commit.
    """
    recorded, denials, rows = [], [], 0
    first = revoking.proposals[0]
    for proposal, salt in zip(revoking.proposals, revoking.salts, strict=True):
        step = record(tx, proposal, now_us=now_us, salt=salt)
        recorded.append(step)
        denials.append(Denial(step.seq, revoking.id, proposal.subject, proposal.purpose))
        rows += erase_rows(tx, proposal.subject, proposal.purpose, step.seq)
    row = RevocationRow(
        revoking.id,
        first.subject,
        revoking.initiator,
        first.actor,
        now_us,
        revoking.due_us,
        None,
        rows,
        None,
    )
    tx.add_revocation(row, denials)
    tx.add_live_targets(revoking.id, recorded[-1].seq, now_us)
    return row, recorded


def erase_rows(tx: WriteTx, subject: bytes, purpose: str, denial: int) -> int:
    """Erase what the server holds of the pair: rows, unused tickets, and (after the commit) payload keys."""
    tx.erase_keys(subject, purpose, denial)
    tx.aggregates.void_tickets(subject)
    return tx.drop_personal(subject, purpose)
