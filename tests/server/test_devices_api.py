"""Devices over HTTP: one-time tokens, proof of possession, tickets, shutting out."""

from __future__ import annotations

import pytest

from edge_runtime.wire import ticket as tickets
from edge_runtime.wire.failure import WireFailure
from sync_server.devices.enrolment import decode, encode, token_hash
from tests.support.shop_server import FakeDevice, ShopServer

P = "personalization"


async def test_a_device_enrols_with_token_and_proof(shop: ShopServer) -> None:
    """It is told its id, the tenant's keys, the key to pin and its channels; it stands at lane 0."""
    device = FakeDevice(shop, 1)
    token = (await shop.call("POST", "/v1/device-tokens", {"channels": ["all", "segment:*"]})).body["token"]
    reply = await device.offer(token)
    assert (reply.status, reply.body["channels"]) == (201, ["all", "segment:*"])
    assert decode(reply.body["tenant"]["pseudonym_key"]) == shop.authority.pseudonym_key
    assert decode(reply.body["tenant"]["digest_key"]) == shop.authority.digest_key
    found = (await shop.call("GET", f"/v1/devices/{reply.body['device_id']}")).body
    assert (found["lane"], found["lease_until"], found["revoked"]) == (0, None, False)


async def test_law_12_a_token_works_once_and_in_time(shop: ShopServer) -> None:
    """Used, expired, unknown and unproven tokens have a problem each, and enrol nobody."""
    made = (await shop.call("POST", "/v1/device-tokens", {})).body
    assert made["expires_at"] == shop.clock.now_us() + 15 * 60_000_000
    first, second = FakeDevice(shop, 1), FakeDevice(shop, 2)
    bad = {"token": made["token"], "public_key": encode(first.public_key), "proof": encode(bytes(64))}
    forged = await shop.call("POST", "/v1/devices", bad, token=None)
    assert (forged.status, forged.body["code"]) == (403, "bad_signature")
    assert (await first.offer(made["token"])).status == 201
    for device in (first, second):
        used = await device.offer(made["token"])
        assert (used.status, used.body["code"]) == (409, "token_used")
    late = (await shop.call("POST", "/v1/device-tokens", {"ttl_s": 60})).body["token"]
    shop.clock.advance(seconds=60)
    expired = await second.offer(late)
    assert (expired.status, expired.body["code"]) == (410, "token_expired")
    unknown = await second.offer("no-such-token")
    assert (unknown.status, unknown.body["code"]) == (404, "token_unknown")
    assert (await shop.call("GET", "/v1/devices")).body["counts"]["enrolled"] == 1


async def test_tokens_rest_as_hashes_only(shop: ShopServer) -> None:
    """The token itself is in no file; its hash is what the store knows."""
    token = (await shop.call("POST", "/v1/device-tokens", {})).body["token"]
    files = b"".join(p.read_bytes() for p in shop.settings.data_dir.iterdir())
    assert token.encode() not in files
    assert token_hash(token) in files


async def test_a_key_enrols_once(shop: ShopServer) -> None:
    """A second enrolment of the same key is refused and leaves its token good."""
    device = await FakeDevice(shop, 1).enrol()
    token = (await shop.call("POST", "/v1/device-tokens", {})).body["token"]
    assert (await device.offer(token)).body["code"] == "key_enrolled"
    assert (await FakeDevice(shop, 2).offer(token)).status == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": "t", "public_key": "!!", "proof": "x"},
        {"token": "t", "public_key": "AA", "proof": 5},
        {"token": "", "public_key": "AA", "proof": "AA"},
        {"token": "t" * 1_000, "public_key": "AA", "proof": "AA"},
    ],
)
async def test_an_enrolment_that_is_not_one(shop: ShopServer, body: dict[str, object]) -> None:
    """422, whatever is wrong with it."""
    reply = await shop.call("POST", "/v1/devices", body, token=None)
    assert (reply.status, reply.body["code"]) == (422, "invalid_request")


