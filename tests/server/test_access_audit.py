"""The audit log: who did what, in the transaction of the change, and nothing about subjects."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync_server.access.chain import walk
from sync_server.api.rooms import ACCESS, ROUTES
from sync_server.errors import ChainBroken
from sync_server.settings import DAY_US
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.shop_server import FakeDevice, ShopServer

FIELDS = ("actor", "method", "route", "outcome", "status", "code", "resource", "count")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), refusal_burst=10_000) as server:
        yield server


async def entries(shop: ShopServer, **query: int) -> list[dict[str, Any]]:
    """What the log says, without the askings of itself."""
    words = "&".join(f"{name}={value}" for name, value in query.items())
    answer = await shop.call("GET", f"/v1/audit?{words}" if words else "/v1/audit")
    assert answer.status == 200, answer.body
    return [line for line in answer.body["entries"] if line["route"] != "/v1/audit"]


def told(line: dict[str, Any]) -> tuple[object, ...]:
    return tuple(line[name] for name in FIELDS)


def stored(shop: ShopServer) -> list[tuple[Any, ...]]:
    """What stands in the file, whatever waits in memory."""
    db = sqlite3.connect(shop.settings.database)
    found = db.execute("SELECT route, outcome, resource FROM audit ORDER BY seq").fetchall()
    db.close()
    return found


async def test_a_change_and_its_row_are_one_transaction(shop: ShopServer) -> None:
    """In the file as soon as the change is, before anything else runs."""
    device = await FakeDevice(shop, 1).enrol()
    decision = (await shop.give("alice")).body["id"]
    revocation = (await shop.revoke("alice")).body["id"]
    await shop.call("PATCH", f"/v1/devices/{device.device_id}", {"channels": ["all"]})
    await shop.call("DELETE", f"/v1/devices/{device.device_id}")
    token = await make_token(shop, ["publish"])
    catalog = (await shop.call("GET", "/v1/catalogs/shop/3")).body
    assert (await shop.call("PUT", "/v1/catalogs/shop/3?activate=true", catalog)).status == 200
    assert stored(shop) == [
        ("/v1/device-tokens", "changed", ""),
        ("/v1/devices", "changed", device.device_id),
        ("/v1/consents", "changed", decision),
        ("/v1/consent-revocations", "changed", revocation),
        ("/v1/devices/{id}", "changed", device.device_id),
        ("/v1/devices/{id}", "changed", device.device_id),
        ("/v1/tokens", "changed", token.id),
        ("/v1/catalogs/{name}/{version}", "changed", "catalog:shop@3"),
    ]


async def test_a_repeat_that_changes_nothing_is_not_told_as_a_change(shop: ShopServer) -> None:
    first = await shop.revoke("alice", **{"Idempotency-Key": "k"})
    again = await shop.revoke("alice", **{"Idempotency-Key": "k"})
    assert (again.status, again.body) == (first.status, first.body)
    found = [(line["outcome"], line["status"]) for line in await entries(shop)]
    assert sorted(found) == [("answered", 202), ("changed", 202)]


async def test_a_change_that_is_rolled_back_leaves_no_row_of_a_change(shop: ShopServer) -> None:
    """The row was in the same transaction; what the log keeps then is that the call failed."""
    db = sqlite3.connect(shop.settings.database)
    db.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END")
    db.commit()
    assert (await shop.give("alice")).status == 500
    assert (await shop.call("GET", "/v1/consents?subject=alice")).body["history"] == []
    db.execute("DROP TRIGGER t")
    db.commit()
    db.close()
    found = await entries(shop)
    outcomes = {(line["method"], line["outcome"], line["status"]) for line in found}
    assert outcomes == {("POST", "failed", 500), ("GET", "answered", 200)}


async def test_a_call_that_changed_something_and_then_failed_stands_twice(
    shop: ShopServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = await FakeDevice(shop, 1).enrol()
    monkeypatch.setattr("sync_server.api.devices.json_reply", lambda _: 1 / 0)
    answer = await shop.call("PATCH", f"/v1/devices/{device.device_id}", {"channels": []})
    assert answer.status == 500
    found = [line for line in await entries(shop) if line["method"] == "PATCH"]
    assert sorted((line["outcome"], line["status"]) for line in found) == [("changed", 200), ("failed", 500)]


async def test_who_read_about_a_subject_is_kept_and_whom_they_read_about_is_not(shop: ShopServer) -> None:
    reader = await make_token(shop, ["consent"])
    for _ in range(3):
        await shop.call("GET", "/v1/consents?subject=alice", token=reader.text)
    await shop.call("GET", "/v1/consents?subject=bob", token=reader.text)
    await shop.call("POST", "/v1/consents", {"subject": "carol"}, token=reader.text)
    found = [line for line in await entries(shop) if line["actor"] == f"token:{reader.id}"]
    assert sorted(map(told, found)) == [
        *((f"token:{reader.id}", "GET", "/v1/consents", "answered", 200, "", "", 4),),
        *((f"token:{reader.id}", "POST", "/v1/consents", "refused", 422, "invalid_request", "", 1),),
    ]
    assert {line["name"] for line in found} == {"of a test"}


async def test_law_12_no_word_of_a_caller_gets_into_the_log(shop: ShopServer) -> None:
    """Names in paths, queries, headers and bodies; of ids only those that look as ours do."""
    word = "user:mallory"
    for method, path in (
        ("GET", f"/v1/devices/{word}"),
        ("DELETE", f"/v1/tokens/{word}"),
        ("GET", f"/v1/consent-revocations/{word}"),
        ("PUT", f"/v1/catalogs/{word}/1"),
        ("GET", f"/v1/consents?subject={word}&purpose={word}"),
        ("POST", f"/v1/aggregates/{word}/rounds"),
        ("GET", f"/v1/features/profile/{word}"),
    ):
        body = None if method == "GET" else {"subject": word}
        await shop.call(method, path, body, headers={"Idempotency-Key": word, "User-Agent": word})
        await shop.call(method, path, body, token=word)
    await shop.call("POST", "/v1/tokens", {"name": "x", "scopes": [word]})
    log = json.dumps(await entries(shop))
    assert "mallory" not in log
    assert '"refused"' in log
    missing = "dev-" + "a" * 16
    await shop.call("GET", f"/v1/devices/{missing}")
    assert (await entries(shop))[0]["resource"] == missing


async def test_publishing_is_not_logged_and_being_refused_there_is(shop: ShopServer) -> None:
    """Who moves rows or weighs them is: that reaches the rows of others."""
    await shop.publish("item_stats", [])
    await shop.call("PUT", "/v1/segments/gold", {"members": ["item:a"]})
    await shop.call("POST", "/v1/segments/gold", {"remove": ["item:a"]})
    await shop.call("PUT", "/v1/hot-set/importance", {"view": "item_stats", "importance": 1})
    assert stored(shop) == [
        ("/v1/segments/{name}", "changed", "segment:gold"),
        ("/v1/segments/{name}", "changed", "segment:gold"),
        ("/v1/hot-set/importance", "changed", "view:item_stats@1"),
    ]
    reader = await make_token(shop, ["consent"])
    await shop.call("POST", "/v1/features", {}, token=reader.text)
    found = [told(line) for line in await entries(shop) if line["route"] == "/v1/features"]
    wanted = (f"token:{reader.id}", "POST", "/v1/features", "refused", 403, "missing_scope", "", 1)
    assert found == [wanted]


async def test_law_11_a_flood_of_refusals_is_counted_and_not_listed(tmp_path: Path) -> None:
    """Rows by route and reason, counted for a while; however many there are, memory and disk stay bounded."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "data", clock, refusal_burst=100, audit_waiting=3) as shop:
        audit = shop.app[ACCESS].audit
        first = clock.now_us()
        for _ in range(50):
            await shop.call("GET", "/v1/devices", token="guess")
            clock.advance(us=1_000)
        audit.step(clock.now_us())
        assert stored(shop) == []  # gathered for a minute first
        for path in ("/v1/consents", "/v1/tokens", "/v1/audit", "/v1/catalogs"):
            for _ in range(7):
                await shop.call("GET", path, token="guess")
        clock.advance(us=shop.settings.audit_gather_us)
        audit.step(clock.now_us())
        lines = (await shop.call("GET", "/v1/audit?after=0")).body["entries"]
        assert [told(line) for line in lines] == [
            ("nobody", "GET", "/v1/devices", "refused", 401, "unauthorized", "", 50),
            ("nobody", "GET", "/v1/consents", "refused", 401, "unauthorized", "", 7),
            ("nobody", "GET", "/v1/tokens", "refused", 401, "unauthorized", "", 7),
            ("many", "", "", "refused", 401, "", "", 14),
        ]
        assert (lines[0]["at"], lines[0]["last_at"]) == (first, first + 49_000)
        for _ in range(110):
            await shop.call("GET", "/v1/devices", token="guess")
        found = (await shop.call("GET", "/v1/audit?after=4")).body["entries"]
        counts = {line["code"]: line["count"] for line in found if line["route"] == "/v1/devices"}
        assert counts == {"unauthorized": 100, "rate_limited": 10}


