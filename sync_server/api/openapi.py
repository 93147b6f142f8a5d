"""The OpenAPI document, made from the route table: the types that the doors read and write.

What is the same for every route is said here once: which problems a route with a body or a token can answer,
the headers of problems, and the repeat of an idempotent reply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final

import msgspec
from aiohttp import web

from sync_server.api.described import REFERENCE, Described
from sync_server.api.docs_page import docs_page
from sync_server.api.problem import PROBLEM_MEDIA, ProblemDocument
from sync_server.api.replies import IDEMPOTENCY_KEY
from sync_server.api.route import Name, Query, Route, Told
from sync_server.errors import PROBLEMS

JSON: Final = "application/json"
BODIES: Final = (JSON, "application/msgpack")
"""Media types of a body that is typed."""
_NAMELESS: Final = re.compile(r"[^a-zA-Z0-9]+")
_COMMON: Final = ("malformed_request", "malformed_query", "internal", "storage")
_GUARDED: Final = ("unauthorized", "rate_limited")
_WITH_BODY: Final = (
    "malformed_json",
    "malformed_msgpack",
    "too_large",
    "unsupported_media",
    "invalid_request",
)
REPLAYED: Final = Told(
    "Idempotency-Replayed", "`true`: the reply of an earlier request with this key.", False
)
PROBLEM_HEADERS: Final[Mapping[int, tuple[Told, ...]]] = {
    HTTPStatus.UNAUTHORIZED: (Told("WWW-Authenticate", "How to ask: with a bearer token."),),
    HTTPStatus.UPGRADE_REQUIRED: (Told("Upgrade", "`websocket`."),),
    HTTPStatus.TOO_MANY_REQUESTS: (Told("Retry-After", "Seconds after which to try again."),),
    HTTPStatus.CONFLICT: (Told("Retry-After", "Seconds, if a request with this key still runs.", False),),
    HTTPStatus.SERVICE_UNAVAILABLE: (Told("Retry-After", "Seconds after which to try again."),),
}
_TEXT: Final = {"type": "string"}
_BYTES: Final = {"type": "string", "format": "binary"}


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the route table."""
    described = Described([ProblemDocument, *(t for route in routes for t in _types(route))])
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, described)
    about = "Errors are RFC 9457 problem documents. Times are microseconds since 1970 UTC."
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge-sync", "version": version("edge-runtime"), "description": about},
        "tags": [{"name": tag} for tag in dict.fromkeys(r.tag for r in routes)],
        "paths": paths,
        "components": {
            "schemas": described.components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def doors(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The two routes that describe `routes` and themselves."""

    @cache  # anybody may ask, and making it takes as long as fifty requests
    def described() -> bytes:
        return msgspec.json.encode(openapi(everything))

    @cache
    def shown() -> str:
        return docs_page(openapi(everything))

    async def document(_: web.Request) -> web.Response:
        return web.Response(body=described(), content_type="application/json")

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=shown(), content_type="text/html")

    own = (
        Route(
            "GET",
            "/openapi.json",
            document,
            "This interface as OpenAPI 3.1.",
            "operations",
            open=True,
            replies={200: "an OpenAPI 3.1 document"},
            returns={200: dict},
        ),
        Route(
            "GET",
            "/docs",
            page,
            "This interface as a page.",
            "operations",
            open=True,
            replies={200: "this page"},
            gives={200: "text/html"},
        ),
    )
    everything = (*routes, *own)
    return own


def codes_of(route: Route) -> tuple[str, ...]:
    """Every problem code that the route can answer."""
    codes = [*route.problems, *(() if route.open else _GUARDED)]
    codes += [] if route.scope is None else ["missing_scope"]
    codes += ["other_destination"] if route.scope == "consent" else []
    codes += _WITH_BODY if route.body is not None else ()
    codes += ["invalid_request"] if route.idempotent else []
    return tuple(dict.fromkeys([*codes, *_COMMON]))


def operation_id(method: str, path: str) -> str:
    """A name for the operation, as generated clients use it."""
    return f"{method.lower()}{_NAMELESS.sub('_', path).rstrip('_')}"


def parameters_of(route: Route) -> tuple[tuple[str, Query], ...]:
    """(place, parameter): those of the path, the query, and the headers that it reads."""
    named = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    path = [Query(n, "", True, route.places.get(n, Name)) for n in named]
    key = [replace(IDEMPOTENCY_KEY, required=route.keyed)] if route.idempotent else []
    return (
        *(("path", one) for one in path),
        *(("query", one) for one in route.query),
        *(("header", one) for one in (*route.headers, *key)),
    )


def headers_of(route: Route, status: int) -> tuple[Told, ...]:
    """Headers of the route's reply with this status that a caller needs."""
    replayed = (REPLAYED,) if route.idempotent else ()
    return (*route.tells.get(status, ()), *route.tells_all, *replayed)


def _types(route: Route) -> Iterable[Any]:
    """Everything of which the document shows a schema."""
    yield from () if route.body is None else (route.body,)
    yield from route.parts
    yield from route.returns.values()
    yield from (one.type for _, one in parameters_of(route))


def _operation(route: Route, described: Described) -> dict[str, object]:
    made: dict[str, object] = {
        "summary": route.summary,
        "tags": [route.tag],
        "operationId": operation_id(route.method, route.path),
        "parameters": _parameters(route, described),
        "responses": _responses(route, described),
        "security": [] if route.open else [{"bearer": [route.scope] if route.scope else []}],
    }
    if route.media:
        made["requestBody"] = {"required": False, "content": {route.media: {"schema": _BYTES}}}
    if route.body is not None:
        schema = described.schema(route.body)
        shown = {} if route.example is None else {"example": route.example}
        content = {kind: {"schema": schema, **shown} for kind in BODIES}
        made["requestBody"] = {"required": route.body_needed, "content": content}
    return made


def _parameters(route: Route, described: Described) -> list[dict[str, object]]:
    return [
        {
            "name": one.name,
            "in": place,
            "required": one.required,
            **({"description": one.text} if one.text else {}),
            "schema": described.schema(one.type),
        }
        for place, one in parameters_of(route)
    ]


def _responses(route: Route, described: Described) -> dict[str, dict[str, object]]:
    made = {str(status): _reply(route, status, described) for status in sorted(route.replies)}
    by_status: dict[int, list[str]] = {}
    for code in codes_of(route):
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    problems = {str(status): _problem(route, status, codes) for status, codes in sorted(by_status.items())}
    return made | problems


def _reply(route: Route, status: int, described: Described) -> dict[str, object]:
    made: dict[str, object] = {"description": route.replies[status]}
    content: dict[str, object] = {}
    if status in route.returns:
        content[JSON] = {"schema": described.schema(route.returns[status])}
    given = route.gives.get(status, ())
    content |= {kind: {} for kind in ((given,) if isinstance(given, str) else given)}
    if content:
        made["content"] = content
    headers = headers_of(route, status)
    if headers:
        made["headers"] = {told.name: _header(told) for told in headers}
    if status in route.links:
        made["links"] = {
            operation_id(link.method, link.path): {
                "operationId": operation_id(link.method, link.path),
                "parameters": {link.parameter: link.source},
            }
            for link in route.links[status]
        }
    return made


def _problem(route: Route, status: int, codes: Sequence[str]) -> dict[str, object]:
    these = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    schema = {"allOf": [{"$ref": f"{REFERENCE}{ProblemDocument.__name__}"}, these]}
    made: dict[str, object] = {
        "description": "problem: " + ", ".join(codes),
        "content": {PROBLEM_MEDIA: {"schema": schema}},
    }
    headers = (*route.tells_all, *PROBLEM_HEADERS.get(status, ()))
    if headers:
        made["headers"] = {told.name: _header(told) for told in headers}
    return made


def _header(told: Told) -> dict[str, object]:
    return {"description": told.text, "required": told.always, "schema": _TEXT}
