"""Sessions that late events lengthen, join and fill; gaps and lateness to the microsecond; bounded memory."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import SessionFeature
from edge_runtime.session.admission import Admission, ViewState
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.operators.hyperloglog import value_hash
from edge_runtime.session.plan import compile_catalog
from tests.support.oracle import oracle
from tests.support.oracle_sets import hyperloglog

SECOND = 1_000_000
START_US = 1_700_000_000 * SECOND
LATENESS_US = 60 * SECOND
CATALOG = Catalog.from_toml("""
[catalog]
name = "sessions"
version = 1
[purposes.p]
title = "Tests"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "1d"
keep_events = "1h"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64", clicks = "int64" }
[events.buy]
entities = ["user", "item"]
properties = { price = "float64", clicks = "int64" }
[views.visit]
version = 1
entity = "user"
source = "session"
purpose = "p"
ttl = 0
owner = "tests"
allowed_lateness = "60s"
[views.visit.features]
count = { op = "session_count", event = ["view", "buy"], gap = "30s" }
views = { op = "session_count", event = "view", gap = "30s" }
dear = { op = "session_count", event = ["view", "buy"], gap = "30s", where.price.gt = 10.0 }
spent = { op = "session_sum", event = ["view", "buy"], value = "price", gap = "30s" }
clicks = { op = "session_sum", event = ["view", "buy"], value = "clicks", gap = "30s" }
items = { op = "session_distinct", event = ["view", "buy"], value = "item", gap = "30s", cap = 3 }
many = { op = "session_distinct", event = ["view", "buy"], value = "item", gap = "30s" }
length = { op = "session_duration", event = ["view", "buy"], gap = "30s" }
length_dear = { op = "session_duration", event = ["view", "buy"], gap = "30s", where.price.gt = 10.0 }
start = { op = "session_start", event = ["view", "buy"], gap = "30s" }
tight = { op = "session_count", event = ["view", "buy"], gap = "1s" }
tight_items = { op = "session_distinct", event = ["view", "buy"], value = "item", gap = "1s", cap = 40 }
[views.visit.features.spent_dear]
op = "session_sum"
event = ["view", "buy"]
value = "price"
gap = "30s"
where.price.gt = 10.0
[views.visit.features.items_dear]
op = "session_distinct"
event = ["view", "buy"]
value = "item"
gap = "30s"
where.price.gt = 10.0
""")
PLAN = compile_catalog(CATALOG).views["visit@1"]

Seen = tuple[Event, str]


def view(after_us: int, kind: str = "view", **fields: object) -> Event:
    at_us = START_US + after_us
    return make_event(CATALOG, kind, {"user": "u", "item": "i", **fields}, now_us=at_us)


def state_of(events: Iterable[Event], state: ViewState | None = None) -> ViewState:
    """The state after the events came in this order, none too late."""
    state = PLAN.new_state() if state is None else state
    for event in events:
        event_id = f"{event.at_us}/{event.entities['item']}/{event.properties}"
        now_us = max(event.at_us, state.newest)
        assert PLAN.offer(state, event, event_id, now_us) is Admission.ACCEPTED
    return state


def read(state: ViewState, *names: str, after_us: int) -> tuple[object, ...]:
    return tuple(PLAN.read_one(state, name, START_US + after_us) for name in names)


ALL = ("count", "spent", "items", "length", "start")


def test_late_events_lengthen_a_session_at_either_end_fill_it_and_join_two() -> None:
    """Each way in which an event can come late leaves what any other order would have left."""
    state = state_of([view(0, item="a", price=1.0), view(50 * SECOND, item="b", price=2.0)])
    now = {"after_us": 50 * SECOND}
    assert read(state, *ALL, **now) == (1, 2.0, 1, 0.0, START_US + 50 * SECOND)
    state_of([view(45 * SECOND, item="c", price=4.0)], state)
    assert read(state, *ALL, **now) == (2, 6.0, 2, 5.0, START_US + 45 * SECOND), "at its start"
    state_of([view(48 * SECOND, item="c", price=8.0)], state)
    assert read(state, *ALL, **now) == (3, 14.0, 2, 5.0, START_US + 45 * SECOND), "inside"
    state_of([view(10 * SECOND, item="d", price=16.0)], state)
    assert read(state, *ALL, **now) == (3, 14.0, 2, 5.0, START_US + 45 * SECOND), "in the one before"
    state_of([view(30 * SECOND, item="b", price=32.0)], state)
    assert read(state, *ALL, **now)[:2] == (6, 63.0), "joined"
    assert read(state, *ALL, **now)[3:] == (50.0, START_US)
    assert read(state, "items", **now) == (hyperloglog(value_hash(i).to_bytes(8, "big") for i in "abcd"),)


def test_an_event_inside_an_older_run_leaves_its_end_where_it_was() -> None:
    """The older run still reaches what comes within a gap of its own end."""
    times = [0, 20, 75, 15, 48]
    state = state_of([view(after * SECOND) for after in times])
    assert read(state, "count", "length", after_us=75 * SECOND) == (5, 75.0)


def test_a_late_event_at_the_very_lateness_reaches_a_run_a_whole_gap_before_it() -> None:
    """60 s late and exactly 30 s after the older run's end: it joins; a microsecond later it is LATE."""
    newest_us = 90 * SECOND
    events = [view(0, item="a"), view(newest_us, item="z")]
    late = [view(30 * SECOND, item="b"), view(60 * SECOND, item="c")]
    for before in ([], [view(-50 * SECOND)], [view(-500 * SECOND), *events, view(89 * SECOND)]):
        state = state_of([*before, *(() if events[0] in before else events), *late])
        assert read(state, "length", "start", after_us=newest_us) == (90.0, START_US)
    state = state_of(events)
    assert read(state, "count", after_us=newest_us) == (1,)
    too_late = view(30 * SECOND - 1)
    assert PLAN.offer(state, too_late, "late", START_US + newest_us) is Admission.LATE
    assert read(state, "count", "start", after_us=newest_us) == (1, START_US + newest_us)


