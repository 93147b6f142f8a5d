"""What a later catalog adds warms: since when it is known, for how long it is not whole, and who says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge_runtime as er
from edge_runtime.cache.stored_state import ADDED, COVERED, open_state
from tests.support.clock import ManualClock
from tests.support.grown import (
    BUYS,
    SPEND,
    VIEWS_1H,
    VIEWS_5M,
    P,
    activity,
    begun,
    given,
    key_of,
    open_with,
    read,
    tracked,
)
from tests.support.shop import BASE_US

PRESENT, WARMING = er.Status.PRESENT, er.Status.WARMING
HOUR, DAY = 3600, 86_400


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def test_law_7_a_kind_of_event_that_was_not_journalled_warms_the_features_that_read_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    rate = 'rate = { op = "ratio", of = ["buys", "views_5m"] }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS, rate)) as rt:
        since = clock.now_us()
        assert read(rt, "views_5m") == (3, PRESENT)
        assert read(rt, "buys") == (None, WARMING)
        assert read(rt, "rate") == (None, WARMING)
        assert rt.read("activity:buys", user="alice").complete_from == since
        assert rt.read("activity:rate", user="alice").complete_from == since
        assert rt.read("activity:views_5m", user="alice").complete_from is None
        clock.advance(seconds=HOUR / 2)
        tracked(rt, clock, 2, "buy")
        clock.advance(us=since + HOUR * 1_000_000 - 1 - clock.now_us())
        assert read(rt, "buys") == (None, WARMING)
        clock.advance(us=1)
        assert read(rt, "buys") == (2, PRESENT)
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS, rate)) as rt:
        assert read(rt, "buys") == (2, PRESENT)
        rt.consent.give("user:bob", [P], notice="n")
        assert read(rt, "buys", user="bob") == (0, PRESENT)


def test_law_7_a_service_says_which_of_its_numbers_warm(tmp_path: Path, clock: ManualClock) -> None:
    service = """
[services.ranker]
version = 1
features = ["activity:views_5m", "activity:buys", { ref = "activity:rate", encode = "log1p" }]
"""
    rate = 'rate = { op = "ratio", of = ["buys", "views_5m"], default = 1.0 }'
    begun(tmp_path, clock, activity(VIEWS_5M))
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS, rate, more=service)) as rt:
        row = rt.vector("ranker", user="alice")
        assert list(row.status) == [PRESENT, WARMING, WARMING]
        assert row.values[0] == 3
        assert np.isnan(row.values[1])
        assert row.values[2] == np.float32(np.log(2.0))
        clock.advance(seconds=HOUR)
        assert list(rt.vector("ranker", user="alice").status)[:2] == [PRESENT, PRESENT]


def test_law_7_a_trimmed_journal_warms_until_the_window_has_left_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Ten days of events, a journal of two: what needs more says so, for exactly as long as it lacks them."""
    seven = 'seven = { op = "count", event = "view", window = "7d" }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, keep="2d"), snapshot_every=1) as rt:
        given(rt, "alice")
        for _ in range(10):
            tracked(rt, clock, 1)
            clock.advance(seconds=DAY - 1)
    with open_with(tmp_path, clock, activity(VIEWS_5M, seven, keep="2d"), snapshot_every=1) as rt:
        found = rt.read("activity:seven", user="alice")
        assert found.status is WARMING
        assert found.value is None
        assert found.complete_from is not None
        assert clock.now_us() - found.complete_from <= 3 * DAY * 1_000_000
        whole_us = found.complete_from + 7 * DAY * 1_000_000
        while clock.now_us() < whole_us:
            assert read(rt, "seven")[1] is WARMING
            tracked(rt, clock, 1)
            clock.advance(us=min(DAY * 1_000_000 - 1_000_000, max(whole_us - clock.now_us(), 0)))
        value, status = read(rt, "seven")
        assert status is PRESENT
        assert value in (6, 7, 8)


def test_law_7_a_session_that_began_after_the_gap_is_whole(tmp_path: Path, clock: ManualClock) -> None:
    """The features of the current session do not wait for the retention."""
    begun(tmp_path, clock, activity(VIEWS_5M))
    bought = 'bought = { op = "session_count", event = "buy", gap = "30m" }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, bought)) as rt:
        assert read(rt, "bought")[1] is WARMING
        tracked(rt, clock, 2, "buy")
        for _ in range(3):  # one session that may have begun before anybody listened
            clock.advance(seconds=29 * 60)
            tracked(rt, clock, 1, "buy")
            assert read(rt, "bought")[1] is WARMING
        clock.advance(seconds=31 * 60)
        assert read(rt, "bought") == (0, PRESENT)
        tracked(rt, clock, 2, "buy")
        assert read(rt, "bought") == (2, PRESENT)


def test_law_7_a_decayed_feature_is_whole_after_64_half_lives(tmp_path: Path, clock: ManualClock) -> None:
    begun(tmp_path, clock, activity(VIEWS_5M))
    pace = 'pace = { op = "decayed_count", event = "buy", half_life = "1m" }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, pace)) as rt:
        clock.advance(seconds=64 * 60 - 1)
        assert read(rt, "pace")[1] is WARMING
        clock.advance(seconds=1)
        assert read(rt, "pace") == (0.0, PRESENT)


