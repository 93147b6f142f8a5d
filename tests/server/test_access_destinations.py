"""A receiver's token: bound to recipients, streams or webhooks, it speaks for them and does nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync_server.access.caller import SCOPES
from sync_server.access.tokens import TokenBook
from tests.server.test_access_routes import ask, contents, guarded, routes
from tests.server.test_events import URI, stream
from tests.server.test_recipients import recipient
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

P = "personalization"
RECEIVERS = {
    ("POST", "/v1/event-streams/{id}/poll"),
    ("POST", "/v1/consent-revocations/{id}/recipients/{name}"),
    ("POST", "/v1/event-subjects"),
}
"""All that such a token may ask, for what it is bound to; who adds one says here why."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), token_burst=10_000) as server:
        yield server


async def bound(shop: ShopServer, *destinations: str) -> str:
    return (await make_token(shop, ["consent"], destinations=destinations)).text


async def poll(shop: ShopServer, stream_id: str, token: str, *ack: str) -> Answer:
    body = {"returnImmediately": True, "ack": ack}
    return await shop.call("POST", f"/v1/event-streams/{stream_id}/poll", body, token=token)


async def answer(shop: ShopServer, revocation: str, name: str, token: str) -> Answer:
    path = f"/v1/consent-revocations/{revocation}/recipients/{name}"
    return await shop.call("POST", path, {"outcome": "erased"}, token=token)


async def names(shop: ShopServer, delivery: str, token: str) -> Answer:
    body = {"delivery": delivery, "subjects": ["alice"]}
    return await shop.call("POST", "/v1/event-subjects", body, token=token)


def test_what_a_receivers_token_may_ask_is_listed_here(shop: ShopServer) -> None:
    assert {(route.method, route.path) for route in routes(shop) if route.receivers} == RECEIVERS


async def test_every_other_route_refuses_a_receivers_token_and_nothing_changes(shop: ShopServer) -> None:
    """Above all it cannot revoke, and reads no decision and no receipt."""
    token = await bound(shop, await stream(shop))
    before = contents(shop)
    tried = 0
    for route in guarded(shop):
        if route.scope is None or route.receivers:
            continue
        reply = await ask(shop, route, token)
        code = "other_destination" if route.scope == "consent" else "missing_scope"
        assert (reply.status, reply.body["code"]) == (403, code), route.path
        tried += code == "other_destination"
    assert tried > 10
    assert contents(shop) == before


@pytest.mark.parametrize("by", ["recipient", "stream"])
async def test_it_speaks_for_its_own_and_for_nobody_else(shop: ShopServer, by: str) -> None:
    """Bound to a recipient it polls the stream by which that is told. Another's stream is refused like one
    that is not there, and what was to be acknowledged there stays owed."""
    kinds = [f"{URI}revocation-accepted"]
    own, other = [await stream(shop, events_requested=kinds) for _ in range(2)]
    await recipient(shop, "crm", own)
    await recipient(shop, "warehouse", other)
    token = await bound(shop, "crm") if by == "recipient" else await bound(shop, own, "crm")
    theirs = await bound(shop, "warehouse")
    made = (await shop.revoke("alice", [P])).body
    (jti,) = (await poll(shop, own, token)).body["sets"]
    assert (await names(shop, own, token)).status == 200
    before = contents(shop)
    for refused in (
        await poll(shop, other, token, jti),
        await poll(shop, "es-none", token),
        await names(shop, other, token),
        await names(shop, "es-none", token),
        await answer(shop, made["id"], "warehouse", token),
        await answer(shop, "rev-none", "nobody", token),
    ):
        assert (refused.status, refused.body["code"]) == (403, "other_destination")
    assert contents(shop) == before
    assert list((await poll(shop, other, theirs)).body["sets"]) == [jti]
    assert (await answer(shop, made["id"], "crm", token)).body["outcome"] == "erased"
    assert (await poll(shop, own, token, jti)).body["sets"] == {}


async def test_a_stream_alone_says_nothing_for_a_recipient(shop: ShopServer) -> None:
    """Two recipients may be told by one stream: each answers with a token of its own."""
    own = await stream(shop)
    await recipient(shop, "crm", own)
    made = (await shop.revoke("alice", [P])).body
    token = await bound(shop, own)
    assert (await answer(shop, made["id"], "crm", token)).body["code"] == "other_destination"


async def test_it_has_no_other_work_and_what_it_is_bound_to_is_there(shop: ShopServer) -> None:
    own = await stream(shop)
    before = await shop.call("GET", "/v1/tokens")
    for scopes, destinations, code in (
        (["consent", "operator"], [own], "invalid_request"),
        (["publish"], [own], "invalid_request"),
        (["consent"], ["crm"], "unknown_delivery"),
        (["consent"], [own, "es-none"], "unknown_delivery"),
        (["consent"], [], "invalid_request"),
    ):
        body = {"name": "x", "scopes": scopes, "destinations": destinations}
        made = await shop.call("POST", "/v1/tokens", body)
        assert (made.status, made.body["code"]) == (422, code)
    assert (await shop.call("GET", "/v1/tokens")).body == before.body


async def test_it_stays_bound_when_it_is_rotated_and_when_the_server_reads_it_again(shop: ShopServer) -> None:
    own, other = await stream(shop), await stream(shop)
    made = await make_token(shop, ["consent"], destinations=[own])
    assert (await shop.call("GET", f"/v1/tokens/{made.id}")).body["destinations"] == [own]
    rotated = (await shop.call("POST", f"/v1/tokens/{made.id}/rotate", {})).body["token"]
    read_again = TokenBook(shop.store, shop.settings).check(rotated, shop.clock.now_us())
    assert read_again is not None
    assert read_again.destinations == frozenset([own])
    for token in (made.text, rotated):
        assert (await poll(shop, own, token)).status == 200
        assert (await poll(shop, other, token)).status == 403


async def test_the_log_names_who_tried(shop: ShopServer) -> None:
    token = await make_token(shop, ["consent"], destinations=[await stream(shop)])
    body = {"subject": "alice", "purposes": "*", "initiator": "subject"}
    key = {"Idempotency-Key": "k"}
    refused = await shop.call("POST", "/v1/consent-revocations", body, headers=key, token=token.text)
    assert refused.status == 403
    (row,) = [
        entry
        for entry in (await shop.call("GET", "/v1/audit")).body["entries"]
        if entry["code"] == "other_destination"
    ]
    assert (row["actor"], row["outcome"]) == (f"token:{token.id}", "refused")
    full = (await make_token(shop, SCOPES)).text
    assert (await shop.call("GET", "/v1/consents?subject=alice", token=full)).body["history"] == []
