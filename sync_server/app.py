"""The server on one screen: `build_app()` opens the rooms, hangs the doors, and closes in reverse.

OPEN FIRST. Nothing is worked out here; the one `except Exception` of the server is in `guard`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator

from aiohttp import web
from aiohttp.typedefs import Handler

from sync_server.access.audit import Call
from sync_server.access.opening import open_access
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.collector_key import load_collector
from sync_server.aggregates.rounds import Rounds
from sync_server.api import (
    aggregate_drift,
    aggregate_experiments,
    aggregate_health,
    aggregates,
    audit,
    catalogs,
    consents,
    devices,
    discovery,
    event_poll,
    event_streams,
    evidence,
    features,
    hot_set,
    ledger,
    openapi,
    ops,
    recipients,
    releases,
    restores,
    revocations,
    rooms,
    segments,
    sessions,
    standing,
    subject_data,
    tokens,
    webhooks,
)
from sync_server.api import events as events_api
from sync_server.api import registry as registry_api
from sync_server.api.access_log import keep_names_out
from sync_server.api.answer import answer, expect
from sync_server.api.asked import route_of
from sync_server.api.fault import told
from sync_server.api.problem import problem_reply
from sync_server.api.route import Route
from sync_server.catalog.registry import Registry
from sync_server.clock import Clock, SystemClock
from sync_server.consent.forgetting import Forgetting
from sync_server.consent.office import ConsentOffice
from sync_server.devices.authority import load_authority, load_token
from sync_server.devices.entropy import Entropy, system_entropy
from sync_server.errors import Problem
from sync_server.events.room import Events, open_events
from sync_server.features.tiers import TierWalk
from sync_server.housekeeping import Housekeeping
from sync_server.journal.opening import open_journal
from sync_server.restore.gives import Gives
from sync_server.restore.upkeep import RestoreUpkeep
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.door import SyncDoor
from sync_server.sync.hot_keeping import HotKeeper
from sync_server.sync.node import Node, open_node

log = logging.getLogger(__name__)


def build_app(
    settings: Settings, clock: Clock | None = None, entropy: Entropy = system_entropy
) -> web.Application:
    """Open the data directory (made when missing) and return the application, ready to run.

    Raises:
        StoreTooNew, StoreForeign, KeysMissing, JournalAhead: see `errors`; what was there is untouched.
        CatalogError: `settings.catalog` has faults.
        ValueError: `settings.oidc` has.
    """
    clock = SystemClock() if clock is None else clock
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = load_authority(settings.key_file, entropy, store_exists=settings.database.exists())
    store = SqliteStore(
        settings.database,
        settings.key_database,
        digest_key=authority.digest_key,
        entropy=entropy,
        partitions=settings.partitions,
    )
    try:
        registry = Registry(store, settings.registry_key)
        if settings.catalog is not None:
            registry.load_file(settings.catalog, clock.now_us())
        registry.check_signed()
        token = load_token(settings.token_file, entropy)
        sealed_to = load_collector(settings.collector_file, entropy)
        access = open_access(token, store, clock, settings, authority)
        journal = open_journal(settings, clock, store, authority)
    except BaseException:
        store.close()
        raise
    said = (registry.purposes, registry.leases)
    office = ConsentOffice(store, authority, clock, settings, entropy, *said)
    rounds = Rounds(clock, entropy, authority.tag_key, authority.signing, sealed_to.public_key())
    lent = (settings, clock, store, authority, office, rounds, entropy)
    node = open_node(*lent, catalog=lambda: registry.active_or_none, leases=registry.leases)
    collector = Collector(settings, store, rounds, sealed_to, node.hints.rounds_moved)
    node.desk.on_reports = collector.wake
    with store.write("signing_key") as tx:
        tx.ledger.note_key(authority.public_key, tx.lane_head())
    store.listen(lambda moved: office.settle() if moved.lane else None)
    office.settle()
    office.check_gives = Gives(node.catching_up, journal).check

    app = web.Application(middlewares=[guard], client_max_size=settings.body_limit_bytes)
    app[rooms.SETTINGS], app[rooms.CLOCK], app[rooms.STORE] = settings, clock, store
    app[rooms.AUTHORITY], app[rooms.ENTROPY], app[rooms.OFFICE] = authority, entropy, office
    app[rooms.REGISTRY], app[rooms.ROUNDS], app[rooms.HINTS] = registry, rounds, node.hints
    app[rooms.COLLECTOR] = collector
    app[rooms.API_TOKEN], app[rooms.BUSY], app[rooms.NODE] = token, set(), node
    app[rooms.ACCESS], app[rooms.JOURNAL], app[rooms.SYNC_DOOR] = access, journal, SyncDoor(node)
    _hang_doors(app)
    app[rooms.HOT_KEEPER] = HotKeeper(store, lambda: registry.active_or_none, settings, node.on_demand.use.of)
    upkeep = RestoreUpkeep(node.catching_up, journal, authority.incarnation, settings)
    app[rooms.EVENTS] = events = open_events(settings, clock, store, authority, entropy)
    chores = (
        TierWalk(store, registry, settings.write_chunk_rows),
        app[rooms.HOT_KEEPER],
        access,
        upkeep,
        Forgetting(store, settings),
        collector,
        events.keeper,
    )
    keeper = Housekeeping(store, node.admission, clock, settings, chores)
    app.cleanup_ctx.append(lambda _: _running(node, keeper, events, collector, settings))
    app.on_shutdown.append(_close_sessions)
    app.on_cleanup.append(_close_store)
    return app


def route_table(door: SyncDoor) -> tuple[Route, ...]:
    """Every route of the server."""
    table = (
        *features.ROUTES,
        *standing.ROUTES,
        *segments.ROUTES,
        *hot_set.ROUTES,
        *consents.ROUTES,
        *revocations.ROUTES,
        *subject_data.ROUTES,
        *ledger.ROUTES,
        *evidence.ROUTES,
        *devices.ROUTES,
        *sessions.routes(door),
        *catalogs.ROUTES,
        *registry_api.ROUTES,
        *events_api.ROUTES,
        *event_streams.ROUTES,
        *event_poll.ROUTES,
        *webhooks.ROUTES,
        *recipients.ROUTES,
        *discovery.ROUTES,
        *aggregates.ROUTES,
        *releases.ROUTES,
        *aggregate_health.ROUTES,
        *aggregate_experiments.ROUTES,
        *aggregate_drift.ROUTES,
        *tokens.ROUTES,
        *audit.ROUTES,
        *restores.ROUTES,
        *ops.ROUTES,
    )
    return (*table, *openapi.doors(table))


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Ask for the token, hear what comes of the call, and turn what goes wrong into a problem document."""
    keep_names_out(request)
    route = route_of(request)
    if route is None:  # 404 for everybody
        return await _answer(request, handler, None)
    log_of_calls = request.app[rooms.ACCESS].audit
    with log_of_calls.during(route) as call:
        reply = await _answer(request, handler, call)
        log_of_calls.ended(call, reply.status)
        return reply


