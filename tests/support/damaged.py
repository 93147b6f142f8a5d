"""A kiosk with some days behind it, pages of its database that are damaged, and what its features must be."""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import numpy as np

import edge_runtime as er
from edge_runtime.cache.cipher import PAGE_BYTES, raw_key
from edge_runtime.cache.untouched import untouched
from edge_runtime.catalog.model import Scalar, SessionFeature
from edge_runtime.keys.slot import decode
from edge_runtime.session.event import Event
from edge_runtime.session.operators.counts import CountMap
from tests.support.clock import ManualClock
from tests.support.oracle import Counts, oracle
from tests.support.shop import BASE_US

P, M = "personalization", "measurement"
DAY_US, SECOND = 86_400_000_000, 1_000_000
USERS = ("ann", "bob", "cid", "dee")
ITEMS = ("i0", "i1", "i2", "i3", "i4")

CATALOG = """
[catalog]
name = "kiosk"
version = 1
[purposes.personalization]
title = "p"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "2d"
[purposes.measurement]
title = "m"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "30d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64", category = "string" }
[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = 0
owner = "tests"
[views.activity.features]
views = { op = "count", event = "view" }
views_5m = { op = "count", event = "view", window = "5m" }
views_1d = { op = "count", event = "view", window = "1d" }
spend_7d = { op = "sum", event = "view", value = "price", window = "7d" }
last_3 = { op = "last_n", event = "view", value = "item", n = 3 }
pace = { op = "decayed_count", event = "view", half_life = "10m" }
depth = { op = "session_count", event = "view", gap = "30m" }
by_item = { op = "count_by", event = "view", by = "item", window = "30d" }
last_category = { op = "last", event = "view", value = "category" }
idle = { op = "since_last", event = "view" }
[views.pair]
version = 1
entity = ["user", "item"]
source = "session"
purpose = "personalization"
ttl = 0
owner = "tests"
[views.pair.features]
seen = { op = "count", event = "view" }
seen_1d = { op = "count", event = "view", window = "1d" }
[views.habits]
version = 1
entity = "user"
source = "session"
purpose = "measurement"
ttl = 0
owner = "tests"
[views.habits.features]
visits = { op = "count", event = "view" }
visits_1d = { op = "count", event = "view", window = "1d" }
[views.demand]
version = 1
entity = "item"
source = "session"
ttl = 0
owner = "tests"
[views.demand.features]
clicks_1d = { op = "count", event = "shown", window = "1d" }
[events.shown]
entities = ["item"]
"""


