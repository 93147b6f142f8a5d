"""`GET /v1/features/{view}/{entity}`: one row as it stands, where, and what wrote it. For operators."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from edge_runtime.catalog import MalformedRequest, View
from edge_runtime.wire import codec
from edge_runtime.wire.printing import prints_only
from sync_server.api.caller import check_team
from sync_server.api.replies import json_reply
from sync_server.api.rooms import REGISTRY, STORE
from sync_server.api.route import Route
from sync_server.errors import Problem
from sync_server.store.protocol import ReadTx
from sync_server.store.records import Lineage, RowState


@prints_only("view", "deleted", "tier", "purpose", "grant")
class StandingRow(msgspec.Struct):
    """One row as it stands. Of a row about nobody the `values`; of a subject's, `purpose` and `grant`."""

    view: str
    """Its key, `name@version`."""
    entity: str
    """Its key, with a subject's `~token` in place of the name."""
    event_time_us: int
    created_us: int
    """When it was written here."""
    deleted: bool
    tier: str
    channels: list[str]
    """Channels in which it stands."""
    job: Lineage | None
    """What wrote it, as its publisher said; null: nothing was said."""
    values: dict[str, Any] | UnsetType | None = UNSET
    """Feature -> value; null for a delete."""
    purpose: str | UnsetType = UNSET
    grant: int | UnsetType = UNSET
    """The decision under which it was accepted."""


async def show(request: web.Request) -> web.Response:
    """A row about nobody whole; of a subject no values, by pseudonym only, and only while consent stands."""
    view, entity = _view(request), request.match_info["entity"]
    kinds = request.app[REGISTRY].active.entities
    _check_nameless(entity, {name for name, kind in kinds.items() if kind.personal})
    with request.app[STORE].read() as tx:
        row = tx.row_state(entity, view.name, view.version)
        if row is None or not _permitted(tx, row):
            raise Problem("not_found", "there is no such row")
        job = tx.lineage(row.lineage)
        channels = tx.channels_of(entity, view.name, view.version)
    times = (row.event_time_us, row.created_us)
    shown = StandingRow(view.key, entity, *times, row.deleted, view.tier, list(channels), job)
    if row.subject is None:
        shown.values = None if row.deleted else _values(row)
    else:
        assert row.purpose is not None
        shown.purpose, shown.grant = row.purpose, row.grant
    return json_reply(shown)


def _values(row: RowState) -> dict[str, Any]:
    values = codec.unpack(row.values, codec.FRAME_LIMIT_BYTES)
    assert isinstance(values, dict)
    return values


def _permitted(tx: ReadTx, row: RowState) -> bool:
    """Law 1: of a subject who does not permit it now, not even this is told."""
    if row.subject is None:
        return True
    return tx.decision_state(row.subject, row.purpose or "").usable == row.grant != 0


def _check_nameless(entity: str, personal: set[str]) -> None:
    """A subject's name has no place in a URL: proxies and browsers keep those."""
    if any(part.partition(":")[0] in personal for part in entity.split("|")):
        raise Problem("invalid_id", "a subject is named by its pseudonym here: the ~token of its channel")


def _view(request: web.Request) -> View:
    try:
        view = request.app[REGISTRY].active.view(request.match_info["view"])
    except MalformedRequest:
        raise Problem("unknown_view") from None
    if view.source != "server":
        raise Problem("unknown_view", "expected a view whose source is the server")
    check_team(view)
    return view


ROUTES = (
    Route(
        "GET",
        "/v1/features/{view}/{entity}",
        show,
        "One row as it stands: times, channels, and the job that wrote it; of a subject no values.",
        "features",
        scope="publish",
        anything=True,
        replies={200: "the row"},
        returns={200: StandingRow},
        problems=("unknown_view", "other_team", "not_found", "invalid_id", "no_catalog"),
    ),
)
