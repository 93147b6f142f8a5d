"""Requests that no honest client sends get a problem document with a stable code, and change nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import msgspec
import pytest

from sync_server.api import rooms
from sync_server.errors import PROBLEMS
from tests.support.shop_server import FakeDevice, ShopServer

REVOKE = b'{"subject":"alice"}'
KEY = b"Idempotency-Key: k\r\n"
REVOCATIONS = "POST /v1/consent-revocations"


async def spoken(
    shop: ShopServer, line: str, headers: bytes = b"", body: bytes = b""
) -> tuple[int, str, Any]:
    """Say bytes to the server that a client library would not: (status, content type, decoded body)."""
    server = shop.client.server
    assert server.host is not None
    assert server.port is not None
    reader, writer = await asyncio.open_connection(server.host, server.port)
    token = f"Authorization: Bearer {shop.app[rooms.API_TOKEN]}\r\n".encode()
    given = headers if b"Authorization" in headers else token + headers
    writer.write(f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode() + given + b"\r\n" + body)
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    lines = head.decode().split("\r\n")
    kind = next(text.split(": ")[1] for text in lines if text.startswith("Content-Type"))
    return int(lines[0].split()[1]), kind, json.loads(content)


def posted(body: bytes = REVOKE) -> bytes:
    return KEY + b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)


@pytest.mark.parametrize(
    ("line", "headers", "body", "code"),
    [
        ("GET /v1/devices", b"Authorization: Bearer \xff\xfe\r\n", b"", "unauthorized"),
        ("GET /v1/sync", b"", b"", "upgrade_required"),
        ("GET /v1/devices/%ff%fe", b"", b"", "unknown_device"),
        ("GET /v1/devices/%ED%A0%80", b"", b"", "unknown_device"),
        ("GET /v1/catalogs/shop/" + "9" * 400, b"", b"", "not_found"),
        (REVOCATIONS, posted() + b"Content-Encoding: gzip\r\n", REVOKE, "unsupported_media"),
        (REVOCATIONS, posted() + b"Content-Encoding: rot13\r\n", REVOKE, "unsupported_media"),
        (REVOCATIONS, posted(b"{}{}"), b"{}{}", "malformed_json"),
        (REVOCATIONS, b"Idempotency-Key: " + b"k" * 256 + b"\r\n", b"", "invalid_request"),
        (REVOCATIONS, KEY + KEY, b"", "invalid_request"),
        (REVOCATIONS, b"Idempotency-Key: \r\n", b"", "invalid_request"),
    ],
)
async def test_law_12_what_no_client_sends_is_a_problem_with_a_code(
    shop: ShopServer, line: str, headers: bytes, body: bytes, code: str
) -> None:
    """Bytes that are not text, a plain request for a WebSocket, compressed bodies: never a 500."""
    status, kind, document = await spoken(shop, line, headers, body)
    assert (status, document["code"]) == (PROBLEMS[code].status, code)
    assert kind == "application/problem+json"
    with shop.store.read() as tx:
        assert tx.lane_head() == 0


async def test_a_body_in_chunks_an_odd_expectation_and_a_key_of_bytes_are_served(shop: ShopServer) -> None:
    """Legal, if rare: the same answer as to anybody else. The same bytes as a key are the same key."""
    chunked = KEY + b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(REVOKE), REVOKE)
    assert (await spoken(shop, REVOCATIONS, chunked, body))[0] == 202
    assert (await spoken(shop, REVOCATIONS, posted() + b"Expect: tea\r\n", REVOKE))[0] == 202
    keyed = posted().replace(b"Key: k", b"Key: \xff\xfe")
    first = await spoken(shop, REVOCATIONS, keyed, REVOKE)
    assert first[0] == 202
    assert await spoken(shop, REVOCATIONS, keyed, REVOKE) == first


async def test_law_11_a_body_that_swells_is_refused_unread(shop: ShopServer) -> None:
    """20 KB of gzip that would be 20 MB of JSON."""
    bomb = gzip.compress(b" " * 20_000_000, 1)
    headers = b"Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(
        bomb
    )
    status, _, document = await spoken(shop, "POST /v1/features", headers, bomb[:1000])
    assert (status, document["code"]) == (415, "unsupported_media")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/consents", {"base": 2**63}),
        ("/v1/consents", {"base": 2**64 - 1, "state": "refused"}),
        ("/v1/consents", {"base": -1}),
        ("/v1/consents", {"notice": "n" * 1_000_000}),
        ("/v1/consents", {"purpose": "p" * 1_000_000}),
        ("/v1/consent-revocations", {"notice": "n" * 1_000_000}),
        ("/v1/consent-revocations", {"purposes": ["p" * 1_000_000]}),
        ("/v1/device-tokens", {"channels": ["x"] * 1_000}),
        ("/v1/aggregates/x/rounds", {"closes_in_s": float("nan")}),
    ],
)
async def test_law_12_numbers_and_texts_without_measure_are_refused(
    shop: ShopServer, path: str, body: dict[str, object]
) -> None:
    """What SQLite could not hold, or nobody should keep: 422, and nothing is written."""
    whole = {"/v1/consents": {"subject": "alice", "purpose": "personalization", "notice": "2026-11"}}
    whole["/v1/consent-revocations"] = {"subject": "alice"}
    packed = msgspec.msgpack.encode({**whole.get(path, {}), **body})
    headers = {"Content-Type": "application/msgpack", "Idempotency-Key": "k"}
    reply = await shop.call("POST", path, data=packed, headers=headers)
    assert (reply.status, reply.body["code"]) == (422, "invalid_request")
    with shop.store.read() as tx:
        assert tx.lane_head() == 0


async def test_law_6_the_same_request_twenty_times_at_once_happens_once(shop: ShopServer) -> None:
    """Under one key: one revocation, one batch; who came while it ran is told so or gets the same reply."""
    keyed = {"Idempotency-Key": "k"}
    found = await asyncio.gather(*(shop.revoke("alice", **keyed) for _ in range(20)))
    assert {r.status for r in found} == {202}
    assert len({r.body["id"] for r in found}) == 1
    rows = [{"entity": f"item:{n}", "event_time": 1, "values": {"popularity": 0.5}} for n in range(2_000)]
    body = {"view": "item_stats", "rows": rows}
    batches = await asyncio.gather(
        *(shop.call("POST", "/v1/features", body, headers=keyed) for _ in range(20))
    )
    assert {r.status for r in batches} <= {200, 409}
    assert {r.body["code"] for r in batches if r.status == 409} <= {"request_in_flight"}
    assert {r.body["accepted"] for r in batches if r.status == 200} == {2_000}
    with shop.store.read() as tx:
        assert tx.channel_head("all").seq == 2_000


async def test_law_6_of_two_devices_with_one_token_exactly_one_enrols(shop: ShopServer) -> None:
    """Twenty keys at once, one token: one 201, the others `token_used`."""
    token = (await shop.call("POST", "/v1/device-tokens", {})).body["token"]
    replies = await asyncio.gather(*(FakeDevice(shop, n).offer(token) for n in range(20)))
    assert sorted(r.status for r in replies) == [201] + [409] * 19
    assert {r.body["code"] for r in replies if r.status == 409} == {"token_used"}
    assert (await shop.call("GET", "/v1/devices")).body["counts"]["enrolled"] == 1


async def test_law_4_no_subject_is_named_in_any_file_or_log(
    shop: ShopServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary through every door, wrong requests and keys included: not on disk, not logged."""
    canary = "canary-4711"
    keyed = {"Idempotency-Key": f"withdraw-{canary}"}
    await shop.give(canary)
    row = {"entity": f"user:{canary}", "event_time": 1, "values": {"country": "DE"}}
    assert (await shop.publish("profile", [row, {**row, "values": {canary: 1}}], as_of=1)).body[
        "accepted"
    ] == 1
    await shop.call("GET", f"/v1/consents?subject={canary}&purpose={canary}")
    await shop.call("GET", f"/v1/devices/{canary}")
    await shop.call("POST", "/v1/consents", {"subject": canary, "purpose": canary, "notice": canary})
    await shop.call("POST", "/v1/consents", data=f'{{"subject": "{canary}'.encode())
    assert (await shop.revoke(canary, **keyed)).status == 202
    for path in shop.settings.data_dir.iterdir():
        assert canary.encode() not in path.read_bytes(), path.name
    assert canary not in caplog.text