def test_a_gap_to_the_microsecond() -> None:
    """Exactly the gap joins and is still current at a read; one microsecond more does neither."""
    state = state_of([view(0, price=1.0), view(30 * SECOND, price=2.0)])
    assert read(state, *ALL, after_us=30 * SECOND) == (2, 3.0, 1, 30.0, START_US)
    state_of([view(60 * SECOND + 1, price=4.0)], state)
    assert read(state, *ALL, after_us=60 * SECOND + 1) == (1, 4.0, 1, 0.0, START_US + 60 * SECOND + 1)
    assert read(state, *ALL, after_us=90 * SECOND + 1) == (1, 4.0, 1, 0.0, START_US + 60 * SECOND + 1)
    assert read(state, *ALL, after_us=90 * SECOND + 2) == (0, 0.0, 0, 0.0, None)
    assert read(PLAN.new_state(), *ALL, after_us=0) == (0, 0.0, 0, 0.0, None)


def test_where_neither_ends_nor_shortens_a_session() -> None:
    """Cheap views keep it alive and give it its ends; only what is counted asks for the price."""
    events = [view(n * 20 * SECOND, price=50.0 if n == 2 else 1.0, item=f"i{n}") for n in range(6)]
    state, names = state_of(events), ("dear", "spent_dear", "items_dear", "length_dear", "length", "start")
    assert read(state, *names, after_us=100 * SECOND) == (1, 50.0, 1, 100.0, 100.0, START_US)
    assert read(state, *names, after_us=130 * SECOND) == (1, 50.0, 1, 100.0, 100.0, START_US)
    assert read(state, *names, after_us=130 * SECOND + 1) == (0, 0.0, 0, 0.0, 0.0, None)


def test_an_event_without_the_value_keeps_the_session_alive() -> None:
    """A sum or set of what was not carried misses nothing and ends nothing."""
    state = state_of([view(0, price=3.0), view(25 * SECOND), view(50 * SECOND, price=4.0)])
    assert read(state, "spent", "count", after_us=50 * SECOND) == (7.0, 3)


def test_only_the_features_own_events_make_its_session() -> None:
    """A purchase does not keep a session of views alive, nor does it end one."""
    state = state_of([view(0), view(25 * SECOND, kind="buy"), view(50 * SECOND)])
    assert read(state, "views", "count", after_us=50 * SECOND) == (1, 3)


