"""What goes first: the stated order, no more than needed, whatever order the candidates come in."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cache.eviction import Candidate, Coldest, Reason, chosen, target_bytes


def _numbered(fields: list[tuple[Reason, int, int, int]]) -> list[Candidate]:
    return [
        Candidate(reason, day, us, (f"place {n}",), size) for n, (reason, day, us, size) in enumerate(fields)
    ]


CANDIDATES = st.lists(
    st.tuples(st.sampled_from(Reason), st.integers(0, 4), st.integers(0, 4), st.integers(1, 50)), max_size=40
).map(_numbered)


@given(CANDIDATES, st.integers(-5, 1_000), st.randoms(use_true_random=False))
def test_the_fewest_go_in_the_stated_order(candidates: list[Candidate], need_bytes: int, rng: Random) -> None:
    """Expired first, then rows about nobody, rows of subjects, covered events; each kind coldest first."""
    shuffled = list(candidates)
    rng.shuffle(shuffled)
    going = chosen(shuffled, need_bytes)
    in_order = sorted(candidates, key=lambda c: (c.reason, c.day, c.time_us, c.place))
    assert going == in_order[: len(going)]
    freed = sum(c.size_bytes for c in going)
    assert freed >= need_bytes or len(going) == len(candidates)
    assert not going or freed - going[-1].size_bytes < need_bytes
    assert need_bytes > 0 or not going


@given(CANDIDATES, st.integers(1, 1_000), st.integers(1, 5))
def test_law_11_no_more_are_held_than_the_limit_and_those_are_the_first(
    candidates: list[Candidate], need_bytes: int, limit: int
) -> None:
    found = Coldest(need_bytes, limit)
    for candidate in candidates:
        found.offer(candidate)
        assert len(found.in_order()) <= limit
    assert found.in_order() == chosen(candidates, need_bytes)[:limit]


@given(CANDIDATES, st.integers(1, 1_000))
def test_an_offer_that_is_refused_would_not_have_gone(candidates: list[Candidate], need_bytes: int) -> None:
    found, refused = Coldest(need_bytes), []
    for candidate in candidates:
        if not found.offer(candidate):
            refused.append(candidate)
    assert not set(refused) & set(found.in_order())


def test_the_order_of_the_reasons_is_the_stated_one() -> None:
    assert list(Reason) == [Reason.EXPIRED, Reason.COLD_ROW, Reason.SUBJECT_ROW, Reason.COVERED_EVENT]
    assert target_bytes(1_000) == 900
