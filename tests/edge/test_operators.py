"""Every operator gives what its definition says, whatever the order of arrival, the split, or the storage."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import SessionFeature
from edge_runtime.catalog.operators import OPERATORS
from edge_runtime.session.admission import Admission, ViewState
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.operators.decayed import BUCKETS
from edge_runtime.session.operators.hyperloglog import REGISTERS
from edge_runtime.session.operators.keyed import CountMap
from edge_runtime.session.plan import ViewPlan, compile_catalog
from tests.support.oracle import Counts, oracle
from tests.support.streams import (
    EMBEDDINGS,
    LATENESS_US,
    RETENTION_US,
    SECOND,
    START_US,
    Arrival,
    arrivals,
    every_operator,
)

CATALOG = every_operator()
PLAN = compile_catalog(CATALOG).views["activity@1"]
FEATURES = [f for f in PLAN.view.features.values() if isinstance(f, SessionFeature)]
_LARGEST = (1 << 63) - 1
LATER_US = st.sampled_from([0, 1, SECOND, 7 * SECOND, 30 * SECOND, 31 * SECOND, 5 * 60 * SECOND])
MUCH_LATER_US = st.sampled_from([59 * 60 * SECOND, RETENTION_US, RETENTION_US + 1, 99 * RETENTION_US])


def fed(stream: Sequence[Arrival]) -> ViewState:
    state = PLAN.new_state()
    for one in stream:
        assert PLAN.offer(state, one.event, one.event_id, one.now_us) is Admission.ACCEPTED
    return state


def bits(value: object) -> str:
    """A value's text: where two are equal so are the bits and the types; 0 is neither 0.0 nor -0.0."""
    match value:
        case CountMap():
            return bits(Counts(dict(value), value.overflow))
        case Counts(counts, overflow):
            return f"{sorted(counts.items())} and {overflow}"
        case np.ndarray():
            return repr(value.tolist())
    return repr(value)


def embedded(embedding: str, item: str) -> tuple[float, ...] | None:
    assert embedding == "item_vec@1:embedding"
    return EMBEDDINGS.get(item)


def read(state: ViewState, t_us: int) -> dict[str, str]:
    return dict(zip(PLAN.names, map(bits, PLAN.values(state, t_us, embedded)), strict=True))


def expected(stream: Sequence[Arrival], t_us: int) -> dict[str, str]:
    history = [(one.event, one.event_id) for one in stream]
    return {f.name: bits(oracle(f, history, t_us, RETENTION_US, EMBEDDINGS.get)) for f in FEATURES}


def newest(stream: Sequence[Arrival]) -> int:
    return max((one.event.at_us for one in stream), default=START_US)


def test_every_operator_is_under_this_contract() -> None:
    """The catalog of the contract test uses every operator there is."""
    assert {f.op for f in FEATURES} == set(OPERATORS)


@settings(max_examples=150)
@given(stream=arrivals(CATALOG), gaps_us=st.lists(st.one_of(LATER_US, MUCH_LATER_US), min_size=1, max_size=6))
def test_law_8_reading_between_events_changes_no_later_number(
    stream: list[Arrival], gaps_us: list[int]
) -> None:
    """What a read notes for the next one never outlives what it was made of."""
    watched, unwatched = PLAN.new_state(), PLAN.new_state()
    for position, one in enumerate(stream):
        for state in (watched, unwatched):
            PLAN.offer(state, one.event, one.event_id, one.now_us)
        t_us = watched.newest + gaps_us[position % len(gaps_us)]
        read(watched, t_us)
        assert read(watched, t_us) == read(PLAN.load(PLAN.dump(unwatched)), t_us)
        assert read(watched, t_us + 1) == read(PLAN.load(PLAN.dump(watched)), t_us + 1)


@settings(max_examples=150)
@given(arrivals(CATALOG), LATER_US | MUCH_LATER_US)
def test_law_8_any_order_of_arrival_gives_the_oracles_bits(stream: list[Arrival], later_us: int) -> None:
    """After any order of arrival within the lateness, each value is the definition's, now and later."""
    state, t_us = fed(stream), newest(stream) + later_us
    assert read(state, t_us) == expected(stream, t_us)
    assert read(state, newest(stream)) == expected(stream, newest(stream)), "a later read changed the state"


@settings(max_examples=40)
@given(arrivals(CATALOG, max_size=16))
def test_every_step_equals_the_oracle(stream: list[Arrival]) -> None:
    """Not only at the end: after each event the values are those of the events so far."""
    state = PLAN.new_state()
    for number, one in enumerate(stream, 1):
        PLAN.offer(state, one.event, one.event_id, one.now_us)
        t_us = newest(stream[:number])
        assert read(state, t_us) == expected(stream[:number], t_us)


