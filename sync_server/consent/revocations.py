"""Revoking: denials, lane entries, targets and the server's own erasure, all in the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from edge_runtime.wire.printing import prints_only
from sync_server.catalog.purpose_leases import PurposeLeases, longest_us, unleased
from sync_server.consent.decisions import Proposal, RecordedDecision, record
from sync_server.events.telling import begin
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
    callback_urls: Sequence[str] = ()
    """Who else is told of this revocation, already checked."""


Bound = Callable[[int, int], int]
"""(granted at, duration) -> when such a lease has ended on the device; see `Settings.lease_bound_us`."""


def revoke(
    tx: WriteTx, revoking: Revoking, leases: PurposeLeases, bound: Bound, *, now_us: int
) -> tuple[RevocationRow, list[RecordedDecision]]:
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
    purposes = [proposal.purpose for proposal in revoking.proposals]
    name_targets(tx, row, purposes, recorded[-1].seq, leases, bound)
    begin(tx, row, revoking.callback_urls)
    return row, recorded


def name_targets(
    tx: WriteTx,
    row: RevocationRow,
    purposes: Sequence[str],
    position: int,
    leases: PurposeLeases,
    bound: Bound,
) -> None:
    """Name who is waited for, and when each is locked by itself should it never speak again.

    A device locks a purpose at the shortest of the lease's duration, what the lease itself said of the
    purpose, and its own catalog's word. The first two the server signed, so it counts with them alone.
    """
    if unleased(leases, purposes):
        tx.add_every_target(row.id, position)
        return
    for limits in tx.limits_in_force(row.accepted_us):
        lease_us = longest_us(msgspec.json.decode(limits, type=dict[str, int]), purposes)
        wait_us = None if lease_us is None else bound(0, lease_us)
        tx.add_live_targets(row.id, position, row.accepted_us, limits, wait_us)


def erase_rows(tx: WriteTx, subject: bytes, purpose: str, denial: int) -> int:
    """Erase what the server holds of the pair: rows, unused tickets, and (after the commit) payload keys."""
    tx.erase_keys(subject, purpose, denial)
    tx.tickets.void(subject)
    return tx.drop_personal(subject, purpose)
