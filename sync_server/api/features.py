"""`POST /v1/features`: publish rows of one server view."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from aiohttp import web

from edge_runtime.catalog import MalformedRequest, View
from edge_runtime.wire.printing import prints_only
from sync_server.api.body import into
from sync_server.api.replies import again, body_of, fingerprint_of, idempotency_key, json_reply, kept, repeat
from sync_server.api.rooms import AUTHORITY, BUSY, CLOCK, REGISTRY, SETTINGS, STORE
from sync_server.api.route import Route
from sync_server.errors import ROW_CODES, Problem
from sync_server.features.incoming import Incoming, Limits, RowCheck
from sync_server.features.membership import SegmentLimits
from sync_server.features.placing import Placing
from sync_server.features.publish import Publishing
from sync_server.features.values import RowFault
from sync_server.store.protocol import Store
from sync_server.store.records import KeptReply

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


@prints_only("as_of")
class Publish(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of one view. `as_of` is the lane position that the job had read; personal views need it."""

    view: str
    rows: Annotated[
        list[Any], msgspec.Meta(extra_json_schema={"items": {"$ref": "#/components/schemas/FeatureRow"}})
    ]
    as_of: int | None = None


class Refused(msgspec.Struct):
    """Why the row at `index` does not stand."""

    index: int
    code: str
    reason: str


async def publish(request: web.Request) -> web.Response:
    """Check every row, write those that may stand, and say why the others do not."""
    raw, parsed = await body_of(request)
    key, print_ = idempotency_key(request), fingerprint_of(request.app[AUTHORITY], raw)
    name = (DOOR, key or "")
    if key is not None and name in request.app[BUSY]:
        raise Problem("batch_in_flight")
    with request.app[STORE].read() as tx:
        before = repeat(tx, DOOR, key, print_)
    if before is not None:
        return again(before)
    request.app[BUSY].add(name)
    try:
        return await _publish(request, into(parsed, Publish), key, print_)
    finally:
        request.app[BUSY].discard(name)


async def _publish(request: web.Request, batch: Publish, key: str | None, print_: bytes) -> web.Response:
    view = _view(request, batch)
    check, size = _row_check(request, view), request.app[SETTINGS].write_chunk_rows
    publishing = _publishing(request, check, _as_of(request, batch, view))
    refused: list[Refused] = []
    for start in range(0, len(batch.rows), size):
        part = batch.rows[start : start + size]
        refused += _write_chunk(request.app[STORE], check, publishing, start, part)
        await asyncio.sleep(0)  # denials and sessions get their turn between two chunks
    accepted = len(batch.rows) - len(refused)
    reply = json_reply({"view": view.key, "accepted": accepted, "refused": refused})
    if key is not None:
        _keep(request, key, kept(reply, print_))
    return reply


def _write_chunk(
    store: Store, check: RowCheck, publishing: Publishing, start: int, rows: Sequence[object]
) -> list[Refused]:
    """Check some rows and write the good ones in one transaction; returns the others, in order."""
    good: list[tuple[int, Incoming]] = []
    refused: list[Refused] = []
    for index, raw in enumerate(rows, start):
        try:
            good.append((index, check.check(raw)))
        except RowFault as fault:
            refused.append(_refused(index, fault.code, fault.place))
    with store.write("publish") as tx:
        codes = publishing.write_rows(tx, [r for _, r in good])
    refused += [_refused(i, c) for (i, _), c in zip(good, codes, strict=True) if c is not None]
    return sorted(refused, key=lambda r: r.index)


def _keep(request: web.Request, key: str, reply: KeptReply) -> None:
    with request.app[STORE].write("keep_reply") as tx:
        tx.keep_reply(DOOR, key, reply, request.app[CLOCK].now_us())


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
    return view


def _as_of(request: web.Request, batch: Publish, view: View) -> int:
    """The lane position of the job. A position not reached yet would get around later denials."""
    with request.app[STORE].read() as tx:
        head = tx.lane_head()
    if batch.as_of is not None and not 0 <= batch.as_of <= head:
        raise Problem("invalid_request", f"expected as_of between 0 and the lane's head {head}")
    entities = request.app[REGISTRY].active.entities
    if batch.as_of is None and any(entities[kind].personal for kind in view.entity):
        raise Problem("invalid_request", "a personal view needs as_of, the lane position that was read")
    return batch.as_of or 0


def _row_check(request: web.Request, view: View) -> RowCheck:
    app = request.app
    settings = app[SETTINGS]
    limits = Limits(settings.id_limit_bytes, settings.row_limit_bytes, settings.entity_segments)
    return RowCheck(app[REGISTRY].active, view, app[AUTHORITY], limits, app[CLOCK].now_us())


def _publishing(request: web.Request, check: RowCheck, as_of: int) -> Publishing:
    settings, placing = request.app[SETTINGS], Placing(check.catalog.model.views)
    limits, half_life_us = SegmentLimits.of(settings), settings.publish_half_life_us
    return Publishing(check.view, placing, limits, as_of, check.now_us, half_life_us)


def _refused(index: int, code: str, place: str = "") -> Refused:
    return Refused(index, code, f"{place}: {ROW_CODES[code]}" if place else ROW_CODES[code])


ROUTES = (
    Route(
        "POST",
        "/v1/features",
        publish,
        "Publish feature rows. Each row stands or is refused by itself; the newest event time wins.",
        "features",
        body=Publish,
        parts=(FeatureRow,),
        idempotent=True,
        replies={200: "`accepted` count, and `refused` rows with index, code and reason"},
        problems=("unknown_view", "no_catalog", "idempotency_reuse", "batch_in_flight"),
    ),
)
