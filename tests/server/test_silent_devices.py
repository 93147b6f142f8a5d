"""Devices that do not answer: how they end, what is said of them, and who may say that they are gone."""

from __future__ import annotations

import copy
from typing import Any, Literal

import msgspec
import pytest

from edge_runtime.wire import seal
from edge_runtime.wire.receipt import EVERYBODY, open_receipt, receipt_bytes
from sync_server.consent import statement
from sync_server.consent.statement import StatementFailure
from sync_server.devices.enrolment import encode
from sync_server.settings import DAY_US
from tests.support.shop_server import Answer, FakeDevice, ShopServer

P = "personalization"


async def status(shop: ShopServer, made: Answer) -> Any:
    return (await shop.call("GET", made.headers["Location"])).body


async def targets(shop: ShopServer, made: Answer) -> dict[str, Any]:
    found = await shop.call("GET", made.headers["Location"] + "/targets")
    return {target["device_id"]: target for target in found.body["targets"]}


async def proof(shop: ShopServer, made: Answer) -> Any:
    return (await shop.call("GET", made.headers["Location"] + "/receipt")).body


async def lost(shop: ShopServer, device: FakeDevice) -> None:
    reply = await shop.call("DELETE", f"/v1/devices/{device.device_id}?reason=lost")
    assert (reply.status, reply.body["shut_out"]) == (200, "lost")


def wipe(
    device: FakeDevice,
    *,
    kind: Literal["erased", "held_none"] = "erased",
    canary: bool | None = True,
    shut_out: bool = True,
    subject: bytes = EVERYBODY,
) -> tuple[bytes, bytes]:
    """A device's signed word that it erased everything."""
    body, _ = device.receipt(subject, [P], [], kind=kind, canary=canary)
    receipt = open_receipt(body, seal.sign(device.key, seal.RECEIPT, body), device.public_key)
    body = receipt_bytes(msgspec.structs.replace(receipt, shut_out=shut_out))
    return body, seal.sign(device.key, seal.RECEIPT, body)


def until(shop: ShopServer, at_us: int) -> None:
    shop.clock.advance(us=at_us - shop.clock.now_us())


async def test_each_target_says_what_ended_its_use(shop: ShopServer) -> None:
    told, silent, trusting = [await FakeDevice(shop, n).enrol() for n in range(3)]
    assert told.lease()
    assert silent.lease()
    assert trusting.lease("lease")
    made = await shop.revoke("alice", [P])
    told.acknowledge()
    found = await targets(shop, made)
    assert [found[d.device_id]["enforced_by"] for d in (told, silent, trusting)] == [
        "acknowledged",
        None,
        None,
    ]
    bound_us = found[silent.device_id]["lease_bound_at"]
    until(shop, bound_us - 1)
    assert (await status(shop, made))["counters"]["enforced"] == 1, "never before"
    until(shop, bound_us)
    found, word = await targets(shop, made), "enforced on the word of a wall clock"
    assert [found[d.device_id]["enforced_by"] for d in (silent, trusting)] == ["lease_ended"] * 2
    assert [found[d.device_id]["remark"] for d in (told, silent, trusting)] == [None, None, word]
    counters = (await status(shop, made))["counters"]
    assert (counters["enforced"], counters["on_wall_clock"]) == (3, 1)


async def test_law_3_a_device_is_said_to_trust_its_clock_until_such_leases_are_over(shop: ShopServer) -> None:
    """Restarted with `server`, then with `lease` again, it would open with what it had stored."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease("lease")
    shop.clock.advance(seconds=60)
    assert device.lease("server")
    made = await shop.revoke("alice", [P])
    shop.clock.advance(us=2 * DAY_US)
    assert (await status(shop, made))["counters"]["on_wall_clock"] == 1
    assert device.lease("server")
    made = await shop.revoke("alice", [P])
    shop.clock.advance(us=2 * DAY_US)
    counters = (await status(shop, made))["counters"]
    assert (counters["enforced"], counters["on_wall_clock"]) == (1, 0)


async def test_law_4_one_receipt_for_everything_answers_all_that_waited(shop: ShopServer) -> None:
    """Revoked while two revocations wait: its last word settles both, and a third party can check it."""
    device, other = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    assert device.lease()
    first, second = await shop.revoke("alice"), await shop.revoke("bob", [P])
    other.acknowledge()
    await lost(shop, device)
    shop.clock.advance(seconds=5)
    accepted = device.hand_in(*wipe(device))
    assert len(accepted.revocations) == 2
    for made in (first, second):
        assert (await status(shop, made))["state"] == "completed"
        target = (await targets(shop, made))[device.device_id]
        assert (target["enforced_by"], target["answer"], target["shut_out"]) == ("wiped", "wiped", "lost")
        document = await proof(shop, made)
        (told,) = document["statement"]["devices"]
        assert (told["answered_by"], told["enforced_by"], told["shut_out"]) == ("wipe", "wiped", "lost")
        verified = statement.verify(document, shop.authority.public_key)
        assert [r.subject for r in verified.receipts] == [EVERYBODY]
    third = await shop.revoke("carol", [P])
    assert (await status(shop, third))["counters"]["targets"] == 0, "nothing is there that could hold any"
    assert device.hand_in(*wipe(device, kind="held_none", canary=None)).revocations == ()
    assert device.hand_in(*wipe(device)).revocations == (third.body["id"],), "an older copy held some again"


async def test_law_4_a_wipe_still_answers_for_others_when_one_subject_is_forgotten(shop: ShopServer) -> None:
    """It names nobody: with the evidence about alice nothing goes that bob's statement needs."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = {name: await shop.revoke(name, [P]) for name in ("alice", "bob")}
    await lost(shop, device)
    device.hand_in(*wipe(device))
    gone = await shop.call("DELETE", "/v1/consent-evidence?subject=alice")
    assert (gone.status, gone.body["steps"]) == (200, 1)
    of = {name: statement.verify(await proof(shop, made[name]), shop.authority.public_key) for name in made}
    assert of["alice"].subject is None
    assert [r.subject for r in of["bob"].receipts] == [EVERYBODY]


