"""`POST /v1/event-streams/{id}/poll`: poll-based delivery of Security Event Tokens (RFC 8936)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
from sync_server.api.body import into
from sync_server.api.caller import check_delivery
from sync_server.api.event_streams import PATH, found_stream
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import CLOCK, EVENTS, SETTINGS, STORE
from sync_server.api.route import Route, Told
from sync_server.events.attempt import PUSH_ERRORS

Jti = Annotated[str, msgspec.Meta(max_length=128)]


@prints_only("err")
class SetError(msgspec.Struct):
    """Why a receiver could not take a SET: a code of RFC 8935. The description is not kept."""

    err: Annotated[str, msgspec.Meta(max_length=128)]
    description: Annotated[str, msgspec.Meta(max_length=4096)] = ""


class Poll(msgspec.Struct):
    """What a receiver took, what it could not take, and how many more it wants (RFC 8936 section 2.2)."""

    maxEvents: Annotated[int, msgspec.Meta(ge=0)] | None = None
    returnImmediately: bool = False
    ack: Annotated[list[Jti], msgspec.Meta(max_length=10_000)] = []
    setErrs: Annotated[dict[Jti, SetError], msgspec.Meta(max_length=10_000)] = {}


class Polled(msgspec.Struct):
    """SETs by `jti`. Each comes again until it is acknowledged."""

    sets: dict[str, str]
    moreAvailable: bool


async def poll(request: web.Request) -> web.Response:
    """Take acknowledgements, then hand out what is owed; wait a while for something when nothing is."""
    _, parsed = await body_of(request)
    asked = into(parsed, Poll)
    stream_id = request.match_info["id"]
    _take(request, stream_id, asked)
    settings = request.app[SETTINGS]
    most = settings.event_page if asked.maxEvents is None else min(asked.maxEvents, settings.event_page)
    found = _owed(request, stream_id, most)
    if not found.sets and most and not asked.returnImmediately:
        found = await _wait(request, stream_id, most)
    return json_reply(found, headers={"Cache-Control": "no-store"})


def _take(request: web.Request, stream_id: str, asked: Poll) -> None:
    """Acknowledge in one transaction; a `jti` that is not owed was acknowledged before, or is nobody's."""
    now_us = request.app[CLOCK].now_us()
    with request.app[STORE].write("events_acknowledged") as tx:
        check_delivery(tx, stream_id)
        row = found_stream(tx, stream_id)
        for jti in asked.ack:
            tx.events.acknowledged(row.id, jti, now_us)
        for jti, error in asked.setErrs.items():
            code = error.err if error.err in PUSH_ERRORS else "another error"
            tx.events.failed(row.id, jti, now_us, now_us, f"the receiver says: {code}", "dead")


async def _wait(request: web.Request, stream_id: str, most: int) -> Polled:
    """Until something is owed or the wait is over. Nobody waits at a bell that may be lost: it is looked
    again every `events_look_us`."""
    settings, clock, events = request.app[SETTINGS], request.app[CLOCK], request.app[EVENTS]
    until_us = clock.now_us() + settings.event_poll_wait_us
    found = Polled({}, False)
    if not events.bell.take_place(settings.event_polls):
        return found
    try:
        while not found.sets and not events.bell.closed and clock.now_us() < until_us:
            await events.bell.heard(min(settings.events_look_us, max(1, until_us - clock.now_us())))
            found = _owed(request, stream_id, most)
    finally:
        events.bell.leave_place()
    return found


def _owed(request: web.Request, stream_id: str, most: int) -> Polled:
    """What the stream is owed, oldest first; of a paused one nothing."""
    with request.app[STORE].read() as tx:
        row = found_stream(tx, stream_id)
        owed = tx.events.owed(row.id, most + 1) if row.status == "enabled" and row.method == "poll" else []
    speaker = request.app[EVENTS].speaker
    sets = {d.event.jti: speaker.set_of(d.event, row) for d in owed[:most]}
    return Polled(sets, len(owed) > most)


ROUTES = (
    Route(
        "POST",
        PATH + "/{id}/poll",
        poll,
        "Acknowledge and take events (RFC 8936). Waits for something unless `returnImmediately`.",
        "events",
        scope="consent",
        receivers=True,
        body=Poll,
        example={"maxEvents": 10, "returnImmediately": True, "ack": ["rev-abc.accepted"]},
        parts=(SetError,),
        replies={200: "`sets` by `jti`, and whether more wait"},
        returns={200: Polled},
        tells={200: (Told("Cache-Control", "`no-store`."),)},
        problems=("not_found",),
    ),
)
