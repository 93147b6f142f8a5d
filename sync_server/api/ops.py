"""Operations: is it alive, is it ready, what does it count."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
from aiohttp import web

from sync_server.api.replies import json_reply
from sync_server.api.rooms import (
    ACCESS,
    CLOCK,
    EVENTS,
    HOT_KEEPER,
    JOURNAL,
    NODE,
    REGISTRY,
    ROUNDS,
    SETTINGS,
    STORE,
    SYNC_DOOR,
)
from sync_server.api.route import Route
from sync_server.errors import Problem
from sync_server.journal.journal import Journal
from sync_server.restore.backup import newest_us
from sync_server.restore.catching_up import Standing
from sync_server.store.records import ChannelSize
from sync_server.sync.admission import Admission

UNTOLD: Final = frozenset({"report", "tickets", "collect"})
"""Transactions that are not counted here: how many have answered in an open round is told to nobody."""
CHANNELS_NAMED: Final = 100
"""Most channels of which the metrics speak one by one."""
Samples = Mapping[str, float]


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class RestoreReadiness(msgspec.Struct):
    """How far a restored server has caught up; more is at `/v1/restore`."""

    state: Literal["closed", "open"]
    waiting: int
    """Devices that were not heard yet."""
    open_at_latest: int
    """In microseconds."""


class Readiness(msgspec.Struct):
    """The node takes work."""

    status: Literal["ready"]
    catalog: bool
    """Whether a catalog is in force."""
    journals: dict[str, int]
    """How many are `whole`, and how many are `failing`. While all fail, nothing can be given."""
    backup_at: int | None
    """When the newest backup was made, in microseconds; null: never."""
    restore: RestoreReadiness | None
    """Of a server that was restored. It is ready although it is `closed`: it waits for its devices."""
    delivery: Literal["ok", "warning"]
    """`warning`: something is not delivered, see `GET /v1/events`. The node is ready all the same."""


async def healthz(_: web.Request) -> web.Response:
    """The process answers."""
    return json_reply(Health("ok"))


async def readyz(request: web.Request) -> web.Response:
    """The store takes a write and the node does not stop; `catalog` says whether one is active."""
    if request.app[NODE].admission.closing:
        raise Problem("stopping")
    try:
        with request.app[STORE].write("ready", durable=False):
            pass
    except sqlite3.OperationalError:
        raise Problem("storage") from None
    standing = request.app[NODE].catching_up.standing()
    ready = Readiness(
        status="ready",
        catalog=request.app[REGISTRY].active_or_none is not None,
        journals=_journals(request.app[JOURNAL]),
        backup_at=newest_us(request.app[SETTINGS]),
        restore=None if standing is None else _restore(standing),
        delivery="warning" if request.app[EVENTS].keeper.warned else "ok",
    )
    return json_reply(ready)


async def metrics(request: web.Request) -> web.Response:
    """Prometheus text."""
    now_us, store = request.app[CLOCK].now_us(), request.app[STORE]
    with store.read() as tx:
        families: dict[str, tuple[str, str, Samples]] = {
            "devices": ("gauge", "state", tx.count_devices(now_us)),
            "consents": ("gauge", "state", tx.count_states()),
            "revocation": ("gauge", "what", tx.count_revocations(now_us)),
            "rows": ("gauge", "", {"": tx.count_rows()}),
            "channels": ("gauge", "", {"": tx.count_channels()}),
            **_channels(tx.shared_channels(CHANNELS_NAMED)),
            "undelivered": ("gauge", "what", tx.events.count()),
            "recipients": ("gauge", "what", tx.recipients.count(now_us)),
            "refused_reports_total": ("counter", "code", tx.aggregates.refused_in_all()),
            "withheld_tickets_total": ("counter", "reason", request.app[ROUNDS].withheld),
            "lane_position": ("gauge", "", {"": tx.lane_head()}),
        }
    journal = request.app[JOURNAL]
    families["journals"] = ("gauge", "state", _journals(journal))
    families["journal_syncs_total"] = ("counter", "", {"": journal.syncs})
    standing = request.app[NODE].catching_up.standing()
    if standing is not None:
        families["restore_closed"] = ("gauge", "", {"": int(standing.closed)})
        families["restore_waiting"] = ("gauge", "", {"": standing.waiting})
    told = {name: n for name, n in store.transactions().items() if name not in UNTOLD}
    families["transactions_total"] = ("counter", "name", told)
    families["event_attempts_total"] = ("counter", "outcome", request.app[EVENTS].courier.attempts)
    families["sessions"] = ("gauge", "", {"": request.app[SYNC_DOOR].sessions})
    families["refused_calls_total"] = ("counter", "code", request.app[ACCESS].door.refused)
    families["hot_set_moves_total"] = ("counter", "way", request.app[HOT_KEEPER].moved)
    families |= _admission(request.app[NODE].admission) | request.app[NODE].fanout.families()
    lines = [line for name, family in families.items() for line in _family(f"edge_sync_{name}", *family)]
    text = "\n".join(lines) + "\n"
    return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4"})


def _restore(standing: Standing) -> RestoreReadiness:
    state: Literal["closed", "open"] = "closed" if standing.closed else "open"
    return RestoreReadiness(state, standing.waiting, standing.open_at_latest_us)


def _journals(journal: Journal) -> dict[str, int]:
    whole = sum(state == "whole" for state in journal.standing.values())
    return {"whole": whole, "failing": len(journal.standing) - whole}


def _channels(sizes: Sequence[ChannelSize]) -> dict[str, tuple[str, str, Samples]]:
    """What stands in the shared channels, by name: the first so many."""
    return {
        "channel_bytes": ("gauge", "channel", {size.channel: size.bytes for size in sizes}),
        "channel_rows_kept_out": ("gauge", "channel", {size.channel: size.demoted for size in sizes}),
    }


def _admission(admission: Admission) -> dict[str, tuple[str, str, Samples]]:
    return {
        "visits": ("gauge", "stage", admission.standing()),
        "admitted_total": ("counter", "budget", admission.admitted),
        "refused_total": ("counter", "budget", admission.refused),
        "snapshot_slots_reclaimed_total": ("counter", "why", admission.reclaimed),
    }


def _family(name: str, kind: str, label: str, samples: Samples) -> list[str]:
    heading = [f"# TYPE {name} {kind}"]
    return heading + [
        f'{name}{{{label}="{key}"}} {value}' if label else f"{name} {value}" for key, value in samples.items()
    ]


ROUTES = (
    Route(
        "GET",
        "/healthz",
        healthz,
        "The process answers.",
        "operations",
        open=True,
        replies={200: "it does"},
        returns={200: Health},
    ),
    Route(
        "GET",
        "/readyz",
        readyz,
        "The store takes writes and the node is not about to stop.",
        "operations",
        open=True,
        replies={200: "it is ready"},
        returns={200: Readiness},
        problems=("storage", "stopping"),
    ),
    Route(
        "GET",
        "/metrics",
        metrics,
        "Counters in Prometheus text.",
        "operations",
        scope="operator",
        audit=False,
        replies={200: "text format 0.0.4"},
        gives={200: "text/plain"},
    ),
)
