"""Which day it is in a ledger, and how long a debit counts, each against an obvious oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import DAY_US
from edge_runtime.aggregates.mechanisms.windows import (
    LedgerTime,
    decode_windows,
    encode_windows,
    longest,
    noted,
)

HOUR_US = DAY_US // 24
DAYS = st.integers(1, 400)


@given(
    st.lists(st.tuples(st.integers(0, 72), st.integers(-3000, 3000), st.booleans()), max_size=40),
    st.integers(0, 3000),
)
def test_law_9_a_ledgers_day_follows_the_time_that_passes(
    steps: list[tuple[int, int, bool]], newest: int
) -> None:
    """The wall clock is set about at will, and read by a new process only; the day never goes back."""
    time, steady_us, wall_us = LedgerTime(), 17, 1000 * DAY_US + HOUR_US
    oracle_us = max(wall_us, newest * DAY_US)
    assert time.day(newest, wall_us, steady_us) == oracle_us // DAY_US
    for hours, set_days, restart in steps:
        newest = oracle_us // DAY_US
        steady_us, wall_us = steady_us + hours * HOUR_US, wall_us + hours * HOUR_US + set_days * DAY_US
        oracle_us += hours * HOUR_US
        if restart:
            newest = oracle_us // DAY_US
            time, oracle_us = LedgerTime(), max(wall_us, newest * DAY_US)
        assert time.day(newest, wall_us, steady_us) == oracle_us // DAY_US
        assert oracle_us // DAY_US >= newest


def test_a_clock_that_begins_again_is_a_new_start() -> None:
    """Its readings from before say nothing of it."""
    time = LedgerTime()
    assert time.day(0, 5 * DAY_US, 9 * DAY_US) == 5
    assert time.day(5, 7 * DAY_US, 10) == 7
    assert time.day(7, 0, 10 + 2 * DAY_US) == 9


@given(st.lists(st.tuples(DAYS, st.integers(0, 60)), max_size=30), DAYS, st.integers(0, 500))
def test_law_9_no_debit_counts_for_less_than_the_window_it_was_made_under(
    debits: list[tuple[int, int]], days: int, later: int
) -> None:
    """Against the list of all debits; what is kept of it is no longer than the windows that differ."""
    known: dict[int, int] = {}
    made, today = [], 0
    for window, passed in debits:
        today += passed
        known = noted(known, window, today)
        made.append((window, today))
        assert len(known) <= len({one for one, _ in made})
        assert decode_windows(encode_windows(known)) == known
    today += later
    counts = [window for window, day in made if day + window > today]
    found = longest(known, days, today)
    assert found == max([days, *counts])
    assert all(day > today - found for window, day in made if day + window > today)


def test_nothing_noted_is_the_catalogs_window() -> None:
    assert decode_windows(None) == {}
    assert longest({}, 7, 100) == 7
