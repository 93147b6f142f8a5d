"""One event into 12 session features: the engine, the same by hand, and river.

The engine's time is `ViewPlan.offer`: dedup, lateness, order and all 12 updates, with the state of each user
looked up by name; all times are of the processor. The limit is `hand_written.py`, checked to give identical
values before anything is timed. river has statistics for nine of the twelve (`session_river.py` says which),
so it is compared feature by feature with the engine keeping the same nine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from bench.hand_written import HandWritten
from bench.measure import medians, table
from bench.session_feeds import Feed, made, real
from bench.session_river import FEATURES as RIVER_FEATURES
from bench.session_river import river
from bench.streams import find
from edge_runtime.catalog import Catalog
from edge_runtime.session.operators.keyed import CountMap
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog

ROUNDS = 7
REAL = {"nasa_http": ROUNDS, "online_retail": 3}
"""Real streams, and how many rounds each is worth."""

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


def run() -> dict[str, object]:
    """Check, measure, print the table; returns the numbers."""
    catalog = Catalog.from_toml(CATALOG)
    rows: list[tuple[str, ...]] = [
        ("one event into", "us/event", "us/feature", "ratio to limit", "river / engine, per feature")
    ]
    main = _measured(made(catalog), ROUNDS)
    rows += _rows("one user", main)
    streams: dict[str, object] = {}
    for name, rounds in REAL.items():
        found = find(name)
        feed = real(catalog, found)
        users = len({one.user for one in feed})
        measured = _measured(feed, rounds)
        rows += _rows(f"{name}, {found.what}, {users} users", measured)
        streams[name] = {**measured, "data": found.what, "events": len(feed), "users": users}
    print(table(rows))
    return {**main, "features": 12, "river_features": len(RIVER_FEATURES), "streams": streams}


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def assert_identical(plan: ViewPlan, feed: Feed) -> None:
    """Engine and hand-written limit agree on every verdict and, at many points, on every value's bits."""
    states: dict[str, ViewState] = {}
    hands: dict[str, HandWritten] = {}
    for position, (user, event, event_id, now_us) in enumerate(feed):
        state, hand = states.setdefault(user, plan.new_state()), hands.setdefault(user, HandWritten())
        mine = plan.offer(state, event, event_id, now_us)
        assert mine == hand.track(event, event_id, now_us), position
        if position % 97 == 0 or position > len(feed) - 50:
            _compare(plan, state, hand, now_us)
    end_us = max(one.now_us for one in feed)
    for user, state in states.items():
        _compare(plan, state, hands[user], end_us)


def _compare(plan: ViewPlan, state: ViewState, hand: HandWritten, now_us: int) -> None:
    for t_us in (now_us, now_us + 61_000_000, now_us + 40_000_000_000):
        values = tuple(map(_plain, plan.values(state, t_us)))
        assert values == hand.values(t_us), (t_us, values, hand.values(t_us))


def _plain(value: object) -> object:
    return (dict(value), value.overflow) if isinstance(value, CountMap) else value


def _measured(feed: Feed, rounds: int) -> dict[str, object]:
    """Microseconds of one event for each contestant, after the check that engine and limit agree."""
    plan = _plan(CATALOG)
    assert_identical(plan, feed)
    contestants = {"engine": _engine(plan, feed), "same": _engine(_plan(_same_as_river()), feed)}
    contestants["hand"] = _hand(feed)
    peer = river(feed)
    if peer is not None:
        contestants["river"] = peer
    found = medians(contestants, rounds=rounds, clock=time.process_time)
    micros = {name: seconds / len(feed) * 1e6 for name, seconds in found.items()}
    result: dict[str, object] = {
        "us_per_event": round(micros["engine"], 3),
        "hand_written_us": round(micros["hand"], 3),
        "ratio_to_limit": round(micros["engine"] / micros["hand"], 3),
        "same_features_us": round(micros["same"], 3),
        "peers": {"river": round(micros["river"], 3) if peer else None},
        "river_ratio_per_feature": round(micros["river"] / micros["same"], 2) if peer else None,
    }
    return result


def _rows(title: str, found: dict[str, object]) -> list[tuple[str, ...]]:
    def row(name: str, micros: object, features: int, *more: str) -> tuple[str, ...]:
        each = f"{micros / features:.3f}" if isinstance(micros, float) else ""
        shown = f"{micros:.2f}" if isinstance(micros, float) else "not installed"
        return (f"{title}: {name}", shown, each, *more, *[""] * (2 - len(more)))

    nine, peers = len(RIVER_FEATURES), found["peers"]
    assert isinstance(peers, dict)
    return [
        row("12 features, this engine", found["us_per_event"], 12, str(found["ratio_to_limit"])),
        row("12 features, by hand (limit)", found["hand_written_us"], 12, "1"),
        row(f"{nine} that river has, this engine", found["same_features_us"], nine),
        row(f"the same {nine}, river", peers["river"], nine, "", str(found["river_ratio_per_feature"])),
    ]


def _plan(catalog: str) -> ViewPlan:
    return compile_catalog(Catalog.from_toml(catalog)).views["activity@1"]


def _same_as_river() -> str:
    """The catalog with those features alone that river has a statistic for."""
    head, features = CATALOG.split("[views.activity.features]\n")
    kept = [line for line in features.splitlines() if line.partition(" ")[0] in RIVER_FEATURES]
    return head + "[views.activity.features]\n" + "\n".join(kept)


def _engine(plan: ViewPlan, feed: Feed) -> Callable[[], object]:
    def work() -> None:
        states: dict[str, ViewState] = {}
        offer, new_state = plan.offer, plan.new_state
        for user, event, event_id, now_us in feed:
            state = states.get(user)
            if state is None:
                state = states[user] = new_state()
            offer(state, event, event_id, now_us)

    return work


def _hand(feed: Feed) -> Callable[[], object]:
    def work() -> None:
        hands: dict[str, HandWritten] = {}
        for user, event, event_id, now_us in feed:
            hand = hands.get(user)
            if hand is None:
                hand = hands[user] = HandWritten()
            hand.track(event, event_id, now_us)

    return work


if __name__ == "__main__":
    main()
