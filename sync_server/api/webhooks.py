"""`/v1/webhooks` and `/v1/webhook-deliveries`: signed callbacks, and what could not be delivered."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from aiohttp import web

from edge_runtime.wire.printing import prints_only
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
from sync_server.errors import Problem
from sync_server.events import kinds
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import Delivery
from sync_server.store.protocol import ReadTx, WriteTx

PATH = "/v1/webhooks"
LETTERS = "/v1/webhook-deliveries"
Text = Annotated[str, msgspec.Meta(max_length=512)]


@prints_only("purposes")
class NewWebhook(msgspec.Struct, forbid_unknown_fields=True):
    """Where signed events are posted. `events` and `purposes` left out are all of them."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    events: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=64)] | None = None
    purposes: Annotated[list[Text], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    description: Text = ""


@prints_only("id", "purposes", "waiting", "dead")
class Webhook(msgspec.Struct):
    """A webhook as it stands."""

    id: str
    url: str
    events: list[str]
    purposes: list[str] | None
    description: str
    created_at: int
    waiting: int
    dead: int
    failing_since: int | None
    error: str


class Webhooks(msgspec.Struct):
    """Every webhook, oldest first."""

    webhooks: list[Webhook]


class Letter(msgspec.Struct):
    """An event that a destination has not acknowledged."""

    id: str
    destination: str
    event: str
    type: str
    state: str
    at: int
    attempts: int
    tried_at: int | None
    error: str


class Letters(msgspec.Struct):
    """Undelivered events, oldest first."""

    deliveries: list[Letter]


async def create(request: web.Request) -> web.Response:
    """Register a webhook; it hears of everything from now on."""
    _, parsed = await body_of(request)
    wanted = into(parsed, NewWebhook)
    host = host_within_reach(request, wanted.url)
    row = DestinationRow(
        *(fresh_id(request.app[ENTROPY], "wh"), "webhook", wanted.url, host, b""),
        _kinds(wanted.events),
        check_purposes(wanted.purposes),
        *(wanted.description, None, "enabled", "", request.app[CLOCK].now_us()),
    )
    with request.app[STORE].write("webhook") as tx:
        check_room(tx, request.app[SETTINGS])
        tx.destinations.put(row)
        document = _webhook(tx, row)
    return json_reply(document, 201)


async def listing(request: web.Request) -> web.Response:
    """Every webhook, and how it stands with each."""
    with request.app[STORE].read() as tx:
        rows = [_webhook(tx, row) for row in tx.destinations.registered(("webhook",))]
    return json_reply(Webhooks(rows))


async def delete(request: web.Request) -> web.Response:
    """Delete a webhook and what it has not acknowledged."""
    with request.app[STORE].write("webhook") as tx:
        row = tx.destinations.find(request.match_info["id"])
        if row is None or row.method != "webhook":
            raise Problem("not_found")
        remove(tx, row)
    return web.Response(status=204)


async def letters(request: web.Request) -> web.Response:
    """The dead letters, of webhooks, callbacks and streams alike."""
    if request.query.get("state", "dead") != "dead":
        raise Problem("malformed_query", "expected state=dead")
    with request.app[STORE].read() as tx:
        rows = tx.events.dead(request.app[SETTINGS].page_rows)
    return json_reply(Letters([_letter(row) for row in rows]))


async def retry(request: web.Request) -> web.Response:
    """Let a dead letter wait for its delivery again."""
    destination, jti = _letter_name(request)
    with request.app[STORE].write("webhook_retry") as tx:
        if not tx.events.revive(destination, jti, request.app[CLOCK].now_us()):
            raise Problem("not_found")
        found = tx.events.delivery(destination, jti)
        assert found is not None
    request.app[EVENTS].bell.ring()
    return json_reply(_letter(found), 202)


async def give_up(request: web.Request) -> web.Response:
    """Forget a dead letter."""
    with request.app[STORE].write("webhook_give_up") as tx:
        if not tx.events.give_up(*_letter_name(request)):
            raise Problem("not_found")
    return web.Response(status=204)


def _letter_name(request: web.Request) -> tuple[str, str]:
    destination, _, jti = request.match_info["id"].partition("~")
    return destination, jti


def _kinds(named: list[str] | None) -> tuple[str, ...]:
    if named is None:
        return tuple(kinds.KINDS)
    unknown = [n for n, kind in enumerate(named) if kind not in kinds.KINDS]
    if unknown:
        raise Problem("invalid_request", f"expected a kind of event - at `$.events[{unknown[0]}]`")
    return check_kinds(named)


def _webhook(tx: ReadTx | WriteTx, row: DestinationRow) -> Webhook:
    owed = tx.events.backlog(row.id)
    purposes = None if row.purposes is None else list(row.purposes)
    return Webhook(
        *(row.id, row.url, list(row.kinds), purposes, row.description, row.created_us),
        *(owed["waiting"], owed["dead"], row.failing_us, row.error),
    )


def _letter(row: Delivery) -> Letter:
    event = row.event
    state: Literal["waiting", "dead"] = row.state
    return Letter(
        *(f"{row.destination}~{event.jti}", row.destination, event.jti, kinds.uri_of(event.kind), state),
        *(event.at_us, row.attempts, row.tried_us, row.error),
    )


ROUTES = (
    Route(
        "POST",
        PATH,
        create,
        "Register a webhook: events are posted there, signed after RFC 9421.",
        "events",
        scope="operator",
        body=NewWebhook,
        example={"url": "https://crm.example/hooks", "events": ["revocation-accepted"]},
        replies={201: "the webhook"},
        returns={201: Webhook},
        problems=("unreachable_url", "too_many_destinations"),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Every webhook, what waits for it and since when nothing gets through.",
        "events",
        scope="operator",
        replies={200: "`webhooks`"},
        returns={200: Webhooks},
    ),
    Route(
        "DELETE",
        PATH + "/{id}",
        delete,
        "Delete a webhook and what it has not acknowledged.",
        "events",
        scope="operator",
        replies={204: "gone"},
        problems=("not_found", "destination_in_use"),
    ),
    Route(
        "GET",
        LETTERS,
        letters,
        "Deliveries that were given up, and SETs that their receiver refused.",
        "events",
        scope="operator",
        query=(Query("state", "`dead`, and nothing else yet"),),
        replies={200: "`deliveries`, oldest event first"},
        returns={200: Letters},
        problems=("malformed_query",),
    ),
    Route(
        "POST",
        LETTERS + "/{id}/retry",
        retry,
        "Let a dead delivery wait again, as if it had never been tried.",
        "events",
        scope="operator",
        replies={202: "the delivery"},
        returns={202: Letter},
        problems=("not_found",),
    ),
    Route(
        "DELETE",
        LETTERS + "/{id}",
        give_up,
        "Forget a dead delivery.",
        "events",
        scope="operator",
        replies={204: "gone"},
        problems=("not_found",),
    ),
)
