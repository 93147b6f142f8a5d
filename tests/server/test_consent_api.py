"""Consent over HTTP: the base rule, revocations with every live device as target, and proofs that verify."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.merkle import verify_consistency, verify_inclusion
from sync_server.consent import statement
from sync_server.consent.statement import StatementFailure
from sync_server.devices.enrolment import decode, encode
from sync_server.settings import DAY_US
from sync_server.store.records import GrantedLease
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"


async def status(shop: ShopServer, made: Any) -> dict[str, Any]:
    reply = await shop.call("GET", made.headers["Location"])
    assert reply.status == 200
    found: dict[str, Any] = reply.body
    return found


async def live_device(shop: ShopServer, seed: int) -> FakeDevice:
    device = await FakeDevice(shop, seed).enrol()
    assert device.lease()
    return device


async def test_a_consent_is_recorded_with_its_notice(shop: ShopServer) -> None:
    """201 and the ledger's step; read back with history and state."""
    made = await shop.give("alice")
    assert (made.status, made.body["seq"], made.body["grant"]) == (201, 1, 1)
    found = (await shop.call("GET", f"/v1/consents?subject=alice&purpose={P}")).body
    assert found["states"] == {P: {"state": "given", "grant": 1, "denial": 0}}
    assert [(s["seq"], s["state"], s["notice"]) for s in found["history"]] == [(1, "given", "2026-11")]
    assert (await shop.call("GET", "/v1/consents?subject=bob")).body["history"] == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"notice": ""}, "invalid_request"),
        ({"notice": None}, "invalid_request"),
        ({"purpose": "spying"}, "unknown_purpose"),
        ({"state": "withdrawn"}, "invalid_request"),
        ({"base": 99}, "invalid_request"),
        ({"subject": ""}, "invalid_id"),
        ({"subject": "x" * 1_000_000}, "invalid_id"),
        ({"extra": 1}, "invalid_request"),
    ],
)
async def test_law_12_a_consent_that_does_not_fit_is_refused(
    shop: ShopServer, change: dict[str, object], code: str
) -> None:
    """No notice, an unknown purpose, a base not reached: 422, and the ledger stays empty."""
    body = {"subject": "alice", "purpose": P, "notice": "2026-11", **change}
    reply = await shop.call("POST", "/v1/consents", body)
    assert (reply.status, reply.body["code"]) == (422, code)
    with shop.store.read() as tx:
        assert tx.lane_head() == 0


async def test_a_renewal_keeps_its_grant(shop: ShopServer) -> None:
    """Giving what is given moves the lane and not the grant."""
    await shop.give("alice")
    assert (await shop.give("alice")).body["grant"] == 1
    with shop.store.read() as tx:
        assert [(e.seq, e.grant) for e in tx.lane_since(0, 9)] == [(2, 1)]


async def test_law_2_a_give_from_before_a_withdrawal_is_superseded(shop: ShopServer) -> None:
    """Recorded, but nothing comes back; one that saw the withdrawal stands."""
    await shop.give("alice")
    await shop.revoke("alice", [P])
    late = await shop.give("alice", base=1)
    assert (late.body["outcome"], late.body["grant"]) == ("superseded", 0)
    assert late.body["state_now"]["state"] == "withdrawn"
    fresh = await shop.give("alice", base=3)
    assert (fresh.body["outcome"], fresh.body["grant"]) == ("recorded", 4)


async def test_a_revocation_walks_from_accepted_to_completed(shop: ShopServer) -> None:
    """Two live devices: propagating, enforced by acknowledgement, completed by receipts of both kinds."""
    first, second = await live_device(shop, 1), await live_device(shop, 2)
    await FakeDevice(shop, 3).enrol()  # never had a lease: holds nothing it may use
    made = await shop.revoke("alice", [P])
    assert (made.status, made.body["state"]) == (202, "accepted")
    subject, began = shop.pseudonym("alice"), shop.clock.now_us()
    found = await status(shop, made)
    assert (found["state"], found["counters"]["targets"]) == ("propagating", 2)
    shop.clock.advance(us=40)
    first.acknowledge()
    shop.clock.advance(us=2)
    second.acknowledge()
    found = await status(shop, made)
    assert (found["state"], found["enforced_at"]) == ("enforced", began + 42)
    shop.clock.advance(us=8)
    first.answer(made.body, subject)
    assert (await status(shop, made))["counters"]["erased"] == 1
    assert (await shop.call("GET", made.headers["Location"] + "/receipt")).status == 409
    second.answer(made.body, subject, kind="held_none", canary=None)
    found = await status(shop, made)
    assert found["state"] == "completed"
    assert found["erased_at"] == found["completed_at"] == began + 50
    wanted = {"targets": 2, "enforced": 2, "erased": 2, "held_none": 1, "receipts": 2, "overdue": 0}
    wanted["on_wall_clock"] = 0
    assert found["counters"] == wanted
    listed = (await shop.call("GET", made.headers["Location"] + "/targets")).body["targets"]
    assert sorted(t["answer"] for t in listed) == ["erased", "held_none"]