@pytest.mark.parametrize("fault", ["not shut out", "canary", "not revoked", "another key", "a subject"])
async def test_law_12_no_other_word_answers_for_everything(shop: ShopServer, fault: str) -> None:
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = await shop.revoke("alice", [P])
    if fault != "not revoked":
        await lost(shop, device)
    said: dict[str, Any] = {"not shut out": {"shut_out": False}, "canary": {"canary": False}}.get(fault, {})
    if fault == "a subject":
        said = {"subject": shop.pseudonym("alice")}
    if fault == "another key":
        with pytest.raises(Exception, match="signature"):
            device.hand_in(wipe(device)[0], wipe(await FakeDevice(shop, 2).enrol())[1])
    else:
        device.hand_in(*wipe(device, **said))
    assert (await status(shop, made))["counters"]["erased"] == 0


async def test_a_verifier_takes_no_wipe_for_another_devices_nor_an_answer_for_a_wipe(
    shop: ShopServer,
) -> None:
    """What a dishonest server could write: each is named."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = await shop.revoke("alice", [P])
    await lost(shop, device)
    device.hand_in(*wipe(device))
    document = await proof(shop, made)

    def forged(**changes: Any) -> dict[str, Any]:
        made = copy.deepcopy(document)
        made["statement"]["devices"][0] |= changes
        body = seal.canonical(made["statement"])
        signature = seal.sign(shop.authority.signing, seal.REVOCATION, body)
        return {**made, "signature": encode(signature)}

    def written(**said: Any) -> list[dict[str, str]]:
        body, signature = wipe(device, **said)
        return [{"body": encode(body), "signature": encode(signature)}]

    assert statement.verify(forged(), shop.authority.public_key).receipts
    with pytest.raises(StatementFailure):  # as documents were before anybody could answer by a wipe
        statement.verify(forged(answered_by=None), shop.authority.public_key)
    faults: tuple[dict[str, Any], ...] = (
        {"answered_by": "receipt"},
        {"device_id": "dev-another"},
        {"receipts": written(shut_out=False)},
        {"receipts": written(canary=False)},
        {"receipts": written(subject=shop.pseudonym("bob"))},
        {"receipts": []},
        {"public_key": encode(shop.authority.public_key)},
    )
    for changes in faults:
        with pytest.raises(StatementFailure):
            statement.verify(forged(**changes), shop.authority.public_key)


async def test_a_lost_device_is_enforced_by_its_lease_named_when_due_and_heard_if_it_returns(
    shop: ShopServer,
) -> None:
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    made = await shop.revoke("alice", [P])
    await lost(shop, device)
    assert (await status(shop, made))["state"] == "propagating"
    until(shop, (await targets(shop, made))[device.device_id]["lease_bound_at"])
    assert (await status(shop, made))["state"] == "enforced"
    until(shop, made.body["due_at"])
    found = await status(shop, made)
    assert (found["state"], found["overdue"]) == ("partially_completed", [device.device_id])
    document = await proof(shop, made)
    (owing,) = document["statement"]["overdue"]
    assert (owing["device_id"], owing["shut_out"]) == (device.device_id, "lost")
    assert (owing["enforced_by"], owing["answered_by"], owing["overdue"]) == ("lease_ended", None, True)
    assert statement.verify(document, shop.authority.public_key).overdue == (device.device_id,)
    device.hand_in(*wipe(device))
    found = await status(shop, made)
    assert (found["state"], found["overdue"], found["amended"]) == ("completed", [], False)
    (told,) = (await proof(shop, made))["statement"]["devices"]
    assert (told["overdue"], told["answered_by"]) == (True, "wipe"), "late, and the receipt says so"


async def test_law_4_a_lost_device_that_returns_after_completion_amends_what_it_had_not_heard(
    shop: ShopServer,
) -> None:
    """Its lease had ended, so nobody waited for it: but it held something, and nobody knows of whom."""
    device, other = await FakeDevice(shop, 1).enrol(), await FakeDevice(shop, 2).enrol()
    heard = await shop.revoke("bob", [P])
    assert device.lease()
    shop.clock.advance(us=3 * DAY_US)
    made = await shop.revoke("alice", [P])
    await lost(shop, device)
    assert (await status(shop, made))["state"] == "completed"
    assert other.hand_in(*wipe(other, kind="held_none")).revocations == (), "it was never shut out"
    device.hand_in(*wipe(device))
    assert [(await status(shop, one))["amended"] for one in (heard, made)] == [False, True]
    assert (await status(shop, made))["state"] == "completed"
    (told,) = (await proof(shop, made))["statement"]["devices"]
    assert (told["late"], told["answered_by"]) == (True, "wipe")


async def test_a_wipe_of_nothing_amends_nothing(shop: ShopServer) -> None:
    device = await FakeDevice(shop, 1).enrol()
    made = await shop.revoke("alice", [P])
    await lost(shop, device)
    device.hand_in(*wipe(device, kind="held_none", canary=None))
    found = await status(shop, made)
    assert (found["amended"], found["counters"]["targets"]) == (False, 0)
    row = (await shop.call("GET", f"/v1/devices/{device.device_id}")).body
    assert row["wiped_at"] == shop.clock.now_us()
