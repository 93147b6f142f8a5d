"""What a catalog may assume of the past: views added, removed and changed between openings, and crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, SHOP

DAY_S = 86_400
PAIR = """
[views.pair]
version = 1
entity = ["user", "item"]
source = "session"
purpose = "personalization"
ttl = 0
owner = "growth"
[views.pair.features]
n = { op = "count", event = "view" }
n_5m = { op = "count", event = "view", window = "5m" }

[events.restock]
entities = ["item"]
properties = { quantity = "int64" }
[views.shelf]
version = 1
entity = "item"
source = "session"
ttl = 0
owner = "shop"
[views.shelf.features]
n = { op = "count", event = "restock" }
"""
WHOLE = SHOP.replace("[services.ranker]", PAIR + "[services.ranker]")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def open_with(folder: Path, clock: ManualClock, catalog: str = WHOLE) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=er.Catalog.from_toml(catalog),
        key=er.KeyFile(folder / "device.key"),
        clock=clock,
        settings=er.Settings(snapshot_every_events=4, commit_interval_us=3_600_000_000),
    )


def crash(rt: er.Runtime) -> None:
    """The file is let go without a last word, as by a kill: closing has an event to store and cannot."""
    assert rt.track("restock", item="lost") is er.ACCEPTED
    rt._database.close()
    with pytest.raises(er.RuntimeClosed):
        rt.close()


def look(rt: er.Runtime, clock: ManualClock, item: str, times: int) -> None:
    for _ in range(times):
        assert rt.track("view", user="alice", item=item) is er.ACCEPTED
        clock.advance(seconds=1)
    rt.flush()


def test_law_6_storing_one_state_keeps_the_events_that_another_has_in_the_journal_only(
    tmp_path: Path, clock: ManualClock
) -> None:
    """After a crash and nine days off, a snapshot of `y` trims the journal in which `x` still stands."""
    rt = open_with(tmp_path, clock)
    rt.consent.give("alice", ["personalization"], notice="n")
    look(rt, clock, "x", 3)
    crash(rt)
    clock.advance(seconds=9 * DAY_S)
    with open_with(tmp_path, clock) as rt:
        look(rt, clock, "y", 9)
        assert rt.read("pair:n", user="alice", item="x").value == 3
    with open_with(tmp_path, clock) as rt:
        assert rt.read("pair:n", user="alice", item="x").value == 3
        assert rt.read("pair:n", user="alice", item="y").value == 9
        assert rt.read("activity:views", user="alice").value == 12


def test_a_counter_about_nobody_goes_on_across_restarts_and_crashes(
    tmp_path: Path, clock: ManualClock
) -> None:
    total = 0
    for turn in range(6):
        rt = open_with(tmp_path, clock)
        for _ in range(turn):
            assert rt.track("restock", item="a", quantity=1) is er.ACCEPTED
            clock.advance(seconds=1)
            total += 1
        rt.flush()
        assert rt.read("shelf:n", item="a").value == total
        rt.track("restock", item="b", quantity=1)
        if turn % 2:
            rt.close()
        else:
            rt.flush()
            crash(rt)
        clock.advance(seconds=2 * DAY_S)
    with open_with(tmp_path, clock) as rt:
        assert rt.read("shelf:n", item="b").value == 6


def test_law_7_a_view_that_was_added_is_filled_from_the_journal(tmp_path: Path, clock: ManualClock) -> None:
    with open_with(tmp_path, clock, SHOP) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        look(rt, clock, "x", 3)
    with open_with(tmp_path, clock) as rt:
        assert rt.read("pair:n", user="alice", item="x").value == 3


def test_law_7_an_added_view_is_warming_when_its_past_was_not_journalled(
    tmp_path: Path, clock: ManualClock
) -> None:
    with open_with(tmp_path, clock, SHOP) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        look(rt, clock, "x", 1)
    with open_with(tmp_path, clock) as rt:  # nobody counted what was restocked before today
        assert rt.read("shelf:n", item="a").status is er.Status.WARMING
    with open_with(tmp_path, clock, SHOP) as rt:
        clock.advance(seconds=9 * DAY_S)
        look(rt, clock, "x", 8)  # the journal no longer holds the first one
    with open_with(tmp_path, clock) as rt:
        found = rt.read("pair:n", user="alice", item="x")
        assert found.status is er.Status.WARMING
        assert found.complete_from is not None
        clock.advance(seconds=31 * DAY_S)
        assert rt.read("pair:n", user="alice", item="x").status is er.Status.PRESENT


def test_law_7_a_view_that_comes_back_does_not_pass_off_its_old_state_as_whole(
    tmp_path: Path, clock: ManualClock
) -> None:
    with open_with(tmp_path, clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        look(rt, clock, "x", 2)
    with open_with(tmp_path, clock, SHOP) as rt:
        look(rt, clock, "x", 3)
    with open_with(tmp_path, clock) as rt:
        assert rt.read("pair:n", user="alice", item="x").value == 5


def test_a_subject_newer_than_the_view_is_whole(tmp_path: Path, clock: ManualClock) -> None:
    open_with(tmp_path, clock, SHOP).close()
    clock.advance(seconds=60)
    with open_with(tmp_path, clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        look(rt, clock, "x", 2)
    with open_with(tmp_path, clock) as rt:
        found = rt.read("pair:n", user="alice", item="x")
        assert (found.value, found.status) == (2, er.Status.PRESENT)


def test_law_7_a_changed_feature_is_warming_once_the_journal_was_trimmed(
    tmp_path: Path, clock: ManualClock
) -> None:
    changed = WHOLE.replace('window = "5m"', 'window = "10m"')
    with open_with(tmp_path, clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        look(rt, clock, "x", 3)
    with open_with(tmp_path, clock, changed) as rt:
        assert rt.read("activity:views_5m", user="alice").value == 3
        clock.advance(seconds=9 * DAY_S)
        look(rt, clock, "x", 9)
        with pytest.raises(er.ReadInPast):
            rt.read("activity:views", user="alice", at=BASE_US / 1e6)
    with open_with(tmp_path, clock) as rt:
        assert rt.read("activity:views", user="alice").value == 12
        assert rt.read("activity:views_5m", user="alice").status is er.Status.WARMING
        with pytest.raises(er.ReadInPast):
            rt.read("activity:views", user="alice", at=BASE_US / 1e6)
