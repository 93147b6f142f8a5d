"""What stands around the routes on the docs page: its frame, its style, and how to begin."""

from __future__ import annotations

from typing import Final, get_args

from sync_server.api.route import Scope

_SCOPES: Final = {
    "publish": "rows, segments, what is pushed",
    "consent": "decisions, revocations, the ledger",
    "analyst": "rounds and releases of aggregates",
    "operator": "catalogs, tokens, the audit log, counters",
    "device-admin": "enrolment, devices, tickets",
}
assert set(_SCOPES) == set(get_args(Scope))


def _codes(names: str) -> str:
    return ", ".join(f'<a href="#{name}"><code>{name}</code></a>' for name in names.split())


INTRODUCTION: Final = f"""
<h2 id="begin">How to begin</h2>
<p>The server's first token lies in <code>api.token</code> in its data directory, and may do everything;
<a href="#post-v1-tokens">make others</a> for whoever needs less. Ask with it:</p>
<pre>curl -H "Authorization: Bearer $(cat DATA/api.token)" \\
     -H "Content-Type: application/json" -H "Idempotency-Key: $(uuidgen)" \\
     -d '{{"subject": "alice"}}' http://127.0.0.1:8080/v1/consent-revocations</pre>
<ul>
<li><b>Bodies</b> are JSON or MessagePack, of the same form. Replies are JSON. A client must bear members that
it does not know.</li>
<li><b>Times</b> are whole microseconds since 1970 UTC, by the server's clock.</li>
<li><b>Repeats</b>: a request with an <code>Idempotency-Key</code> may be sent again and happens once.</li>
<li><b>Errors</b> are <a href="#type-ProblemDocument">problem documents</a> (RFC 9457). Decide by
<code>code</code>; <code>detail</code> says what was expected and where. After an error nothing was changed.
Beside those that a route names, each can answer
{_codes("malformed_request malformed_query storage internal")};
each that needs a token {_codes("unauthorized missing_scope rate_limited")}; each with a body
{_codes("malformed_json malformed_msgpack too_large unsupported_media invalid_request")}.</li>
<li><b>Scopes</b>: a token has one or more of
{", ".join(f'<span class="scope {name}">{name}</span> ({text})' for name, text in _SCOPES.items())}.</li>
</ul>
<p>The same as data, for generators of clients: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>
"""

FRAME: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root{{color-scheme:light dark;--line:#8884;--soft:#8881;--mark:#fc04}}
*{{box-sizing:border-box}}
body{{font:15px/1.5 system-ui,sans-serif;margin:0;display:grid;grid-template-columns:19rem minmax(0,1fr)}}
nav{{position:sticky;top:0;height:100vh;overflow:auto;padding:1rem;border-right:1px solid var(--line)}}
nav{{font-size:13px;overflow-wrap:anywhere}}nav p{{margin:.8rem 0 .2rem;font-weight:600}}
nav ul{{list-style:none;margin:0;padding:0}}nav li{{padding:.1rem 0 .1rem 4.4em;text-indent:-4.4em}}
nav li b{{display:inline-block;width:5.2em;text-indent:0;font-size:11px}}
main{{padding:1rem 2rem 6rem;max-width:64rem}}
a{{color:inherit;text-decoration-color:var(--line)}}a:hover{{text-decoration-color:currentColor}}
h1{{margin:.2rem 0}}h2{{margin:2.5rem 0 .5rem;border-bottom:2px solid var(--line)}}
code{{overflow-wrap:anywhere}}h3{{margin:0;font-size:1.05rem}}h3 a{{text-decoration:none}}
h4{{margin:.9rem 0 .2rem;font-size:.85rem;opacity:.8}}
section{{padding:1rem 0;border-bottom:1px solid var(--line);scroll-margin-top:.5rem}}
section p{{margin:.3rem 0}}
:target{{background:var(--mark)}}
code,pre{{font:13px/1.45 ui-monospace,monospace;background:var(--soft);border-radius:4px}}
code{{padding:.05em .3em}}pre{{padding:.7rem;overflow:auto}}h3 code,nav code{{background:none;padding:0}}
table{{border-collapse:collapse;width:100%;font-size:14px}}
th{{text-align:left;font-weight:600;font-size:12px;opacity:.7}}
td,th{{padding:.25rem .8rem .25rem 0;vertical-align:top}}tbody tr{{border-top:1px solid var(--line)}}
td:first-child{{white-space:nowrap}}td:nth-child(2){{min-width:7rem}}
.scope{{font-size:12px;padding:.1em .5em;border-radius:1em;border:1px solid var(--line);white-space:nowrap}}
.open{{opacity:.7}}
@media(max-width:60rem){{body{{display:block}}nav{{position:static;height:auto;border:0}}main{{padding:1rem}}}}
</style></head><body>
<nav><b><a href="#top">{title}</a></b>
<p><a href="#begin">How to begin</a></p><p><a href="#overview">All routes</a></p>
{contents}
<p><a href="#types">Types</a></p><p><a href="#problems">Problems</a></p></nav>
<main id="top"><h1>{title}</h1>{introduction}
<h2 id="overview">All routes</h2>{overview}
{routes}
<h2 id="types">Types</h2>{types}
<h2 id="problems">Problems</h2>{problems}
</main></body></html>
"""
