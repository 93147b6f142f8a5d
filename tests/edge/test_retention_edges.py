"""Retention and lateness to the microsecond: what joins, what is bridged, what is known again."""

from __future__ import annotations

import pytest

from edge_runtime.session.admission import Admission, ViewState
from edge_runtime.session.event import Event, make_event
from edge_runtime.session.plan import ViewPlan, compile_catalog
from tests.support.streams import LATENESS_US, RETENTION_US, SECOND, START_US, every_operator

CATALOG = every_operator()
PLAN: ViewPlan = compile_catalog(CATALOG).views["activity@1"]
ACCEPTED = Admission.ACCEPTED


def view(at_us: int) -> Event:
    return make_event(CATALOG, "view", {"user": "u", "item": "a", "price": 2.5}, now_us=at_us)


def offer(state: ViewState, at_us: int, event_id: str, now_us: int) -> Admission:
    return PLAN.offer(state, view(at_us), event_id, now_us)


def count(state: ViewState, t_us: int) -> object:
    return PLAN.read_one(state, "count_all", t_us)


def test_an_event_exactly_the_retention_later_joins_though_it_comes_exactly_the_lateness_late() -> None:
    """The state is not let go in the very microsecond in which such an event may still come."""
    state, at_us = PLAN.new_state(), START_US + RETENTION_US
    offer(state, START_US, "a", START_US)
    PLAN.advance(state, at_us + LATENESS_US)
    assert offer(state, at_us, "b", at_us + LATENESS_US) is ACCEPTED
    assert count(state, at_us + LATENESS_US) == 2


@pytest.mark.parametrize("apart_us", [RETENTION_US + 1, RETENTION_US + LATENESS_US])
def test_a_late_event_bridges_a_silence_after_time_has_passed(apart_us: int) -> None:
    """What was before the silence is kept as long as an admitted event can reach it, to the microsecond."""
    state, newest_us = PLAN.new_state(), START_US + apart_us
    offer(state, START_US, "a", START_US)
    offer(state, newest_us, "c", newest_us)
    assert count(state, newest_us) == 1
    now_us = START_US + RETENTION_US + LATENESS_US
    PLAN.advance(state, now_us)
    assert offer(state, START_US + RETENTION_US, "b", now_us) is ACCEPTED
    assert count(state, now_us) == 3


def test_what_no_event_can_reach_any_more_is_let_go() -> None:
    """One microsecond later nothing of it is in memory."""
    state, newest_us = PLAN.new_state(), START_US + RETENTION_US + 1
    offer(state, START_US, "a", START_US)
    offer(state, newest_us, "c", newest_us)
    PLAN.advance(state, START_US + RETENTION_US + LATENESS_US)
    assert state.previous is not None
    PLAN.advance(state, START_US + RETENTION_US + LATENESS_US + 1)
    assert state.previous is None


def test_states_exactly_the_retention_apart_merge_to_one() -> None:
    """And to the later one where they are a microsecond further apart."""
    for apart_us, together in ((RETENTION_US, 2), (RETENTION_US + 1, 1)):
        states = [PLAN.new_state(), PLAN.new_state()]
        for n, state in enumerate(states):
            offer(state, START_US + n * apart_us, f"e{n}", START_US + n * apart_us)
        for merged in (PLAN.merge(*states), PLAN.merge(*reversed(states))):
            assert count(merged, START_US + apart_us) == together


def test_a_merged_state_refuses_what_either_had_to_forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of known ids the oldest are forgotten; what is that old is LATE, also once merged."""
    monkeypatch.setattr("edge_runtime.session.admission.KNOWN_IDS_LIMIT", 16)
    monkeypatch.setattr("edge_runtime.session.plan.KNOWN_IDS_LIMIT", 16)
    state = PLAN.new_state()
    for n in range(17):
        offer(state, START_US + n, f"e{n}", START_US + n)
    assert state.floor_us > START_US
    for merged in (PLAN.merge(state, PLAN.new_state()), PLAN.merge(PLAN.new_state(), state)):
        assert offer(merged, START_US, "e0", START_US + 17) is Admission.LATE


def test_ids_of_a_clock_set_back_stay_known() -> None:
    """However far ahead the newest event lies: a second sending counts once."""
    state = PLAN.new_state()
    offer(state, START_US + 3600 * SECOND, "ahead", START_US + 3600 * SECOND)
    for n in range(40):
        assert offer(state, START_US + n, f"e{n}", START_US + n) is ACCEPTED
    for n in range(40):
        assert offer(state, START_US + n, f"e{n}", START_US + 40) is Admission.DUPLICATE


def test_an_event_that_waited_and_is_due_is_the_newest_for_the_next() -> None:
    """Also where nobody has read since its time came."""
    state, due_us = PLAN.new_state(), START_US + 30 * SECOND
    assert offer(state, due_us, "soon", START_US) is Admission.WAITING
    late_us = due_us - LATENESS_US
    assert offer(state, late_us - 1, "late", due_us) is Admission.LATE
    assert offer(state, late_us, "in time", due_us) is ACCEPTED


def test_an_event_delivered_after_retention_has_ended_all_counts_alone() -> None:
    """More than the lateness late by the clock: what it would have joined has gone."""
    state, at_us = PLAN.new_state(), START_US + RETENTION_US - 1
    offer(state, START_US, "a", START_US)
    now_us = START_US + RETENTION_US + LATENESS_US + 1
    assert PLAN.advance(state, now_us)
    assert not PLAN.advance(state, now_us)
    assert offer(state, at_us, "b", now_us) is ACCEPTED
    assert count(state, now_us) == 1