async def test_law_3_a_silent_device_is_enforced_by_the_end_of_its_lease(shop: ShopServer) -> None:
    """Without contact a target counts as locked only after lease, drift and margin."""
    device = await live_device(shop, 1)
    bound = shop.settings.lease_bound_us(shop.clock.now_us(), shop.settings.lease_us)
    assert bound == shop.clock.now_us() + DAY_US + DAY_US // 1_000 + 5_000_000
    made = await shop.revoke("alice", [P])
    shop.clock.advance(us=bound - shop.clock.now_us() - 1)
    assert (await status(shop, made))["state"] == "propagating"
    shop.clock.advance(us=1)
    found = await status(shop, made)
    assert (found["state"], found["enforced_at"]) == ("enforced", bound)
    shop.clock.set_wall(found["due_at"])
    found = await status(shop, made)
    assert (found["state"], found["overdue"]) == ("partially_completed", [device.device_id])
    assert found["counters"]["overdue"] == 1
    device.answer(made.body, shop.pseudonym("alice"))
    assert (await status(shop, made))["state"] == "completed"


async def test_law_3_no_lease_before_every_denial_is_acknowledged(shop: ShopServer) -> None:
    """A device that has not acknowledged the lane's head gets no lease, whatever it claims."""
    device = await live_device(shop, 1)
    await shop.revoke("alice")
    short = GrantedLease(shop.clock.now_us(), shop.clock.now_us() + 1, {}, "server")
    with shop.store.write("lease") as tx:
        assert not tx.grant_lease(device.device_id, tx.lane_head(), short)
    assert device.lease()


async def test_a_late_holder_reopens_as_completed_amended(shop: ShopServer) -> None:
    """Not live at commit, it comes back and erases something: the record says so."""
    device = await live_device(shop, 1)
    shop.clock.advance(us=3 * DAY_US)
    made = await shop.revoke("alice", [P])
    assert (await status(shop, made))["state"] == "completed"
    device.answer(made.body, shop.pseudonym("alice"))
    found = await status(shop, made)
    assert (found["state"], found["amended"], found["counters"]["targets"]) == ("completed", True, 1)


async def test_law_4_a_receipt_whose_canary_opens_erases_nothing(shop: ShopServer) -> None:
    """The device says that its sample is still readable: it stays owing."""
    device = await live_device(shop, 1)
    made = await shop.revoke("alice", [P])
    device.answer(made.body, shop.pseudonym("alice"), canary=False)
    assert (await status(shop, made))["counters"]["erased"] == 0


async def test_a_receipt_for_a_newer_denial_answers_the_older_ones(shop: ShopServer) -> None:
    """Withdrawn twice, answered once: both complete, and the same receipt again changes nothing."""
    device = await live_device(shop, 1)
    older = await shop.revoke("alice", [P])
    newer = await shop.revoke("alice", [P])
    body, signature = device.receipt(shop.pseudonym("alice"), [P], [newer.body["denials"][0]["seq"]])
    assert len(device.hand_in(body, signature).revocations) == 2
    assert device.hand_in(body, signature).revocations == ()
    for made in (older, newer):
        assert (await status(shop, made))["state"] == "completed"


async def test_receipts_that_cannot_be_believed_are_refused(shop: ShopServer) -> None:
    """A broken signature, another device's words, a denial that is no such thing: nothing changes."""
    device, other = await live_device(shop, 1), await live_device(shop, 2)
    await shop.give("bob")
    made = await shop.revoke("alice", [P])
    subject, seq = shop.pseudonym("alice"), made.body["denials"][0]["seq"]
    body, signature = device.receipt(subject, [P], [seq])
    refused = [
        (device, body, bytes(64), "bad_signature"),
        (other, body, signature, "bad_signature"),
        (device, *device.receipt(subject, [P], [1]), "malformed"),
        (device, *device.receipt(subject, [P], [999]), "malformed"),
        (device, *device.receipt(subject, ["measurement"], [seq]), "malformed"),
        (device, *device.receipt(shop.pseudonym("bob"), [P], [seq]), "malformed"),
    ]
    for sender, words, proof, code in refused:
        with pytest.raises(WireFailure) as caught:
            sender.hand_in(words, proof)
        assert caught.value.code == code
    assert (await status(shop, made))["counters"]["erased"] == 0


