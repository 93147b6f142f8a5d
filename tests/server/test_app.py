"""The app's edges: who may call, problems as documents, and an interface that describes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_server.api import rooms
from sync_server.app import build_app, route_table
from sync_server.errors import PROBLEMS, KeysMissing
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import CATALOG, ShopServer


async def test_everything_but_the_open_doors_asks_for_the_token(shop: ShopServer) -> None:
    """Each guarded route answers 401 without the token and with a wrong one, before it looks at anything."""
    for route in route_table(shop.app[rooms.SYNC_DOOR]):
        path = route.path.replace("{", "").replace("}", "")
        for token in (None, "wrong"):
            if route.path == "/v1/sync":
                continue
            reply = await shop.call(route.method, path, token=token)
            assert (reply.status == 401) is not route.open, (route.method, path)
            if not route.open:
                assert reply.body["code"] == "unauthorized"
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")


async def test_unknown_paths_and_methods_are_problem_documents(shop: ShopServer) -> None:
    """404 and 405 speak RFC 9457 too, and say what is allowed."""
    missing = await shop.call("GET", "/v2/nothing")
    assert (missing.status, missing.body["code"]) == (404, "not_found")
    wrong = await shop.call("DELETE", "/v1/features")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert wrong.headers["Content-Type"] == "application/problem+json"


async def test_a_fault_of_ours_is_logged_and_not_told(
    shop: ShopServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with a code and nothing of the cause; the log says what and where, not the words: they may name."""

    def broken(*_: object) -> None:
        raise RuntimeError("secret cause")

    monkeypatch.setattr(shop.office, "head", broken)
    reply = await shop.call("GET", "/v1/consent-ledger/head")
    assert (reply.status, reply.body["code"]) == (500, "internal")
    assert "secret" not in json.dumps(reply.body)
    assert "RuntimeError" in caplog.text
    assert " in broken" in caplog.text
    assert "secret" not in caplog.text


async def test_the_interface_describes_itself(shop: ShopServer) -> None:
    """Every route stands in the OpenAPI document and on the page; references resolve; problems are known."""
    document = (await shop.call("GET", "/openapi.json", token=None)).body
    page = (await shop.call("GET", "/docs", token=None)).body.decode()
    table = route_table(shop.app[rooms.SYNC_DOOR])
    for route in table:
        assert route.method.lower() in document["paths"][route.path]
        assert route.path in page
        assert set(route.problems) <= set(PROBLEMS)
    ids = [o["operationId"] for path in document["paths"].values() for o in path.values()]
    assert len(ids) == len(set(ids))
    for ref in _references(document):
        place: Any = document
        for step in ref.removeprefix("#/").split("/"):
            place = place[step]
    assert "<script" not in page
    assert "http://" not in page.replace("http://127.0.0.1:8080", "")


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [r for v in value.values() for r in _references(v)]
    return [r for v in value for r in _references(v)] if isinstance(value, list) else []


async def test_health_and_metrics(shop: ShopServer) -> None:
    """Alive, ready, and counted by transaction name."""
    assert (await shop.call("GET", "/healthz", token=None)).body == {"status": "ok"}
    assert (await shop.call("GET", "/readyz", token=None)).body["catalog"] is True
    await shop.give("alice")
    text = (await shop.call("GET", "/metrics")).body.decode()
    assert 'edge_sync_transactions_total{name="consent"} 1' in text
    assert "edge_sync_lane_position 1" in text
    assert "alice" not in text


async def test_catalogs_are_registered_once_and_for_ever(shop: ShopServer) -> None:
    """PUT again is 200; another meaning under the same version 409; devices read it without a token."""
    document = (await shop.call("GET", "/v1/catalogs/shop/3", token=None)).body
    again = await shop.call("PUT", "/v1/catalogs/shop/3", document)
    assert (again.status, again.body["active"]) == (200, True)
    changed = json.loads(json.dumps(document))
    changed["purposes"]["personalization"]["title"] = "Something else"
    conflict = await shop.call("PUT", "/v1/catalogs/shop/3", changed)
    assert (conflict.status, conflict.body["code"]) == (409, "catalog_conflict")
    changed["catalog"]["version"] = 4
    made = await shop.call("PUT", "/v1/catalogs/shop/4", changed)
    assert (made.status, made.body["active"]) == (201, False)
    active = await shop.call("PUT", "/v1/catalogs/shop/4?activate=true", changed)
    assert active.body["active"] is True
    assert (await shop.call("GET", "/v1/catalogs")).body["active"] == "shop@4"
    for path in ("/v1/catalogs/shop/9", "/v1/catalogs/none/1", "/v1/catalogs/shop/x"):
        assert (await shop.call("GET", path)).status == 404


