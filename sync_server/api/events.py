"""`GET /v1/events`: what has not been acknowledged, and what an operator should know about it."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sync_server.api.replies import json_reply
from sync_server.api.rooms import CLOCK, SETTINGS, STORE
from sync_server.api.route import Route
from sync_server.events.keeping import warnings


class EventsStanding(msgspec.Struct):
    """Events that somebody has not acknowledged."""

    events: int
    waiting: int
    """Deliveries to come."""
    dead: int
    """Deliveries that were given up or refused."""
    warnings: list[str]
    """Destinations to which nothing gets through, a backlog over its bound, answers that are overdue."""


async def standing(request: web.Request) -> web.Response:
    """How it stands with events."""
    with request.app[STORE].read() as tx:
        counts = tx.events.count()
        said = warnings(tx, request.app[SETTINGS], request.app[CLOCK].now_us())
    return json_reply(EventsStanding(counts["events"], counts["waiting"], counts["dead"], said))


ROUTES = (
    Route(
        "GET",
        "/v1/events",
        standing,
        "How many events wait for an acknowledgement, and what is wrong.",
        "events",
        scope="operator",
        replies={200: "counts and warnings"},
        returns={200: EventsStanding},
    ),
)
