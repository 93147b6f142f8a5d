"""Replies: JSON, and what is kept under an idempotency key."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.catalog import Catalog, MalformedRequest
from sync_server.access.audit import present_caller
from sync_server.api.body import parse_body, read_body
from sync_server.api.rooms import AUTHORITY, BUSY, REGISTRY, SETTINGS
from sync_server.api.route import Query
from sync_server.consent.documents import Subject, SubjectIdentifier
from sync_server.devices.authority import Authority
from sync_server.errors import Problem
from sync_server.features.incoming import check_id
from sync_server.features.values import RowFault
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx
from sync_server.store.records import KeptReply

KEY_LIMIT = 255
IDEMPOTENCY_KEY = Query(
    "Idempotency-Key",
    "A repeat with the same key and body within a day gets the same reply.",
    type=Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_LIMIT)],
)
LARGE_BODY_BYTES = 64 * 1024


def json_reply(
    document: object, status: int = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON reply."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def kept(reply: web.Response, fingerprint: bytes) -> KeptReply:
    """A reply in the form in which it is kept."""
    headers = tuple((k, v) for k, v in reply.headers.items() if k == "Location")
    body = reply.body
    assert isinstance(body, bytes)
    return KeptReply(fingerprint, reply.status, headers, body)


def again(reply: KeptReply) -> web.Response:
    """The kept reply, marked as a repeat."""
    headers = {**dict(reply.headers), "Idempotency-Replayed": "true"}
    return web.Response(
        body=reply.body, status=reply.status, headers=headers, content_type="application/json"
    )


async def body_of(request: web.Request) -> tuple[bytes, object]:
    """The raw and the parsed body; raises `Problem`."""
    raw = await read_body(request, request.app[SETTINGS].body_limit_bytes)
    return raw, await parsed_body(request, raw)


async def parsed_body(request: web.Request, raw: bytes) -> object:
    """What a body means; raises `Problem`."""
    depth = request.app[SETTINGS].json_depth
    kind = request.content_type if "Content-Type" in request.headers else "application/json"
    if len(raw) < LARGE_BODY_BYTES:
        return parse_body(raw, kind, depth=depth)
    # a large body is parsed beside the loop, so that denials and sessions do not wait for it
    return await asyncio.to_thread(parse_body, raw, kind, depth=depth)


def idempotency_key(request: web.Request) -> str | None:
    """A keyed hash of the caller and the request's `Idempotency-Key`: people write names into theirs.

    One caller's key is another key in another's hand. Raises `Problem` for an empty or overlong one, and for
    several.
    """
    keys = request.headers.getall("Idempotency-Key", ())
    if not keys:
        return None
    if len(keys) > 1 or not 0 < len(keys[0]) <= KEY_LIMIT:
        raise Problem("invalid_request", f"expected one Idempotency-Key of 1 to {KEY_LIMIT} characters")
    named = f"{present_caller().actor}\0{keys[0]}".encode("utf-8", "surrogateescape")
    return fingerprint_of(request.app[AUTHORITY], named).hex()


def required_key(request: web.Request) -> str:
    """As `idempotency_key`; raises `Problem("idempotency_key_missing")` without one."""
    key = idempotency_key(request)
    if key is None:
        raise Problem(
            "idempotency_key_missing", "expected an Idempotency-Key header that no other request had"
        )
    return key


@contextlib.contextmanager
def in_flight(request: web.Request, door: str, key: str | None) -> Iterator[None]:
    """Handle a request while no other with its key is handled; raises `Problem("request_in_flight")`."""
    busy, mark = request.app[BUSY], (door, key or "")
    if key is None:
        yield
        return
    if mark in busy:
        raise Problem("request_in_flight", "ask again with the same key and body")
    busy.add(mark)
    try:
        yield
    finally:
        busy.discard(mark)


def fingerprint_of(authority: Authority, raw: bytes) -> bytes:
    """A keyed hash of a body or key: it tells repeats apart and nothing about whom they name."""
    digest = hashlib.blake2b(raw, digest_size=32, key=authority.digest_key, person=b"edge-idempotent")
    return digest.digest()


def repeat(tx: ReadTx, door: str, key: str | None, fingerprint: bytes) -> KeptReply | None:
    """The reply kept under `key`; raises `Problem("idempotency_reuse")` when the body was another."""
    found = None if key is None else tx.kept_reply(door, key)
    if found is not None and found.fingerprint != fingerprint:
        raise Problem("idempotency_reuse")
    return found


def subject_of(request: web.Request, named: Subject | None) -> bytes:
    """The pseudonym of the subject that a caller names, in any form of `Subject`; raises `Problem`.

    This is the door at which a subject's id ends: nothing behind it sees, keeps or logs it.
    """
    match named:
        case str():
            text = named
        case SubjectIdentifier(format="opaque"):
            text = named.id
        case SubjectIdentifier():
            raise Problem("invalid_id", "expected a subject of format opaque: the id it is known by here")
        case None:
            raise Problem("malformed_query", "expected subject, the id of one")
    typed = _typed_subject(request.app[REGISTRY].active_or_none, text, request.app[SETTINGS])
    return request.app[AUTHORITY].pseudonym(typed)


def _typed_subject(catalog: Catalog | None, text: str, settings: Settings) -> str:
    limit = settings.id_limit_bytes
    if catalog is None:
        raise Problem("no_catalog", "whose types say what a subject is")
    try:
        typed = check_id(catalog.subject(check_id(text, limit)), limit)
    except (MalformedRequest, RowFault):
        typed = ""
    if not typed or "\0" in typed:
        raise Problem("invalid_id", f"expected an id of a personal entity, at most {limit} bytes without NUL")
    return typed