@settings(max_examples=80)
@given(arrivals(CATALOG), st.integers(0, 24), LATER_US)
def test_law_8_split_and_merge_give_identical_bits(stream: list[Arrival], cut: int, later_us: int) -> None:
    """Two states of consecutive parts, merged, equal one state of all; both stay as they were."""
    first, second = fed(stream[:cut]), fed(stream[cut:])
    before = PLAN.dump(first), PLAN.dump(second)
    t_us = newest(stream) + later_us
    assert read(PLAN.merge(first, second), t_us) == expected(stream, t_us)
    assert read(PLAN.merge(second, first), t_us) == expected(stream, t_us)
    assert (PLAN.dump(first), PLAN.dump(second)) == before


@settings(max_examples=80)
@given(arrivals(CATALOG), st.integers(0, 24), st.booleans())
def test_law_8_storage_in_mid_stream_changes_nothing(stream: list[Arrival], cut: int, pickled: bool) -> None:
    """Dump and load, or pickle, in the middle of a stream: the rest goes on as if nothing had been."""
    state = fed(stream[:cut])
    state = pickle.loads(pickle.dumps(state)) if pickled else PLAN.load(PLAN.dump(state))  # noqa: S301 — our own
    for one in stream[cut:]:
        assert PLAN.offer(state, one.event, one.event_id, one.now_us) is Admission.ACCEPTED
    t_us = newest(stream)
    assert read(state, t_us) == expected(stream, t_us)


@settings(max_examples=60)
@given(arrivals(CATALOG), LATER_US)
def test_one_feature_read_alone_is_the_same(stream: list[Arrival], later_us: int) -> None:
    """`read_one` gives what `values` gives."""
    state, t_us = fed(stream), newest(stream) + later_us
    alone = {name: bits(PLAN.read_one(state, name, t_us, embedded)) for name in PLAN.names}
    assert alone == read(state, t_us)


def test_law_11_a_long_stream_leaves_the_state_bounded() -> None:
    """Twenty thousand events take no more room than two thousand."""
    state, sizes = PLAN.new_state(), []
    for number in range(20_000):
        at_us = START_US + number * SECOND
        one = _view(at_us, item=f"item-{number % 997}")
        assert PLAN.offer(state, one, f"id-{number}", at_us) is Admission.ACCEPTED
        if number in (1_999, 19_999):
            sizes.append(len(PLAN.dump(state)))
    assert sizes[1] < sizes[0] * 1.2


@pytest.mark.parametrize("name", [f.name for f in FEATURES])
def test_law_11_no_feature_outgrows_its_bound(name: str) -> None:
    """Twelve thousand events, their values ever new, leave a feature within bounds, stored or pickled."""
    feature = next(f for f in FEATURES if f.name == name)
    plan = ViewPlan(replace(PLAN.view, features={name: feature}), CATALOG)
    state = plan.new_state()
    for number, one in enumerate(_ever_new(), 1):
        plan.update(state, one, f"id-{number}")
    assert len(plan.dump(state)) <= _bound_bytes(feature)
    assert len(pickle.dumps(state)) <= _bound_bytes(feature)


