"""A replay gives what the live engine gives, point by point."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import EdgeError, MalformedEvent, MalformedRequest
from edge_runtime.history.replay import replay
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event
from edge_runtime.session.plan import compile_catalog
from edge_runtime.session.replay import Received
from tests.support.streams import SECOND, START_US, Arrival, arrivals, every_operator

CATALOG = every_operator()
PLAN = compile_catalog(CATALOG).views["activity@1"]
NAMES = [name for name in PLAN.names if name != "taste"]
REFS = [f"activity:{name}" for name in NAMES]


def with_id(one: Arrival) -> Event:
    e = one.event
    return Event(e.type, e.entities, e.properties, e.at_us, one.event_id)


def seconds(at_us: int) -> dict[str, object]:
    return {"user": "alice", "at": at_us // SECOND + (1 if at_us % SECOND else 0)}


@settings(max_examples=60)
@given(arrivals(CATALOG, max_size=16), st.randoms(use_true_random=False))
def test_law_8_replay_equals_the_live_engine(stream: list[Arrival], chance: object) -> None:
    """A shuffled history with duplicates, replayed at the live reads' times, gives the live values."""
    state, live, points = PLAN.new_state(), [], []
    for position, one in enumerate(stream):
        assert PLAN.offer(state, one.event, one.event_id, one.now_us) is Admission.ACCEPTED
        if all(later.event.at_us > one.now_us + SECOND for later in stream[position + 1 :]):
            point = seconds(one.now_us)
            points.append(point)
            at = point["at"]
            assert isinstance(at, int)
            live.append(dict(zip(PLAN.names, PLAN.values(state, at * SECOND), strict=True)))
    history = [with_id(one) for one in stream] * 2
    history.reverse()
    table = replay(CATALOG, history, points=points, refs=REFS)
    for name, ref in zip(NAMES, REFS, strict=True):
        assert table.column(ref) == [values[name] for values in live]


def test_events_at_exactly_the_point_are_included() -> None:
    """The point's own microsecond counts."""
    events = [{"type": "view", "user": "alice", "item": "x", "at": 1_700_000_000, "id": "a"}]
    points = [{"user": "alice", "at": 1_699_999_999.999999}, {"user": "alice", "at": 1_700_000_000}]
    table = replay(CATALOG, events, points=points, refs=["activity:count_all", "activity@1:last_item"])
    assert table.column("activity:count_all") == [0, 1]
    assert table.column("activity@1:last_item") == [None, "x"]
    assert table.status("activity@1:last_item") == [1, 0]


def test_points_keep_their_order_and_subjects_stay_apart() -> None:
    """Columns follow the points given, in any order, for each subject its own; unknown ones are empty."""
    events = [
        {"type": "view", "user": user, "item": "x", "at": START_US // SECOND + n}
        for n, user in enumerate(["alice", "bob", "alice"])
    ]
    at = START_US // SECOND
    points = [
        {"user": "alice", "at": at + 9},
        {"user": "carol", "at": at + 9},
        {"user": "bob", "at": at + 9},
        {"user": "alice", "at": at},
    ]
    table = replay(CATALOG, events, points=points, refs=["activity:count_all"])
    assert table.column("activity:count_all") == [2, 0, 1, 1]
    assert table.status("activity:count_all") == [0, 0, 0, 0]


def test_duplicate_ids_are_dropped_and_identical_events_without_ids_are_not() -> None:
    """The first of an id wins; events without ids are told apart by their ordinal."""
    base = {"type": "view", "user": "alice", "at": START_US // SECOND}
    events = [{**base, "item": "first", "id": "x"}, {**base, "item": "second", "id": "x"}]
    events += [{**base, "item": "same"}, {**base, "item": "same"}]
    points = [{"user": "alice", "at": START_US // SECOND}]
    table = replay(CATALOG, events, points=points, refs=["activity:by_item_all"])
    (value,) = table.column("activity:by_item_all")
    assert value == {"first": 1, "same": 2}


def test_as_seen_leaves_out_what_came_after_the_point() -> None:
    """An event that happened before a point but was received after it is not there yet."""
    at = START_US // SECOND
    late = Received(Event("view", {"user": "alice", "item": "x"}, {}, START_US, "a"), START_US + 30 * SECOND)
    events: list[Received | dict[str, object]] = [
        late,
        {"type": "view", "user": "alice", "item": "y", "at": at + 1, "id": "b", "received": at + 40},
    ]
    points = [{"user": "alice", "at": at + s} for s in (10, 30, 40)]
    seen = replay(CATALOG, events, points=points, refs=["activity:count_all"], as_seen=True)
    whole = replay(CATALOG, events, points=points, refs=["activity:count_all"])
    assert seen.column("activity:count_all") == [0, 1, 2]
    assert whole.column("activity:count_all") == [2, 2, 2]


def test_law_12_bad_points_refs_and_events_are_refused() -> None:
    """Each names its place."""
    good = [{"user": "alice", "at": 1}]
    with pytest.raises(MalformedRequest, match=r"points\[0\]\.user"):
        replay(CATALOG, [], points=[{"at": 1}], refs=["activity:count_all"])
    with pytest.raises(MalformedRequest, match=r"points\[1\]\.at"):
        replay(CATALOG, [], points=[*good, {"user": "alice"}], refs=["activity:count_all"])
    with pytest.raises(MalformedRequest, match=r"points\[0\]\.item: expected an id, got nothing"):
        replay(CATALOG, [], points=good, refs=["item_vec:embedding"])
    with pytest.raises(MalformedRequest, match="at least 1"):
        replay(CATALOG, [], points=good, refs=["activity:count_all"], workers=0)
    with pytest.raises(EdgeError):
        replay(CATALOG, [], points=good, refs=["activity:nothing"])
    with pytest.raises(MalformedEvent, match=r"events\[0\]\.at: expected a time \(a replay has no now\)"):
        replay(
            CATALOG, [{"type": "view", "user": "a", "item": "b"}], points=good, refs=["activity:count_all"]
        )


def test_a_table_gives_arrays() -> None:
    """Numbers become float64 with NaN for None, the rest objects; a column not there is refused."""
    points = [{"user": "alice", "at": 1}]
    refs = ["activity:count_all", "activity:since_view", "activity:last_3"]
    table = replay(CATALOG, [], points=points, refs=refs)
    arrays = table.to_numpy()
    assert isinstance(arrays, dict)
    assert arrays["activity:count_all"].tolist() == [0.0]
    assert np.isnan(arrays["activity:since_view"][0])
    assert arrays["activity:last_3"].tolist() == [[]]
    with pytest.raises(MalformedRequest, match="one of activity:count_all"):
        table.column("other")
