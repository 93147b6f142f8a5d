"""`/v1/aggregates`: what there is to read. Metrics and their price, rounds, releases, also as tables."""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from aiohttp import web

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, MICRO, budget_window_days, cost_micros
from edge_runtime.catalog.model import CatalogModel, Metric
from sync_server.aggregates.documents import (
    DeclaredMetric,
    DeclaredMetrics,
    Releases,
    RoundBrief,
    RoundId,
    Rounds,
)
from sync_server.aggregates.release import freeze, read_release
from sync_server.aggregates.source import source_text
from sync_server.aggregates.table import CSV, PARQUET, table
from sync_server.api.accepted import accepted
from sync_server.api.aggregates import PATH
from sync_server.api.asked import LIMIT, asked, page_limit
from sync_server.api.replies import json_reply
from sync_server.api.rooms import COLLECTOR, REGISTRY, STORE
from sync_server.api.route import Query, Route, Told
from sync_server.errors import MissingExtra, Problem
from sync_server.store.aggregates import RoundRow

JSON: Final = "application/json"


async def metrics(request: web.Request) -> web.Response:
    """The metrics of the active catalog, and what a round of each costs."""
    model = request.app[REGISTRY].active.model
    declared = [_declared(model, metric) for metric in model.metrics.values()]
    return json_reply(DeclaredMetrics(f"{model.name}@{model.version}", declared))


async def rounds(request: web.Request) -> web.Response:
    """A page of rounds, newest first; of one metric, or of all."""
    await request.app[COLLECTOR].settle()
    after, limit = _after(request), page_limit(request)
    with request.app[STORE].read() as tx:
        if after is not None and tx.aggregates.round(after) is None:
            raise Problem("malformed_query", "expected after to be the last round of the page before")
        found, more = tx.aggregates.rounds(_metric(request), limit, after)
    held = [_brief(row, body) for row, body in found]
    return json_reply(Rounds(held, held[-1].round if more else None))


async def releases(request: web.Request) -> web.Response:
    """A page of releases, newest first; of one metric, or of all. `Accept` says in which form."""
    kind = accepted(request, (JSON, CSV, PARQUET))
    await request.app[COLLECTOR].settle()
    after, limit = _after(request), page_limit(request)
    with request.app[STORE].read() as tx:
        if after is not None and tx.aggregates.release(after) is None:
            raise Problem("malformed_query", "expected after to be the last round of the page before")
        found, more = tx.aggregates.releases(_metric(request), limit, after)
    held = [read_release(body) for body in found]
    last = held[-1].round if more else None
    said = {"Vary": "Accept"} | ({} if last is None else {"Link": _next(request, last)})
    if kind == JSON:
        return json_reply(Releases(held, last), headers=said)
    try:
        body = await asyncio.to_thread(table, kind, held)  # many rows, or pyarrow for the first time
    except MissingExtra as missing:
        raise Problem("not_acceptable", f"this server cannot write it: {missing}") from None
    return web.Response(body=body, headers={**said, "Content-Type": _with_charset(kind)})


def _with_charset(kind: str) -> str:
    return f"{kind}; charset=utf-8; header=present" if kind == CSV else kind


def _next(request: web.Request, last: str) -> str:
    """The page behind this one, as RFC 8288 links to it."""
    return f'<{request.rel_url.update_query(after=last)}>; rel="next"'


def _after(request: web.Request) -> bytes | None:
    text = asked(request, "after", None)
    return None if text is None else bytes.fromhex(text)


def _metric(request: web.Request) -> str | None:
    return request.match_info.get("metric") or asked(request, "metric", None)


def _brief(row: RoundRow, body: bytes | None) -> RoundBrief:
    release = None if body is None else read_release(body)
    at_us = row.stopped_us if release is None else release.closed_at_us
    waiting: Literal["open", "closing"] = "open" if at_us is None else "closing"
    return RoundBrief(
        round=row.id.hex(),
        metric=row.metric,
        opened_at_us=row.opened_us,
        closes_at_us=row.closes_us,
        closed_at_us=at_us,
        state=waiting if release is None else release.status,
    )


def _declared(model: CatalogModel, metric: Metric) -> DeclaredMetric:
    days = budget_window_days(model.metrics.values())
    try:
        mechanism, reason = freeze(model, metric, days).question.mechanism, None
    except ValueError as error:
        mechanism, reason = None, str(error)
    return DeclaredMetric(
        metric=metric.name,
        kind=metric.kind,
        mode=metric.mode,
        of=source_text(model, metric),
        purposes=list(model.purposes_of(metric)),
        min_subjects=metric.min_subjects,
        epsilon=cost_micros(metric) / MICRO,
        epsilon_ceiling=BUDGET_CEILING_MICROS / MICRO,
        window_days=days,
        mechanism=mechanism,
        reason=reason,
    )


_AFTER = Query("after", "`next` of the page before", type=RoundId)
_OF = Query("metric", "only this metric")
_PAGE = (_AFTER, LIMIT)
_ACCEPT = Query("Accept", "the form of the reply; JSON without it", type=Literal[JSON, CSV, PARQUET])
_LINKED = Told("Link", 'The page behind this one, `rel="next"`.', always=False)


def _list_of_releases(path: str, query: tuple[Query, ...], summary: str) -> Route:
    return Route(
        "GET",
        path,
        releases,
        summary,
        "aggregates",
        scope="analyst",
        query=query,
        headers=(_ACCEPT,),
        replies={200: "releases; as a table one row a number, and one without numbers for a withheld round"},
        returns={200: Releases},
        gives={200: (CSV, PARQUET)},
        tells={200: (Told("Vary", "`Accept`."), _LINKED)},
        problems=("not_acceptable",),
    )


ROUTES = (
    Route(
        "GET",
        PATH + "/metrics",
        metrics,
        "The metrics of the active catalog, and what one round of each costs a subject.",
        "aggregates",
        scope="analyst",
        replies={200: "metrics, by name"},
        returns={200: DeclaredMetrics},
        problems=("no_catalog",),
    ),
    Route(
        "GET",
        PATH + "/rounds",
        rounds,
        "All rounds, newest first.",
        "aggregates",
        scope="analyst",
        query=(_OF, *_PAGE),
        replies={200: "rounds"},
        returns={200: Rounds},
    ),
    Route(
        "GET",
        PATH + "/{metric}/rounds",
        rounds,
        "Rounds of one metric, newest first.",
        "aggregates",
        scope="analyst",
        query=_PAGE,
        replies={200: "rounds"},
        returns={200: Rounds},
    ),
    _list_of_releases(PATH + "/releases", (_OF, *_PAGE), "All releases, newest first."),
    _list_of_releases(PATH + "/{metric}/releases", _PAGE, "Releases of one metric, newest first."),
)