async def test_reads_are_written_at_the_next_turn(shop: ShopServer) -> None:
    await shop.call("GET", "/v1/devices")
    assert stored(shop) == []
    shop.app[ACCESS].step(shop.clock.now_us())
    assert stored(shop) == [("/v1/devices", "answered", "")]


async def test_what_waits_is_written_when_the_server_stops(tmp_path: Path) -> None:
    async with ShopServer(tmp_path / "data", ManualClock()) as shop:
        await shop.call("GET", "/v1/devices")
        await shop.call("GET", "/v1/devices", token="guess")
    assert {row[1] for row in stored(shop)} == {"answered", "refused"}


async def test_a_disk_that_is_full_keeps_rows_waiting_and_loses_none(shop: ShopServer) -> None:
    db = sqlite3.connect(shop.settings.database)
    await shop.call("GET", "/v1/devices")
    db.execute("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'full'); END")
    db.commit()
    with pytest.raises(sqlite3.IntegrityError):
        shop.app[ACCESS].step(shop.clock.now_us())
    db.execute("DROP TRIGGER t")
    db.commit()
    db.close()
    shop.app[ACCESS].step(shop.clock.now_us())
    assert stored(shop) == [("/v1/devices", "answered", "")]


async def test_the_log_is_read_in_pages_both_ways(tmp_path: Path) -> None:
    async with ShopServer(tmp_path / "data", ManualClock(), page_rows=3) as shop:
        ids = [(await make_token(shop, ["publish"])).id for _ in range(7)]

        async def pages(word: str, at: int | None) -> list[str]:
            found: list[str] = []
            while at is not None:
                page = (await shop.call("GET", f"/v1/audit?{word}={at}")).body
                found += [line["resource"] for line in page["entries"] if line["route"] == "/v1/tokens"]
                at = page["next"]
            return found

        assert await pages("after", 0) == ids
        assert await pages("before", 2**53) == ids[::-1]
        newest = (await shop.call("GET", "/v1/audit")).body["entries"]
        assert newest[0]["seq"] > newest[1]["seq"]
        assert (await shop.call("GET", "/v1/audit?after=x")).status == 400


