"""`GET /v1/audit`: who did what, when, and what came of it."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from sync_server.access.chain import AuditRow
from sync_server.api.asked import asked
from sync_server.api.replies import json_reply
from sync_server.api.rooms import ACCESS, SETTINGS, STORE
from sync_server.api.route import Query, Route

Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_LAST = 2**53


class AuditLine(msgspec.Struct):
    """Calls alike. Times in microseconds."""

    seq: int
    """Dense: where a number is missing, a row is."""
    at: int
    """The first of the calls."""
    last_at: int
    count: int
    actor: str
    """`bootstrap`, `token:<id>`, `oidc:<keyed hash of issuer and subject>`, or `nobody`."""
    name: str
    """Of the token."""
    method: str
    route: str
    """As in the route table; never a path."""
    outcome: str
    """`changed`: written in the transaction of the change. `answered`, `refused`, `failed`: nothing changed,
    or what had changed stands in a row before."""
    status: int
    code: str
    """Of the problem that was answered."""
    resource: str
    """Id of what it was about; empty where there is none, or it is a subject."""
    hash: str
    """SHA-256 over the hash of the row before and this one, in hex; see `docs/access.md`."""


class AuditPage(msgspec.Struct):
    """A page of the log."""

    entries: list[AuditLine]
    next: int | None
    """`after` or `before` of the next page, as this one was asked for; null: this is the last."""


async def listing(request: web.Request) -> web.Response:
    """With `after` the rows after that one, the oldest first; else the newest first."""
    request.app[ACCESS].audit.flush()
    limit, after = request.app[SETTINGS].page_rows, asked(request, "after", -1)
    before = asked(request, "before", _LAST)
    with request.app[STORE].read() as tx:
        rows = tx.audit.after(after, limit) if after >= 0 else tx.audit.before(before, limit)
    more = rows[-1].seq if len(rows) == limit else None
    return json_reply(AuditPage([_line(row) for row in rows], more))


def _line(row: AuditRow) -> AuditLine:
    e = row.entry
    return AuditLine(
        seq=row.seq,
        at=e.at_us,
        last_at=e.last_us,
        count=e.calls,
        actor=e.actor,
        name=e.name,
        method=e.method,
        route=e.route,
        outcome=e.outcome,
        status=e.status,
        code=e.code,
        resource=e.resource,
        hash=row.hash.hex(),
    )


ROUTES = (
    Route(
        "GET",
        "/v1/audit",
        listing,
        "The audit log: every administrative and consent call, and every call refused for who asked.",
        "access",
        scope="operator",
        query=(
            Query("after", "rows after this one, the oldest first", type=Seq),
            Query("before", "rows before this one, the newest first", type=Seq),
        ),
        replies={200: "a page of rows, the newest first unless `after` is given"},
        returns={200: AuditPage},
    ),
)
