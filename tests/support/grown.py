"""Catalogs that differ by a few features, and a runtime that is opened with one after the other."""

from __future__ import annotations

from pathlib import Path

import edge_runtime as er
from edge_runtime.keys.keyring import DataKey
from tests.support.clock import ManualClock

P = "personalization"
HEAD = """
[catalog]
name = "grown"
version = 1
[purposes.personalization]
title = "Recommendations made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "KEEP"
[purposes.measurement]
title = "Statistics"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "KEEP"
[purposes.guests]
title = "For this visit only"
legal_basis = "contract"
terminal_access = "strictly_necessary"
lease = "24h"
retention = "session"
[entities.user]
personal = true
[entities.guest]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64" }
[events.buy]
entities = ["user", "item"]
properties = { price = "float64" }
[events.look]
entities = ["guest", "item"]
"""
VIEWS_5M = 'views_5m = { op = "count", event = "view", window = "5m" }'
VIEWS_1H = 'views_1h = { op = "count", event = "view", window = "1h" }'
SPEND = 'spend = { op = "sum", event = "view", value = "price", window = "1d" }'
DEPTH = 'depth = { op = "session_count", event = "view", gap = "30m" }'
BUYS = 'buys = { op = "count", event = "buy", window = "1h" }'


def activity(*features: str, more: str = "", keep: str = "7d", purpose: str = P) -> er.Catalog:
    """A catalog whose view `activity` of users has these features."""
    return er.Catalog.from_toml(
        HEAD.replace("KEEP", keep) + view("activity", *features, purpose=purpose) + more
    )


def view(name: str, *features: str, purpose: str = P, entity: str = "user", settings: str = "") -> str:
    """The lines of one session view."""
    lines = [f"[views.{name}]", "version = 1", f'entity = "{entity}"', 'source = "session"', "ttl = 0"]
    lines += [f'purpose = "{purpose}"', 'owner = "tests"', settings, f"[views.{name}.features]", *features]
    return "\n".join(lines) + "\n"


def open_with(
    folder: Path, clock: ManualClock, catalog: er.Catalog, *, snapshot_every: int = 1_000_000
) -> er.Runtime:
    """The runtime in `folder`, which commits when it is told to."""
    return er.Runtime.open(
        folder / "cache.db",
        catalog=catalog,
        key=er.KeyFile(folder / "device.key"),
        clock=clock,
        settings=er.Settings(snapshot_every_events=snapshot_every, commit_interval_us=3_600_000_000),
    )


def given(rt: er.Runtime, *subjects: str) -> None:
    """Consent for both purposes that rest on disk."""
    for subject in subjects:
        rt.consent.give(f"user:{subject}", [P, "measurement"], notice="n")


def tracked(rt: er.Runtime, clock: ManualClock, times: int, kind: str = "view", user: str = "alice") -> None:
    """So many events, one a second, each acknowledged at the end."""
    for number in range(times):
        price = (number + 1) * 0.1
        assert rt.track(kind, user=user, item="x", price=price, id=f"{kind}{clock.now_us()}") is er.ACCEPTED
        clock.advance(seconds=1)
    rt.flush()


def begun(folder: Path, clock: ManualClock, catalog: er.Catalog, views: int = 3, buys: int = 0) -> None:
    """A database that one catalog has fed."""
    with open_with(folder, clock, catalog) as rt:
        given(rt, "alice")
        tracked(rt, clock, views)
        tracked(rt, clock, buys, "buy")


def read(
    rt: er.Runtime, feature: str, view: str = "activity", user: str = "alice"
) -> tuple[object, er.Status]:
    """A feature's value and status."""
    found = rt.read(f"{view}:{feature}", user=user)
    return found.value, found.status


def key_of(rt: er.Runtime, purpose: str = P, user: str = "alice") -> DataKey:
    """The key that a subject's rows of a purpose rest under."""
    key = rt._keyring.key(f"user:{user}", purpose)
    assert key is not None
    return key
