"""Every route refuses without its scope, whatever else is asked of it, and nothing has changed afterwards."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from sync_server.access.caller import SCOPES
from sync_server.api.rooms import ROUTES
from sync_server.api.route import Route
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

OPEN = {
    ("GET", "/.well-known/jwks.json"),  # receivers of events check signatures
    ("GET", "/.well-known/ssf-configuration"),
    ("POST", "/v1/devices"),  # an enrolment token is in the body
    ("GET", "/v1/sync"),  # devices sign
    ("GET", "/v1/purposes"),  # what a subject is told, and anybody may check
    ("GET", "/v1/purposes/{name}"),
    ("GET", "/v1/notices"),
    ("GET", "/v1/notices/{version}"),
    ("GET", "/v1/catalogs/{name}/{version}"),  # devices load it
    ("POST", "/v1/sync"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
}
"""All that may be asked without an API token; who adds one says here why."""
ANY = {
    ("GET", "/v1/consent-ledger/head"),  # its size is the `as_of` that every job needs
}
"""All that any good token may ask; who adds one says here why."""
OWN_TABLES = {"audit", "api_tokens", "api_token_secrets", "meta"}
"""Where it stands who was refused, and what made the tokens of these tests."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    limits = {"refusal_burst": 10_000, "token_burst": 10_000}
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as server:
        yield server


def routes(shop: ShopServer) -> list[Route]:
    return list(shop.app[ROUTES].values())


def guarded(shop: ShopServer) -> list[Route]:
    found = [route for route in routes(shop) if not route.open]
    assert len(found) > 30
    return found


def path_of(route: Route) -> str:
    """A path of the route, with something at each place."""
    return re.sub(r"\{[^}]*\}", "1", route.path)


async def ask(shop: ShopServer, route: Route, token: str | None) -> Answer:
    body: object = None if route.method == "GET" else {}
    return await shop.call(route.method, path_of(route), body, token=token)


def contents(shop: ShopServer) -> dict[str, list[str]]:
    """Every table, whole, but those that remember the asking itself."""
    db = sqlite3.connect(shop.settings.database)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    found = {table: sorted(map(repr, db.execute(f"SELECT * FROM {table}"))) for table in tables}
    db.close()
    return {table: rows for table, rows in found.items() if table not in OWN_TABLES}


async def tried(shop: ShopServer, tokens: Iterable[str | None]) -> list[tuple[Route, Answer]]:
    before = contents(shop)
    answers = [(route, await ask(shop, route, token)) for route in guarded(shop) for token in tokens]
    assert contents(shop) == before
    return answers


def test_what_needs_no_token_is_listed_here(shop: ShopServer) -> None:
    assert {(route.method, route.path) for route in routes(shop) if route.open} == OPEN


def test_every_other_route_names_its_scope(shop: ShopServer) -> None:
    scopes = {(route.method, route.path): route.scope for route in guarded(shop)}
    assert {place for place, scope in scopes.items() if scope is None} == ANY
    assert {scope for scope in scopes.values() if scope is not None} == set(SCOPES)


async def test_every_route_refuses_whoever_has_no_good_token(shop: ShopServer) -> None:
    """None, garbage, one that was never made, one expired, one revoked: one answer, the same for all."""
    expired = await make_token(shop, SCOPES, ttl_s=1)
    revoked = await make_token(shop, SCOPES)
    wrong = await make_token(shop, SCOPES)
    assert (await shop.call("DELETE", f"/v1/tokens/{revoked.id}")).status == 200
    shop.clock.advance(seconds=1)
    bad = [
        None,
        "garbage",
        "a.b.c",
        "es_tok-aaaaaaaaaaaaaaaa_" + "A" * 43,
        expired.text,
        revoked.text,
        wrong.text[:-1] + ("A" if wrong.text[-1] != "A" else "B"),
        wrong.text[:30],
        wrong.text + "A",
        f"es_{wrong.id}_",
    ]
    answers = await tried(shop, bad)
    documents = {(answer.status, str(answer.body)) for _, answer in answers}
    assert len(documents) == 1
    assert {answer.headers["WWW-Authenticate"] for _, answer in answers} == {'Bearer realm="edge-sync"'}
    assert answers[0][1].status == 401
    assert answers[0][1].body["code"] == "unauthorized"


async def test_every_route_refuses_a_token_of_every_other_scope_and_says_which_it_needs(
    shop: ShopServer,
) -> None:
    narrow = {scope: (await make_token(shop, [scope])).text for scope in SCOPES}
    broad = {
        scope: (await make_token(shop, [other for other in SCOPES if other != scope])).text
        for scope in SCOPES
    }
    before = contents(shop)
    for route in guarded(shop):
        if route.scope is None:
            continue
        others = [text for scope, text in narrow.items() if scope != route.scope]
        for token in [*others, broad[route.scope]]:
            answer = await ask(shop, route, token)
            found = (answer.status, answer.body["code"], answer.body["scope"])
            assert found == (403, "missing_scope", route.scope), route.path
    assert contents(shop) == before


async def test_every_route_lets_in_the_scope_that_it_names(shop: ShopServer) -> None:
    """And no other is needed: what is refused then is refused for what was asked."""
    for route in guarded(shop):
        token = await make_token(shop, [route.scope or "publish"])
        answer = await ask(shop, route, token.text)
        assert answer.status not in (401, 429), route.path
        code = answer.body.get("code") if isinstance(answer.body, dict) else None
        assert code != "missing_scope", route.path


async def test_a_header_that_comes_twice_is_no_token(shop: ShopServer) -> None:
    """Whoever is in between may have read the other one."""
    good = f"Bearer {(await make_token(shop, SCOPES)).text}"
    reply = await shop.client.get("/v1/devices", headers=[("Authorization", good), ("Authorization", good)])
    assert reply.status == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic {}", "bearer  {}  ", "BEARER {}", "{}"])
async def test_how_a_token_is_said(shop: ShopServer, header: str) -> None:
    """The scheme in any case, and nothing else in its place."""
    token = (await make_token(shop, SCOPES)).text
    answer = await shop.call(
        "GET", "/v1/devices", headers={"Authorization": header.format(token)}, token=None
    )
    good = "{}" in header and header.lower().startswith("bearer ")
    assert answer.status == (200 if good else 401)