async def test_law_12_a_broken_catalog_is_refused_with_every_fault(shop: ShopServer) -> None:
    """Places and reasons come back; nothing is registered."""
    document = (await shop.call("GET", "/v1/catalogs/shop/3")).body
    document["catalog"]["version"] = 5
    document["views"]["profile@1"]["purpose"] = "nothing"
    document["views"]["item_stats@1"]["ttl"] = "soon"
    reply = await shop.call("PUT", "/v1/catalogs/shop/5", document)
    assert (reply.status, reply.body["code"]) == (422, "invalid_catalog")
    places = {f["place"] for f in reply.body["faults"]}
    assert any("profile" in p for p in places)
    assert any("item_stats" in p for p in places)
    document = (await shop.call("GET", "/v1/catalogs/shop/3")).body
    assert (await shop.call("PUT", "/v1/catalogs/shop/6", document)).body["code"] == "invalid_catalog"
    assert (await shop.call("PUT", "/v1/catalogs/shop/5", [1])).status == 422


async def test_without_a_catalog_nothing_personal_is_taken(tmp_path: Path) -> None:
    """Law 1: what is not declared is not permitted; the server says what is missing."""
    clock = ManualClock()
    async with ShopServer(tmp_path / "d", clock, catalog=None) as bare:
        assert (await bare.give("alice")).body["code"] == "no_catalog"
        assert (await bare.revoke("alice")).body["code"] == "no_catalog"
        assert (await bare.publish("v", [])).body["code"] == "no_catalog"


async def test_law_6_a_restart_finds_everything(tmp_path: Path) -> None:
    """Rows, consents, the ledger's root, the active catalog, keys and token are the same after it."""
    clock = ManualClock()
    async with ShopServer(tmp_path, clock) as first:
        await first.give("alice")
        row = {"entity": "user:alice", "event_time": 1, "values": {"country": "UK"}}
        await first.publish("profile", [row], as_of=1)
        root = (await first.call("GET", "/v1/consent-ledger/head")).body["root"]
        token, key = first.app[rooms.API_TOKEN], first.authority.public_key
    async with ShopServer(tmp_path, clock) as again:
        assert (again.app[rooms.API_TOKEN], again.authority.public_key) == (token, key)
        assert (await again.call("GET", "/v1/consent-ledger/head")).body["root"] == root
        reply = await again.publish("profile", [row], as_of=1)
        assert reply.body["accepted"] == 1
        with again.store.read() as tx:
            assert tx.count_rows() == 1


def test_law_12_keys_that_are_missing_or_open_to_others_are_refused(tmp_path: Path) -> None:
    """A store without its key file, a readable key file, a damaged one: nothing is opened or made."""
    settings = Settings(data_dir=tmp_path, catalog=CATALOG)
    build_app(settings, ManualClock(), CountingEntropy())[rooms.STORE].close()
    raw = settings.key_file.read_bytes()
    settings.key_file.chmod(0o644)
    with pytest.raises(KeysMissing, match="chmod 600"):
        build_app(settings, ManualClock(), CountingEntropy())
    settings.key_file.chmod(0o600)
    settings.key_file.write_bytes(raw[:-3])
    with pytest.raises(KeysMissing, match="not a key file"):
        build_app(settings, ManualClock(), CountingEntropy())
    settings.key_file.unlink()
    with pytest.raises(KeysMissing, match="found none"):
        build_app(settings, ManualClock(), CountingEntropy())
    assert not settings.key_file.exists()