async def test_revoking_the_unknown_tells_nothing(shop: ShopServer) -> None:
    """Known, unknown, already withdrawn: same status, same shape, and each time a fence."""
    await shop.give("alice")
    replies = [await shop.revoke(name) for name in ("alice", "alice", "nobody")]
    shapes = [(r.status, sorted(r.body), [d["purpose"] for d in r.body["denials"]]) for r in replies]
    assert shapes[0] == shapes[1] == shapes[2]
    found = [await status(shop, r) for r in replies]
    assert {f["state"] for f in found} == {"completed"}
    assert (await shop.give("nobody", base=1)).body["outcome"] == "superseded"


async def test_a_repeated_revocation_under_one_key_is_one(shop: ShopServer) -> None:
    """Same key: the very same reply, Location included, and one ledger step for each purpose."""
    headers = {"Idempotency-Key": "r-1"}
    first, again = await shop.revoke("alice", **headers), await shop.revoke("alice", **headers)
    assert (again.status, again.body) == (202, first.body)
    assert again.headers["Location"] == first.headers["Location"]
    assert (await shop.revoke("bob", **headers)).body["code"] == "idempotency_reuse"
    with shop.store.read() as tx:
        assert tx.lane_head() == 2


async def test_the_initiator_picks_the_word(shop: ShopServer) -> None:
    """The subject withdraws; anybody else revokes."""
    body = {"subject": "alice", "purposes": [P], "initiator": "controller"}
    await shop.call("POST", "/v1/consent-revocations", body, headers={"Idempotency-Key": "k"})
    with shop.store.read() as tx:
        assert tx.decision_state(shop.pseudonym("alice"), P).state == "revoked"


async def test_statements_verify_offline_and_no_changed_one_does(shop: ShopServer) -> None:
    """Acceptance and completion hold under the pinned key alone; any touched part breaks them."""
    device = await live_device(shop, 1)
    await shop.give("alice")
    made = await shop.revoke("alice")
    device.answer(made.body, shop.pseudonym("alice"))
    completed = (await shop.call("GET", made.headers["Location"] + "/receipt")).body
    key, subject = shop.authority.public_key, shop.pseudonym("alice")
    first, last = statement.verify(made.body["receipt"], key), statement.verify(completed, key)
    assert (first.subject, first.denials, first.receipts) == (subject, (2, 3), ())
    assert [r.device_id for r in last.receipts] == [device.device_id]
    with pytest.raises(StatementFailure):
        statement.verify(completed, bytes(32))
    touched = [
        (("statement", "subject"), seal.subject_token(bytes(16))),
        (("statement", "accepted_at"), 1),
        (("statement", "head", "size"), 2),
        (("statement", "denials", 0, "seq"), 3),
        (("statement", "devices", 0, "receipts"), []),
        (("signature",), encode(bytes(64))),
    ]
    for path, value in touched:
        forged = copy.deepcopy(completed)
        place = forged
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(StatementFailure):
            statement.verify(forged, key)


async def test_even_the_servers_own_key_cannot_sign_a_denial_that_is_not_logged(shop: ShopServer) -> None:
    """Re-signed by the server, a statement with a foreign leaf still fails at the inclusion proof."""
    made = (await shop.revoke("alice", [P])).body["receipt"]
    for part in ("leaf", "salt"):
        forged = copy.deepcopy(made)
        forged["statement"]["denials"][0][part] = encode(bytes(32))
        body = seal.canonical(forged["statement"])
        forged["signature"] = encode(seal.sign(shop.authority.signing, seal.REVOCATION, body))
        with pytest.raises(StatementFailure):
            statement.verify(forged, shop.authority.public_key)


async def test_the_ledger_proves_itself_over_http(shop: ShopServer) -> None:
    """Head, inclusion and consistency proofs of the API verify with the pure functions."""
    await shop.give("alice")
    old = (await shop.call("GET", "/v1/consent-ledger/head")).body
    for name in "bcdefg":
        await shop.give(name)
    head = (await shop.call("GET", "/v1/consent-ledger/head")).body
    assert (old["size"], head["size"]) == (1, 7)
    found = (await shop.call("GET", "/v1/consent-ledger/proof?seq=3&size=7")).body
    path = [decode(step) for step in found["proof"]]
    assert verify_inclusion(decode(found["leaf"]), 2, 7, path, decode(head["root"]))
    found = (await shop.call("GET", "/v1/consent-ledger/proof?first=1&size=7")).body
    path = [decode(step) for step in found["proof"]]
    assert verify_consistency(1, 7, path, decode(old["root"]), decode(head["root"]))
    for query in ("", "seq=0", "seq=8", "seq=x", "seq=1&size=99", "seq=1&first=1", "first=0"):
        assert (await shop.call("GET", f"/v1/consent-ledger/proof?{query}")).status == 400


async def test_unknown_revocations_are_not_found(shop: ShopServer) -> None:
    """404 for each of the three looks."""
    for tail in ("", "/targets", "/receipt"):
        reply = await shop.call("GET", f"/v1/consent-revocations/rev-none{tail}")
        assert (reply.status, reply.body["code"]) == (404, "not_found")
