"""One event into 12 session features: the engine, the same by hand, and river.

The engine's time is `ViewPlan.offer`: dedup, lateness, order and all 12 updates. The limit is
`hand_written.py`, checked to give identical values before anything is timed. river keeps 5 statistics without
dedup, lateness or order, so its time is also given for each feature.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.hand_written import HandWritten
from bench.measure import medians, table
from edge_runtime.catalog import Catalog
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.operators.keyed import CountMap
from edge_runtime.session.plan import ViewPlan, compile_catalog

EVENTS, ROUNDS, SEED = 20_000, 7, 20261
RIVER_STATISTICS = 5

CATALOG = """
[catalog]
name = "bench"
version = 1
[purposes.personalization]
title = "Bench"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
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
ttl = "30d"
owner = "bench"
[views.activity.features]
views_5m = { op = "count", event = "view", window = "5m" }
views_1h = { op = "count", event = "view", window = "1h" }
views_1d = { op = "count", event = "view", window = "1d" }
spend_1h = { op = "sum", event = "view", value = "price", window = "1h" }
spend_7d = { op = "sum", event = "view", value = "price", window = "7d" }
dear_1d = { op = "count", event = "view", window = "1d", where = { price = { gt = 10 } } }
last_item = { op = "last", event = "view", value = "item" }
last_items = { op = "last_n", event = "view", value = "item", n = 10 }
pace = { op = "decayed_count", event = "view", half_life = "10m" }
depth = { op = "session_count", event = "view", gap = "30m" }
by_category = { op = "count_by", event = "view", by = "category", window = "1d" }
since_view = { op = "since_last", event = "view" }
"""

Stream = list[tuple[Event, str, int]]
"""(event, id, now)"""


def stream(catalog: Catalog, count: int = EVENTS) -> Stream:
    """Events of one user in order of arrival: 3 % late by up to 50 s, 2 % sent twice, some pauses."""
    chance, now_us, found = random.Random(SEED), 1_700_000_000_000_000, []
    for number in range(count):
        now_us += chance.randrange(1, 20_000_000)
        if chance.random() < 0.01:
            now_us += chance.randrange(7_200_000_000)
        late_us = chance.randrange(50_000_000) if chance.random() < 0.03 else 0
        fields = {
            "user": "alice",
            "item": f"item-{chance.randrange(400)}",
            "price": chance.randrange(1, 3000) / 100,
            "category": f"category-{chance.randrange(20)}",
        }
        event = make_event(catalog, "view", fields, now_us=now_us - late_us)
        found.append((event, f"event-{number}", now_us))
        if chance.random() < 0.02:
            found.append((event, f"event-{number}", now_us))
    return found


def run() -> dict[str, object]:
    """Check, measure, print the table; returns the numbers."""
    catalog = Catalog.from_toml(CATALOG)
    plan = compile_catalog(catalog).views["activity@1"]
    events = stream(catalog)
    assert_identical(plan, events)
    river = _river(events)
    contestants = {"engine": _engine(plan, events), "hand": _hand(events)}
    found = medians(contestants if river is None else {**contestants, "river": river}, rounds=ROUNDS)
    micros = {name: seconds / len(events) * 1e6 for name, seconds in found.items()}
    print(_report(micros))
    return {
        "us_per_event": round(micros["engine"], 3),
        "hand_written_us": round(micros["hand"], 3),
        "ratio_to_limit": round(micros["engine"] / micros["hand"], 3),
        "peers": {"river": round(micros["river"], 3) if "river" in micros else None},
        "features": 12,
        "river_features": RIVER_STATISTICS,
    }


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def _report(micros: dict[str, float]) -> str:
    def row(title: str, name: str, features: int) -> tuple[str, ...]:
        if name not in micros:
            return title, "not installed", "", ""
        each = micros[name] / features
        ratio = f"{micros[name] / micros['hand']:.2f}"
        return title, f"{micros[name]:.2f}", f"{each:.3f}", ratio

    return table(
        [
            ("one event into", "us/event", "us/feature", "ratio to limit"),
            row("12 features, this engine", "engine", 12),
            row("12 features, by hand (limit)", "hand", 12),
            row(f"{RIVER_STATISTICS} statistics, river", "river", RIVER_STATISTICS),
        ]
    )


def assert_identical(plan: ViewPlan, events: Stream) -> None:
    """Engine and hand-written limit agree on every verdict and, at many points, on every value's bits."""
    state, hand = plan.new_state(), HandWritten()
    for position, (event, event_id, now_us) in enumerate(events):
        mine = plan.offer(state, event, event_id, now_us)
        assert mine == hand.track(event, event_id, now_us), position
        if position % 97 == 0 or position > len(events) - 50:
            for t_us in (now_us, now_us + 61_000_000, now_us + 40_000_000_000):
                values = tuple(map(_plain, plan.values(state, t_us)))
                assert values == hand.values(t_us), (position, values, hand.values(t_us))


def _plain(value: object) -> object:
    return (dict(value), value.overflow) if isinstance(value, CountMap) else value


def _engine(plan: ViewPlan, events: Stream) -> Callable[[], object]:
    def work() -> None:
        state, offer = plan.new_state(), plan.offer
        for event, event_id, now_us in events:
            offer(state, event, event_id, now_us)

    return work


def _hand(events: Stream) -> Callable[[], object]:
    def work() -> None:
        track = HandWritten().track
        for event, event_id, now_us in events:
            track(event, event_id, now_us)

    return work


def _river(events: Stream) -> Callable[[], object] | None:
    """river's nearest five: two rolling sums and a rolling count by time, a decayed mean, a running count."""
    try:
        from river import stats, utils
    except ImportError:
        return None
    epoch = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    ordered = sorted(events, key=lambda one: one[0].at_us)
    rows = [(epoch + timedelta(microseconds=e.at_us), float(e.properties["price"])) for e, _, _ in ordered]

    def work() -> None:
        spend_1h = utils.TimeRolling(stats.Sum(), period=timedelta(hours=1))
        mean_1h = utils.TimeRolling(stats.Mean(), period=timedelta(hours=1))
        spread_5m = utils.TimeRolling(stats.Var(), period=timedelta(minutes=5))
        pace, count = stats.EWMean(), stats.Count()
        for at, price in rows:
            spend_1h.update(price, t=at)
            mean_1h.update(price, t=at)
            spread_5m.update(price, t=at)
            pace.update(price)
            count.update(price)

    return work


if __name__ == "__main__":
    main()
