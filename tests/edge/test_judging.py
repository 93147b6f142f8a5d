"""What of a handle can still be believed: decided from what could be read, with nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cache.stored_state import Lost
from edge_runtime.recovery.judging import NOT_KNOWN, Found, Span, Verdict, judge

NOW, AHEAD = 1_000_000, 60
ROWS = {n: Span(n * 100, n * 100 + 50) for n in (1, 2, 3, 5, 6)}


def verdict(found: Found) -> Verdict:
    return judge(found, NOW, AHEAD)


def test_what_lost_nothing_stays_as_it_is() -> None:
    assert verdict(Found(ROWS, covered=3)) == Verdict(0, None)


def test_law_8_a_lost_row_that_states_cover_costs_no_feature_anything() -> None:
    """It goes with all before it, so that no later feature believes that the journal reaches back there."""
    assert verdict(Found(ROWS, lost_row=4, covered=4)) == Verdict(4, Lost(False, False, 500 + AHEAD))


def test_law_7_a_lost_row_that_no_state_covers_makes_all_known_since_the_next_one() -> None:
    assert verdict(Found(ROWS, lost_row=4, covered=3)) == Verdict(4, Lost(False, True, 500 + AHEAD))


def test_law_7_without_a_row_behind_the_lost_one_nothing_is_known_before_now() -> None:
    assert verdict(Found(ROWS, lost_row=7)) == Verdict(7, Lost(False, True, NOW + AHEAD))
    assert verdict(Found(ROWS, lost_row=NOT_KNOWN)) == Verdict(NOT_KNOWN, Lost(False, True, NOW + AHEAD))


def test_lost_states_alone_are_made_from_the_journal() -> None:
    assert verdict(Found(ROWS, states_lost=True)) == Verdict(0, Lost(True, False, 0))
    assert verdict(Found(ROWS, lost_row=4, covered=6, states_lost=True)) == Verdict(
        4, Lost(True, False, 500 + AHEAD)
    )


def test_law_7_where_the_clock_was_set_back_around_the_hole_nothing_is_known_before_now() -> None:
    """What was lost may have come at a later time than what follows it."""
    back = {**ROWS, 3: Span(300, 900)}
    assert verdict(Found(back, lost_row=4, covered=1)) == Verdict(4, Lost(False, True, NOW + AHEAD))
    ahead = {**ROWS, 6: Span(600, NOW + 5)}
    assert verdict(Found({**ahead, 3: Span(0, 900)}, lost_row=4)).lost == Lost(False, True, NOW + 5 + AHEAD)


@given(
    st.dictionaries(st.integers(1, 30), st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=12),
    st.integers(0, 31),
    st.integers(0, 31),
    st.booleans(),
)
def test_law_7_nothing_lost_is_ever_called_known(
    times: dict[int, tuple[int, int]], lost_row: int, covered: int, states_lost: bool
) -> None:
    """Of every row that is kept none may be lost, and it was received when all is said to be known."""
    rows = {n: Span(min(pair), max(pair)) for n, pair in times.items() if n != lost_row}
    cut, lost = judge(Found(rows, lost_row, covered, states_lost), NOW, AHEAD)
    assert cut >= lost_row
    if lost is None:
        assert lost_row == 0
        assert not states_lost
        return
    assert lost.tail == (lost_row > covered)
    assert lost.states == states_lost
    before = [span.newest_us for n, span in rows.items() if n < lost_row]
    if lost_row:
        assert lost.whole_us >= max(before, default=0) + AHEAD
        assert lost.whole_us >= min((s.oldest_us for n, s in rows.items() if n > cut), default=NOW) + AHEAD
