"""What a subject's software says beside the subject: Global Privacy Control, as evidence and as an opt-out.

Source: the W3C's Global Privacy Control, section 3: a request carries `Sec-GPC: 1`, and no other value means
anything. It speaks of sale, sharing and targeting; for other purposes it is recorded and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from sync_server.consent.decisions import Proposal
from sync_server.store.protocol import ReadTx
from sync_server.store.records import GIVEN

GPC: Final = "gpc"
SIGNALS: Final = frozenset({GPC})
HEADER: Final = "Sec-GPC"


def signals_of(values: Sequence[str]) -> tuple[str, ...]:
    """The signals in the values of a request's `Sec-GPC` headers: one, exactly `1`, or none.

    >>> signals_of(["1"]), signals_of(["0"]), signals_of(["1", "1"]), signals_of(["true"]), signals_of([])
    (('gpc',), (), (), (), ())
    """
    return (GPC,) if list(values) == ["1"] else ()


def heeded(tx: ReadTx, proposal: Proposal) -> Proposal:
    """The proposal as the subject's software lets it stand: a `given` against its opt-out is a refusal."""
    if proposal.state != GIVEN or GPC not in proposal.signals or proposal.purpose not in opt_outs(tx):
        return proposal
    return replace(proposal, state="refused")


def opt_outs(tx: ReadTx) -> dict[str, str]:
    """purpose -> the denial that opting out of it is, for all that sell, share or target.

    What asks for consent is refused; what rests on another basis is objected to (Art. 21).
    """
    row = tx.registry.in_force()
    if row is None:
        return {}
    purposes: dict[str, dict[str, Any]] = msgspec.json.decode(row.part)["purposes"]
    return {
        name: "refused" if "consent" in (p["legal_basis"], p["terminal_access"]) else "objected"
        for name, p in purposes.items()
        if p.get("uses")
    }
