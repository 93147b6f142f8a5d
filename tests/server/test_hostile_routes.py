"""Every route of the table against bodies, types and texts that no honest client sends.

Whatever a route is for: an answer that the document describes (`ShopServer` checks each), never a 5xx that is
our fault, and for what cannot be right a problem that says what to mend. Nothing is changed.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from yarl import URL

from sync_server.api import rooms
from sync_server.api.openapi import parameters_of
from sync_server.api.route import Name, Route
from tests.support import leaks
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

DATA = Path(__file__).resolve().parents[1] / "data"
BODY_LIMIT = 4096
FREE = {"token_requests_per_s": 10**6, "token_burst": 10**6, "deliveries_at_once": 0}
KEY = {"Idempotency-Key": "k"}
NOT_TOLD = {
    ("DELETE", "/v1/consents/{id}"),
    ("GET", "/v1/aggregates/{metric}/releases"),
    ("GET", "/v1/aggregates/{metric}/rounds"),
}
"""Routes that answer alike whether or not there is such a thing."""
DRAWN = "/v1/sync"
"""A session of its own kind: `test_poll_door.py` and `test_fuzz_session.py` are about it."""


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    limits = {"body_limit_bytes": BODY_LIMIT, "consent_body_bytes": BODY_LIMIT, **FREE}
    # what is sent here is quoted by parsers, and some of it is a subject elsewhere: heard apart
    with leaks.private(leaks.Collector(tmp_path / "heard")):
        async with ShopServer(tmp_path / "data", ManualClock(), **limits) as server:
            yield server


def with_body(shop: ShopServer) -> list[Route]:
    return [route for route in shop.app[rooms.ROUTES].values() if route.body is not None]


def filled(route: Route, text: str = "", name: str = "") -> URL:
    """A path of the route; `text` in the place of parameter `name`."""
    path, query = route.path, []
    for place, one in parameters_of(route):
        word = text if name == one.name else "x" if one.type in (Name, str) else "1"
        if place == "path":
            path = path.replace(f"{{{one.name}}}", quote(word, safe=""))
        elif place == "query" and (one.required or one.name == name):
            query.append(f"{one.name}={quote(word, safe='')}")
    return URL(path + ("?" + "&".join(query) if query else ""), encoded=True)


def places(shop: ShopServer) -> Iterator[tuple[Route, str]]:
    """Every path and query parameter of every route."""
    for route in shop.app[rooms.ROUTES].values():
        for place, one in parameters_of(route):
            if place != "header" and route.path != DRAWN:
                yield route, one.name


async def posted(shop: ShopServer, route: Route, body: bytes, kind: str = "application/json") -> Answer:
    headers = {"Content-Type": kind, **(KEY if route.idempotent else {})}
    return await shop.call(route.method, filled(route), data=body, headers=headers)


def lane(shop: ShopServer) -> int:
    with shop.store.read() as tx:
        return tx.lane_head()


async def test_law_11_a_body_over_the_limit_is_refused_on_every_route(shop: ShopServer) -> None:
    """413, before it is parsed."""
    for route in with_body(shop):
        reply = await posted(shop, route, b" " * (BODY_LIMIT + 1))
        assert (reply.status, reply.body["code"]) == (413, "too_large"), route.path
        assert str(BODY_LIMIT) in reply.body["detail"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
async def test_a_body_of_another_media_type_is_refused_on_every_route(shop: ShopServer, kind: str) -> None:
    """415, although the bytes would be JSON."""
    for route in with_body(shop):
        reply = await posted(shop, route, b"{}", kind)
        assert (reply.status, reply.body["code"]) == (415, "unsupported_media"), route.path


async def test_law_12_what_is_no_json_is_refused_on_every_route(shop: ShopServer) -> None:
    """The files of JSONTestSuite that must be refused, each on some route; and on every route some."""
    routes = itertools.cycle(with_body(shop))
    for name, text in _json_suite():
        route = next(routes)
        reply = await posted(shop, route, text)
        assert reply.status in (400, 404, 409, 413, 422) or not name.startswith("n_"), (name, route.path)
        if name.startswith("n_") and 0 < len(text) <= BODY_LIMIT:
            assert reply.body["code"] == "malformed_json", (name, route.path, reply.body)
    assert lane(shop) == 0


async def test_law_12_messagepack_of_every_kind_is_answered_on_every_route(shop: ShopServer) -> None:
    """Every encoding of the msgpack test suite as a whole body, and each cut short by a byte."""
    groups = json.loads((DATA / "msgpack_test_suite" / "msgpack-test-suite.json").read_text())
    encodings = [text for group in groups.values() for case in group for text in case["msgpack"]]
    routes = itertools.cycle(with_body(shop))
    for text in encodings:
        raw = bytes.fromhex(text.replace("-", ""))
        for body in (raw, raw[:-1]):
            route = next(routes)
            reply = await posted(shop, route, body, "application/msgpack")
            assert reply.status < 500, (text, route.path)
    assert lane(shop) == 0


async def test_naughty_strings_are_answered_in_every_parameter_of_every_route(shop: ShopServer) -> None:
    """Each string in some path or query, and in every parameter some strings."""
    naughty: list[str] = json.loads((DATA / "naughty_strings" / "blns.json").read_text())
    strings = [text for text in naughty if text not in ("", ".", "..")]
    waiting = itertools.cycle(strings)
    turns = max(len(strings), 8 * len(list(places(shop))))
    for (route, name), _ in zip(itertools.cycle(places(shop)), range(turns), strict=False):
        text = next(waiting)
        reply = await shop.call(route.method, filled(route, text, name), {})
        assert reply.status < 500, (route.path, name, text)
    assert lane(shop) == 0


@pytest.mark.parametrize("text", ["\0", "a\0b", "x" * 7_000, "\x7f", "%00", "é" * 600, "\ufeff", "a/b"])
async def test_law_12_ids_that_cannot_be_are_found_nowhere(shop: ShopServer, text: str) -> None:
    """NUL and long ids in each path and query: a problem or an empty page, and no 5xx."""
    for route, name in places(shop):
        reply = await shop.call(route.method, filled(route, text, name))
        assert reply.status < 500, (route.path, name)
        if f"{{{name}}}" in route.path and (route.method, route.path) not in NOT_TOLD:
            assert reply.status >= 400, (route.path, reply.body)
    assert lane(shop) == 0


@pytest.mark.parametrize("length", [9_000, 64 * 1024, 1024 * 1024])
async def test_law_12_an_id_of_64_kb_in_a_path_or_query_is_a_problem_that_quotes_nothing(
    shop: ShopServer, length: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Over the limit of a request's head: told with the limit; neither the reply nor the log repeats it."""
    canary = "canary" * (length // 6)
    for path in (f"/v1/consents?subject={canary}", f"/v1/devices/{canary}", f"/{canary}"):
        reply = await shop.call("GET", path)
        assert (reply.status, reply.body["code"]) == (400, "malformed_request")
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert str(shop.settings.head_limit_bytes) in reply.body["detail"]
        assert "canary" not in str(reply.body)
    reply = await shop.call("GET", "/v1/devices", headers={"X-Anything": canary})
    assert (reply.status, reply.body["code"]) == (400, "malformed_request")
    assert "canary" not in caplog.text


async def test_an_id_of_64_kb_or_with_nul_in_a_body_says_what_an_id_is(tmp_path: Path) -> None:
    """Where a body names a subject: 422 `invalid_id`, with the limit, and nothing is written."""
    async with ShopServer(tmp_path / "data", ManualClock()) as shop:
        for subject in ("x" * 65_536, "a\0b", "user:a\0", "é" * 300, ""):
            replies = [await shop.revoke(subject), await shop.give(subject)]
            ticket = {"subject": subject, "purposes": ["personalization"]}
            replies.append(await shop.call("POST", "/v1/devices/dev-aaaaaaaaaaaaaaaa/tickets", ticket))
            for reply in replies:
                assert (reply.status, reply.body["code"]) == (422, "invalid_id"), subject[:10]
                assert "512 bytes" in reply.body["detail"]
                assert subject[:1_000] not in str(reply.body) or len(subject) < 8
        assert lane(shop) == 0


def _json_suite() -> list[tuple[str, bytes]]:
    found = []
    with tarfile.open(DATA / "json_test_suite" / "json_test_suite.tar.gz") as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.isfile() and member.name.endswith(".json") else None
            if file is not None:
                found.append((Path(member.name).name, file.read()))
    assert len(found) > 300
    return sorted(found)