async def test_personal_patterns_are_never_fixed_at_enrolment(shop: ShopServer) -> None:
    """A pattern that would name personal channels is refused."""
    for pattern in ("~abc/ads", "~*", ""):
        reply = await shop.call("POST", "/v1/device-tokens", {"channels": [pattern]})
        assert reply.status == 422


async def test_a_shut_out_device_gets_no_lease(shop: ShopServer) -> None:
    """Revoking keeps the record, refuses leases and tickets; its running lease stays a target."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    reply = await shop.call("DELETE", f"/v1/devices/{device.device_id}")
    assert (reply.status, reply.body["revoked"]) == (200, True)
    assert not device.lease()
    ticket = await shop.call(
        "POST", f"/v1/devices/{device.device_id}/tickets", {"subject": "alice", "purposes": [P]}
    )
    assert ticket.body["code"] == "device_revoked"
    made = await shop.revoke("alice")
    found = (await shop.call("GET", made.headers["Location"])).body
    assert found["counters"]["targets"] == 1
    assert (await shop.call("DELETE", "/v1/devices/dev-none")).status == 404


async def test_a_ticket_opens_one_subject_for_one_device_for_a_while(shop: ShopServer) -> None:
    """It checks for whom it was issued and for nobody else, and ends."""
    device = await FakeDevice(shop, 1).enrol()
    path = f"/v1/devices/{device.device_id}/tickets"
    reply = await shop.call("POST", path, {"subject": "alice", "purposes": [P], "ttl_s": 60})
    assert reply.status == 201
    ticket, key = decode(reply.body["ticket"]), shop.authority.public_key
    alice, now_us = shop.pseudonym("alice"), shop.clock.now_us()
    tickets.check(key, ticket, device.device_id, alice, P, now_us + 59_999_999)
    wrong = [
        (key, ticket, device.device_id, alice, P, now_us + 60_000_000, "ticket_expired"),
        (key, ticket, "dev-other", alice, P, now_us, "ticket_invalid"),
        (key, ticket, device.device_id, shop.pseudonym("bob"), P, now_us, "ticket_invalid"),
        (key, ticket, device.device_id, alice, "measurement", now_us, "ticket_invalid"),
        (bytes(32), ticket, device.device_id, alice, P, now_us, "ticket_invalid"),
        (key, ticket[:-1], device.device_id, alice, P, now_us, "ticket_invalid"),
        (key, b"x" * 9_000, device.device_id, alice, P, now_us, "ticket_invalid"),
    ]
    for *given, code in wrong:
        with pytest.raises(WireFailure) as caught:
            tickets.check(*given)  # type: ignore[arg-type]
        assert caught.value.code == code


async def test_tickets_end_within_the_settings(shop: ShopServer) -> None:
    """However long a life is asked for, an hour is the most; unknown purposes and devices are refused."""
    device = await FakeDevice(shop, 1).enrol()
    path = f"/v1/devices/{device.device_id}/tickets"
    reply = await shop.call("POST", path, {"subject": "alice", "purposes": [P], "ttl_s": 10**9})
    assert reply.body["expires_at"] == shop.clock.now_us() + 3_600_000_000
    bad = await shop.call("POST", path, {"subject": "alice", "purposes": ["spying"]})
    assert bad.body["code"] == "unknown_purpose"
    bad = await shop.call("POST", "/v1/devices/dev-x/tickets", {"subject": "a", "purposes": [P]})
    assert bad.body["code"] == "unknown_device"


async def test_a_decision_taken_on_a_device_opens_its_channel_there_only(shop: ShopServer) -> None:
    """`gave_here` holds for the device that recorded the live grant, and ends with it."""
    from sync_server.consent.decisions import Proposal, device_actor

    subject = shop.pseudonym("alice")
    with shop.store.write("give") as tx:
        shop.office.decide(tx, Proposal(subject, P, "given", "n", 0, 1, device_actor("dev-a"), b"d" * 16))
    with shop.store.read() as tx:
        assert tx.gave_here("dev-a", subject, P)
        assert not tx.gave_here("dev-b", subject, P)
    await shop.revoke("alice", [P])
    await shop.give("alice")
    with shop.store.read() as tx:
        assert not tx.gave_here("dev-a", subject, P)
