"""The choice of what is hot: within the budget, monotone in it, free of order, slow to change its mind."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_server.settings import DAY_US, HOUR_US
from sync_server.sync.hot_set import WEIGHTS, Candidate, choose, decayed, rank

NOW_US = 100 * DAY_US


def row(name: str, **more: object) -> Candidate:
    plain = Candidate(f"item:{name}", "v@1", 100, 0.5, 0.0, NOW_US, 0, held=False)
    return dataclasses.replace(plain, **more)  # type: ignore[arg-type]


parts = st.floats(0, 1)
candidates = st.lists(
    st.builds(
        Candidate,
        st.sampled_from([f"item:{c}" for c in "abcdefghij"]),
        st.sampled_from(["v@1", "w@2"]),
        st.integers(1, 500),
        parts,
        st.floats(0, 1e6),
        st.integers(0, NOW_US + HOUR_US),
        st.sampled_from([0, HOUR_US, 50 * DAY_US]),
        st.booleans(),
    ),
    max_size=20,
    unique_by=lambda c: (c.entity, c.view),
)


def hot(found: list[Candidate], budget: int, now_us: int = NOW_US) -> set[tuple[str, str]]:
    chosen = choose(found, budget, now_us)
    return {(v.ranked.candidate.entity, v.ranked.candidate.view) for v in chosen if v.hot}


@settings(max_examples=300)
@given(candidates, st.integers(0, 4_000))
def test_law_11_what_is_chosen_never_takes_more_than_the_budget(found: list[Candidate], budget: int) -> None:
    """Every candidate gets a verdict; those that are in fit; what is past its ttl is never in."""
    chosen = choose(found, budget, NOW_US)
    assert len(chosen) == len(found)
    assert sum(v.ranked.candidate.bytes for v in chosen if v.hot) <= budget
    for verdict in chosen:
        candidate = verdict.ranked.candidate
        past = candidate.ttl_us and NOW_US - candidate.event_time_us >= candidate.ttl_us
        assert (verdict.reason == "past its ttl") == bool(past)
        assert verdict.hot == (verdict.reason == "within the budget")
        assert 0 <= verdict.ranked.score <= 1 + WEIGHTS.margin


@settings(max_examples=300)
@given(candidates, st.integers(0, 2_000), st.integers(0, 2_000))
def test_a_larger_budget_drops_nothing(found: list[Candidate], budget: int, more: int) -> None:
    """Monotone: what is in with less is in with more; with room for all, all are in that may be."""
    assert hot(found, budget) <= hot(found, budget + more)
    alive = {(c.entity, c.view) for c in found if not c.ttl_us or NOW_US - c.event_time_us < c.ttl_us}
    assert hot(found, sum(c.bytes for c in found)) == alive


@settings(max_examples=300)
@given(candidates, st.integers(0, 2_000), st.randoms(use_true_random=False))
def test_the_order_of_arrival_decides_nothing(found: list[Candidate], budget: int, chance: object) -> None:
    """The same verdicts in the same order, whatever the order of candidates."""
    shuffled = list(found)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert choose(shuffled, budget, NOW_US) == choose(found, budget, NOW_US)


@settings(max_examples=300)
@given(candidates, st.integers(0, 2_000))
def test_who_was_chosen_is_chosen_again_and_the_choice_comes_to_rest(
    found: list[Candidate], budget: int
) -> None:
    """Nothing flaps: at the same moment nobody who is in goes out again, and soon nobody comes in either."""
    before = hot(found, budget)
    for _ in range(len(found) + 1):
        found = [dataclasses.replace(c, held=(c.entity, c.view) in before) for c in found]
        now = hot(found, budget)
        assert before <= now
        if now == before:
            return
        before = now
    raise AssertionError("it never comes to rest")


def test_a_little_better_does_not_push_out_what_is_in_and_much_better_does() -> None:
    """The margin is what being in is worth."""
    old = row("old", importance=0.5, held=True)
    for importance, winner in ((0.55, "old"), (0.9, "new")):
        new = row("new", importance=importance)
        assert hot([old, new], 150) == {(f"item:{winner}", "v@1")}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (row("a", importance=0.9), row("b", importance=0.1)),
        (row("a", use=5.0), row("b", use=1.0)),
        (row("a"), row("b", event_time_us=NOW_US - 90 * DAY_US)),
        (row("a", ttl_us=DAY_US), row("b", ttl_us=DAY_US, event_time_us=NOW_US - 23 * HOUR_US)),
        (row("b", bytes=50), row("a", bytes=60)),
        (row("a"), row("b")),
    ],
    ids=["importance", "use", "fresh without ttl", "fresh with ttl", "smaller of equals", "name of equals"],
)
def test_each_part_counts_and_ties_are_broken_the_same_way(better: Candidate, worse: Candidate) -> None:
    """One part better, the others equal."""
    for found in ([better, worse], [worse, better]):
        assert [v.ranked.candidate for v in choose(found, 1_000, NOW_US)] == [better, worse]


def test_the_parts_of_a_score_are_told_and_add_up() -> None:
    """By the formula of the page, worked out by hand."""
    ranked = rank(row("a", importance=0.8, use=4.0, ttl_us=4 * DAY_US, event_time_us=NOW_US - DAY_US), NOW_US)
    assert (ranked.use, ranked.freshness) == (0.5, 0.75)
    assert ranked.score == pytest.approx(0.4 * 0.8 + 0.4 * 0.5 + 0.2 * 0.75)


def test_a_clock_set_back_makes_nothing_fresher_or_more_used_than_new() -> None:
    """Ages below zero count as zero."""
    assert decayed(3.0, NOW_US, NOW_US - DAY_US, DAY_US) == 3.0
    assert decayed(3.0, NOW_US, NOW_US + DAY_US, DAY_US) == 1.5
    assert rank(row("a", event_time_us=NOW_US + DAY_US), NOW_US).freshness == 1.0
    assert rank(row("a", ttl_us=DAY_US, event_time_us=NOW_US + DAY_US), NOW_US).freshness == 1.0
