"""The ledger's signed heads as they are handed out: signed once per size, proofs worked out once."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from edge_runtime.wire.messages import LedgerHead
from sync_server.clock import Clock
from sync_server.consent import ledger, merkle
from sync_server.devices.authority import Authority
from sync_server.store.protocol import ReadTx

PROOFS_KEPT: Final = 1_024


class SignedHeads:
    """What a device gets with its lease. Two thousand devices at once get the same bytes."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        self._authority, self._clock = authority, clock
        self._newest: tuple[bytes, LedgerHead] | None = None
        """With the hash of its last leaf: a transaction that was rolled back leaves no head behind."""
        self._proofs: OrderedDict[tuple[int, bytes], list[bytes]] = OrderedDict()

    def head(self, tx: ReadTx) -> LedgerHead:
        """The present head."""
        return self._present(tx)[1]

    def goes_on(self, tx: ReadTx, first: int) -> tuple[LedgerHead, list[bytes]]:
        """The present head, and the proof that it goes on from the one of `first` leaves.

        No proof for 0, and none for a head that is longer than the ledger: whoever holds one judges.
        """
        last, head = self._present(tx)
        if not 0 < first <= head.size:
            return head, []
        proof = self._proofs.get((first, last))
        if proof is None:
            proof = self._proofs[first, last] = merkle.consistency(first, head.size, tx.ledger_node)
            if len(self._proofs) > PROOFS_KEPT:
                self._proofs.popitem(last=False)
        return head, proof

    def _present(self, tx: ReadTx) -> tuple[bytes, LedgerHead]:
        size = tx.lane_head()
        last = tx.ledger_node(0, size - 1) if size else b""
        if self._newest is None or self._newest[0] != last:
            made = self._authority
            now_us = self._clock.now_us()
            head = ledger.sign_head(made.signing, size, tx.ledger_node, now_us, made.incarnation)
            self._newest = (last, head)
        return self._newest
