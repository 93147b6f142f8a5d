"""What becomes of an event: DUPLICATE, WAITING, LATE or ACCEPTED, and what full things do."""

from __future__ import annotations

import pytest

from edge_runtime.errors import MalformedEvent, ReadInPast
from edge_runtime.session import admission
from edge_runtime.session.admission import WAITING_LIMIT, Admission, ViewState
from edge_runtime.session.event import Event
from edge_runtime.session.plan import compile_catalog, next_content_id
from tests.support.streams import LATENESS_US, SECOND, START_US, every_operator

PLAN = compile_catalog(every_operator()).views["activity@1"]
HORIZON_US = LATENESS_US + 60 * SECOND


def view(at_us: int, item: str = "a") -> Event:
    return Event("view", {"user": "alice", "item": item}, {"price": 1.0}, at_us)


def offer(
    state: ViewState, event_id: str, at_us: int, now_us: int | None = None, item: str = "a"
) -> Admission:
    return PLAN.offer(state, view(at_us, item), event_id, at_us if now_us is None else now_us)


def test_a_known_id_is_a_duplicate_and_the_first_content_wins() -> None:
    """The second event of an id changes nothing, whatever it holds."""
    state = PLAN.new_state()
    assert offer(state, "x", START_US, item="first") is Admission.ACCEPTED
    assert offer(state, "x", START_US + 1, item="second") is Admission.DUPLICATE
    assert PLAN.read_one(state, "last_item", START_US) == "first"


def test_ids_are_known_for_exactly_the_horizon() -> None:
    """An id whose event lies more than the horizon behind the newest is no longer known."""
    state = PLAN.new_state()
    offer(state, "x", START_US)
    offer(state, "y", START_US + HORIZON_US)
    assert PLAN.admit(state, "x", START_US + HORIZON_US, START_US + HORIZON_US) is Admission.DUPLICATE
    offer(state, "z", START_US + HORIZON_US + 1)
    at_us = START_US + HORIZON_US + 1
    assert PLAN.admit(state, "x", at_us, at_us) is Admission.ACCEPTED


def test_exactly_the_lateness_is_in_time() -> None:
    """60 s behind the newest is accepted, one microsecond more is LATE and changes nothing."""
    state = PLAN.new_state()
    offer(state, "new", START_US)
    assert offer(state, "a", START_US - LATENESS_US, START_US) is Admission.ACCEPTED
    before = PLAN.dump(state)
    assert offer(state, "b", START_US - LATENESS_US - 1, START_US) is Admission.LATE
    assert PLAN.dump(state) == before


def test_lateness_is_judged_by_event_time_not_by_the_clock() -> None:
    """A history tracked years later is not late to itself."""
    state, now_us = PLAN.new_state(), START_US + 10**15
    assert [offer(state, str(n), START_US + n * SECOND, now_us) for n in range(3)] == [Admission.ACCEPTED] * 3


def test_a_clock_set_back_a_year_does_not_make_honest_events_late() -> None:
    """The edge is min(newest, now)."""
    state, year_us = PLAN.new_state(), 365 * 86_400 * SECOND
    offer(state, "future", START_US + year_us)
    assert offer(state, "honest", START_US) is Admission.ACCEPTED
    with pytest.raises(ReadInPast):
        PLAN.values(state, START_US)


def test_an_event_ahead_of_the_clock_waits_for_its_time() -> None:
    """It is not seen before its time, is seen from it on, and its id is known at once."""
    state = PLAN.new_state()
    assert offer(state, "soon", START_US + 10 * SECOND, START_US) is Admission.WAITING
    assert offer(state, "soon", START_US + 10 * SECOND, START_US) is Admission.DUPLICATE
    assert (state.newest_us, len(state.waiting)) == (None, 1)
    assert PLAN.read_one(state, "count_all", START_US + 10 * SECOND - 1) == 0
    assert PLAN.read_one(state, "count_all", START_US + 10 * SECOND) == 1
    assert len(state.waiting) == 1, "a read at a later time does not change the state"
    PLAN.advance(state, START_US + 10 * SECOND)
    assert (state.newest_us, state.waiting) == (START_US + 10 * SECOND, [])


def test_waiting_events_come_in_order_of_time_and_survive_storage() -> None:
    """Whatever order they came in, and through dump and load."""
    state = PLAN.new_state()
    for seconds in (30, 10, 20):
        offer(state, str(seconds), START_US + seconds * SECOND, START_US, item=f"at {seconds}")
    state = PLAN.load(PLAN.dump(state))
    PLAN.advance(state, START_US + 25 * SECOND)
    assert PLAN.read_one(state, "last_3", START_US + 25 * SECOND) == ["at 10", "at 20"]


def test_law_11_a_full_waiting_buffer_refuses() -> None:
    """One event more than the limit is malformed; nothing is changed, other events still enter."""
    state = PLAN.new_state()
    for number in range(WAITING_LIMIT):
        offer(state, str(number), START_US + SECOND, START_US)
    with pytest.raises(MalformedEvent, match="1024 events ahead of the clock"):
        offer(state, "one more", START_US + SECOND, START_US)
    assert offer(state, "now", START_US) is Admission.ACCEPTED
    assert len(state.waiting) == WAITING_LIMIT


def test_law_11_known_ids_are_bounded_and_nothing_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many ids within the horizon: the oldest are forgotten, and what lies before them is LATE."""
    monkeypatch.setattr(admission, "KNOWN_IDS_LIMIT", 100)
    monkeypatch.setattr("edge_runtime.session.plan.KNOWN_IDS_LIMIT", 100)
    state = PLAN.new_state()
    for number in range(150):
        offer(state, str(number), START_US + number)
        assert len(state.ids) <= 101
    again = [offer(state, str(number), START_US + number) for number in range(150)]
    assert set(again) <= {Admission.DUPLICATE, Admission.LATE, Admission.ACCEPTED}
    assert again.count(Admission.ACCEPTED) <= 1, "only ties with the forgotten edge itself are open"
    assert again[0] is Admission.LATE
    assert again[149] is Admission.DUPLICATE


def test_admit_says_what_offer_does() -> None:
    """`admit` then `apply` is `offer`, for every kind of verdict."""
    one, two = PLAN.new_state(), PLAN.new_state()
    script = [("a", 0, 0), ("b", 5, 3), ("a", 1, 4), ("c", 4, 4), ("d", -70, 6), ("e", 90, 90), ("f", 31, 91)]
    for event_id, at, now in script:
        at_us, now_us = START_US + at * SECOND, START_US + now * SECOND
        PLAN.advance(one, now_us)
        verdict = PLAN.admit(one, event_id, at_us, now_us)
        if verdict in (Admission.ACCEPTED, Admission.WAITING):
            PLAN.apply(one, view(at_us), event_id, now_us)
        assert PLAN.offer(two, view(at_us), event_id, now_us) is verdict
    t_us = START_US + 91 * SECOND
    assert PLAN.values(one, t_us)[:-1] == PLAN.values(two, t_us)[:-1]


def test_events_without_an_id_get_the_next_free_ordinal() -> None:
    """Identical events without ids are all counted, however many."""
    state, same = PLAN.new_state(), view(START_US)
    for _ in range(40):
        assert PLAN.offer(state, same, next_content_id(same, [state]), START_US) is Admission.ACCEPTED
    assert PLAN.read_one(state, "count_all", START_US) == 40
