"""An audit from its first row to its verdict: of a whole store, or of the leaves that an API hands out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from edge_runtime.wire.ledger import survived
from edge_runtime.wire.merkle import EMPTY_ROOT
from edge_runtime.wire.messages import LedgerHead, Restore
from sync_server.consent.audit import Fault, Found, Walk
from sync_server.consent.audit_heads import NamedHead, chain_of, check_prefix, check_signer, heads_in
from sync_server.consent.merkle import RightEdge
from sync_server.store.ledger import LedgerRows


@dataclass(frozen=True, slots=True)
class Keys:
    """The server's signing keys and restores, as its key file has them."""

    earlier: Sequence[tuple[bytes, bytes]]
    """(key, its word for the next), in order."""
    present: bytes
    incarnation: bytes
    restores: Sequence[Restore] = ()

    def reaches(self, head: LedgerHead) -> bool:
        """Whether the leaves under `head` outlived every restore since; else nobody can compare them."""
        return survived(head, self.incarnation, self.restores) >= head.size


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found."""

    leaves: int
    """That hold, from the first on."""
    root: bytes
    """Over them."""
    erased: int | None
    """Of them, those whose salt was destroyed; None where only leaves were seen."""
    heads: int
    """Signed heads that were compared."""
    beyond: tuple[str, ...]
    """Heads of an earlier incarnation of which a restore lost leaves, or may have: nothing compares those."""
    fault: Fault | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        fault = None if self.fault is None else asdict(self.fault)
        made = {"leaves": self.leaves, "root": self.root.hex(), "erased": self.erased, "heads": self.heads}
        return {"holds": fault is None, **made, "beyond": list(self.beyond), "fault": fault}


def audit_store(rows: LedgerRows, keys: Keys | None, heads: Iterable[NamedHead] = ()) -> Audit:
    """Walk everything that a store has of its ledger; names the first fault.

    Args:
        keys: None where the key file is not there: then no signature is judged.
        heads: that somebody else kept; those in the store itself are compared too.
    """
    named = [*heads, *_kept(rows)]
    walk = Walk(fence=rows.fence(), wanted=frozenset(one.head.size for one in named))
    fault, beyond = None, []
    try:
        chain = [] if keys is None else chain_of(keys.earlier, keys.present)
        nodes = iter(rows.nodes())
        for step in rows.steps():
            walk.take(step, nodes)
        walk.end(nodes)
        walk.lane(rows.lane())
        walk.denials(rows.denials())
        for revocation in rows.without_denial():
            raise Found("denial", "revocations", None, "a denial of each revocation", revocation)
        roots = {0: EMPTY_ROOT, **walk.roots}
        for one in named:
            if keys is not None:
                check_signer(one, chain, rows.keys())
                if not keys.reaches(one.head):
                    beyond.append(one.name)
                    continue
            check_prefix(one, walk.size, roots)
    except Found as found:
        fault = found.fault
    return Audit(walk.size, walk.edge.root(), len(walk.nameless), len(named), tuple(beyond), fault)


def audit_leaves(
    leaves: Iterable[tuple[int, bytes]],
    signed: NamedHead,
    keys: Sequence[bytes],
    heads: Iterable[NamedHead] = (),
) -> Audit:
    """Hash the leaves that a server hands out, and compare its signed head and others with them.

    Args:
        leaves: (seq, leaf) from the first on; those after `signed` are left out.
        heads: one of an earlier incarnation that differs is only told: how much a restore lost, the API does
            not say.
        signed: the server's present head.
        keys: the server's signing keys in order, the last one signed it.
    """
    edge, named, fault, beyond = RightEdge(), [signed, *heads], None, list[str]()
    wanted, roots = {one.head.size for one in named}, {0: EMPTY_ROOT}
    try:
        for seq, leaf in leaves:
            if edge.size == signed.head.size:
                break
            if seq != edge.size + 1:
                raise Found("missing_step", "leaves", edge.size + 1, edge.size + 1, seq)
            edge.add(leaf)
            if edge.size in wanted:
                roots[edge.size] = edge.root()
        check_signer(signed, keys[-1:], {})
        for one in named:
            check_signer(one, keys, {})
            try:
                check_prefix(one, edge.size, roots)
            except Found:
                if one.head.incarnation == signed.head.incarnation:
                    raise
                beyond.append(one.name)
    except Found as found:
        fault = found.fault
    return Audit(edge.size, edge.root(), None, len(named), tuple(beyond), fault)


def _kept(rows: LedgerRows) -> Iterable[NamedHead]:
    """Heads in receipts that were given as answers and are still kept."""
    for body in rows.replies():
        try:
            document: Mapping[str, Any] = msgspec.json.decode(body)
        except msgspec.DecodeError:
            continue
        yield from heads_in("a kept reply", document)
