"""Where the doors find the rooms: typed keys of the application."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from sync_server.access.opening import Access
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.rounds import Rounds
from sync_server.api.route import Route
from sync_server.catalog.registry import Registry
from sync_server.clock import Clock
from sync_server.consent.office import ConsentOffice
from sync_server.devices.authority import Authority
from sync_server.devices.entropy import Entropy
from sync_server.events.room import Events
from sync_server.journal.journal import Journal
from sync_server.settings import Settings
from sync_server.store.protocol import Store
from sync_server.sync.door import SyncDoor
from sync_server.sync.hints import Hints
from sync_server.sync.hot_keeping import HotKeeper
from sync_server.sync.node import Node

SETTINGS = web.AppKey("settings", Settings)
CLOCK: web.AppKey[Clock] = web.AppKey("clock")
STORE: web.AppKey[Store] = web.AppKey("store")
AUTHORITY = web.AppKey("authority", Authority)
ENTROPY: web.AppKey[Entropy] = web.AppKey("entropy")
OFFICE = web.AppKey("office", ConsentOffice)
REGISTRY = web.AppKey("registry", Registry)
COLLECTOR = web.AppKey("collector", Collector)
ROUNDS = web.AppKey("rounds", Rounds)
HINTS = web.AppKey("hints", Hints)
EVENTS = web.AppKey("events", Events)
HOT_KEEPER = web.AppKey("hot_keeper", HotKeeper)
SYNC_DOOR = web.AppKey("sync_door", SyncDoor)
JOURNAL = web.AppKey("journal", Journal)
NODE = web.AppKey("node", Node)
API_TOKEN = web.AppKey("api_token", str)
"""The token of `api.token`: for the first steps, with every scope."""
ACCESS = web.AppKey("access", Access)
ROUTES: web.AppKey[Mapping[tuple[str, str], Route]] = web.AppKey("routes")
"""(method, path) -> what that route promises."""
BUSY: web.AppKey[set[tuple[str, str]]] = web.AppKey("busy")
"""(door, idempotency key) of requests that are running now."""
