"""Replies that a caller may keep and ask for again: strong ETags (RFC 9110, 8.8.3) and `If-None-Match`."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.helpers import ETag

from sync_server.api.route import Query, Told
from sync_server.devices.authority import Authority

IF_NONE_MATCH = Query("If-None-Match", "ETags that the caller holds; 304 when one is the present one's")
TAGGED: Final = (
    Told("ETag", "Names this reply: another one has another."),
    Told("Cache-Control", "May be kept by the caller alone, and asked for again each time."),
)
UNCHANGED: Final = "what the caller holds is the present state"
_PRIVATE: Final = "private, no-cache"


def tagged(request: web.Request, authority: Authority, about: bytes, document: object) -> web.Response:
    """The JSON reply with its ETag, or 304 when the caller holds it.

    The tag is a hash of the body and of what it is `about`, under the tenant's key: another body has another
    tag, and who sees the tag alone learns nothing of either.
    """
    body = msgspec.json.encode(document)
    digest = hashlib.blake2b(digest_size=16, key=authority.digest_key, person=b"edge-etag")
    digest.update(len(about).to_bytes(8, "big") + about + body)
    tag = digest.hexdigest()
    headers = {"ETag": f'"{tag}"', "Cache-Control": _PRIVATE}
    if any(held.value in (tag, "*") for held in _held(request)):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers, content_type="application/json")


def _held(request: web.Request) -> tuple[ETag, ...]:
    return request.if_none_match or ()
