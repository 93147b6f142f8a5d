"""A consent ledger of made-up leaves, with the heads and proofs that a server would sign over it."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire.messages import LedgerHead
from sync_server.consent import ledger, merkle

INCARNATION = bytes(range(16))


def leaves(count: int, word: str = "leaf") -> list[bytes]:
    """`count` leaves; another word makes another ledger."""
    return [f"{word} {n}".encode() for n in range(count)]


class MadeUp:
    """A log of leaves."""

    def __init__(self, content: Sequence[bytes]) -> None:
        self._nodes: dict[tuple[int, int], bytes] = {}
        for size, leaf in enumerate(content):
            for height, place, made in merkle.append(size, leaf, self.node):
                self._nodes[height, place] = made
        self.size = len(content)

    def node(self, level: int, place: int) -> bytes:
        """A kept subtree hash."""
        return self._nodes[level, place]

    def head(
        self,
        key: Ed25519PrivateKey,
        size: int | None = None,
        *,
        time_us: int = 1_700_000_000_000_000,
        incarnation: bytes = INCARNATION,
    ) -> LedgerHead:
        """The head at `size` leaves, signed with `key`."""
        at = self.size if size is None else size
        return ledger.sign_head(key, at, self.node, time_us, incarnation)

    def proof(self, first: int, size: int | None = None) -> list[bytes]:
        """That the first leaves are the beginning; nothing for none."""
        at = self.size if size is None else size
        return merkle.consistency(first, at, self.node) if 0 < first <= at else []
