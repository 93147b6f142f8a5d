"""`POST /v1/features`: publish rows of one server view."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import web

from edge_runtime.catalog import MalformedRequest, View
from edge_runtime.wire.printing import prints_only
from sync_server.api.body import into
from sync_server.api.caller import check_team, check_teamless
from sync_server.api.described import REFERENCE
from sync_server.api.replies import (
    again,
    body_of,
    fingerprint_of,
    idempotency_key,
    in_flight,
    json_reply,
    kept,
    repeat,
)
from sync_server.api.rooms import AUTHORITY, CLOCK, NODE, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Route
from sync_server.errors import Problem
from sync_server.features.batch import Batch, Refused
from sync_server.features.incoming import Limits, RowCheck
from sync_server.features.membership import SegmentLimits
from sync_server.features.placing import Placing
from sync_server.features.publish import Publishing
from sync_server.store.records import BEGUN, KeptReply, Lineage

DOOR = "features"


@prints_only("deleted")
class FeatureRow(msgspec.Struct, forbid_unknown_fields=True):
    """One row as it is documented; rows are checked one by one, so that one bad row does not sink a batch."""

    entity: str | dict[str, str]
    event_time: str | int | float
    values: dict[str, Any] | None = None
    deleted: bool = False
    segments: list[str] | None = None
    """The segments that the entity belongs to from now on; left out: as it is."""


Said = Annotated[str, msgspec.Meta(max_length=200)]


class Job(msgspec.Struct, forbid_unknown_fields=True):
    """Lineage: who published, the job's name, its run, and the version of its code."""

    who: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    run: Said = ""
    code_version: Said = ""


ROW = {"anyOf": [{"$ref": f"{REFERENCE}FeatureRow"}, {}]}


@prints_only("as_of")
class Publish(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of one view. `as_of` is the lane position that the job had read; personal views need it."""

    view: str
    rows: Annotated[list[Any], msgspec.Meta(extra_json_schema={"items": ROW})]
    """Each a `FeatureRow`; what is none is refused by itself."""
    as_of: int | None = None
    job: Job | None = None
    """What made these rows: kept with each of them, and never sent to a device."""


class Published(msgspec.Struct, omit_defaults=True):
    """What became of a batch."""

    view: str
    """Its key, `name@version`."""
    accepted: int
    """Rows that stand."""
    refused: list[Refused]
    """Rows that do not, by their place in the batch."""
    unchanged: int = 0
    """How many of the accepted stood there already, word for word. Left out: none."""
    resumed: bool = False
    """An earlier request with this key was cut off, and this one finished it. Left out: no."""


async def publish(request: web.Request) -> web.Response:
    """Check every row, write those that may stand, and say why the others do not."""
    raw, parsed = await body_of(request)
    key, print_ = idempotency_key(request), fingerprint_of(request.app[AUTHORITY], raw)
    with in_flight(request, DOOR, key):
        with request.app[STORE].read() as tx:
            before = repeat(tx, DOOR, key, print_)
        if before is not None and before.status != BEGUN:
            return again(before)
        return await _publish(request, into(parsed, Publish), key, print_, resumed=before is not None)


async def _publish(
    request: web.Request, publish: Publish, key: str | None, print_: bytes, *, resumed: bool
) -> web.Response:
    """Chunk by chunk. The key's mark is made with the first and the reply kept with the last, in their
    transactions: whenever this process is killed, a repeat finds out how far it came."""
    view, now_us = _view(request, publish), request.app[CLOCK].now_us()
    check, size = _row_check(request, view), request.app[SETTINGS].write_chunk_rows
    publishing = _publishing(request, check, publish)
    batch = Batch(check, publishing, publish.rows, size)
    while True:
        first, good = not batch.begun, batch.check_chunk()
        with request.app[STORE].write("publish") as tx:
            batch.write_chunk(tx, good)
            if batch.whole:
                reply = _reply(view, batch, resumed=resumed)
                if key is not None:
                    tx.keep_reply(DOOR, key, kept(reply, print_), now_us)
                break
            if key is not None and first and not resumed:
                tx.keep_reply(DOOR, key, KeptReply(print_, BEGUN, (), b""), now_us)
        await asyncio.sleep(0)  # denials and sessions get their turn between two chunks
    return reply


def _reply(view: View, batch: Batch, *, resumed: bool) -> web.Response:
    return json_reply(Published(view.key, batch.accepted, batch.refused, batch.unchanged, resumed))


def _view(request: web.Request, batch: Publish) -> View:
    limit = request.app[SETTINGS].batch_rows
    if len(batch.rows) > limit:
        raise Problem("too_large", f"expected at most {limit} rows")
    try:
        view = request.app[REGISTRY].active.view(batch.view)
    except MalformedRequest:
        raise Problem("unknown_view") from None
    if view.source != "server":
        raise Problem("unknown_view", "expected a view whose source is the server")
    check_team(view)
    if any(isinstance(row, Mapping) and row.get("segments") is not None for row in batch.rows):
        check_teamless()
    return view


def _as_of(request: web.Request, batch: Publish, view: View) -> int:
    """The lane position of the job. A position not reached yet would get around later denials."""
    with request.app[STORE].read() as tx:
        head = tx.lane_head()
    if batch.as_of is not None and not 0 <= batch.as_of <= head:
        raise Problem("invalid_request", f"expected as_of between 0 and the lane's head {head}")
    entities = request.app[REGISTRY].active.entities
    personal = any(entities[kind].personal for kind in view.entity)
    if batch.as_of is None and personal:
        raise Problem("invalid_request", "a personal view needs as_of, the lane position that was read")
    if batch.as_of is not None and request.app[NODE].catching_up.closed and personal:
        raise Problem("catching_up")
    return batch.as_of or 0


def _row_check(request: web.Request, view: View) -> RowCheck:
    app = request.app
    settings = app[SETTINGS]
    limits = Limits(settings.id_limit_bytes, settings.row_limit_bytes, settings.entity_segments)
    return RowCheck(app[REGISTRY].active, view, app[AUTHORITY], limits, app[CLOCK].now_us())


def _publishing(request: web.Request, check: RowCheck, publish: Publish) -> Publishing:
    as_of, job = _as_of(request, publish, check.view), publish.job
    settings, registry = request.app[SETTINGS], request.app[REGISTRY]
    limits, half_life_us = SegmentLimits.of(settings), settings.publish_half_life_us
    lineage = None if job is None else Lineage(job.who, job.name, job.run, job.code_version, check.now_us)
    return Publishing(
        check.view,
        lambda: Placing(registry.active.model.views),
        limits,
        as_of,
        check.now_us,
        half_life_us,
        lineage,
    )


ROUTES = (
    Route(
        "POST",
        "/v1/features",
        publish,
        "Publish feature rows. Each row stands or is refused by itself; the newest event time wins.",
        "features",
        scope="publish",
        body=Publish,
        example={
            "view": "item_stats",
            "rows": [{"entity": "item:85123A", "event_time": 1.7e9, "values": {"popularity": 0.5}}],
            "job": {"who": "growth", "name": "nightly", "run": "2026-11-30"},
        },
        parts=(FeatureRow, Job),
        idempotent=True,
        replies={200: "what stands, and why the other rows do not"},
        returns={200: Published},
        problems=(
            "unknown_view",
            "other_team",
            "no_catalog",
            "idempotency_reuse",
            "request_in_flight",
            "catching_up",
        ),
    ),
)
