"""The readable page of the interface, made from the OpenAPI document. Without scripts or foreign assets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from sync_server.api.described import REFERENCE
from sync_server.api.page_frame import FRAME, INTRODUCTION
from sync_server.api.remedies import REMEDIES
from sync_server.api.schema_text import fields, prose, type_text
from sync_server.errors import PROBLEMS

_NAMELESS: Final = re.compile(r"[^a-zA-Z0-9]+")
OF_ALL: Final = frozenset(
    {
        *("malformed_request", "malformed_query", "internal", "storage"),
        *("unauthorized", "missing_scope", "rate_limited"),
        *("malformed_json", "malformed_msgpack", "too_large", "unsupported_media", "invalid_request"),
    }
)
"""Problems of every route, of every one with a token, or of every one with a body; see the introduction."""
Operation = Mapping[str, Any]


def docs_page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document of ours."""
    operations = [
        (method.upper(), path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    tags = [tag["name"] for tag in document["tags"]]
    grouped = [(tag, [o for o in operations if tag in o[2]["tags"]]) for tag in tags]
    schemas = document["components"]["schemas"]
    return FRAME.format(
        title=f"{document['info']['title']} {document['info']['version']}",
        contents="".join(_contents(tag, held) for tag, held in grouped),
        introduction=INTRODUCTION,
        overview=_table(("", "route", "scope", "for"), (_row(*o) for o in operations)),
        routes="".join(_group(tag, held, schemas) for tag, held in grouped),
        types="".join(_type(name, schemas[name]) for name in sorted(schemas)),
        problems=_table(("code", "status", "means", "what to do"), _problems(sorted(PROBLEMS)), "code"),
    )


def anchor(method: str, path: str) -> str:
    """Where a route stands on the page."""
    return f"{method.lower()}{_NAMELESS.sub('-', path).rstrip('-')}"


def scope_of(operation: Operation) -> str:
    """The scope that a route asks for; "" for any token, `open` for none."""
    if not operation["security"]:
        return "open"
    scopes: Sequence[str] = operation["security"][0]["bearer"]
    return scopes[0] if scopes else ""


# ---- parts -----------------------------------------------------------------------------------------------


def _contents(tag: str, held: Sequence[tuple[str, str, Operation]]) -> str:
    entries = "".join(
        f'<li><a href="#{anchor(method, path)}"><b>{method}</b> {escape(path)}</a></li>'
        for method, path, _ in held
    )
    return f'<p><a href="#doors-{_slug(tag)}">{escape(tag)}</a></p><ul>{entries}</ul>'


def _row(method: str, path: str, operation: Operation) -> tuple[str, ...]:
    link = f'<a href="#{anchor(method, path)}"><code>{escape(path)}</code></a>'
    return f"<b>{method}</b>", link, _scope(operation), prose(operation["summary"])


def _group(tag: str, held: Sequence[tuple[str, str, Operation]], schemas: Mapping[str, Any]) -> str:
    entries = "".join(_entry(*operation, schemas) for operation in held)
    return f'<h2 id="doors-{_slug(tag)}">{escape(tag)}</h2>{entries}'


def _entry(method: str, path: str, operation: Operation, schemas: Mapping[str, Any]) -> str:
    place = anchor(method, path)
    heading = f'<h3><a href="#{place}">{method} <code>{escape(path)}</code></a> {_scope(operation)}</h3>'
    parts = [f'<section id="{place}">{heading}<p>{prose(operation["summary"])}</p>']
    parts += _parameters(operation["parameters"])
    parts += _body(operation.get("requestBody"), schemas)
    parts.append("<h4>Replies</h4>" + _table(("status", "what", "body"), _replies(operation["responses"])))
    codes = [code for code in _codes(operation["responses"]) if code not in OF_ALL]
    if codes:
        titles = ("problem", "status", "means", "what to do")
        parts.append("<h4>Problems</h4>" + _table(titles, _problems(codes, linked=True)))
    return "".join([*parts, "</section>"])


def _parameters(parameters: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    rows = [
        (
            f"<code>{escape(p['name'])}</code>",
            p["in"],
            type_text(p["schema"]),
            "yes" if p["required"] else "",
            prose(p.get("description", "")),
        )
        for p in parameters
    ]
    if rows:
        yield "<h4>Parameters</h4>" + _table(("name", "in", "type", "needed", ""), rows)


def _body(body: Mapping[str, Any] | None, schemas: Mapping[str, Any]) -> Iterator[str]:
    if body is None:
        return
    kinds = " or ".join(f"<code>{kind}</code>" for kind in body["content"])
    content = next(iter(body["content"].values()))
    may = "" if body["required"] else "; it may be left out"
    schema = schemas.get(content["schema"].get("$ref", "").removeprefix(REFERENCE), {})
    about = prose(schema.get("description", ""))
    yield f"<h4>Body</h4><p>{type_text(content['schema'])} as {kinds}{may}. {about}</p>"
    yield _fields(schema, "needed")
    if "example" in content:
        yield f"<pre>{escape(json.dumps(content['example'], ensure_ascii=False, indent=2))}</pre>"


def _replies(responses: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for status, reply in responses.items():
        if not _is_problem(reply):
            told = [f"header <code>{name}</code>: {prose(h['description'])}" for name, h in _headers(reply)]
            text = "<br>".join([prose(reply["description"]), *told])
            yield status, text, "<br>".join(_bodies(reply.get("content", {}))) or "none"


def _bodies(content: Mapping[str, Any]) -> Iterator[str]:
    for kind, media in content.items():
        schema = type_text(media["schema"]) if media.get("schema") else ""
        yield schema if kind == "application/json" else f"{schema} <code>{kind}</code>"


def _headers(reply: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    held: Mapping[str, Mapping[str, Any]] = reply.get("headers", {})
    return held.items()


def _codes(responses: Mapping[str, Any]) -> Iterator[str]:
    for reply in responses.values():
        if _is_problem(reply):
            media = next(iter(reply["content"].values()))
            yield from media["schema"]["allOf"][1]["properties"]["code"]["enum"]


def _is_problem(reply: Mapping[str, Any]) -> bool:
    return "application/problem+json" in reply.get("content", {})


def _type(name: str, schema: Mapping[str, Any]) -> str:
    about = prose(schema.get("description", "")) or type_text(schema)
    table = _fields(schema, "always")
    return f'<section id="type-{escape(name)}"><h3>{escape(name)}</h3><p>{about}</p>{table}</section>'


def _fields(schema: Mapping[str, Any], needed_title: str) -> str:
    rows = [
        (f"<code>{escape(field)}</code>", kind, "yes" if needed else "", note)
        for field, kind, needed, note in fields(schema)
    ]
    return _table(("field", "type", needed_title, ""), rows) if rows else ""


def _problems(codes: Iterable[str], *, linked: bool = False) -> Iterator[tuple[str, ...]]:
    for code in codes:
        name = f'<a href="#{code}"><code>{code}</code></a>' if linked else f"<code>{code}</code>"
        reply = PROBLEMS[code]
        yield name, str(reply.status), prose(reply.title), prose(REMEDIES.get(code, ""))


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], named: str = "") -> str:
    """A table; `named`: its rows can be linked to by the code in their first cell."""
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = ""
    for row in rows:
        place = f' id="{re.sub("<[^>]*>", "", row[0])}"' if named else ""
        body += f"<tr{place}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _scope(operation: Operation) -> str:
    scope = scope_of(operation)
    said = {"open": "no token", "": "any token"}.get(scope, scope)
    return f'<span class="scope {scope}">{said}</span>'


def _slug(tag: str) -> str:
    return escape(tag.replace(" ", "-"))