async def test_the_log_is_append_only_but_at_its_front(shop: ShopServer) -> None:
    for _ in range(4):
        await make_token(shop, ["publish"])
    db = sqlite3.connect(shop.settings.database)
    for statement in (
        "UPDATE audit SET actor = 'x'",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 4",
        "DELETE FROM audit",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(statement)
        db.rollback()
    assert db.execute("SELECT count(*) FROM audit").fetchone() == (4,)
    db.close()


async def test_old_rows_go_from_the_front_and_the_newest_stays(shop: ShopServer) -> None:
    """Numbers and hashes go on from it, also when nothing happened for longer than rows are kept."""
    for _ in range(3):
        await make_token(shop, ["publish"])
        shop.clock.advance(us=DAY_US)
    before = shop.clock.now_us()
    with shop.store.write("t") as tx:
        assert tx.audit.drop(before - 3 * DAY_US, 9) == 0
        assert tx.audit.drop(before - 3 * DAY_US + 1, 9) == 1
        assert [row.seq for row in tx.audit.after(0, 9)] == [2, 3]
        assert tx.audit.drop(before + DAY_US, 1) == 1
        assert tx.audit.drop(before + DAY_US, 9) == 0
        kept = tx.audit.after(0, 9)
    await make_token(shop, ["publish"])
    with shop.store.read() as tx:
        rows = tx.audit.after(0, 9)
    assert [row.seq for row in rows] == [3, 4]
    assert walk(rows[1:], 3, kept[0].hash) == (4, rows[1].hash)


async def test_the_chain_can_be_recomputed_by_hand(shop: ShopServer) -> None:
    """SHA-256(hash before || JSON list of the row), the first after 32 zero bytes: with nothing of ours."""
    await shop.give("alice")
    await shop.revoke("alice")
    await make_token(shop, ["publish"])
    digest = bytes(32)
    for line in (await shop.call("GET", "/v1/audit?after=0")).body["entries"]:
        names = ("seq", "at", "last_at", "count", "actor", "name", "method", "route", "outcome", "status")
        row = [line[name] for name in (*names, "code", "resource")]
        packed = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()
        digest = hashlib.sha256(digest + packed).digest()
        assert line["hash"] == digest.hex()


async def test_an_edit_a_gap_and_a_swap_in_the_log_are_named(shop: ShopServer) -> None:
    for _ in range(5):
        await make_token(shop, ["publish"])
    with shop.store.read() as tx:
        rows = tx.audit.after(0, 9)
    assert walk(rows, 0, bytes(32)) == (5, rows[4].hash)
    assert walk(rows[2:], 2, None) == (5, rows[4].hash)
    edited = [*rows[:2], replace(rows[2], entry=rows[2].entry._replace(actor="token:other")), *rows[3:]]
    for broken, fault in (
        (edited, "row 3"),
        ([*rows[:1], *rows[2:]], "expected row 2, got 3"),
        ([rows[1], rows[0], *rows[2:]], "expected row 1, got 2"),
    ):
        with pytest.raises(ChainBroken, match=fault):
            walk(broken, 0, bytes(32))


async def test_what_a_task_left_behind_changes_is_not_the_calls_doing(shop: ShopServer) -> None:
    """A task takes the context of the request that began it along, and may outlive it."""
    route = shop.app[ROUTES]["POST", "/v1/consents"]

    def change() -> None:
        with shop.store.write("t") as tx:
            tx.set_meta("x", b"")

    with shop.app[ACCESS].audit.during(route):
        left = copy_context()
    left.run(change)
    assert stored(shop) == []
    with shop.app[ACCESS].audit.during(route):
        left = copy_context()
        left.run(change)
    assert stored(shop) == [("/v1/consents", "changed", "")]


async def test_calls_that_overlap_keep_their_own_rows(shop: ShopServer) -> None:
    """Each request has its own call, however they take turns."""
    tokens = [await make_token(shop, ["consent"]) for _ in range(4)]

    async def decide(number: int) -> None:
        body = {"subject": f"s{number}", "purpose": "personalization", "notice": "2026-11"}
        answer = await shop.call("POST", "/v1/consents", body, token=tokens[number % 4].text)
        assert answer.status == 201

    await asyncio.gather(*(decide(number) for number in range(40)))
    found = [line for line in await entries(shop) if line["route"] == "/v1/consents"]
    assert len({line["resource"] for line in found}) == 40
    for token in tokens:
        assert sum(line["actor"] == f"token:{token.id}" for line in found) == 10
