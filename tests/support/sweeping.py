"""A runtime whose upkeep a test does step by step, and what rests in its file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

import edge_runtime as er
from edge_runtime.cache.hands import Hands
from edge_runtime.consent.opening import open_cache
from edge_runtime.keys.datakey import DataKey
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Row
from tests.support.clock import ManualClock
from tests.support.full_disk import FullDisk

DAY_US = 86_400_000_000
BASE_US = 1_700_000_000_000_000 // DAY_US * DAY_US
"""Midnight, so that days in a test are days in the file."""
P, M = "personalization", "measurement"
CATALOG = """
[catalog]
name = "kept"
version = 1
[purposes.personalization]
title = "p"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[purposes.measurement]
title = "m"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "60d"
keep_events = "2d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64" }
[events.restock]
entities = ["item"]
[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = 0
owner = "tests"
allowed_lateness = "60s"
[views.activity.features]
views = { op = "count", event = "view" }
spend_7d = { op = "sum", event = "view", value = "price", window = "7d" }
[views.pairs]
version = 1
entity = ["user", "item"]
source = "session"
purpose = "personalization"
ttl = 0
owner = "tests"
[views.pairs.features]
views = { op = "count", event = "view" }
[views.habits]
version = 1
entity = "user"
source = "session"
purpose = "measurement"
ttl = 0
owner = "tests"
[views.habits.features]
visits = { op = "count", event = "view" }
[views.traffic]
version = 1
entity = "item"
source = "session"
ttl = 0
owner = "tests"
[views.traffic.features]
restocks = { op = "count", event = "restock" }
[views.profile]
version = 1
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "crm"
[views.profile.features]
country = { dtype = "string" }
[views.badge]
version = 1
entity = "user"
source = "server"
purpose = "personalization"
ttl = 0
owner = "crm"
[views.badge.features]
level = { dtype = "int64" }
[views.stock]
version = 1
entity = "item"
source = "server"
ttl = "2h"
owner = "search"
[views.stock.features]
text = { dtype = "string" }
[views.lasting]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "search"
[views.lasting.features]
text = { dtype = "string" }
[services.badges]
version = 1
features = ["badge:level"]
[services.ranker]
version = 1
features = ["activity:views", "activity:spend_7d"]
"""
QUIET = er.Settings(commit_interval_us=3_600_000_000, sweep_interval_us=0)
"""Nothing happens in the background."""


class Kiosk:
    """One device in `folder` at a clock that a test moves."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: er.Settings = QUIET,
        clock: ManualClock | None = None,
        catalog: er.Catalog | None = None,
        disk: FullDisk | None = None,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.settings = folder, settings
        self.clock = clock or ManualClock(BASE_US)
        self.catalog = catalog or er.Catalog.from_toml(CATALOG)
        self.disk = disk
        self.free_bytes = 1 << 40
        self.rt = self._open()

    def _open(self) -> er.Runtime:
        key = er.KeyFile(self.folder / "device.key")
        vfs = None if self.disk is None else self.disk.name
        keyring, database = open_cache(str(self.folder / "cache.db"), key, vfs=vfs)
        return er.Runtime(
            self.catalog, database, keyring, self.clock, self.settings, free_bytes=lambda: self.free_bytes
        )

    def __enter__(self) -> Kiosk:
        return self

    def __exit__(self, *_: object) -> None:
        if self.disk is not None:
            self.disk.room = None
        self.rt.close()

    def reopen(self, settings: er.Settings | None = None) -> None:
        self.rt.close()
        self.settings = settings or self.settings
        self.rt = self._open()

    # ---- what happens ------------------------------------------------------------------------------------

    def give(self, user: str, *purposes: str) -> None:
        self.rt.consent.give(user, purposes or (P, M), notice="n")

    def track(self, user: str, times: int = 1, item: str = "x", *, flush: bool = True) -> None:
        for _ in range(times):
            self.clock.advance(us=1)
            assert self.rt.track("view", user=user, item=item, price=1.0) is er.ACCEPTED
        if flush:
            self.rt.flush()

    def days(self, count: float) -> None:
        self.clock.advance(us=round(count * DAY_US))

    def put(self, view: str, item: str, text: str, *, age_us: int = 0, seq: int = 1) -> None:
        """A row about nobody arrived in channel `all`."""
        at_us = self.clock.now_us() - age_us
        row = Row(seq, f"item:{item}", view, 1, at_us, at_us, 0, False, packed({"text": text}))
        with self.rt._database.write("test") as tx:
            tx.set_channel("all", seq, 0)
            tx.set_whole("all", True)
            PlainShelf(tx, "all", self.clock.now_us()).put([row], [bytes(16)])
        self.rt._source.changed([(f"{view}@1", f"item:{item}")])

    def put_personal(self, view: str, user: str, values: Mapping[str, object], *, age_us: int = 0) -> None:
        """A subject's row arrived in the channel of its purpose."""
        key, at_us = self.key(user), self.clock.now_us() - age_us
        token = seal.subject_token(self.rt._keyring.pseudonym(key.subject))
        row = Row(1, token, view, 1, at_us, at_us, key.grant, False, packed(values))
        with self.rt._database.write("test") as tx:
            shelf = PersonalShelf(tx, key)
            shelf.put([row], [bytes(range(16))])
            shelf.move(7, 99)
        self.rt._source.changed([(f"{view}@1", key.subject)])

    # ---- what stands -------------------------------------------------------------------------------------

    def key(self, user: str, purpose: str = P) -> DataKey:
        key = self.rt._keyring.key(f"user:{user}", purpose)
        assert key is not None
        return key

    def read(self, ref: str, **ids: str) -> er.FeatureValue:
        return self.rt.read(ref, **ids)

    def rows(self, *users: str) -> Counter[str]:
        """table -> rows that hang on any handle, or on those of these users."""
        handles = {key.handle for user in users for key in self.rt._keyring.keys_of(f"user:{user}")}
        found: Counter[str] = Counter()
        with self.rt._database.read() as tx:
            for handle in tx.handles() & handles if users else tx.handles():
                found.update({table: sum(days.values()) for table, days in tx.days(handle).items()})
                found["trimmed"] += tx.events_dropped(handle)
        return +found

    def used_bytes(self) -> int:
        with self.rt._database.read() as tx:
            return tx.size().used_bytes

    def steps(self) -> Iterator[int]:
        """One round in the background's own steps: how many rows each changed, as SQLite counts them."""
        connection = self.rt._database._connection()
        goes_on = True
        while goes_on:
            before = connection.total_changes()
            goes_on = self.rt._upkeep.sweeper.step()
            yield connection.total_changes() - before

    @property
    def hands(self) -> Hands:
        return self.rt._upkeep.sweeper._hands


def packed(values: Mapping[str, object]) -> bytes:
    """Values of a row."""
    return msgspec.msgpack.encode(values)