def test_law_7_a_feature_without_a_window_is_whole_only_after_a_silence(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Who is never silent for a retention may have older events in it, however long it has been there."""
    begun(tmp_path, clock, activity(VIEWS_5M))
    ever = 'ever = { op = "count", event = "buy" }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, ever)) as rt:
        for _ in range(40):
            tracked(rt, clock, 1, "buy")
            assert read(rt, "ever") == (None, WARMING)
            clock.advance(seconds=DAY)
        clock.advance(seconds=30 * DAY)
        tracked(rt, clock, 2, "buy")
        assert read(rt, "ever") == (2, PRESENT)


def test_law_7_a_silent_subject_is_whole_when_nothing_older_can_be_alive(
    tmp_path: Path, clock: ManualClock
) -> None:
    """To the microsecond: an event of the upgrade's own moment would still count at the retention's end."""
    begun(tmp_path, clock, activity(VIEWS_5M))
    ever = 'ever = { op = "count", event = "buy" }'
    with open_with(tmp_path, clock, activity(VIEWS_5M, ever)) as rt:
        clock.advance(seconds=30 * DAY)
        assert read(rt, "ever") == (None, WARMING)
        clock.advance(us=1)
        assert read(rt, "ever") == (0, PRESENT)


def test_law_7_a_subject_without_a_state_is_no_more_known_than_the_others(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Carol agreed before the upgrade and has no event yet: nobody knows whether she bought anything."""
    begun(tmp_path, clock, activity(VIEWS_5M))
    with open_with(tmp_path, clock, activity(VIEWS_5M)) as rt:
        given(rt, "carol")
        clock.advance(seconds=1)
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS)) as rt:
        assert read(rt, "views_5m", user="carol") == (0, PRESENT)
        assert read(rt, "buys", user="carol") == (None, WARMING)
        tracked(rt, clock, 1, "buy", user="carol")
    with open_with(tmp_path, clock, activity(VIEWS_5M, BUYS)) as rt:
        assert read(rt, "buys", user="carol") == (None, WARMING)
        clock.advance(seconds=HOUR - 2)
        assert read(rt, "buys", user="carol")[1] is WARMING
        clock.advance(seconds=1)
        assert read(rt, "buys", user="carol")[1] is PRESENT


def test_law_7_a_roll_back_does_not_pass_off_what_it_missed(tmp_path: Path, clock: ManualClock) -> None:
    """BUYS is dropped for a while, and its events are not journalled meanwhile."""
    old, new = activity(VIEWS_5M, BUYS), activity(VIEWS_5M, VIEWS_1H)
    begun(tmp_path, clock, old, buys=2)
    with open_with(tmp_path, clock, new) as rt:
        tracked(rt, clock, 2)
        assert read(rt, "views_1h") == (5, PRESENT)
    with open_with(tmp_path, clock, old) as rt:
        assert read(rt, "views_5m") == (5, PRESENT)
        assert read(rt, "buys") == (None, WARMING)
        clock.advance(seconds=HOUR)
        assert read(rt, "buys") == (0, PRESENT)


def test_law_7_a_damaged_state_knows_no_more_than_the_journal(tmp_path: Path, clock: ManualClock) -> None:
    """The upgrade finds the state unreadable and the journal trimmed: nothing is passed off as whole."""
    begun(tmp_path, clock, activity(VIEWS_5M, SPEND))
    with open_with(tmp_path, clock, activity(VIEWS_5M, SPEND)) as rt:
        key = key_of(rt)
        with rt._database.write("test") as tx:
            tx.drop_events(key.handle, tx.newest_event(key.handle))
            for slot, sealed in tx.states(key.handle):
                if slot not in (ADDED, COVERED):
                    one = open_state(key, slot, sealed)
                    broken = key.open("state", slot, sealed).replace(one.dump, b"\x01" * len(one.dump))
                    tx.put_state(key.handle, slot, 1, key.seal("state", slot, broken))
    with open_with(tmp_path, clock, activity(VIEWS_5M, VIEWS_1H)) as rt:
        assert {read(rt, "views_5m")[1], read(rt, "views_1h")[1]} == {WARMING}


def test_law_7_events_that_no_longer_fit_are_not_passed_off_as_known(
    tmp_path: Path, clock: ManualClock
) -> None:
    """`price` becomes a string: old prices cannot be one, so what reads it begins with the next event."""
    first = 'f = { op = "distinct", event = "view", value = "price", window = "1h" }'
    begun(tmp_path, clock, activity(VIEWS_5M, first))
    text = activity(VIEWS_5M, first).to_dict()
    text["events"]["view"]["properties"]["price"] = "string"
    with open_with(tmp_path, clock, er.Catalog.from_dict(text)) as rt:
        assert read(rt, "views_5m") == (3, PRESENT)
        assert read(rt, "f") == (None, WARMING)
        clock.advance(seconds=HOUR)
        rt.track("view", user="alice", item="x", price="dear")
        assert read(rt, "f") == (1, PRESENT)
