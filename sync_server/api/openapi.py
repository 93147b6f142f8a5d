"""The OpenAPI document and the readable page, both made from the route table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.metadata import version

import msgspec
from aiohttp import web

from sync_server.api.replies import json_reply
from sync_server.api.route import Route
from sync_server.errors import PROBLEMS, Reply

_NAMELESS = re.compile(r"[^a-zA-Z0-9]+")
_BACKTICKS = re.compile(r"`([^`]+)`")
_COMMON = ("internal", "storage")
_GUARDED = ("unauthorized",)
_WITH_BODY = ("malformed_json", "malformed_msgpack", "too_large", "unsupported_media", "invalid_request")


def openapi(routes: Sequence[Route]) -> dict[str, object]:
    """The OpenAPI 3.1 document of the route table."""
    types = [t for r in routes for t in (r.body, *r.parts, *r.returns.values()) if t not in (None, dict)]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge-sync", "version": version("edge-runtime")},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": _PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def doors(routes: Sequence[Route]) -> tuple[Route, ...]:
    """The two routes that describe `routes` and themselves."""

    async def document(_: web.Request) -> web.Response:
        return json_reply(openapi(everything))

    async def page(_: web.Request) -> web.Response:
        return web.Response(text=docs_page(everything), content_type="text/html")

    own = (
        Route("GET", "/openapi.json", document, "This interface as OpenAPI 3.1.", "operations", open=True),
        Route("GET", "/docs", page, "This interface as a page.", "operations", open=True),
    )
    everything = (*routes, *own)
    return own


def docs_page(routes: Sequence[Route]) -> str:
    """A page without scripts or foreign assets."""
    tags = list(dict.fromkeys(r.tag for r in routes))
    sections = "".join(
        f'<h2 id="doors-{escape(tag)}">{escape(tag)}</h2>'
        + "".join(_entry(r) for r in routes if r.tag == tag)
        for tag in tags
    )
    codes = "".join(_code(code, reply) for code, reply in sorted(PROBLEMS.items()))
    contents = " · ".join(f'<a href="#doors-{escape(tag)}">{escape(tag)}</a>' for tag in tags)
    return _PAGE.format(contents=contents, sections=sections, codes=codes)


def _prose(text: str) -> str:
    """Text for the page; what stands between backticks is code."""
    return _BACKTICKS.sub(r"<code>\1</code>", escape(text))


def _code(code: str, reply: Reply) -> str:
    cells = (f"<code>{code}</code>", str(reply.status), _prose(reply.title))
    return f'<tr id="{code}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _operation(route: Route) -> dict[str, object]:
    made: dict[str, object] = {
        "summary": route.summary,
        "tags": [route.tag],
        "operationId": f"{route.method.lower()}{_NAMELESS.sub('_', route.path).rstrip('_')}",
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [] if route.open else [{"bearer": []}],
    }
    if route.media:
        made["requestBody"] = {"required": False, "content": {route.media: {}}}
    if route.body is not None:
        schema = _schema_of(route.body)
        kinds = ("application/json", "application/msgpack")
        made["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}
    return made


def _schema_of(body: type) -> dict[str, object]:
    return {"type": "object"} if body is dict else {"$ref": f"#/components/schemas/{body.__name__}"}


def _parameters(route: Route) -> list[dict[str, object]]:
    text = {"type": "string"}
    named = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    made: list[dict[str, object]] = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in named
    ]
    made += [
        {"name": q.name, "in": "query", "required": q.required, "description": q.text, "schema": text}
        for q in route.query
    ]
    made += [
        {"name": h.name, "in": "header", "required": h.required, "description": h.text, "schema": text}
        for h in route.headers
    ]
    if route.idempotent:
        what = "A repeat with the same key and body within a day gets the same reply."
        made.append({"name": "Idempotency-Key", "in": "header", "description": what, "schema": text})
    return made


def _responses(route: Route) -> dict[str, object]:
    made: dict[str, object] = {str(status): _reply(route, status) for status in route.replies}
    codes = (*route.problems, *_COMMON, *(() if route.open else _GUARDED))
    codes += _WITH_BODY if route.body is not None else ()
    by_status: dict[int, list[str]] = {}
    for code in codes:
        named = by_status.setdefault(PROBLEMS[code].status, [])
        named += [] if code in named else [code]
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for status, named in sorted(by_status.items()):
        made[str(status)] = {"description": "problem: " + ", ".join(named), "content": content}
    return made


def _reply(route: Route, status: int) -> dict[str, object]:
    made: dict[str, object] = {"description": route.replies[status]}
    if status in route.returns:
        made["content"] = {"application/json": {"schema": _schema_of(route.returns[status])}}
    return made


def _entry(route: Route) -> str:
    parts = [f"<h3><code>{route.method} {escape(route.path)}</code></h3><p>{_prose(route.summary)}</p>"]
    notes = ["no token needed"] if route.open else []
    notes += ["takes an Idempotency-Key"] if route.idempotent else []
    notes += [f"query {q.name}: {q.text}" for q in route.query]
    notes += [f"header {h.name}: {h.text}" for h in route.headers]
    notes += [f"body: {route.media}"] if route.media else []
    notes += [f"{status}: {text}" for status, text in route.replies.items()]
    notes += [f"problem {code}: {PROBLEMS[code].title}" for code in route.problems]
    parts.append("<ul>" + "".join(f"<li>{_prose(note)}</li>" for note in notes) + "</ul>")
    if route.body is not None and route.body is not dict:
        fields = msgspec.structs.fields(route.body)
        names = ", ".join(f.name + ("" if f.required else "?") for f in fields)
        parts.append(f"<p>Body: <code>{{{escape(names)}}}</code>. {_prose(route.body.__doc__ or '')}</p>")
    return "".join(parts)


_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "detail": {"type": "string"},
    },
}

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>edge-sync</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
code{{background:#eee;padding:.1em .3em}}h3{{margin-bottom:0}}td{{padding-right:1rem}}</style>
<h1>edge-sync</h1><p>Every request carries <code>Authorization: Bearer TOKEN</code> unless its entry says
otherwise; the token is in <code>api.token</code> in the server's data directory. Errors are problem documents
(RFC 9457). Times are microseconds since 1970 UTC. The same as data:
<a href="/openapi.json">/openapi.json</a>.</p>
<p>{contents} · <a href="#problems">problems</a></p>
{sections}<h2 id="problems">problems</h2><table>{codes}</table></html>
"""
