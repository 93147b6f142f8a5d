"""Revocations over HTTP: the key that each one needs, pages that hold still, and what is signed at last."""

from __future__ import annotations

import asyncio
import copy
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sync_server.api import rooms
from sync_server.consent import statement
from sync_server.consent.statement import StatementFailure
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, FakeDevice, ShopServer

P = "personalization"
PATH = "/v1/consent-revocations"
LARGE = 70_000
"""Bytes of a body that is read beside the loop."""


async def live(shop: ShopServer, count: int) -> list[FakeDevice]:
    made = [await FakeDevice(shop, seed).enrol() for seed in range(count)]
    assert all(device.lease() for device in made)
    return sorted(made, key=lambda device: device.device_id)


async def test_a_revocation_without_a_key_is_refused(shop: ShopServer) -> None:
    """400 with a code of its own, and nothing is denied."""
    reply = await shop.call("POST", PATH, {"subject": "alice"})
    assert (reply.status, reply.body["code"]) == (400, "idempotency_key_missing")
    with shop.store.read() as tx:
        assert tx.lane_head() == 0


async def test_a_key_names_one_request(shop: ShopServer) -> None:
    """Another body under it is 422, also another spelling of the same; what was refused used no key up."""
    refused = await shop.revoke("alice", ["spying"], **{"Idempotency-Key": "k"})
    assert (refused.status, refused.body["code"]) == (422, "unknown_purpose")
    assert "$.purposes[0]" in refused.body["detail"]
    made = await shop.revoke("alice", [P], **{"Idempotency-Key": "k"})
    assert made.status == 202
    for other in ({"subject": "alice"}, {"purposes": [P], "subject": "alice"}):
        reply = await shop.call("POST", PATH, other, headers={"Idempotency-Key": "k"})
        assert (reply.status, reply.body["code"]) == (422, "idempotency_reuse")
    assert (await shop.revoke("alice", [P], **{"Idempotency-Key": '"k"'})).body["id"] != made.body["id"]
    body = {"subject": "alice", "purpose": P, "notice": "2026-11"}
    given = await shop.call("POST", "/v1/consents", body, headers={"Idempotency-Key": "k"})
    assert given.status == 201, "a key is of one door"


async def test_a_key_is_its_callers_own(shop: ShopServer) -> None:
    """Two programs that count from one do not get each other's replies."""
    made = list[str]()
    for name in ("website", "desk"):
        wanted = {"name": name, "scopes": ["consent"]}
        token = (await shop.call("POST", "/v1/tokens", wanted)).body["token"]
        keyed = {"Idempotency-Key": "1"}
        for _ in range(2):
            reply = await shop.call("POST", PATH, {"subject": f"of-{name}"}, headers=keyed, token=token)
            assert reply.status == 202, reply.body
            made.append(reply.body["id"])
    assert made[0] == made[1] != made[2] == made[3]


async def test_law_6_a_second_request_while_the_first_is_handled_is_told_so(shop: ShopServer) -> None:
    """409 over a second connection while the first body is being read; then both have the same reply."""
    go, loop = threading.Event(), asyncio.get_running_loop()
    busy = ThreadPoolExecutor(1)
    loop.set_default_executor(busy)
    busy.submit(go.wait)  # whoever comes now waits behind this
    body = json.dumps({"subject": "alice", "purposes": [P], "notice": " " * 500}).encode()
    body += b" " * LARGE

    def ask() -> asyncio.Task[Answer]:
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
        return asyncio.create_task(shop.call("POST", PATH, data=io.BytesIO(body), headers=headers))

    try:
        first = ask()
        while not shop.app[rooms.BUSY]:
            await asyncio.sleep(0)
        second = await asyncio.wait_for(ask(), 10)
        assert (second.status, second.body["code"]) == (409, "request_in_flight")
        assert second.headers["Retry-After"] == "1"
        other = await shop.revoke("bob", [P])
        assert other.status == 202, "nobody else waits"
        assert not first.done()
    finally:
        go.set()
    made, third = await first, await ask()
    assert (made.status, third.status) == (202, 202)
    assert made.body == third.body
    assert third.headers["Idempotency-Replayed"] == "true"
    with shop.store.read() as tx:
        assert tx.lane_head() == 2