def _bound_bytes(f: SessionFeature) -> int:
    """1 KiB, and for each tile or run 256 bytes and 64 for each entry that it may hold."""
    match f.op:
        case "last_n" | "decayed_mean_vector":
            tiles, entries = 1, f.n or 0
        case "count_by" | "top_n":
            tiles, entries = f.tiles or 1, f.max_keys
        case "distinct":
            tiles, entries = f.tiles or 1, max(f.cap, REGISTERS // 64)
        case "decayed_count" | "decayed_sum":
            tiles, entries = 1, BUCKETS
        case op if op.startswith("session_"):
            entries = max(f.cap, REGISTERS // 64) if op == "session_distinct" else 1
            tiles = LATENESS_US // (f.gap_us or 1) + 3
        case _:
            tiles, entries = f.tiles or 1, 0
    return 1024 + tiles * (256 + 64 * entries)


@cache
def _ever_new() -> list[Event]:
    """Two events a second for 100 minutes, one in 31 late, with keys and numbers that hardly repeat."""
    found = []
    for number in range(12_000):
        at_us = START_US + number * SECOND // 2 - (40 * SECOND if number % 31 == 0 else 0)
        sign, kind = (-1) ** number, "view" if number % 3 else "buy"
        fields: dict[str, object] = {"user": "alice", "item": f"item-{number * 7919 % 5003}"}
        fields |= {"price": sign * 2.0**500 / (number + 1.5)}
        if kind == "view":
            fields |= {"category": f"category-{number % 4001}", "logged_in": sign > 0}
            fields |= {"clicks": sign * (_LARGEST - number)}
        else:
            fields |= {"quantity": _LARGEST - number}
        found.append(make_event(CATALOG, kind, fields, now_us=at_us))
    return found


def test_hop_edges_are_exact() -> None:
    """An event leaves a 5 minute window when 60 tiles of 5 s have begun after its own, not before."""
    state, at_us = PLAN.new_state(), START_US + 4 * SECOND
    PLAN.offer(state, _view(at_us), "a", at_us)
    edge_us = START_US // (5 * SECOND) * 5 * SECOND + 300 * SECOND
    assert PLAN.read_one(state, "count_5m", edge_us - 1) == 1
    assert PLAN.read_one(state, "count_5m", edge_us) == 0


def test_a_gap_of_exactly_the_gap_joins_and_one_more_does_not() -> None:
    """Sessions: a silence of exactly 30 s joins, one microsecond more ends."""
    state = PLAN.new_state()
    for number, at_us in enumerate([START_US, START_US + 30 * SECOND, START_US + 60 * SECOND + 1]):
        PLAN.offer(state, _view(at_us), str(number), at_us)
    t_us = START_US + 60 * SECOND + 1
    assert PLAN.read_one(state, "depth", t_us) == 1
    assert PLAN.read_one(state, "depth", t_us + 30 * SECOND) == 1
    assert PLAN.read_one(state, "depth", t_us + 30 * SECOND + 1) == 0


def test_a_late_event_joins_two_sessions() -> None:
    """Two sessions 50 s apart become one when an event between them arrives."""
    state, now_us = PLAN.new_state(), START_US + 50 * SECOND
    PLAN.offer(state, _view(START_US), "a", now_us)
    PLAN.offer(state, _view(now_us), "b", now_us)
    assert PLAN.read_one(state, "depth", now_us) == 1
    PLAN.offer(state, _view(START_US + 25 * SECOND), "c", now_us)
    assert PLAN.read_one(state, "depth", now_us) == 3


def test_ties_are_ordered_by_id_as_bytes() -> None:
    """At one instant the greater id in UTF-8 is the later, whatever came first."""
    for order in (["z", "é", "\U0001f600"], ["\U0001f600", "é", "z"]):
        state = PLAN.new_state()
        for event_id in order:
            PLAN.offer(state, _view(START_US, item=f"of {event_id}"), event_id, START_US)
        assert PLAN.read_one(state, "last_3", START_US) == ["of z", "of é", "of \U0001f600"]


def test_sums_of_huge_and_tiny_values_do_not_lose_the_tiny() -> None:
    """2^500 + 0.1 - 2^500 is 0.1."""
    state = PLAN.new_state()
    for number, price in enumerate([2.0**500, 0.1, -(2.0**500)]):
        PLAN.offer(state, _view(START_US, price=price), str(number), START_US)
    assert PLAN.read_one(state, "sum_all", START_US) == 0.1


@pytest.mark.parametrize("silence_us", [RETENTION_US, RETENTION_US + 1])
def test_retention_counts_from_the_newest_event(silence_us: int) -> None:
    """A silence longer than the retention empties what has no window, at a read and for the next event."""
    state = PLAN.new_state()
    PLAN.offer(state, _view(START_US), "a", START_US)
    t_us = START_US + silence_us
    kept = int(silence_us <= RETENTION_US)
    assert PLAN.read_one(state, "count_all", t_us) == kept
    PLAN.offer(state, _view(t_us), "b", t_us)
    assert PLAN.read_one(state, "count_all", t_us) == 1 + kept


def test_advance_removes_what_retention_has_ended() -> None:
    """Past retention plus lateness the state is as new: nothing of the subject is left in it."""
    state = PLAN.new_state()
    PLAN.offer(state, _view(START_US), "a", START_US)
    PLAN.advance(state, START_US + RETENTION_US + LATENESS_US + 1)
    assert PLAN.dump(state) == PLAN.dump(PLAN.new_state())


def _view(at_us: int, item: str = "a", price: float | None = None) -> Event:
    fields = {"user": "alice", "item": item, "price": price}
    return make_event(CATALOG, "view", fields, now_us=at_us)
