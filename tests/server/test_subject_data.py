"""What is held on a subject comes out as it was put in; after an erasure only evidence does."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_runtime.wire import seal
from sync_server import cli
from sync_server.consent.subject_data import SubjectData
from tests.support.broken_catalog import changed, put
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer

BASIS = {"legal_basis": "legitimate_interest", "terminal_access": "strictly_necessary", "retention": "1d"}
JOB = {"who": "crm", "name": "nightly", "run": "7", "code_version": "abc"}
PUT_IN = {"profile": {"country": "DE"}, "risk": {"score": 0.5, "why": ["late", "far"], "by": {"a": 1.0}}}


@pytest.fixture
async def held(shop: ShopServer) -> ShopServer:
    """Two subjects with rows under two bases, and what they said."""
    table = changed(put("catalog/version", 5))
    put("purposes/fraud", BASIS)(table)
    risk = {"score": {"dtype": "float64"}, "why": {"dtype": "list<string>"}}
    risk["by"] = {"dtype": "map<string,float32>"}
    view = {"source": "server", "entity": "user", "purpose": "fraud", "ttl": "1d", "owner": "risk"}
    put("views/risk", {**view, "features": risk})(table)
    assert (await shop.call("PUT", "/v1/catalogs/shop/5?activate=true", table)).status == 201
    for name in ("alice", "bob"):
        for purpose in ("personalization", "fraud", "measurement"):
            assert (await shop.give(name, purpose)).status == 201
        with shop.store.read() as tx:
            head = tx.lane_head()
        for view_name, values in PUT_IN.items():
            row = {"entity": f"user:{name}", "event_time": 1_700_000_000, "values": values}
            reply = await shop.publish(view_name, [row], as_of=head, job=JOB)
            assert reply.status == 200, reply.body
            assert reply.body["accepted"] == 1, reply.body
    return shop


async def export(shop: ShopServer, limit: int | None = None) -> dict[str, Any]:
    """Page by page, put together."""
    whole: dict[str, Any] = {}
    after = ""
    while True:
        query = f"subject=alice{after}" + ("" if limit is None else f"&limit={limit}")
        page = (await shop.call("GET", f"/v1/subject-data?{query}")).body
        if not whole:
            whole = page
        else:
            for part in ("decisions", "rows", "denials"):
                whole[part] += page[part]
        if page["next"] is None:
            return whole | {"next": None}
        after = f"&after={page['next']}"


async def test_what_comes_out_is_what_was_put_in(held: ShopServer) -> None:
    """Rows with values, times, job and channel; decisions; and nothing of anybody else."""
    found = await export(held)
    token = seal.subject_token(held.pseudonym("alice"))
    assert found["subject"] == token
    assert {row["view"]: row["values"] for row in found["rows"]} == PUT_IN
    assert {row["entity"] for row in found["rows"]} == {token}
    assert all(row["source"] == JOB for row in found["rows"])
    assert {row["channel"] for row in found["rows"]} == {f"{token}/personalization", f"{token}/fraud"}
    said = [(record["purpose"], record["state"]) for record in found["decisions"]]
    assert said == [("personalization", "given"), ("fraud", "given"), ("measurement", "given")]
    assert seal.subject_token(held.pseudonym("bob")) not in json.dumps(found)


async def test_what_rests_on_consent_or_a_contract_is_portable_and_nothing_else(held: ShopServer) -> None:
    """Art. 20 does not reach legitimate interests."""
    found = await export(held)
    assert {row["purpose"]: row["portable"] for row in found["rows"]} == {
        "personalization": True,
        "fraud": False,
    }
    assert {name: p["portable"] for name, p in found["purposes"].items()} == {
        "personalization": True,
        "measurement": True,
        "fraud": False,
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
async def test_pages_put_together_are_the_whole(held: ShopServer, limit: int) -> None:
    """Each item once, whatever the size of a page; no page holds more than it may."""
    await held.revoke("alice", ["measurement"])
    whole, paged = await export(held), await export(held, limit)
    assert paged == whole
    assert len(whole["denials"]) == 1
    first = (await held.call("GET", f"/v1/subject-data?subject=alice&limit={limit}")).body
    assert sum(len(first[part]) for part in ("decisions", "rows", "denials")) == limit


async def test_large_rows_end_a_page_by_their_bytes(tmp_path: Path) -> None:
    """Whatever their number; the pages together are the whole."""
    async with ShopServer(tmp_path / "data", ManualClock(), export_page_bytes=1) as shop:
        table = changed(put("catalog/version", 5))
        view = table["views"]["profile"]
        table["views"] |= {f"extra_{n}": view for n in range(40)}
        assert (await shop.call("PUT", "/v1/catalogs/shop/5?activate=true", table)).status == 201
        await shop.give("alice")
        for n in range(40):
            row = {"entity": "user:alice", "event_time": 1, "values": {"country": "DE"}}
            assert (await shop.publish(f"extra_{n}", [row], as_of=1)).body["accepted"] == 1
        first = (await shop.call("GET", "/v1/subject-data?subject=alice")).body
        assert (len(first["rows"]), first["next"]) == (16, f"rows:{16}")
        whole = await export(shop)
        assert len({row["view"] for row in whole["rows"]}) == len(whole["rows"]) == 40


async def test_messagepack_says_the_same(held: ShopServer) -> None:
    """For who asks for it by `Accept`."""
    reply = await held.call(
        "GET", "/v1/subject-data?subject=alice", headers={"Accept": "application/msgpack"}
    )
    assert reply.headers["Content-Type"] == "application/msgpack"
    packed = msgspec.msgpack.decode(reply.body, type=SubjectData)
    assert msgspec.to_builtins(packed) == await export(held)


async def test_law_4_after_an_erasure_there_is_evidence_and_nothing_else(held: ShopServer) -> None:
    """No row, no value; decisions and denials stay."""
    await held.revoke("alice")
    found = await export(held)
    assert found["rows"] == []
    assert "DE" not in json.dumps(found)
    assert {record["state"] for record in found["decisions"]} == {"given", "withdrawn"}
    assert {d["purpose"] for d in found["denials"]} == {"personalization", "fraud", "measurement"}
    assert all(d["server_erased_at"] is not None for d in found["denials"])


async def test_a_subject_that_nobody_knows_has_an_export_of_the_same_shape(held: ShopServer) -> None:
    """Empty, and no oracle by its status; what is no id is refused."""
    reply = await held.call("GET", "/v1/subject-data?subject=nobody")
    assert (reply.status, reply.body["rows"], reply.body["decisions"]) == (200, [], [])
    assert reply.body["purposes"]["fraud"]["state"]["state"] == "unknown"
    for query in ("subject=alice&after=rows:x", "subject=alice&after=other:1", ""):
        assert (await held.call("GET", f"/v1/subject-data?{query}")).status == 400
    assert (await held.call("GET", f"/v1/subject-data?subject={'x' * 600}")).status == 422


async def test_the_command_writes_a_file_for_its_owner_alone(held: ShopServer, tmp_path: Path) -> None:
    """And never over another one."""
    out, url = tmp_path / "alice.json", str(held.client.make_url(""))
    words = ["consent", "export", "alice", "--out", str(out), "--url", url]
    words += ["--data", str(held.settings.data_dir), "--json"]
    assert await asyncio.to_thread(cli.main, words) == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert json.loads(out.read_text())["rows"] == (await export(held))["rows"]
    assert await asyncio.to_thread(cli.main, words) != 0
