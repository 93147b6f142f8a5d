"""`/v1/aggregates/{metric}/drift`: has a histogram moved from a reference or an earlier release?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from aiohttp import web

from edge_runtime.catalog.model import Metric
from sync_server.aggregates.drift.report import PREVIOUS, REFERENCE, DriftReport, comparable, report_of
from sync_server.aggregates.release import Release, read_release
from sync_server.api.aggregates import PATH
from sync_server.api.asked import asked
from sync_server.api.replies import json_reply
from sync_server.api.rooms import COLLECTOR, REGISTRY, STORE
from sync_server.api.route import Query, Route
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx

LOOKED_AT: Final = 100
"""Newest releases of a metric among which those to compare are looked for."""
Against = Annotated[str, msgspec.Meta(pattern=f"^({REFERENCE}|{PREVIOUS}|[0-9a-f]{{32}})$")]


async def read_drift(request: web.Request) -> web.Response:
    """The newest release with numbers beside the reference, the one before it, or that of a round."""
    await request.app[COLLECTOR].settle()
    metric = request.app[REGISTRY].active.model.metrics.get(request.match_info["metric"])
    if metric is None:
        raise Problem("unknown_metric", "the active catalog declares no such metric")
    if metric.kind != "histogram":
        raise Problem("not_found", f"drift is told of histograms; this metric is a {metric.kind}")
    against = asked(request, "against", REFERENCE)
    if against == REFERENCE and metric.reference is None:
        raise Problem("not_found", "the metric declares no reference; compare with `previous` or a round")
    with request.app[STORE].read() as tx:
        now, before = _pair(tx, metric, against)
    try:
        return json_reply(await asyncio.to_thread(report_of, metric, now, before))
    except ValueError as error:
        raise Problem("not_found", str(error)) from None


def _pair(tx: ReadTx, metric: Metric, against: str) -> tuple[Release, Release | None]:
    """The release that is judged and what it is compared with; None stands for the reference."""
    found = _comparable(tx, metric)
    now = next(found, None)
    if now is None:
        raise Problem("not_found", _none_yet(tx, metric))
    if against == REFERENCE:
        return now, None
    if against == PREVIOUS:
        before = next(found, None)
    else:
        body = tx.aggregates.release(bytes.fromhex(against))
        before = None if body is None else read_release(body)
    if before is None or before.metric != metric.name or not comparable(before, metric):
        raise Problem("not_found", "there is no such earlier release with the same categories")
    return now, before


def _none_yet(tx: ReadTx, metric: Metric) -> str:
    if tx.aggregates.releases(metric.name, 1)[0]:
        return "no release has the shares of the categories it declares: withheld, or asked otherwise"
    return "nothing of the metric was released yet: open a round of it, or wait for the one that is open"


def _comparable(tx: ReadTx, metric: Metric) -> Iterator[Release]:
    """Newest first."""
    bodies, _ = tx.aggregates.releases(metric.name, LOOKED_AT)
    return (release for release in map(read_release, bodies) if comparable(release, metric))


ROUTES = (
    Route(
        "GET",
        PATH + "/{metric}/drift",
        read_drift,
        "How far the newest release of a histogram is from a reference or an earlier one, noise counted.",
        "aggregates",
        scope="analyst",
        query=(
            Query(
                "against",
                "`reference` (without it), `previous`, or the id of a round",
                type=Against,
            ),
        ),
        replies={200: "both divergences with 95 % intervals, and a verdict"},
        returns={200: DriftReport},
        problems=("unknown_metric", "not_found", "no_catalog"),
    ),
)
