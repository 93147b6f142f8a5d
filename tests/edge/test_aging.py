"""When the time of what rests here is over: never before a read would say so, at most a day later."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cache.aging import Terms, past_ttl
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.stored_state import day_of, is_empty
from edge_runtime.catalog import Catalog
from edge_runtime.session.event import make_event
from edge_runtime.session.plan import compile_catalog
from tests.support.streams import LATENESS_US, RETENTION_US, START_US, every_operator
from tests.support.sweeping import CATALOG, M, P

NOW_US = st.integers(0, 4_000_000_000_000_000)
TERMS = st.builds(
    Terms,
    retention_us=st.integers(0, 400 * DAY_US),
    lateness_us=st.integers(0, DAY_US),
    keep_events_us=st.integers(0, 30 * DAY_US),
    ttls_us=st.dictionaries(st.sampled_from(["a@1", "b@1"]), st.sampled_from([0, 1, DAY_US, 9 * DAY_US + 5])),
)


@given(TERMS, NOW_US, st.integers(0, 4_000_000_000_000_000))
def test_law_7_a_day_is_over_only_when_a_read_would_call_all_of_it_gone(
    terms: Terms, now_us: int, event_us: int
) -> None:
    """Whatever happened within the day; and a day and a microsecond later it is over for certain."""
    assert terms.retention_us is not None
    gone_us = event_us + terms.retention_us + terms.lateness_us
    if event_us // DAY_US < terms.gone_before(now_us):
        assert now_us > gone_us
    if now_us >= gone_us + DAY_US:
        assert event_us // DAY_US < terms.gone_before(now_us)


def test_the_days_are_the_ones_that_a_session_view_would_end() -> None:
    """Against the plan itself, to the microsecond, on both sides of the day on which it is over."""
    plan = compile_catalog(every_operator()).views["activity@1"]
    terms = Terms(RETENTION_US, LATENESS_US)
    event = make_event(every_operator(), "view", {"user": "u", "item": "a", "price": 1.0}, now_us=START_US)
    day = START_US // DAY_US
    over_us = (day + 1) * DAY_US + RETENTION_US + LATENESS_US
    for now_us, over in ((over_us - 1, False), (over_us, True)):
        assert (day < terms.gone_before(now_us)) is over
        state = plan.new_state()
        plan.offer(state, event, "e", START_US)
        assert plan.advance(state, now_us)  # both are past the state's own end: the day has slack, not haste
    last_us = (day + 1) * DAY_US - 1
    late = make_event(every_operator(), "view", {"user": "u", "item": "a", "price": 1.0}, now_us=last_us)
    state = plan.new_state()
    plan.offer(state, late, "e", last_us)
    assert not plan.advance(state, over_us - 1)
    assert plan.advance(state, over_us)


@given(TERMS, NOW_US, st.integers(0, 4_000_000_000_000_000), st.sampled_from(["a@1", "b@1", "unknown@1"]))
def test_law_7_a_stale_row_lies_in_a_day_that_is_looked_at(
    terms: Terms, now_us: int, event_us: int, view: str
) -> None:
    """And it is stale exactly when its ttl says so; a view that nobody declares is never judged."""
    if terms.stale(view, event_us, now_us):
        assert event_us // DAY_US <= terms.stale_upto(now_us)
        assert terms.ttls_us[view]
        assert now_us - event_us > terms.ttls_us[view]
    elif terms.ttls_us.get(view):
        assert now_us - event_us <= terms.ttls_us[view]


@pytest.mark.parametrize(("ttl_us", "age_us", "over"), [(0, 10**15, False), (5, 5, False), (5, 6, True)])
def test_a_value_may_be_used_to_the_last_microsecond_of_its_ttl(ttl_us: int, age_us: int, over: bool) -> None:
    assert past_ttl(ttl_us, 100, 100 + age_us) is over


def test_what_may_be_missing_stops_mattering_when_retention_has_passed_after_it() -> None:
    terms = Terms(100, 5)
    assert terms.silenced({}, 0)
    assert not terms.silenced({b"a": 10, b"b": 20}, 125)
    assert terms.silenced({b"a": 10, b"b": 20}, 126)
    assert not Terms(None).silenced({b"a": 10}, 10**18)  # about nobody: for ever
    assert Terms(None).silenced({}, 0)


def test_terms_come_from_the_catalog() -> None:
    catalog = Catalog.from_toml(CATALOG)
    views, purposes = catalog.views, catalog.purposes
    mine = Terms.of(purposes[P], views)
    day = 86_400_000_000
    assert mine == Terms(30 * day, 60_000_000, 7 * day, {"profile@1": 7 * day, "badge@1": 0})
    assert Terms.of(purposes[M], views) == Terms(60 * day, 60_000_000, 2 * day, {})
    assert Terms.about_nobody(catalog) == Terms(None)
    assert Terms(None).gone_before(10**18) == 0
    assert dataclasses.replace(mine, ttls_us={}).stale_upto(10**18) == -1


def test_a_state_rests_under_the_day_of_an_event_that_waits_for_its_time() -> None:
    """Its journal row may be gone before its time comes, and then the state alone holds it."""
    plan = compile_catalog(every_operator()).views["activity@1"]
    state = plan.new_state()
    assert is_empty(state)
    assert day_of(state, {}, 7 * DAY_US) == 7
    assert day_of(state, {b"x": 3 * DAY_US, b"y": 5 * DAY_US}, 7 * DAY_US) == 5
    ahead_us = (START_US // DAY_US + 1) * DAY_US
    event = make_event(every_operator(), "view", {"user": "u", "item": "a", "price": 1.0}, now_us=ahead_us)
    plan.offer(state, event, "soon", ahead_us - 1)
    assert not is_empty(state)
    assert day_of(state, {b"x": 10**18}, 0) == ahead_us // DAY_US
