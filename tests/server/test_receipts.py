"""Which revocations a device's receipt moves, and which it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.fingerprint import digest_of
from sync_server.api import rooms
from sync_server.consent.verifying import verify_with_root
from tests.support.shop_server import Answer, FakeDevice, ShopServer

P, M = "personalization", "measurement"


async def status(shop: ShopServer, made: Answer) -> Any:
    return (await shop.call("GET", made.headers["Location"])).body


def seq_of(made: Answer, purpose: str) -> int:
    return next(int(d["seq"]) for d in made.body["denials"] if d["purpose"] == purpose)


async def test_law_4_a_late_holder_of_one_purpose_completes_a_revocation_of_several(shop: ShopServer) -> None:
    """Nobody waited for it: `held none` of one, then `erased` of the other: completed, amended."""
    device = await FakeDevice(shop, 1).enrol()
    made, alice = await shop.revoke("alice"), shop.pseudonym("alice")
    assert (await status(shop, made))["state"] == "completed"
    device.hand_in(*device.receipt(alice, [M], [seq_of(made, M)], kind="held_none", canary=None))
    assert (await status(shop, made))["amended"] is False
    device.hand_in(*device.receipt(alice, [P], [seq_of(made, P)]))
    found = await status(shop, made)
    assert (found["state"], found["amended"], found["overdue"]) == ("completed", True, [])
    receipt = (await shop.call("GET", made.headers["Location"] + "/receipt")).body
    proof = verify_with_root(receipt, digest_of(shop.app[rooms.AUTHORITY].root)).document()
    assert [(d["device_id"], d["kind"]) for d in proof["devices"]] == [(device.device_id, "erased")]
    device.hand_in(*device.receipt(alice, [M], [seq_of(made, M)]))
    found = await status(shop, made)
    assert (found["state"], found["counters"]["receipts"]) == ("completed", 1)


async def test_a_receipt_amends_only_what_it_names(shop: ShopServer) -> None:
    """A device that erased under a newer denial held nothing of the older one: that stays as it was."""
    old = await shop.revoke("alice", [P])
    device = await FakeDevice(shop, 1).enrol()
    await shop.give("alice")
    assert device.lease()
    new = await shop.revoke("alice", [P])
    device.answer(new.body, shop.pseudonym("alice"))
    assert (await status(shop, new))["state"] == "completed"
    before = await status(shop, old)
    assert (before["amended"], before["counters"]["targets"]) == (False, 0)


async def test_a_target_that_finds_some_after_all_is_heard(shop: ShopServer) -> None:
    """`held none`, then `erased`: the stronger word stands, and the completion is made anew."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made, alice = await shop.revoke("alice", [P]), shop.pseudonym("alice")
    device.answer(made.body, alice, kind="held_none", canary=None)
    shop.clock.advance(seconds=5)
    device.answer(made.body, alice)
    found = await status(shop, made)
    assert (found["state"], found["counters"]["held_none"]) == ("completed", 0)
    assert found["completed_at"] > found["accepted_at"]


async def test_receipts_of_others_about_others_and_of_strangers_change_nothing(shop: ShopServer) -> None:
    """Signed by another device, naming another device, another subject, a give: refused, nothing moves."""
    target, other = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    assert target.lease()
    give = (await shop.give("bob")).body["seq"]
    target.acknowledge()
    made, alice = await shop.revoke("alice", [P]), shop.pseudonym("alice")
    seq = seq_of(made, P)
    body, _ = target.receipt(alice, [P], [seq])
    _, signature = other.receipt(alice, [P], [seq])
    wrong = [
        (target, body, signature, "bad_signature"),
        (other, *target.receipt(alice, [P], [seq]), "bad_signature"),
        (target, *target.receipt(shop.pseudonym("bob"), [P], [seq]), "malformed"),
        (target, *target.receipt(alice, [M], [seq]), "malformed"),
        (target, *target.receipt(shop.pseudonym("bob"), [P], [give]), "malformed"),
        (target, *target.receipt(alice, [P], [2**62]), "malformed"),
    ]
    for device, raw, sealed, code in wrong:
        with pytest.raises(WireFailure) as caught:
            device.hand_in(raw, sealed)
        assert caught.value.code == code
    counters = (await status(shop, made))["counters"]
    assert (counters["targets"], counters["erased"], counters["enforced"]) == (1, 0, 0)


async def test_a_deleted_device_is_enforced_by_its_lease_and_named_when_it_is_overdue(
    shop: ShopServer,
) -> None:
    """Shut out while a revocation waits for it: it can answer no more, its lease ends it, its name stays."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = await shop.revoke("alice")
    assert (await shop.call("DELETE", f"/v1/devices/{device.device_id}")).status == 200
    found = await status(shop, made)
    assert (found["state"], found["counters"]["enforced"]) == ("propagating", 0)
    targets = (await shop.call("GET", made.headers["Location"] + "/targets")).body["targets"]
    assert [t["device_id"] for t in targets] == [device.device_id]
    bound_us = targets[0]["lease_bound_at"]
    shop.clock.advance(seconds=(bound_us - shop.clock.now_us()) / 1e6)
    found = await status(shop, made)
    assert (found["state"], found["enforced_at"]) == ("enforced", bound_us)
    shop.clock.advance(seconds=31 * 86_400)
    found = await status(shop, made)
    assert (found["state"], found["overdue"]) == ("partially_completed", [device.device_id])


async def test_law_6_what_a_completion_says_is_on_disk_before_it_is_signed(shop: ShopServer) -> None:
    """That the keys are gone and all answered is committed without waiting for the disk; a receipt waits."""

    def waited() -> bool:
        with shop.store.read() as tx:
            return tx.meta("flushed") is not None

    made = await shop.revoke("alice")
    assert (await status(shop, made))["state"] == "completed"
    assert not waited()
    assert (await shop.call("GET", made.headers["Location"] + "/receipt")).status == 200
    assert waited()
