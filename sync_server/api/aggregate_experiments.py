"""`/v1/aggregates/{metric}/uplift`: what an experiment's release says."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from aiohttp import web

from edge_runtime.catalog import Catalog
from sync_server.aggregates.documents import RoundId
from sync_server.aggregates.experiments.report import ExperimentReport, report_of
from sync_server.aggregates.release import Release, read_release
from sync_server.aggregates.rounds import parameters_of
from sync_server.api.aggregates import PATH
from sync_server.api.asked import asked
from sync_server.api.replies import json_reply
from sync_server.api.rooms import COLLECTOR, REGISTRY, STORE
from sync_server.api.route import Query, Route
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx

MOST_LOOKS: Final = 1_000


async def read_uplift(request: web.Request) -> web.Response:
    """The uplift of each arm in the newest release of an experiment, or in that of a round."""
    await request.app[COLLECTOR].settle()
    name, wanted = request.match_info["metric"], asked(request, "round", None)
    with request.app[STORE].read() as tx:
        release = _release(tx, name, wanted)
        row = None if release is None else tx.aggregates.round(bytes.fromhex(release.round))
    if release is None or row is None:
        raise Problem("not_found", _none_yet(request.app[REGISTRY].active_or_none, name, wanted))
    parameters = parameters_of(row)
    if not parameters.arms:
        raise Problem("not_found", "expected an experiment: this metric is none")
    alpha, looks = float(asked(request, "alpha", "0.05")), asked(request, "looks", 1)
    return json_reply(report_of(release, parameters, alpha=alpha, looks=looks))


def _none_yet(catalog: Catalog | None, name: str, wanted: str | None) -> str:
    """Why there is no release to tell of; experiments that a catalog left out long ago count as unknown."""
    if wanted is not None:
        return "no such round of the experiment was released"
    declared = {} if catalog is None else catalog.model.metrics
    if name not in declared or declared[name].experiment is None:
        return "the active catalog declares no such experiment, and none was released"
    return "nothing of the experiment was released yet: open a round of it, or wait for the one that is open"


def _release(tx: ReadTx, metric: str, round_id: str | None) -> Release | None:
    if round_id is None:
        found, _ = tx.aggregates.releases(metric, 1)
        body = found[0] if found else None
    else:
        body = tx.aggregates.release(bytes.fromhex(round_id))
    release = None if body is None else read_release(body)
    return release if release is not None and release.metric == metric else None


ROUTES = (
    Route(
        "GET",
        PATH + "/{metric}/uplift",
        read_uplift,
        "What a release of an experiment says: each arm's rate, its uplift over the control, a verdict.",
        "aggregates",
        scope="analyst",
        query=(
            Query("round", "that of this round; the newest release without it", type=RoundId),
            Query(
                "looks",
                "how often the experiment is looked at in all; intervals widen so that all of them hold",
                type=Annotated[int, msgspec.Meta(ge=1, le=MOST_LOOKS)],
            ),
            Query(
                "alpha",
                "the chance that any interval of any look is wrong; 0.05 without it",
                type=Literal["0.1", "0.05", "0.01", "0.001"],
            ),
        ),
        replies={200: "the uplift; `result` is null for a release that is withheld"},
        returns={200: ExperimentReport},
        problems=("not_found",),
    ),
)