async def _answer(request: web.Request, handler: Handler, call: Call | None) -> web.StreamResponse:
    try:
        return await answer(request, handler, call)
    except web.HTTPException:
        raise
    except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
        log.error("the store does not answer: %s\n%s", error, told(error))  # SQLite quotes no value
        return problem_reply(Problem("storage"))
    except Exception as error:  # noqa: BLE001 - the edge of a request: logged here, only a code goes out
        log.error("a fault of the server\n%s", told(error))
        return problem_reply(Problem("internal"))


def _hang_doors(app: web.Application) -> None:
    table = route_table(app[rooms.SYNC_DOOR])
    for route in table:
        app.router.add_route(route.method, route.pattern, route.handler, expect_handler=expect)
    app[rooms.ROUTES] = {(route.method, route.path): route for route in table}


async def _running(
    node: Node, keeper: Housekeeping, events: Events, collector: Collector, settings: Settings
) -> AsyncIterator[None]:
    """Own the four tasks that run beside the doors."""
    tasks = [
        asyncio.create_task(node.heads.run(settings.heads_poll_us), name="poll heads"),
        asyncio.create_task(keeper.run(), name="housekeeping"),
        asyncio.create_task(events.courier.run(), name="courier"),
        asyncio.create_task(collector.run(), name="collector"),
    ]
    yield
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _close_sessions(app: web.Application) -> None:
    app[rooms.EVENTS].bell.close()
    await app[rooms.SYNC_DOOR].close()


async def _close_store(app: web.Application) -> None:
    app[rooms.NODE].fanout.close()
    try:
        await app[rooms.ACCESS].close()
    finally:
        app[rooms.STORE].close()
