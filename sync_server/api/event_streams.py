"""`/v1/event-streams`: Shared Signals streams, in the shapes of the OpenID Shared Signals Framework 1.0."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from aiohttp import web

from sync_server.api.body import into
from sync_server.api.destinations import (
    check_kinds,
    check_purposes,
    check_room,
    fresh_id,
    host_within_reach,
    remove,
)
from sync_server.api.replies import body_of, json_reply
from sync_server.api.rooms import CLOCK, ENTROPY, EVENTS, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.api.stream_documents import (
    POLL,
    PUSH,
    DeliveryShown,
    NewStream,
    StreamChange,
    StreamConfiguration,
    StreamDelivery,
    StreamStatus,
    StreamStatusChange,
    Verify,
)
from sync_server.devices.enrolment import encode
from sync_server.errors import Problem
from sync_server.events import kinds
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import EventRow
from sync_server.store.protocol import ReadTx, WriteTx

PATH = "/v1/event-streams"


async def create(request: web.Request) -> web.Response:
    """Make a stream; it hears of everything from now on, and of nothing before."""
    _, parsed = await body_of(request)
    wanted = into(parsed, NewStream)
    method, url, header = _delivery(wanted.delivery)
    stream_id = fresh_id(request.app[ENTROPY], "es")
    row = DestinationRow(
        *(stream_id, method, url, host_within_reach(request, url) if url else "", header),
        _kinds(wanted.events_requested),
        check_purposes(wanted.purposes),
        *(wanted.description, None, "enabled", "", request.app[CLOCK].now_us()),
    )
    with request.app[STORE].write("event_stream") as tx:
        check_room(tx, request.app[SETTINGS])
        tx.destinations.put(row)
    return json_reply(_configuration(request, row), 201)


async def read(request: web.Request) -> web.Response:
    """One stream, or all of them."""
    with request.app[STORE].read() as tx:
        if "stream_id" in request.query:
            row = found_stream(tx, request.query["stream_id"])
            return json_reply(_configuration(request, row))
        rows = tx.destinations.registered(("poll", "push"))
    return json_reply([_configuration(request, row) for row in rows])


async def change(request: web.Request) -> web.Response:
    """Change a stream; what it owes stays owed."""
    _, parsed = await body_of(request)
    wanted = into(parsed, StreamChange)
    with request.app[STORE].write("event_stream") as tx:
        row = found_stream(tx, wanted.stream_id)
        if wanted.delivery is not None:
            method, url, header = _delivery(wanted.delivery)
            host = host_within_reach(request, url) if url else ""
            next_us = None if method == "poll" else request.app[CLOCK].now_us()
            row = replace(row, method=method, url=url, header=header, host=host, next_us=next_us)
        if wanted.events_requested is not None:
            row = replace(row, kinds=_kinds(wanted.events_requested))
        if wanted.description is not None:
            row = replace(row, description=wanted.description)
        tx.destinations.put(row)
    request.app[EVENTS].bell.ring()
    return json_reply(_configuration(request, row))


async def delete(request: web.Request) -> web.Response:
    """Delete a stream, and with it what it has not acknowledged: the only way in which events are dropped."""
    stream_id = request.query.get("stream_id", "")
    with request.app[STORE].write("event_stream") as tx:
        row = found_stream(tx, stream_id)
        remove(tx, row)
    return web.Response(status=204)


async def status(request: web.Request) -> web.Response:
    """Whether it flows, what waits, and what is wrong."""
    with request.app[STORE].read() as tx:
        return json_reply(_status(tx, found_stream(tx, request.query.get("stream_id", ""))))


async def set_status(request: web.Request) -> web.Response:
    """Pause a stream, or let it flow again."""
    _, parsed = await body_of(request)
    wanted = into(parsed, StreamStatusChange)
    with request.app[STORE].write("event_stream") as tx:
        row = found_stream(tx, wanted.stream_id)
        next_us = row.next_us if row.method == "poll" else request.app[CLOCK].now_us()
        tx.destinations.put(replace(row, status=wanted.status, reason=wanted.reason, next_us=next_us))
        document = _status(tx, found_stream(tx, row.id))
    request.app[EVENTS].bell.ring()
    return json_reply(document)


async def verify(request: web.Request) -> web.Response:
    """Send a verification event down the stream, behind whatever waits there."""
    _, parsed = await body_of(request)
    wanted = into(parsed, Verify)
    now_us = request.app[CLOCK].now_us()
    body = {} if wanted.state is None else {"state": wanted.state}
    jti = "ver-" + encode(request.app[ENTROPY](16))
    with request.app[STORE].write("event_verification") as tx:
        row = found_stream(tx, wanted.stream_id)
        if tx.events.verifications(row.id) >= request.app[SETTINGS].verifications_waiting:
            raise Problem("rate_limited", "verifications of this stream wait already")
        tx.events.add(EventRow(0, jti, kinds.VERIFICATION, None, None, now_us, now_us, body), [row.id])
    request.app[EVENTS].bell.ring()
    return web.Response(status=204)


def found_stream(tx: ReadTx | WriteTx, stream_id: str) -> DestinationRow:
    """The stream with this id; raises `Problem("not_found")`."""
    row = tx.destinations.find(stream_id)
    if row is None or row.method not in ("poll", "push"):
        raise Problem("not_found")
    return row


def _delivery(wanted: StreamDelivery) -> tuple[Literal["poll", "push"], str, bytes]:
    if wanted.method == POLL:
        if wanted.endpoint_url is not None or wanted.authorization_header is not None:
            raise Problem("invalid_request", "a polled stream's endpoint is the server's: leave it out")
        return "poll", "", b""
    if wanted.endpoint_url is None:
        raise Problem("invalid_request", "expected delivery.endpoint_url, to which SETs are pushed")
    return "push", wanted.endpoint_url, (wanted.authorization_header or "").encode()


def _kinds(uris: list[str] | None) -> tuple[str, ...]:
    """The kinds asked for; others are not delivered, as SSF has it."""
    if uris is None:
        return tuple(kinds.KINDS)
    return check_kinds([kind for kind in map(kinds.kind_of, uris) if kind is not None])


def _configuration(request: web.Request, row: DestinationRow) -> StreamConfiguration:
    speaker = request.app[EVENTS].speaker
    push = row.method == "push"
    url = row.url if push else f"{speaker.issuer}{PATH}/{row.id}/poll"
    delivered = [kinds.uri_of(kind) for kind in row.kinds]
    return StreamConfiguration(
        stream_id=row.id,
        iss=speaker.issuer,
        aud=speaker.audience(row.id),
        delivery=DeliveryShown(PUSH if push else POLL, url),
        events_supported=[kinds.uri_of(kind) for kind in kinds.KINDS],
        events_requested=delivered,
        events_delivered=delivered,
        purposes=None if row.purposes is None else list(row.purposes),
        description=row.description,
    )


def _status(tx: ReadTx | WriteTx, row: DestinationRow) -> StreamStatus:
    owed = tx.events.backlog(row.id)
    return StreamStatus(
        *(row.id, row.status, row.reason, owed["waiting"], owed["dead"], row.failing_us, row.error)
    )


_STREAM = Query("stream_id", "which stream", required=True)
ROUTES = (
    Route(
        "POST",
        PATH,
        create,
        "Make a stream of Security Event Tokens, polled (RFC 8936) or pushed (RFC 8935).",
        "events",
        scope="operator",
        body=NewStream,
        example={"delivery": {"method": PUSH, "endpoint_url": "https://crm.example/events"}},
        parts=(StreamDelivery, DeliveryShown),
        replies={201: "the stream's configuration"},
        returns={201: StreamConfiguration},
        problems=("unreachable_url", "too_many_destinations"),
    ),
    Route(
        "GET",
        PATH,
        read,
        "One stream's configuration, or without `stream_id` a list of all.",
        "events",
        scope="operator",
        query=(Query("stream_id", "which stream"),),
        replies={200: "a configuration, or a list of them"},
        returns={200: StreamConfiguration | list[StreamConfiguration]},
        problems=("not_found",),
    ),
    Route(
        "PATCH",
        PATH,
        change,
        "Change a stream. What it has not acknowledged stays owed.",
        "events",
        scope="operator",
        body=StreamChange,
        example={"stream_id": "es-abc", "description": "the warehouse"},
        replies={200: "the configuration as it is now"},
        returns={200: StreamConfiguration},
        problems=("not_found", "unreachable_url"),
    ),
    Route(
        "DELETE",
        PATH,
        delete,
        "Delete a stream and what it has not acknowledged.",
        "events",
        scope="operator",
        query=(_STREAM,),
        replies={204: "gone"},
        problems=("not_found", "destination_in_use"),
    ),
    Route(
        "GET",
        PATH + "/status",
        status,
        "Whether a stream flows, how much waits in it, and since when nothing gets through.",
        "events",
        scope="operator",
        query=(_STREAM,),
        replies={200: "its status"},
        returns={200: StreamStatus},
        problems=("not_found",),
    ),
    Route(
        "POST",
        PATH + "/status",
        set_status,
        "Pause a stream, which keeps its events, or let it flow again.",
        "events",
        scope="operator",
        body=StreamStatusChange,
        example={"stream_id": "es-abc", "status": "paused", "reason": "maintenance"},
        replies={200: "its status"},
        returns={200: StreamStatus},
        problems=("not_found",),
    ),
    Route(
        "POST",
        PATH + "/verify",
        verify,
        "Ask for a verification event.",
        "events",
        scope="operator",
        body=Verify,
        example={"stream_id": "es-abc", "state": "canary-1"},
        replies={204: "it is on its way"},
        problems=("not_found",),
    ),
)
