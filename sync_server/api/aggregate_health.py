"""`/v1/aggregates/health`: how whole and how fresh each view is across the fleet."""

from __future__ import annotations

from aiohttp import web

from edge_runtime.catalog.model import CatalogModel
from sync_server.aggregates.health import Health, Published, health, watched
from sync_server.aggregates.release import read_release
from sync_server.api.aggregates import PATH
from sync_server.api.replies import json_reply
from sync_server.api.rooms import COLLECTOR, REGISTRY, STORE
from sync_server.api.route import Route
from sync_server.store.protocol import ReadTx


async def read_health(request: web.Request) -> web.Response:
    """Completeness and freshness of each view, from the newest releases."""
    model = request.app[REGISTRY].active.model
    await request.app[COLLECTOR].settle()
    with request.app[STORE].read() as tx:
        newest = _newest(tx, model)
    return json_reply(health(model, newest))


def _newest(tx: ReadTx, model: CatalogModel) -> dict[str, Published]:
    found: dict[str, Published] = {}
    for metric in watched(model):
        bodies, _ = tx.aggregates.releases(metric, 1, None)
        for body in bodies:
            release = read_release(body)
            row = tx.aggregates.round(bytes.fromhex(release.round))
            # a round before the store knew of definitions asked in other words
            found[metric] = Published(b"" if row is None else row.definition, release)
    return found


ROUTES = (
    Route(
        "GET",
        PATH + "/health",
        read_health,
        "How whole and how fresh each view is across the fleet, from the newest releases.",
        "aggregates",
        scope="analyst",
        replies={200: "each view, with what its metrics of status and age last said"},
        returns={200: Health},
        problems=("no_catalog",),
    ),
)
