"""One attempt to deliver: a request goes out, and its answer is judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
from yarl import URL

from sync_server.events.addresses import Reach, Unreachable, check_url
from sync_server.events.sets import MEDIA, Speaker
from sync_server.events.signed_request import signed_headers
from sync_server.store.destinations import DestinationRow
from sync_server.store.events import EventRow

ERROR_BODY_BYTES: Final = 4_096
"""How much is read of a receiver's words about an error."""
PUSH_ERRORS: Final = frozenset(
    {"invalid_request", "invalid_key", "invalid_issuer", "invalid_audience", "authentication_failed"}
    | {"access_denied", "invalid_state"}
)
"""RFC 8935 section 2.4, and SSF's own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    delivered: bool
    error: str = ""
    """In our words: a receiver's own text is not kept, it may quote whom the event is about."""
    retry_after_us: int | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs a webhook's request."""

    life_us: int
    nonce: str


async def attempt(
    client: aiohttp.ClientSession,
    reach: Reach,
    speaker: Speaker,
    destination: DestinationRow,
    event: EventRow,
    signing: Signing,
    now_us: int,
) -> Outcome:
    """Send `event` to `destination` once; never raises for what the other side or the network does."""
    try:
        check_url(destination.url, reach)  # anew: what is within reach may have been narrowed
    except Unreachable as error:
        return Outcome(False, str(error))
    if destination.method == "push":
        body = speaker.set_of(event, destination).encode()
        headers = {"Content-Type": MEDIA, "Accept": "application/json"}
        if destination.header:
            headers["Authorization"] = destination.header.decode()
    else:
        body = speaker.document_of(event, destination)
        headers = signed_headers(
            *(speaker.authority.signing, speaker.key_id, destination.url, body),
            now_us=now_us,
            life_us=signing.life_us,
            nonce=signing.nonce,
        )
    try:
        url = URL(destination.url, encoded=True)  # as it was signed
        async with client.post(url, data=body, headers=headers, allow_redirects=False) as reply:
            return await _judged(reply, destination.method == "push", now_us)
    except TimeoutError:
        return Outcome(False, "no answer in time")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Outcome(False, f"no proper answer ({type(error).__name__})")


async def _judged(reply: aiohttp.ClientResponse, push: bool, now_us: int) -> Outcome:
    """A SET is received with 202 and nothing else (RFC 8935 section 2.2); a webhook with any 2xx."""
    received = reply.status == HTTPStatus.ACCEPTED if push else reply.status // 100 == 2
    if received:
        return Outcome(True)
    said = f"status {reply.status}"
    if reply.status // 100 == 3:
        said += ", and no redirect is followed"
    if push and reply.status == HTTPStatus.BAD_REQUEST:
        said += _push_error(await reply.content.read(ERROR_BODY_BYTES))
    return Outcome(False, said, retry_after_us(reply.headers.get("Retry-After"), now_us))


def _push_error(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    code = found.get("err") if isinstance(found, dict) else None
    return f", {code}" if code in PUSH_ERRORS else ""


def retry_after_us(text: str | None, now_us: int) -> int | None:
    """How long a `Retry-After` asks to wait: seconds, or until a date; None when it says neither.

    >>> retry_after_us("120", 0)
    120000000
    """
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text) * 1_000_000
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0, round(at.timestamp() * 1_000_000) - now_us)