def test_sums_of_a_session_are_exact() -> None:
    """2^500 + 0.1 - 2^500 is 0.1 in any order; whole numbers add up beyond 64 bits."""
    events = [view(n, price=price) for n, price in enumerate([2.0**500, 0.1, -(2.0**500)])]
    events += [view(n, clicks=clicks) for n, clicks in enumerate([(1 << 63) - 1] * 3, 10)]
    for seed in range(4):
        state = state_of(random.Random(seed).sample(events, len(events)))
        state = PLAN.load(PLAN.dump(state))
        assert read(state, "spent", "clicks", after_us=20) == (0.1, float(3 * ((1 << 63) - 1)))


def test_a_joined_set_crosses_the_cap_as_one_set_would() -> None:
    """Two runs within the cap of 3, joined over it; the same items twice do not cross it."""
    for items, expected in (("abcd", True), ("abab", False)):
        events = [view(n * 15 * SECOND, item=item) for n, item in enumerate([*items, items[0]])]
        wanted = hyperloglog({value_hash(i).to_bytes(8, "big") for i in items}) if expected else 2
        for seed in range(6):
            state = state_of(random.Random(seed).sample(events, 5))
            assert read(state, "items", after_us=60 * SECOND) == (wanted,)


def test_thousands_of_items_in_one_session_in_any_order() -> None:
    """Over a cap of 2048: the same estimate whether events come in order, late, or as two merged parts."""
    events = [view(n * 10_000, item=f"item-{n}") for n in range(3_000)]
    wanted = hyperloglog(value_hash(f"item-{n}").to_bytes(8, "big") for n in range(3_000))
    shuffled = random.Random(1).sample(events, 3_000)
    states = [
        state_of(events),
        state_of(shuffled),
        PLAN.merge(state_of(events[:1500]), state_of(events[1500:])),
    ]
    assert {read(PLAN.load(PLAN.dump(one)), "many", after_us=30 * SECOND) for one in states} == {(wanted,)}


@pytest.mark.parametrize("apart_us", [900_000, 8 * SECOND, 16 * SECOND])
def test_many_runs_within_the_lateness_in_any_order(apart_us: int) -> None:
    """Events about a gap apart, each up to 60 s late, are what the definition says at every step."""
    rng = random.Random(apart_us)
    times = [n * apart_us + rng.choice([0, 0, 100_001, 2 * apart_us]) for n in range(300)]
    arriving = sorted((at + rng.randrange(LATENESS_US), n, at) for n, at in enumerate(times))
    state, seen = PLAN.new_state(), list[Seen]()
    for position, (now_us, n, at) in enumerate(arriving):
        event = view(at, item=f"item-{n % 50}", price=n / 7)
        assert PLAN.offer(state, event, f"e{n}", START_US + now_us) is Admission.ACCEPTED
        seen.append((event, f"e{n}"))
        if position % 5 == 0 or position == 299:
            assert PLAN.values(state, state.newest) == expected(seen, state.newest)


def expected(seen: Sequence[Seen], t_us: int) -> tuple[object, ...]:
    features = [f for f in PLAN.view.features.values() if isinstance(f, SessionFeature)]
    return tuple(oracle(f, seen, t_us, None) for f in features)


def test_length_and_start_share_the_state_of_a_plain_count() -> None:
    """Where runs begin and end is kept once for an event list and a gap, whatever `where` a feature has."""
    shared = {PLAN.statistics_of(name) for name in ("count", "length", "length_dear", "start")}
    assert len(shared) == 1
    assert PLAN.statistics_of("views") not in shared


def test_law_11_sessions_of_a_long_stream_stay_bounded() -> None:
    """Fifty thousand sessions leave no more than those that a late event can still reach."""
    state, sizes = PLAN.new_state(), []
    for number in range(50_000):
        event = view(number * (SECOND + 1), item=f"item-{number}", price=1.0)
        PLAN.update(state, event, f"{number:06}")
        if number in (999, 49_999):
            sizes.append(len(PLAN.dump(state)))
    assert sizes[1] < sizes[0] * 1.1
    assert sizes[1] < 62 * 50 + 6_000
