"""The consent ledger as everybody sees it who is not the server: is a head its own, and does one go on from
another? Pure; needs two heads, a proof and a key, and nobody's word."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.merkle import verify_consistency
from edge_runtime.wire.messages import LedgerHead, Restore


def verify_head(head: LedgerHead, server_key: bytes) -> None:
    """Raise `WireFailure("bad_signature")` unless the head is this server's."""
    seal.verify(server_key, seal.LEDGER_HEAD, seal.head_bytes(head), head.signature)


def check_goes_on(before: LedgerHead, after: LedgerHead, proof: Sequence[bytes]) -> None:
    """Raise `WireFailure` unless the leaves under `before` are the first of those under `after`.

    Both signatures were verified. Whoever holds two heads that do not go on from each other, both signed,
    has proved that the server told two stories.

    Args:
        proof: the consistency proof between the two sizes (RFC 9162, 2.1.4); empty for equal sizes.

    Raises `ledger_shorter` when `after` has fewer leaves, `ledger_forked` when the proof does not verify.
    """
    if after.size < before.size:
        raise WireFailure(
            "ledger_shorter", f"expected a ledger of at least {before.size} leaves, got {after.size}"
        )
    if before.size and not verify_consistency(before.size, after.size, proof, before.root, after.root):
        raise WireFailure(
            "ledger_forked",
            f"the first {before.size} of {after.size} leaves are not those of the earlier head",
        )


def survived(head: LedgerHead, incarnation: bytes, restores: Sequence[Restore]) -> int:
    """How many of the leaves under `head` a server of `incarnation` has kept through its `restores`.

    >>> a, b = Restore(b"a" * 16, 9, 1), Restore(b"b" * 16, 5, 2)
    >>> head = LedgerHead(size=7, root=bytes(32), time_us=0, incarnation=a.incarnation)
    >>> survived(head, a.incarnation, [a]), survived(head, b.incarnation, [a, b])
    (7, 5)
    """
    if head.incarnation == incarnation:
        return head.size
    names = [restore.incarnation for restore in restores]
    after = restores[names.index(head.incarnation) + 1 :] if head.incarnation in names else restores
    return min([head.size, *(restore.kept for restore in after)]) if after else 0