@dataclass
class Kiosk:
    """A folder with a cache in it, and every event that was acknowledged there."""

    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(BASE_US))
    taken: list[Event] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "cache.db"

    def open(self, *, rebuild: bool = False, snapshot_every: int = 40) -> er.Runtime:
        """The runtime, which commits when it is told to."""
        return er.Runtime.open(
            self.database,
            catalog=er.Catalog.from_toml(CATALOG),
            key=er.KeyFile(self.folder / "device.key"),
            clock=self.clock,
            settings=er.Settings(snapshot_every_events=snapshot_every, commit_interval_us=3_600_000_000),
            recover="rebuild" if rebuild else None,
        )

    def live(self, rt: er.Runtime, rng: random.Random, events: int, step_us: int = 200 * SECOND) -> None:
        """So many events of anybody, each acknowledged in a batch of a few."""
        for n in range(events):
            self.clock.advance(us=rng.randrange(1, 2 * step_us))
            self.track(rt, rng)
            if n % 3 == 2:
                rt.flush()
        rt.flush()

    def track(self, rt: er.Runtime, rng: random.Random) -> None:
        """One event now."""
        item, at_us = rng.choice(ITEMS), self.clock.now_us()
        if rng.random() < 0.2:
            event = Event("shown", {"item": item}, {}, at_us, f"e{len(self.taken)}")
        else:
            user = rng.choice(USERS)
            fields: dict[str, Scalar] = {"price": rng.randrange(1, 1000) / 100, "category": rng.choice("abc")}
            event = Event("view", {"user": user, "item": item}, fields, at_us, f"e{len(self.taken)}")
        assert rt.track_many([event]).accepted == 1
        self.taken.append(event)

    def copied(self, folder: Path) -> Kiosk:
        """The same kiosk in another folder; nobody may have this one open."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        return Kiosk(folder, ManualClock(self.clock.wall_us, self.clock.uptime_us), list(self.taken))

    def page_key(self) -> bytes:
        return decode((self.folder / "device.key").read_bytes()).page_key

    def pages(self) -> dict[str, list[int]]:
        """Table or index -> its pages; `interior` and `overflow` say which of them are no leaves."""
        found: dict[str, list[int]] = {}
        with untouched(str(self.database), self.page_key()) as connection:
            sql = "SELECT name, pagetype, pageno FROM dbstat ORDER BY pageno"
            for name, kind, number in connection.execute(sql):
                place = str(name) if kind == "leaf" else f"{name} {kind}"
                found.setdefault(place, []).append(int(str(number)))
        return found

    def pages_of(self, *tables: str) -> list[int]:
        """All pages of these tables and indexes, of whatever kind."""
        return sorted(n for name, pages in self.pages().items() if name.split()[0] in tables for n in pages)

    def damage(self, *pages: int) -> None:
        """Flip a bit in the middle of these pages."""
        with open(self.database, "r+b") as file:
            for page in pages:
                flip(file.fileno(), (page - 1) * PAGE_BYTES + PAGE_BYTES // 2)


def flip(file: int, offset: int) -> None:
    """Flip one bit of a file."""
    byte = os.pread(file, 1, offset)[0]
    os.pwrite(file, bytes([byte ^ 4]), offset)


def begun(folder: Path, seed: int, days: int = 5, events: int = 150) -> Kiosk:
    """A kiosk after some days, closed: every state is stored, and old events were let go."""
    folder.mkdir(parents=True, exist_ok=True)
    kiosk, rng = Kiosk(folder), random.Random(seed)
    with kiosk.open() as rt:
        for user in USERS:
            rt.consent.give(user, [P, M], notice="n")
        for _ in range(days):
            kiosk.live(rt, rng, events // days)
            kiosk.clock.advance(us=DAY_US)
    return kiosk


def unplugged(kiosk: Kiosk, folder: Path, seed: int, events: int = 40, *, log: bool = False) -> Kiosk:
    """The same kiosk after some more events, when the power went: what they fed is in the journal alone.

    Args:
        log: whether the newest commits are still in the write-ahead log.
    """
    after = kiosk.copied(folder.with_name(folder.name + "-running"))
    with after.open() as rt:
        after.live(rt, random.Random(seed), events, step_us=20 * SECOND)
        if not log:
            rt._database.checkpoint_truncate()
        after.clock.advance(seconds=1)
        subprocess.run(["cp", "-r", str(after.folder), str(folder)], check=True)
    return Kiosk(folder, ManualClock(after.clock.wall_us), after.taken)


def features() -> list[tuple[str, SessionFeature, tuple[str, ...]]]:
    """(reference, feature, entity types) of everything that the oracle can tell."""
    views = er.Catalog.from_toml(CATALOG).views.values()
    return [
        (f"{view.name}:{name}", feature, view.entity)
        for view in views
        for name, feature in view.features.items()
        if isinstance(feature, SessionFeature)
    ]


def disagreements(kiosk: Kiosk, rt: er.Runtime, taken: Sequence[Event] | None = None) -> list[str]:
    """Every value that says it is whole and is not what the oracle says."""
    return [line for line, _ in _compared(kiosk, rt, taken) if line]


def whole_share(kiosk: Kiosk, rt: er.Runtime) -> float:
    """The share of values that say they are whole."""
    compared = _compared(kiosk, rt, None)
    return sum(whole for _, whole in compared) / len(compared)


def _compared(kiosk: Kiosk, rt: er.Runtime, taken: Sequence[Event] | None) -> list[tuple[str, bool]]:
    taken = kiosk.taken if taken is None else taken
    found = []
    for ref, feature, types in features():
        for ids in _entities(types):
            got = rt.read(ref, **ids)
            mine = [(e, e.id or "") for e in taken if all(e.entities.get(t) == i for t, i in ids.items())]
            retention_us = None if types == ("item",) else 30 * DAY_US
            want = oracle(feature, mine, kiosk.clock.now_us(), retention_us)
            whole = got.status in (er.Status.PRESENT, er.Status.NULL)
            same = _same(got.value, want)
            line = "" if same or not whole else f"{ref} {ids}: got {got.value!r}, want {want!r}"
            found.append((line, whole))
    return found


def _entities(types: Iterable[str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = [{}]
    for kind in types:
        found = [{**ids, kind: one} for ids in found for one in (USERS if kind == "user" else ITEMS)]
    return found


def _same(got: object, want: object) -> bool:
    match got:
        case CountMap():
            assert isinstance(want, Counts)
            return dict(got) == dict(want.counts)
        case np.ndarray():
            return bool(np.array_equal(got, np.asarray(want)))
        case float() if isinstance(want, float):
            return math.isclose(got, want, rel_tol=1e-12)
    return got == want


def encrypted(path: Path, page_key: bytes) -> apsw.Connection:
    """A bare connection to an encrypted file, for tests that do to it what no room of ours would."""
    connection = apsw.Connection(str(path))
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(page_key).hex())
    connection.pragma("locking_mode", "exclusive")
    return connection


_FLIP = """
import os, sys
for page in map(int, sys.argv[2:]):
    file = os.open(sys.argv[1], os.O_RDWR)
    place = (page - 1) * 4096 + 2048
    os.pwrite(file, bytes([os.pread(file, 1, place)[0] ^ 4]), place)
"""


def harm(kiosk: Kiosk, rt: er.Runtime, *pages: int) -> None:
    """Damage pages under a running runtime, and let it forget what it has read of them.

    Another process does it: closing the file in this one would drop SQLite's locks.
    """
    database = rt._database
    database.checkpoint_truncate()
    command = [sys.executable, "-c", _FLIP, str(kiosk.database), *map(str, pages)]
    subprocess.run(command, check=True)
    opened, readers = database._opened, database._readers
    assert opened is not None
    opened.connection.release_memory()
    if readers is not None:
        with readers.gone():
            pass
