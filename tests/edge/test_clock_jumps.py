"""Clocks that jump: what a wrong clock let in counts in its place, and what retention ended stays ended."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.session.event import make_event
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, shop_catalog
from tests.support.streams import RETENTION_US, START_US, every_operator

CATALOG = every_operator()
PLAN: ViewPlan = compile_catalog(CATALOG).views["activity@1"]
WITHOUT_SESSIONS = [
    n for n, name in enumerate(PLAN.names) if not getattr(PLAN.view.features[name], "gap_us", None)
]
DAY_US = 86_400_000_000
YEAR_US = 365 * DAY_US
P = "personalization"


def values(state: ViewState, t_us: int) -> list[str]:
    found = PLAN.values(state, t_us)
    return [repr(found[n]) for n in WITHOUT_SESSIONS]


@given(
    st.lists(st.sampled_from((0, 1, RETENTION_US // 2, RETENTION_US)), min_size=1, max_size=4),
    st.lists(st.sampled_from((0, 1, RETENTION_US - 1, RETENTION_US)), min_size=1, max_size=4),
    st.sampled_from((RETENTION_US + 1, 2 * RETENTION_US, 4380 * RETENTION_US)),
    st.booleans(),
)
def test_law_8_events_of_a_clock_set_back_count_in_their_place(
    steps_now: list[int], steps_back: list[int], apart_us: int, bridged: bool
) -> None:
    """Those before a silence longer than the retention count apart, until an event bridges it."""
    now_us = [START_US + sum(steps_now[:n]) for n in range(1, len(steps_now) + 1)]
    back_us = [now_us[0] - apart_us - sum(steps_back[:n]) for n in range(len(steps_back))]
    if bridged and apart_us <= 2 * RETENTION_US:
        back_us.append(now_us[0] - RETENTION_US)
    events = [
        (make_event(CATALOG, "view", {"user": "u", "item": "a", "price": 2.5}, now_us=at_us), f"e{n}")
        for n, at_us in enumerate([*now_us, *back_us])
    ]
    lived, sorted_once = PLAN.new_state(), PLAN.new_state()
    for event, event_id in events:
        assert PLAN.offer(lived, event, event_id, event.at_us) is er.ACCEPTED
    for event, event_id in sorted(events, key=lambda one: (one[0].at_us, one[1])):
        PLAN.update(sorted_once, event, event_id)
    assert values(lived, now_us[-1]) == values(sorted_once, now_us[-1])
    assert values(PLAN.load(PLAN.dump(lived)), now_us[-1]) == values(lived, now_us[-1])


def test_law_8_a_clock_back_a_year_gives_the_numbers_of_a_replay(tmp_path: Path) -> None:
    """Through the public API: honest events of both times, read live, after a restart and in a replay."""
    clock, events = ManualClock(BASE_US), []
    offsets = (0, 10_000_000, -YEAR_US, -YEAR_US + 5_000_000, 20_000_000)
    catalog = shop_catalog()
    refs = ["activity:views", "activity:spend_7d", "activity:last_items", "activity:idle"]
    points = [{"user": "alice", "at": (BASE_US + 30_000_000) / 1e6}]
    for opened in range(2):
        with er.Runtime.open(
            tmp_path / "c.db", catalog=catalog, key=er.KeyFile(tmp_path / "k"), clock=clock
        ) as rt:
            if not opened:
                rt.consent.give("alice", [P], notice="n")
                for n, offset_us in enumerate(offsets):
                    clock.set_wall(BASE_US + offset_us)
                    fields = {"user": "alice", "item": f"i{n}", "price": float(n)}
                    assert rt.track("view", **fields) is er.ACCEPTED
                    events.append({"type": "view", **fields, "at": clock.now_us() / 1e6})
            clock.set_wall(BASE_US + 30_000_000)
            table = er.replay(catalog, events, points=points, refs=refs)
            live = [rt.read(ref, user="alice").value for ref in refs]
            assert live == [table.column(ref)[0] for ref in refs]
            assert live[0] == 3


@pytest.mark.parametrize("touch", ["read", "vector", "track"])
def test_law_6_what_retention_was_seen_to_end_stays_ended_through_a_crash(tmp_path: Path, touch: str) -> None:
    """A clock a year ahead, looked at once, ends what is stored too: nothing is revived or counted twice."""
    clock, catalog = ManualClock(BASE_US), shop_catalog()
    settings = er.Settings(commit_interval_us=10**12)

    def opened(folder: Path) -> er.Runtime:
        return er.Runtime.open(
            folder / "c.db", catalog=catalog, key=er.KeyFile(folder / "k"), clock=clock, settings=settings
        )

    here, copy = tmp_path / "here", tmp_path / "copy"
    here.mkdir()
    with opened(here) as rt:
        rt.consent.give("alice", [P], notice="n")
        for n in range(3):
            rt.track("view", user="alice", item="x", id=f"e{n}")
    with opened(here) as rt:
        clock.set_wall(BASE_US + YEAR_US)
        match touch:
            case "read":
                assert rt.read("activity:views", user="alice").value == 0
            case "vector":
                assert rt.vector("ranker", user="alice").values[0] == 0
            case _:
                rt.track("view", user="alice", item="x", id="ahead")
        clock.set_wall(BASE_US + 1_000_000)
        if touch != "track":
            assert rt.track("view", user="alice", item="x", id="after") is er.ACCEPTED
            assert rt.read("activity:views", user="alice").value == 1
        else:
            clock.set_wall(BASE_US + YEAR_US + 1)
        rt.flush()
        shutil.copytree(here, copy)  # the moment of a kill
    with opened(copy) as rt:
        assert rt.read("activity:views", user="alice").value == 1


def test_law_6_an_event_delivered_after_retention_ended_all_counts_alone(tmp_path: Path) -> None:
    """Within the retention of the one before, but later than the lateness by the clock; after a kill too."""
    clock, here, copy = ManualClock(BASE_US), tmp_path / "here", tmp_path / "copy"
    here.mkdir()

    def opened(folder: Path) -> er.Runtime:
        settings, key = er.Settings(commit_interval_us=10**12), er.KeyFile(folder / "k")
        return er.Runtime.open(
            folder / "c.db", catalog=shop_catalog(), key=key, clock=clock, settings=settings
        )

    with opened(here) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")
    with opened(here) as rt:
        clock.advance(us=30 * DAY_US + 60_000_001)
        at = (BASE_US + 30 * DAY_US - 1) / 1e6
        assert rt.track("view", user="alice", item="y", at=at) is er.ACCEPTED
        rt.flush()
        shutil.copytree(here, copy)
        assert rt.read("activity:views", user="alice").value == 1
    with opened(copy) as rt:
        assert rt.read("activity:views", user="alice").value == 1
        assert rt.read("activity:last_items", user="alice").value == ["y"]


def test_law_7_a_held_row_does_not_outlive_what_retention_ended() -> None:
    """Its own time has come again, but a read has meanwhile called the state gone."""
    clock = ManualClock(BASE_US)
    with er.Runtime.open(":memory:", catalog=shop_catalog(), key=er.KeyMemory(), clock=clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")
        for _ in range(4):
            assert rt.vector("ranker", user="alice").values[0] == 1
        clock.set_wall(BASE_US + YEAR_US)
        assert rt.read("activity:views", user="alice").value == 0
        clock.set_wall(BASE_US + 1)
        assert rt.vector("ranker", user="alice").values[0] == 0
