"""Onward recipients (GDPR Art. 19): asked with the revocation, waited for by its completion, named late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sync_server.consent import statement
from sync_server.settings import DAY_US
from tests.server.test_events import kinds_of, open_shop, poll, stream, turn
from tests.support.clock import ManualClock
from tests.support.shop_server import FakeDevice, ShopServer

__all__ = ["open_shop"]
P = "personalization"


async def recipient(shop: ShopServer, name: str, stream_id: str, **more: Any) -> None:
    made = await shop.call("POST", "/v1/recipients", {"name": name, "delivery": stream_id, **more})
    assert made.status == 201, made.body


async def answer(shop: ShopServer, revocation: str, name: str, outcome: str, reason: str = "") -> Any:
    path = f"/v1/consent-revocations/{revocation}/recipients/{name}"
    return await shop.call("POST", path, {"outcome": outcome, "reason": reason})


async def status(shop: ShopServer, revocation: str) -> Any:
    return (await shop.call("GET", f"/v1/consent-revocations/{revocation}")).body


async def test_completed_waits_for_every_recipient_and_enforced_and_erased_do_not(
    open_shop: ShopServer,
) -> None:
    """Two recipients of the purpose, one of another; the signed completion names what each said."""
    shop = open_shop
    stream_id = await stream(shop)
    await recipient(shop, "warehouse", stream_id)
    await recipient(shop, "crm", stream_id, purposes=[P])
    await recipient(shop, "billing", stream_id, purposes=["measurement"])
    made = (await shop.revoke("alice", [P])).body
    now = await status(shop, made["id"])
    assert (now["state"], now["completed_at"]) == ("erased", None)
    assert now["enforced_at"] is not None
    assert now["recipients"] == {"asked": 2, "told": 0, "answered": 0, "overdue": []}
    assert (await shop.call("GET", f"/v1/consent-revocations/{made['id']}/receipt")).status == 409
    assert (await answer(shop, made["id"], "billing", "erased")).status == 404
    assert (await answer(shop, made["id"], "warehouse", "held_none")).status == 200
    assert (await status(shop, made["id"]))["state"] == "erased"
    shop.clock.advance(seconds=60)
    assert (await answer(shop, made["id"], "crm", "cannot", "kept by tax law")).status == 200
    now = await status(shop, made["id"])
    assert (now["state"], now["completed_at"]) == ("completed", shop.clock.now_us())
    receipt = (await shop.call("GET", f"/v1/consent-revocations/{made['id']}/receipt")).body
    statement.verify(receipt, shop.authority.public_key)
    said = [(r["name"], r["outcome"], r["reason"]) for r in receipt["statement"]["recipients"]]
    assert said == [("crm", "cannot", "kept by tax law"), ("warehouse", "held_none", "")]


async def test_a_recipients_first_word_stands_unless_it_could_not(open_shop: ShopServer) -> None:
    """The same again changes nothing; only `cannot` may be followed by another word."""
    shop = open_shop
    await recipient(shop, "crm", await stream(shop))
    made = (await shop.revoke("alice", [P])).body
    assert (await answer(shop, made["id"], "crm", "cannot")).status == 422
    first = await answer(shop, made["id"], "crm", "cannot", "locked")
    shop.clock.advance(seconds=60)
    assert (await answer(shop, made["id"], "crm", "cannot", "locked")).body == first.body
    assert (await answer(shop, made["id"], "crm", "erased")).body["outcome"] == "erased"
    again = await answer(shop, made["id"], "crm", "held_none")
    assert (again.status, again.body["code"]) == (409, "already_answered")


async def test_an_overdue_recipient_is_named_and_its_late_word_completes(open_shop: ShopServer) -> None:
    """`partially_completed` names it, an event and readiness say so; nothing is lost by its coming late."""
    shop = open_shop
    stream_id = await stream(shop)
    await recipient(shop, "crm", stream_id)
    made = (await shop.revoke("alice", [P])).body
    sets = (await poll(shop, stream_id))["sets"]
    await poll(shop, stream_id, *sets)
    shop.clock.advance(us=31 * DAY_US)
    turn(shop)
    now = await status(shop, made["id"])
    assert now["state"] == "partially_completed"
    assert now["recipients"] == {"asked": 1, "told": 1, "answered": 0, "overdue": ["crm"]}
    assert await kinds_of(shop, (await poll(shop, stream_id))["sets"]) == ["revocation-overdue"]
    assert "overdue" in (await shop.call("GET", "/v1/events")).body["warnings"][0]
    receipt = (await shop.call("GET", f"/v1/consent-revocations/{made['id']}/receipt")).body
    assert receipt["statement"]["kind"] == "revocation_partially_completed"
    assert receipt["statement"]["recipients"][0]["outcome"] is None
    await answer(shop, made["id"], "crm", "erased")
    assert (await status(shop, made["id"]))["state"] == "completed"


async def test_a_recipient_is_told_whatever_its_stream_asked_for(open_shop: ShopServer) -> None:
    """Who must act hears of it, also by a stream of other events; told is when it acknowledged."""
    shop = open_shop
    stream_id = await stream(shop, events_requested=["urn:edge-sync:event:revocation-completed"])
    await recipient(shop, "crm", stream_id)
    made = (await shop.revoke("alice", [P])).body
    (jti,) = (await poll(shop, stream_id))["sets"]
    shop.clock.advance(seconds=5)
    await poll(shop, stream_id, jti)
    (one,) = (await shop.call("GET", f"/v1/consent-revocations/{made['id']}/recipients")).body["recipients"]
    assert (jti, one["told_at"]) == (f"{made['id']}.accepted", shop.clock.now_us())


async def test_registered_later_is_asked_from_then_on_and_removed_is_said(open_shop: ShopServer) -> None:
    """What a removed recipient owes is closed, by name, as `removed`."""
    shop = open_shop
    stream_id = await stream(shop)
    before = (await shop.revoke("alice", [P])).body
    await recipient(shop, "crm", stream_id)
    assert (await status(shop, before["id"]))["recipients"]["asked"] == 0
    made = (await shop.revoke("bob", [P])).body
    in_use = await shop.call("DELETE", f"/v1/event-streams?stream_id={stream_id}")
    assert (in_use.status, in_use.body["code"]) == (409, "destination_in_use")
    assert (await shop.call("DELETE", "/v1/recipients/crm")).status == 204
    assert (await status(shop, made["id"]))["state"] == "completed"
    receipt = (await shop.call("GET", f"/v1/consent-revocations/{made['id']}/receipt")).body
    assert [(r["name"], r["outcome"]) for r in receipt["statement"]["recipients"]] == [("crm", "removed")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "crm", "delivery": "wh-nothing"}, "unknown_delivery"),
        ({"name": "../crm", "delivery": "STREAM"}, "invalid_request"),
        ({"name": "other", "delivery": "STREAM"}, "unknown_delivery"),
        ({"name": "taken", "delivery": "STREAM", "purposes": [P]}, "recipient_exists"),
    ],
)
async def test_law_12_a_recipient_that_cannot_be_told_is_refused(
    open_shop: ShopServer, body: dict[str, Any], code: str
) -> None:
    """No such delivery, one that does not carry its purposes, a bad name, a name that is taken."""
    shop = open_shop
    stream_id = await stream(shop, purposes=[P])
    await recipient(shop, "taken", stream_id, purposes=[P])
    wanted = {**body, "delivery": body["delivery"].replace("STREAM", stream_id)}
    refused = await shop.call("POST", "/v1/recipients", wanted)
    assert refused.body["code"] == code
    names = [r["name"] for r in (await shop.call("GET", "/v1/recipients")).body["recipients"]]
    assert names == ["taken"]


async def test_a_devices_own_withdrawal_asks_the_recipients_too(open_shop: ShopServer) -> None:
    """Whoever withdraws: the rows stand in the same transaction."""
    shop = open_shop
    await recipient(shop, "crm", await stream(shop))
    await shop.give("alice")
    device = await FakeDevice(shop, 1).enrol()
    from sync_server.consent.decisions import Proposal, device_actor

    with shop.store.write("device_decision") as tx:
        said = Proposal(
            *(shop.pseudonym("alice"), P, "withdrawn", "", tx.lane_head(), shop.clock.now_us()),
            device_actor(device.device_id),
        )
        shop.office.decide(tx, said)
        (row,) = tx.revocations(9)
        assert [a.recipient for a in tx.recipients.answers(row.id)] == ["crm"]


async def test_an_upgraded_or_restarted_server_still_waits(tmp_path: Path) -> None:
    """What is owed stands in the store."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "d", clock) as shop:
        await recipient(shop, "crm", await stream(shop))
        made = (await shop.revoke("alice", [P])).body
    async with ShopServer(tmp_path / "d", clock) as shop:
        assert (await status(shop, made["id"]))["state"] == "erased"
        await answer(shop, made["id"], "crm", "erased")
        assert (await status(shop, made["id"]))["state"] == "completed"
