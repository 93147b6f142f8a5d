"""`/v1/devices` and `/v1/device-tokens`: enrol devices, list them, shut them out, give them tickets."""

from __future__ import annotations

from typing import Annotated

import msgspec
from aiohttp import web

from edge_runtime.wire import ticket as ticket_words
from edge_runtime.wire.printing import prints_only
from sync_server.access.audit import about
from sync_server.api.asked import asked
from sync_server.api.body import into
from sync_server.api.device_replies import (
    Device,
    DeviceCounts,
    DeviceList,
    DeviceReport,
    Enrolled,
    MadeTicket,
    MadeToken,
    TenantKeys,
    device_told,
    session_told,
)
from sync_server.api.replies import body_of, json_reply, subject_of
from sync_server.api.rooms import AUTHORITY, CLOCK, ENTROPY, NODE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Query, Route
from sync_server.devices import enrolment
from sync_server.devices.enrolment import encode
from sync_server.devices.findings import Facts, findings
from sync_server.errors import Problem

PATH = "/v1/devices"
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Pattern = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=r"^[^~]")]
"""A channel pattern; personal channels are never fixed at enrolment."""


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What the device may follow, and how many seconds the token lives (left out: the default)."""

    channels: Annotated[list[Pattern], msgspec.Meta(max_length=100)] | None = None
    ttl_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] | None = None


@prints_only("public_key")
class Enrol(msgspec.Struct, forbid_unknown_fields=True):
    """Token, Ed25519 public key and `sign(key, "edge-enrol-1", (token, public_key))`; bytes as base64url."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    public_key: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    proof: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Allow(msgspec.Struct, forbid_unknown_fields=True):
    """Patterns of the shared channels that the device may follow from now on; none: an empty list."""

    channels: Annotated[list[Pattern], msgspec.Meta(max_length=100)]


@prints_only("ttl_s")
class TicketRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Whose personal channels the device may follow, for which purposes, for how many seconds."""

    subject: str
    purposes: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=512)]],
        msgspec.Meta(min_length=1, max_length=100),
    ]
    ttl_s: Annotated[int, msgspec.Meta(ge=1)] = 900


async def new_token(request: web.Request) -> web.Response:
    """Make a one-time enrolment token; it is told here once and kept only as a hash."""
    raw, parsed = await body_of(request) if request.can_read_body else (b"", {})
    wanted, settings = into(parsed if raw else {}, TokenRequest), request.app[SETTINGS]
    life_us = settings.token_life_us if wanted.ttl_s is None else wanted.ttl_s * 1_000_000
    patterns = settings.shared_channels if wanted.channels is None else wanted.channels
    with request.app[STORE].write("device_token") as tx:
        made = enrolment.new_token(
            tx,
            request.app[ENTROPY],
            now_us=request.app[CLOCK].now_us(),
            life_us=life_us,
            patterns=patterns,
        )
    return json_reply(MadeToken(made.token, made.expires_us), 201)


async def enrol(request: web.Request) -> web.Response:
    """Use up a token and enrol the key that signed it."""
    _, parsed = await body_of(request)
    wanted = into(parsed, Enrol)
    try:
        key, proof = enrolment.decode(wanted.public_key), enrolment.decode(wanted.proof)
    except ValueError:
        raise Problem("invalid_request", "expected base64url in public_key and proof") from None
    with request.app[STORE].write("enrol") as tx:
        made = enrolment.enrol(
            tx,
            request.app[AUTHORITY],
            token=wanted.token,
            public_key=key,
            proof=proof,
            now_us=request.app[CLOCK].now_us(),
        )
        about(made.device_id)
    keys = TenantKeys(encode(made.pseudonym_key), encode(made.digest_key))
    pin = request.app[SETTINGS].registry_key
    told = Enrolled(
        made.device_id,
        keys,
        encode(made.server_key),
        list(made.channels),
        None if pin is None else encode(pin),
        request.app[AUTHORITY].root,
    )
    return json_reply(told, 201)


async def listing(request: web.Request) -> web.Response:
    """A page of devices, by id."""
    limit, after = request.app[SETTINGS].page_rows, asked(request, "after", "")
    with request.app[STORE].read() as tx:
        rows = tx.devices(limit, after)
        counts = tx.count_devices(request.app[CLOCK].now_us())
    more = rows[-1].device_id if len(rows) == limit else None
    return json_reply(DeviceList(DeviceCounts(**counts), [device_told(d) for d in rows], more))


async def one(request: web.Request) -> web.Response:
    """One device, how far its session is as far as this node knows, and what is wrong with it."""
    node, device_id = request.app[NODE], request.match_info["id"]
    standing = node.presence.of(device_id)
    shared = () if standing is None else [c for c in standing.cursors if not c.startswith("~")]
    with request.app[STORE].read() as tx:
        row, lane_head = tx.device(device_id), tx.lane_head()
        heads = {channel: tx.channel_head(channel) for channel in shared}
    if row is None:
        raise Problem("unknown_device")
    facts = Facts(row, standing, heads, lane_head, node.clock.now_us(), node.settings)
    report = DeviceReport(
        **msgspec.structs.asdict(device_told(row)),
        lane_head=lane_head,
        session=None if standing is None else session_told(standing, heads),
        findings=findings(facts),
    )
    return json_reply(report)


async def revoke(request: web.Request) -> web.Response:
    """Shut a device out; its running lease stays counted among the targets of revocations."""
    device_id, why = request.match_info["id"], asked(request, "reason", None)
    with request.app[STORE].write("revoke_device") as tx:
        if tx.device(device_id) is None:
            raise Problem("unknown_device")
        tx.revoke_device(device_id, request.app[CLOCK].now_us(), why)
        row = tx.device(device_id)
    assert row is not None
    return json_reply(device_told(row))


async def allow(request: web.Request) -> web.Response:
    """Say anew which shared channels a device may follow; what it holds and may no longer, it drops."""
    _, parsed = await body_of(request)
    wanted, device_id = into(parsed, Allow), request.match_info["id"]
    with request.app[STORE].write("allow_channels") as tx:
        if tx.device(device_id) is None:
            raise Problem("unknown_device")
        tx.allow_channels(device_id, wanted.channels)
        row = tx.device(device_id)
    assert row is not None
    return json_reply(device_told(row))


async def ticket(request: web.Request) -> web.Response:
    """A signed ticket with which one device may follow one subject's channels."""
    _, parsed = await body_of(request)
    wanted, app = into(parsed, TicketRequest), request.app
    subject, device_id = subject_of(request, wanted.subject), request.match_info["id"]
    if not set(wanted.purposes) <= set(app[REGISTRY].active.purposes):
        raise Problem("unknown_purpose")
    with app[STORE].read() as tx:
        device = tx.device(device_id)
    if device is None:
        raise Problem("unknown_device")
    if device.revoked:
        raise Problem("device_revoked")
    life_us = min(wanted.ttl_s * 1_000_000, app[SETTINGS].ticket_life_us)
    expires_us = app[CLOCK].now_us() + life_us
    made = ticket_words.issue(app[AUTHORITY].signing, device_id, subject, wanted.purposes, expires_us)
    return json_reply(MadeTicket(encode(made), expires_us), 201)


