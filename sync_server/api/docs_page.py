"""The readable page of the interface, made from the route table. Without scripts or foreign assets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import msgspec

from sync_server.api.route import Route
from sync_server.errors import PROBLEMS, Reply

_BACKTICKS = re.compile(r"`([^`]+)`")


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


def _entry(route: Route) -> str:
    parts = [f"<h3><code>{route.method} {escape(route.path)}</code></h3><p>{_prose(route.summary)}</p>"]
    notes = ["no token needed"] if route.open else [f"scope {route.scope}" if route.scope else "any token"]
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


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>edge-sync</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}}
code{{background:#eee;padding:.1em .3em}}h3{{margin-bottom:0}}td{{padding-right:1rem}}</style>
<h1>edge-sync</h1><p>Every request carries <code>Authorization: Bearer TOKEN</code> unless its entry says
otherwise, and the token has the scope that stands there. The first token is in <code>api.token</code> in the
server's data directory; <code>/v1/tokens</code> makes others. Errors are problem documents
(RFC 9457). Times are microseconds since 1970 UTC. The same as data:
<a href="/openapi.json">/openapi.json</a>.</p>
<p>{contents} · <a href="#problems">problems</a></p>
{sections}<h2 id="problems">problems</h2><table>{codes}</table></html>
"""
