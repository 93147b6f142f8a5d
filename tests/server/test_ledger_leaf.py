"""What a leaf binds: the text that was shown, the registry in force, and what the browser said."""

from __future__ import annotations

import msgspec

from edge_runtime.wire import seal
from sync_server.consent import ledger
from tests.support.shop_server import ShopServer

VERSION_1 = (1, 7, bytes(32), "ads", "given", "recorded", "2026-11", 3, "api", 10, 11, 7)


def test_a_leaf_of_version_1_reads_as_it_was_and_says_nothing_of_what_came_later() -> None:
    """Its bytes are hashed as they stand, so proofs over them go on holding."""
    leaf = msgspec.msgpack.decode(seal.canonical(VERSION_1), type=ledger.Leaf)
    assert (leaf.v, leaf.grant) == (1, 7)
    assert (leaf.notice_hash, leaf.registry, leaf.signals) == (b"", b"", ())


async def test_a_leaf_made_now_is_of_version_2_and_says_what_its_evidence_says(shop: ShopServer) -> None:
    """Columns beside the leaf are for looking up; the ledger's word is the leaf."""
    await shop.give("alice")
    with shop.store.read() as tx:
        step = tx.evidence(1)
    assert step is not None
    leaf = msgspec.msgpack.decode(step.leaf, type=ledger.Leaf)
    assert leaf.v == 2
    assert (leaf.notice_hash, leaf.registry, leaf.signals) == (
        *(step.notice_hash, step.registry),
        step.signals,
    )
