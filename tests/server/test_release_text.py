"""A release in a terminal: bars that stand where the numbers are, in columns, whatever the names."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_server.cli.aggregates_text import releases_text
from sync_server.cli.printable import columns, fitted, shown
from sync_server.cli.release_text import MOST_LINES, NARROWEST, WIDEST, Line, Scale, lines_of, release_text
from tests.support.released import released, withheld

NAMES = ("UK", "日本語", "e\u0301te\u0301", "\u202eDE", "=cmd|x\nDE", "n" * 90)
unit = st.floats(-1, 1)
LINES = st.lists(
    st.tuples(unit, unit, unit).map(sorted).map(lambda v: Line("x", v[1], v[0], v[2])), min_size=1, max_size=5
)


@given(LINES, st.integers(10, 80))
def test_a_bar_has_its_ends_and_its_point_where_the_numbers_are(lines: list[Line], width: int) -> None:
    """Against the rule itself: within half a column of low, estimate and high; 0 is on the scale."""
    scale = Scale.over(lines, width)
    column = (scale.last - scale.first) / (width - 1)
    assert scale.first <= 0 <= scale.last
    for line in lines:
        bar = scale.bar(line)
        assert len(bar) == width
        place = {mark: scale.first + bar.index(mark) * column for mark in "├●┤" if mark in bar}
        assert abs(place["●"] - line.estimate) <= column / 2 + 1e-9
        for mark, value, other in (("├", line.low, line.high), ("┤", line.high, line.low)):
            if mark in place:
                assert abs(place[mark] - value) <= column / 2 + 1e-9
            else:  # another mark stands there
                assert min(abs(value - line.estimate), abs(value - other)) <= column + 1e-9


@given(st.text(max_size=30), st.integers(2, 40))
def test_what_is_fitted_takes_exactly_its_columns(text: str, width: int) -> None:
    """Wide letters, marks and cut names too."""
    assert columns(fitted(shown(text), width)) == width
    assert columns(fitted(shown(text), width, right=True)) == width


@pytest.mark.parametrize("width", [20, 60, 80, 300])
def test_names_neither_break_the_columns_nor_move_the_cursor(width: int) -> None:
    """Every line of numbers has its interval in the same column."""
    found = released("histogram", dict.fromkeys(NAMES, (-0.1, 0.2, 0.4)))
    lines = [line for line in release_text(found, width).splitlines() if "[-10.0 %" in line]
    assert len(lines) == len(NAMES)
    assert len({columns(line[: line.index("[")]) for line in lines}) == 1
    assert max(map(columns, lines)) <= min(max(width, NARROWEST), WIDEST)
    assert all(line.isprintable() for line in lines)


def test_of_many_categories_the_largest_are_shown_in_their_order() -> None:
    """And how many are left out, and where all of them are."""
    numbers = {f"c{i}": ((i % 50) / 100 - 0.1, (i % 50) / 100, (i % 50) / 100 + 0.1) for i in range(200)}
    text = release_text(released("histogram", numbers), 100)
    named = [line.split()[0] for line in text.splitlines() if line.startswith("  c")]
    assert len(named) == MOST_LINES
    assert named == sorted(named, key=lambda name: int(name[1:]))
    assert min(numbers[name][1] for name in named) >= sorted(n[1] for n in numbers.values())[-MOST_LINES]
    assert "and 160 smaller ones" in text
    assert "--csv" in text


def test_where_the_numbers_come_from_stands_below_them() -> None:
    found = released("count", {"count": (90.0, 120.4, 150.0)}, refused={"no_permission": 3}, mode="curator")
    text = release_text(found, 80)
    for said in (
        "120",
        "[90 … 150]",
        "1,234 subjects",
        "subset_selection",
        "epsilon 1",
        "kiosk",
        found.round,
    ):
        assert said in text
    assert "no_permission 3" in text
    assert lines_of(found) == [Line("count", 120.4, 90.0, 150.0)]


@pytest.mark.parametrize(
    ("kind", "numbers", "learned"),
    [
        ("count", {"count": (-5_020.0, -1_000.0, 3_020.0)}, False),
        ("count", {"count": (-20.0, 300.0, 620.0)}, True),
        ("histogram", {"UK": (-0.1, 0.4, 1.2), "DE": (-0.3, 0.2, 1.0)}, False),
        ("histogram", {"UK": (0.3, 0.7, 1.2), "DE": (-0.3, 0.2, 1.0)}, True),
    ],
)
def test_noise_that_reaches_over_all_that_could_be_is_called_nothing_learned(
    kind: Literal["count", "histogram"], numbers: dict[str, tuple[float, float, float]], learned: bool
) -> None:
    """1,234 subjects answered."""
    text = release_text(released(kind, numbers), 80)
    assert ("Nothing was learned" in text) == (not learned)
    assert ("Below 0" in text) == any(estimate < 0 for _, estimate, _ in numbers.values())


def test_law_9_a_withheld_round_shows_no_number_says_why_and_what_to_do() -> None:
    text = release_text(withheld("mean"), 80)
    assert "No number: fewer than 50 subjects answered." in text
    assert "Next: `edge-sync aggregates open spend" in text
    assert "has spent the budget does not answer" in text
    assert "after a restore" in text
    assert "●" not in text
    assert "withheld: fewer than 50 subjects answered" in releases_text([withheld("mean")])
