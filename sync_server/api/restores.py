"""`/v1/restore`: where a server that was restored from a backup stands, and opening it before its time."""

from __future__ import annotations

from typing import Literal

import msgspec
from aiohttp import web

from sync_server.api.replies import json_reply
from sync_server.api.rooms import JOURNAL, NODE
from sync_server.api.route import Route
from sync_server.errors import Problem
from sync_server.restore.catching_up import CatchingUp, Standing

PATH = "/v1/restore"


class Teller(msgspec.Struct):
    """A device on whose word denials were recorded."""

    device_id: str
    denials: int
    at: int


class RestoreState(msgspec.Struct):
    """Where a restored server stands. Times in microseconds."""

    restored_at: int
    kept: int
    """Ledger steps that are those of before."""
    lost: int
    """Ledger steps of which only the number is left."""
    state: Literal["closed", "open"]
    """While `closed` nothing is given or leased, and no subject's channel is served; denials are accepted."""
    waiting: int
    """Devices that may still use what was denied, and were not heard."""
    open_at_latest: int
    """When it opens if none of them comes; of an open one, when it did."""
    opened_by: Literal["journal", "devices", "time", "operator"] | None
    tellers: list[Teller]
    """The devices on whose word most was denied."""


class JournalState(msgspec.Struct):
    """One journal."""

    place: str
    state: str
    """`whole`, or what it fails with."""


class JournalList(msgspec.Struct):
    """Every journal."""

    journals: list[JournalState]


async def state(request: web.Request) -> web.Response:
    """Where it stands."""
    return json_reply(restore_state(_restored(request)))


async def open_now(request: web.Request) -> web.Response:
    """Open now: whatever no device has told yet may come back until it does."""
    catching_up = _catching_up(request)
    _restored(request)
    catching_up.open_now()
    return json_reply(restore_state(_restored(request)))


def restore_state(standing: Standing) -> RestoreState:
    """As it is told."""
    row = standing.restore
    return RestoreState(
        restored_at=row.at_us,
        kept=row.kept,
        lost=standing.lost,
        state="closed" if standing.closed else "open",
        waiting=standing.waiting,
        open_at_latest=standing.open_at_latest_us,
        opened_by=row.opened_by,
        tellers=[Teller(one.device_id, one.denials, one.at_us) for one in standing.tellers],
    )


def _catching_up(request: web.Request) -> CatchingUp:
    return request.app[NODE].catching_up


def _restored(request: web.Request) -> Standing:
    standing = _catching_up(request).standing()
    if standing is None:
        raise Problem("not_found", "this server was never restored")
    return standing


async def journals(request: web.Request) -> web.Response:
    """Each journal, and whether it is whole."""
    found = request.app[JOURNAL].standing
    return json_reply(JournalList([JournalState(place, state) for place, state in found.items()]))


ROUTES = (
    Route(
        "GET",
        "/v1/journals",
        journals,
        "The journals of the ledger, and whether they are whole.",
        "operations",
        scope="operator",
        replies={200: "each of them"},
        returns={200: JournalList},
    ),
    Route(
        "GET",
        PATH,
        state,
        "Where a server that was restored from a backup stands.",
        "operations",
        scope="operator",
        replies={200: "how far it has caught up"},
        returns={200: RestoreState},
        problems=("not_found",),
    ),
    Route(
        "POST",
        PATH + "/open",
        open_now,
        "Open a restored server before every device was heard. What only they know may come back until then.",
        "operations",
        scope="operator",
        replies={200: "how far it has caught up; it is open now"},
        returns={200: RestoreState},
        problems=("not_found", "not_restored"),
    ),
)