_PLACES = {"id": Annotated[str, msgspec.Meta(pattern="^dev-[a-z2-7]{16}$")]}


ROUTES = (
    Route(
        "POST",
        "/v1/device-tokens",
        new_token,
        "Make a one-time enrolment token.",
        "devices",
        scope="device-admin",
        body=TokenRequest,
        example={"channels": ["all", "segment:*"], "ttl_s": 900},
        body_needed=False,
        replies={201: "the token, told this once, and when it expires"},
        returns={201: MadeToken},
    ),
    Route(
        "POST",
        PATH,
        enrol,
        "Enrol a device with a one-time token and the proof that it holds its key.",
        "devices",
        open=True,
        audit=True,
        body=Enrol,
        replies={201: "device id, tenant keys, the server's key to pin, channels"},
        returns={201: Enrolled},
        problems=("token_unknown", "token_used", "token_expired", "bad_signature", "key_enrolled"),
    ),
    Route(
        "GET",
        PATH,
        listing,
        "Enrolled devices.",
        "devices",
        scope="device-admin",
        query=(Query("after", "the last device id of the page before"),),
        replies={200: "a page of devices"},
        returns={200: DeviceList},
    ),
    Route(
        "GET",
        PATH + "/{id}",
        one,
        "One device, its session, and what is wrong with it.",
        "devices",
        scope="device-admin",
        places=_PLACES,
        replies={200: "the device, and what to do about it"},
        returns={200: DeviceReport},
        problems=("unknown_device",),
    ),
    Route(
        "PATCH",
        PATH + "/{id}",
        allow,
        "Say anew which shared channels a device may follow.",
        "devices",
        scope="device-admin",
        body=Allow,
        example={"channels": ["all"]},
        places=_PLACES,
        replies={200: "the device as it is now"},
        returns={200: Device},
        problems=("unknown_device",),
    ),
    Route(
        "DELETE",
        PATH + "/{id}",
        revoke,
        "Shut a device out. It stays a target of revocations until its lease has ended, and longer by name.",
        "devices",
        scope="device-admin",
        places=_PLACES,
        query=(Query("reason", "why, in a word: `lost`, say; targets and statements name it", type=Reason),),
        replies={200: "the device as it is now"},
        returns={200: Device},
        problems=("unknown_device",),
    ),
    Route(
        "POST",
        PATH + "/{id}/tickets",
        ticket,
        "A short-lived ticket for a subject's personal channels on one device.",
        "devices",
        scope="device-admin",
        body=TicketRequest,
        example={"subject": "user:alice", "purposes": ["personalization"], "ttl_s": 900},
        places=_PLACES,
        replies={201: "the ticket and when it expires"},
        returns={201: MadeTicket},
        problems=("unknown_device", "device_revoked", "unknown_purpose", "invalid_id"),
    ),
)
