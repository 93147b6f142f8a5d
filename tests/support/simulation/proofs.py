"""What anybody can check with the server's fingerprint alone: every outcome verifies, the audit holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_runtime.wire.fingerprint import digest_of
from sync_server.consent.auditing import Keys, audit_store
from sync_server.consent.verifying import Proof, VerifyFailure, verify_with_root
from sync_server.store.looking import look

if TYPE_CHECKING:
    from tests.support.simulation.world import World

OVER = ("completed", "partially_completed")


def faults_in_proofs(world: World) -> Iterator[str]:
    """Why an outcome does not verify, or says something else than what happened; nothing when all do."""
    server, root = world.server, digest_of(world.server.authority.root)
    with server.store.read() as tx:
        for row in tx.revocations(1_000_000):
            state = server.office.progress(tx, row).state
            if state == "completed" and row.id not in world.acknowledged:
                yield f"{row.id} is completed, and the recipient has not answered"
            if state not in OVER or world.proven.get(row.id) == state:
                continue
            owing = {t.device_id for t in tx.targets(row.id) if t.erased_us is None}
            try:
                proof = verify_with_root(server.office.outcome(tx, row), root)
            except VerifyFailure as failure:
                yield f"{row.id}, {state}: {failure}"
                continue
            assert isinstance(proof, Proof)
            if (proof.proven.kind, set(proof.proven.overdue)) != (state, owing):
                yield f"{row.id}: {state}, owed by {owing}; the proof says {proof.document()}"
            world.proven[row.id] = state
            world.counts[f"proven {state}"] += 1


def fault_in_ledger(world: World) -> str | None:
    """What the audit of the whole store finds."""
    made = world.server.authority
    keys = Keys(made.chain, made.public_key, made.incarnation, made.restores)
    with look(world.server.settings.database) as rows:
        found = audit_store(rows, keys)
    if found.fault is None and found.leaves != world.oracle.ledger:
        return f"the audit saw {found.leaves} leaves of {world.oracle.ledger}"
    return None if found.fault is None else f"the audit finds {found.fault}"
