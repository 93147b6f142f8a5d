"""`/openapi.json` is a valid OpenAPI 3.1 document, and names every route with every problem it can answer."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import sync_server.api
from sync_server.api import rooms
from sync_server.api.described import field_notes
from sync_server.api.docs_page import OF_ALL, anchor
from sync_server.api.features import Published
from sync_server.api.remedies import REMEDIES
from sync_server.api.route import BODILESS
from sync_server.api.schema_text import type_text
from sync_server.app import route_table
from sync_server.errors import PROBLEMS
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
OPERATION = {
    "tags",
    "summary",
    "description",
    "operationId",
    "parameters",
    "requestBody",
    "responses",
    "security",
}
TYPES = {"null", "boolean", "object", "array", "number", "string", "integer"}


def check_schema(schema: Any, where: str) -> None:
    """A JSON Schema of the kind that OpenAPI 3.1 takes (draft 2020-12), as far as we use it."""
    if isinstance(schema, bool):
        return
    assert isinstance(schema, dict), where
    kind = schema.get("type")
    assert kind is None or set(kind if isinstance(kind, list) else [kind]) <= TYPES, where
    assert "nullable" not in schema, f"{where}: a word of 3.0"
    for name, part in schema.get("properties", {}).items():
        check_schema(part, f"{where}.{name}")
    for word in ("items", "additionalProperties"):
        if word in schema:
            check_schema(schema[word], f"{where}.{word}")
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, []):
            check_schema(part, f"{where}.{word}")
    assert set(schema.get("required", [])) <= set(schema.get("properties", {})), where
    if "pattern" in schema:
        re.compile(schema["pattern"])


def check_content(content: dict[str, Any], where: str) -> None:
    for kind, media in content.items():
        assert re.fullmatch(r"[a-z]+/[a-z.+-]+", kind), where
        check_schema(media.get("schema", True), where)


def check_operation(path: str, method: str, operation: dict[str, Any], document: dict[str, Any]) -> None:
    where = f"{method} {path}"
    assert set(operation) <= OPERATION, where
    assert operation["summary"].endswith("."), where
    named = [(p["in"], p["name"]) for p in operation["parameters"]]
    assert len(named) == len(set(named)), where
    assert {n for place, n in named if place == "path"} == set(re.findall(r"{(\w+)}", path)), where
    for parameter in operation["parameters"]:
        assert parameter["in"] in {"path", "query", "header", "cookie"}, where
        assert parameter["in"] != "path" or parameter["required"] is True, where
        check_schema(parameter["schema"], where)
    if "requestBody" in operation:
        assert method in {"post", "put", "patch"}, where
        check_content(operation["requestBody"]["content"], where)
    assert operation["responses"], where
    for status, response in operation["responses"].items():
        assert re.fullmatch(r"[1-5]\d\d", status), where
        assert response["description"], where
        check_content(response.get("content", {}), where)
    for needed in operation["security"]:
        assert set(needed) <= set(document["components"]["securitySchemes"]), where


async def test_the_document_is_openapi_3_1(shop: ShopServer) -> None:
    """Structure, required words, parameters of every path, schemas, security."""
    document = (await shop.call("GET", "/openapi.json", token=None)).body
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= set(document["info"])
    assert set(document) <= {"openapi", "info", "paths", "components", "tags", "servers", "security"}
    for name, schema in document["components"]["schemas"].items():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
        check_schema(schema, name)
    for path, item in document["paths"].items():
        assert path.startswith("/")
        assert set(item) <= METHODS
        for method, operation in item.items():
            check_operation(path, method, operation, document)


async def test_every_door_that_reads_a_body_says_so_and_names_its_problems(shop: ShopServer) -> None:
    """A door whose code raises a problem names it; a body is described, and how it may be refused."""
    document = (await shop.call("GET", "/openapi.json", token=None)).body
    raised = {path.stem: _raised(path) for path in Path(sync_server.api.__path__[0]).glob("*.py")}
    for route in route_table(shop.app[rooms.SYNC_DOOR]):
        operation = document["paths"][route.path][route.method.lower()]
        told = {
            c for r in operation["responses"].values() for c in r["description"].split(": ")[-1].split(", ")
        }
        module = route.handler.__module__.rsplit(".", 1)[-1]
        own = raised.get(module, {}).get(getattr(route.handler, "__name__", ""), set())
        assert own <= told, (route.method, route.path, own - told)
        assert {"internal", "storage"} <= told
        if "requestBody" in operation and not route.media:
            assert {"malformed_json", "malformed_msgpack", "too_large", "unsupported_media"} <= told
        assert ("requestBody" in operation) == (
            route.method in {"POST", "PUT", "PATCH"} and not route.path.endswith(("close", "open", "retry"))
        )
        assert told & set(PROBLEMS) == told - {t for t in told if t not in PROBLEMS}


def _raised(path: Path) -> dict[str, set[str]]:
    """function -> codes of the problems that its own text raises."""
    found: dict[str, set[str]] = {}
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            found[function.name] = {
                call.args[0].value
                for call in ast.walk(function)
                if isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id == "Problem"
                and isinstance(call.args[0], ast.Constant)
                and isinstance(call.args[0].value, str)
            }
    return found


async def test_the_page_reads_by_itself(shop: ShopServer) -> None:
    """Contents, every door with scope, fields and problems, every code; nothing is loaded from elsewhere."""
    page = (await shop.call("GET", "/docs", token=None)).body.decode()
    anchors = re.findall(r'id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)
    for route in route_table(shop.app[rooms.SYNC_DOOR]):
        _, _, after = page.partition(f'<section id="{anchor(route.method, route.path)}">')
        section = after.partition("</section>")[0]
        assert ("no token" if route.open else route.scope or "any token") in section, route.path
        assert all(code in section for code in set(route.problems) - OF_ALL), route.path
        assert all(f"<code>{query.name}</code>" in section for query in route.query), route.path
    for code in PROBLEMS:
        assert f'id="{code}"' in page
    for name in shop.document["components"]["schemas"]:
        assert f'id="type-{name}"' in page
    assert not re.findall(r"<(?:script|img|link|iframe)|@import|url\(", page)
    assert len(page) < 400_000  # of which a reader sees a part at a time


async def test_every_reply_has_a_type_or_a_media_type_or_no_body(shop: ShopServer) -> None:
    """A route without them cannot be added; `dict` is for documents whose form is said elsewhere."""
    for route in route_table(shop.app[rooms.SYNC_DOOR]):
        bare = set(route.replies) - set(route.returns) - set(route.gives) - BODILESS
        assert not bare, (route.method, route.path, bare)
        assert set(route.returns) | set(route.gives) | set(route.tells) | set(route.links) <= set(
            route.replies
        )
        assert set(route.places) <= set(re.findall(r"{(\w+)}", route.path))
    free = [r.path for r in route_table(shop.app[rooms.SYNC_DOOR]) if dict in r.returns.values()]
    assert sorted(free) == ["/openapi.json", "/v1/catalogs/{name}/{version}"]


@dataclass(frozen=True)
class Broken:
    """A reply that is not as promised, and what is wrong with it."""

    body: bytes
    fault: str
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


@pytest.mark.parametrize(
    "broken",
    [
        Broken(b'{"status":"ok"}', ""),
        Broken(b'{"status":"fine"}', "enum does not hold at /status"),
        Broken(b'{"status":"ok","more":1}', "additionalProperties does not hold at /"),
        Broken(b"{}", "required does not hold at /"),
        Broken(b'{"status":"ok"}', "202 is not documented", status=202),
        Broken(b'{"status":"ok"}', "is text/plain, not application/json", kind="text/plain"),
        Broken(b'{"status":"ok"}', "has the header x-more", headers=(("X-More", "1"),)),
        Broken(b"{}", "lacks the header Retry-After", status=503, kind="application/problem+json"),
    ],
    ids=lambda broken: broken.fault or "as promised",
)
async def test_a_reply_that_is_not_as_documented_is_noticed(tmp_path: Path, broken: Broken) -> None:
    """Planted behind `GET /healthz`: an unknown member, status, media type or header, a missing one."""
    server = ShopServer(tmp_path / "data", ManualClock())

    @web.middleware
    async def spoiling(request: web.Request, handler: Handler) -> web.StreamResponse:
        reply = web.Response(body=broken.body, status=broken.status, content_type=broken.kind)
        reply.headers.update(broken.headers)
        return reply

    server.app.middlewares.append(spoiling)
    async with server:
        await server.call("GET", "/healthz", token=None)
        found, server.broken_promises = server.broken_promises, []
    assert any(broken.fault in fault for fault in found) if broken.fault else not found


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/v1/segments?before=a", "expected only `after`"),
        ("/v1/devices?after=a&after=b", "expected `after` once"),
        ("/v1/hot-set", "expected `channel`: one that is shared: `all`, or `segment:<name>`"),
        ("/v1/hot-set?channel=~alice", "expected `channel` as 1 to 512 characters"),
        ("/v1/hot-set?channel=all&after=-1", "expected `after` as a whole number and at least 0"),
        ("/v1/hot-set?channel=all&after=1e3", "expected `after` as a whole number"),
        ("/v1/hot-set?channel=all&after=" + "9" * 5_000, "expected `after` as a whole number"),
        ("/v1/hot-set?channel=all&after=%D9%A1", "expected `after` as a whole number"),
        ("/healthz?alice", "expected no parameters"),
    ],
)
async def test_law_12_a_query_that_the_document_does_not_know_is_refused(
    shop: ShopServer, path: str, detail: str
) -> None:
    """By the types of the route table, and the detail says what was expected, never what came."""
    reply = await shop.call("GET", path)
    assert (reply.status, reply.body["code"]) == (400, "malformed_query")
    assert detail in reply.body["detail"]
    assert "alice" not in str(reply.body)


def test_field_notes_are_what_stands_below_the_fields() -> None:
    """The document describes fields in the words of the source."""
    assert field_notes(Published)["accepted"] == "Rows that stand."
    assert "view" in field_notes(Published)
    assert field_notes(dict) == {}


async def test_every_body_is_shown_by_an_example_that_the_route_takes(shop: ShopServer) -> None:
    """A newcomer copies it; enrolment alone needs a signature of its own."""
    for route in route_table(shop.app[rooms.SYNC_DOOR]):
        if route.body is None or route.body is dict or route.path == "/v1/devices":
            continue
        assert route.example is not None, (route.method, route.path)
        msgspec.convert(route.example, route.body, strict=True)


def test_every_problem_says_what_to_do() -> None:
    """On the docs page, beside what it means."""
    assert set(REMEDIES) == set(PROBLEMS)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string", "maxLength": 9}, "text (up to 9 characters)"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "whole number, or null"),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, "list of <code>a</code> or <code>b</code>"),
        ({"type": "array", "items": {"anyOf": [{"type": "string"}, {}]}}, "list of text"),
        ({"$ref": "#/components/schemas/Round"}, '<a href="#type-Round">Round</a>'),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"type": "string", "pattern": "^<a>$"}, "text (matching <code>^&lt;a&gt;$</code>)"),
        ({}, "anything"),
    ],
)
def test_a_schema_in_words(schema: dict[str, Any], text: str) -> None:
    """As it stands on the docs page."""
    assert type_text(schema) == text