async def test_law_6_who_breaks_off_leaves_no_mark(shop: ShopServer) -> None:
    """A body that never comes whole holds no key."""
    server = shop.client.server
    assert server.host is not None
    assert server.port is not None
    _, writer = await asyncio.open_connection(server.host, server.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shop.app[rooms.API_TOKEN]}\r\n"
    writer.write(f"{head}Idempotency-Key: k\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    assert (await shop.revoke("alice", **{"Idempotency-Key": "k"})).status == 202
    writer.close()
    await writer.wait_closed()


async def test_targets_are_paged_while_answers_come_in(shop: ShopServer) -> None:
    """Each target once, by device id, whatever changes between two pages; a late one fits in."""
    devices = await live(shop, 7)
    await shop.give("alice")
    made = await shop.revoke("alice", [P])
    where, subject = made.headers["Location"] + "/targets", shop.pseudonym("alice")
    seen = list[dict[str, Any]]()
    after: str | None = ""
    while after is not None:
        page = (await shop.call("GET", f"{where}?limit=3&after={after}")).body
        seen += page["targets"]
        after = page["next"]
        devices[len(seen) - 1].answer(made.body, subject)
        devices[0].answer(made.body, subject)
    assert [t["device_id"] for t in seen] == [d.device_id for d in devices]
    whole = (await shop.call("GET", where)).body
    assert [t["answer"] for t in whole["targets"]] == [
        "erased", None, "erased", None, None, "erased", "erased",
    ]  # fmt: skip
    assert whole["next"] is None
    assert (await shop.call("GET", where + "?limit=0")).body["code"] == "malformed_query"
    assert (await shop.call("GET", where + "?after=%00&limit=7")).body["next"] == devices[-1].device_id


async def test_revocations_are_listed_newest_first_in_pages(shop: ShopServer) -> None:
    """Also those of the same microsecond, each once."""
    made = list[str]()
    for n in range(7):
        shop.clock.advance(us=n % 2)
        made.append((await shop.revoke(f"subject{n}", [P])).body["id"])
    seen, path = list[dict[str, Any]](), f"{PATH}?limit=2"
    while True:
        page = (await shop.call("GET", path)).body
        seen += page["revocations"]
        if page["next"] is None:
            break
        path = f"{PATH}?limit=2&after={page['next']}"
    assert sorted(r["id"] for r in seen) == sorted(made)
    times = [r["accepted_at"] for r in seen]
    assert times == sorted(times, reverse=True)
    assert (await shop.call("GET", f"{PATH}?after=rev-none")).body["code"] == "malformed_query"


async def test_past_the_due_time_a_signed_statement_names_who_is_overdue(shop: ShopServer) -> None:
    """409 before; then a kind of its own that verifies; completed later, it is the usual one."""
    devices = await live(shop, 3)
    await shop.give("alice")
    made = await shop.revoke("alice", [P])
    where, subject, key = made.headers["Location"], shop.pseudonym("alice"), shop.authority.public_key
    devices[1].answer(made.body, subject)
    shop.clock.advance(us=made.body["due_at"] - shop.clock.now_us() - 1)
    before = await shop.call("GET", where + "/receipt")
    assert (before.status, before.body["code"], before.body["state"]) == (409, "not_completed", "enforced")
    shop.clock.advance(us=1)
    partial = (await shop.call("GET", where + "/receipt")).body
    proven = statement.verify(partial, key)
    assert proven.kind == "revocation_partially_completed"
    assert proven.overdue == (devices[0].device_id, devices[2].device_id)
    assert [r.device_id for r in proven.receipts] == [devices[1].device_id]
    assert partial["statement"]["completed_at"] is None
    forged = copy.deepcopy(partial)
    del forged["statement"]["overdue"][0]
    with pytest.raises(StatementFailure):
        statement.verify(forged, key)
    status = (await shop.call("GET", where)).body
    assert (status["state"], status["overdue"]) == ("partially_completed", list(proven.overdue))
    devices[0].answer(made.body, subject)
    devices[2].answer(made.body, subject)
    whole = statement.verify((await shop.call("GET", where + "/receipt")).body, key)
    assert (whole.kind, whole.overdue, len(whole.receipts)) == ("revocation_completed", (), 3)


async def test_law_11_a_status_names_so_many_overdue_and_counts_all(tmp_path: Path) -> None:
    """The rest stand among the targets."""
    async with ShopServer(tmp_path / "data", ManualClock(), overdue_named=2) as shop:
        await live(shop, 4)
        made = await shop.revoke("alice", [P])
        shop.clock.set_wall(made.body["due_at"])
        found = (await shop.call("GET", made.headers["Location"])).body
    assert (len(found["overdue"]), found["counters"]["overdue"]) == (2, 4)
