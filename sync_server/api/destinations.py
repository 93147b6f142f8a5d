"""What the doors ask of a destination before it is stored, and before it goes."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from aiohttp import web

from sync_server.api.rooms import SETTINGS
from sync_server.devices.entropy import Entropy
from sync_server.errors import Problem
from sync_server.events import kinds
from sync_server.events.addresses import Reach, Unreachable, check_url, host_of, origin_of
from sync_server.settings import Settings
from sync_server.store.destinations import DestinationRow
from sync_server.store.protocol import WriteTx


def fresh_id(entropy: Entropy, kind: str) -> str:
    """A new id: `es-` for a stream, `wh-` for a webhook."""
    return f"{kind}-{base64.b32encode(entropy(15)).decode().lower()}"


def check_room(tx: WriteTx, settings: Settings) -> None:
    """Raise `Problem` when there are as many destinations as may be."""
    if len(tx.destinations.registered()) >= settings.destinations:
        raise Problem("too_many_destinations", f"expected at most {settings.destinations}")


def remove(tx: WriteTx, row: DestinationRow) -> None:
    """Forget a destination and what it is owed; raises `Problem("destination_in_use")`."""
    if tx.recipients.of_destination(row.id):
        raise Problem("destination_in_use", "remove the recipients that are told by it first")
    tx.events.drop_destination(row.id)
    tx.destinations.drop(row.id)


def host_within_reach(request: web.Request, url: str) -> str:
    """The host of a url to which events may be sent; raises `Problem("unreachable_url")`."""
    try:
        check_url(url, Reach.of(request.app[SETTINGS].deliver_to))
        return host_of(url)
    except Unreachable as error:
        raise Problem("unreachable_url", str(error)) from None


def check_callbacks(tx: WriteTx, urls: Sequence[str], settings: Settings) -> list[str]:
    """The callbacks of one revocation without repeats.

    Raises `Problem("unreachable_url")`, also for an origin that neither `callback_origins` nor a registered
    webhook names: a caller cannot make this server call whomever it likes.
    """
    if not urls:
        return []
    if len(urls) > settings.callback_urls:
        raise Problem("unreachable_url", f"expected at most {settings.callback_urls} callback_urls")
    webhooks = {origin_of(row.url) for row in tx.destinations.registered(("webhook",))}
    allowed = webhooks | set(settings.callback_origins)
    for n, url in enumerate(urls):
        place = f"- at `$.callback_urls[{n}]`"
        try:
            check_url(url, Reach.of(settings.deliver_to))
        except Unreachable as error:
            raise Problem("unreachable_url", f"{error} {place}") from None
        if origin_of(url) not in allowed:
            raise Problem("unreachable_url", f"expected an origin that the operator allows {place}")
    return list(dict.fromkeys(urls))


def check_kinds(named: Sequence[str]) -> tuple[str, ...]:
    """Kinds without repeats, in the order of the table; raises `Problem` for none."""
    wanted = tuple(kind for kind in kinds.KINDS if kind in named)
    if not wanted:
        raise Problem("invalid_request", "expected at least one kind of event that this server sends")
    return wanted


def check_purposes(named: Sequence[str] | None) -> tuple[str, ...] | None:
    """Purposes without repeats; None stays all of them."""
    if named is None:
        return None
    if any(not purpose for purpose in named):
        raise Problem("invalid_request", "expected purposes that are not empty")
    return tuple(sorted(set(named)))
