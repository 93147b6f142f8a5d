"""The hash that assigns: an independent formula, shares by weight, experiments that do not meet."""

from __future__ import annotations

import hashlib
import re
from itertools import product

import numpy as np
import pytest

from edge_runtime.catalog import Experiment, Ref
from edge_runtime.catalog import assignment as module
from edge_runtime.catalog.assignment import arm_of, takes_part

SUBJECTS = [f"user:visitor-{i}" for i in range(20_000)]
EVEN = (("control", 1), ("treatment", 1))
UNEVEN = (("control", 5), ("blue", 2), ("green", 1))
CRITICAL = {1: 10.83, 2: 13.82, 4: 18.47, 6: 22.46}
"""99.9 % points of chi-square by degrees of freedom: fixed subjects, so a test that passes always does."""


def experiment(
    salt: str, arms: tuple[tuple[str, int], ...] = EVEN, traffic: float = 1.0, name: str = "x"
) -> Experiment:
    return Experiment(name, "measurement", "user", arms, Ref("v@1", "f"), False, salt, traffic)


def by_hand(salt: str, arms: tuple[tuple[str, int], ...], subject: str) -> str:
    """What a backend computes: the arm whose stretch of 2^64 holds the hash."""
    raw = hashlib.blake2b(subject.encode(), key=salt.encode(), person=b"edge-arm", digest_size=8).hexdigest()
    total, below, point = sum(w for _, w in arms), 0, int(raw, 16)
    for arm, weight in arms:
        if below * 2**64 <= point * total < (below + weight) * 2**64:
            return arm
        below += weight
    raise AssertionError


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("arms", [EVEN, UNEVEN])
def test_a_backend_computes_the_same(arms: tuple[tuple[str, int], ...]) -> None:
    for subject in SUBJECTS[:2_000]:
        assert arm_of(experiment("salt", arms), subject) == by_hand("salt", arms, subject)


def test_the_formula_never_changes() -> None:
    """Golden: a change here would move every subject of every running experiment."""
    arms = "".join(arm_of(experiment("new_ranker", UNEVEN), s)[0] for s in SUBJECTS[:24])
    part = "".join(str(int(takes_part(experiment("new_ranker", traffic=0.5), s))) for s in SUBJECTS[:24])
    assert (arms, part) == ("bccbcgbgcgccgcbbcbcccccb", "011010011001000000010100")


def test_the_name_of_an_experiment_does_not_enter_only_its_salt() -> None:
    named = [arm_of(experiment("s", name=name), subject) for name in "xy" for subject in SUBJECTS[:500]]
    assert named[:500] == named[500:]


@pytest.mark.parametrize("arms", [EVEN, UNEVEN])
@pytest.mark.parametrize("salt", ["new_ranker", "banner"])
def test_arms_get_their_shares(salt: str, arms: tuple[tuple[str, int], ...]) -> None:
    given = [arm_of(experiment(salt, arms), subject) for subject in SUBJECTS]
    counts = np.array([given.count(arm) for arm, _ in arms])
    weights = np.array([weight for _, weight in arms])
    assert chi_square(counts, len(SUBJECTS) * weights / weights.sum()) < CRITICAL[len(arms) - 1]


@pytest.mark.parametrize("pair", [("new_ranker", "banner"), ("a", "b"), ("exp-1", "exp-2")])
def test_two_experiments_choose_independently(pair: tuple[str, str]) -> None:
    """A contingency table of the arms of both: what one gives says nothing about the other."""
    one = [arm_of(experiment(pair[0], UNEVEN), subject) for subject in SUBJECTS]
    other = [arm_of(experiment(pair[1], UNEVEN), subject) for subject in SUBJECTS]
    names = [arm for arm, _ in UNEVEN]
    both = list(zip(one, other, strict=True))
    table = np.array([[both.count((a, b)) for b in names] for a in names])
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / len(SUBJECTS)
    assert chi_square(table, expected) < CRITICAL[4]


def test_one_salt_chooses_alike_which_the_contingency_table_sees() -> None:
    """The test above can fail: two experiments of one salt give each subject the same arm."""
    given = [arm_of(experiment("same"), subject) for subject in SUBJECTS]
    assert given == [arm_of(experiment("same", name="y"), subject) for subject in SUBJECTS]


def test_traffic_takes_its_share_of_each_arm_and_grows_without_moving_anybody() -> None:
    small, wide = experiment("s", traffic=0.1), experiment("s", traffic=0.5)
    inside = {subject for subject in SUBJECTS if takes_part(small, subject)}
    assert inside <= {subject for subject in SUBJECTS if takes_part(wide, subject)}
    assert all(arm_of(small, s) == arm_of(wide, s) for s in inside)
    cells = [(arm_of(small, s), takes_part(small, s)) for s in SUBJECTS]
    counts = np.array([cells.count(cell) for cell in product(("control", "treatment"), (True, False))])
    assert chi_square(counts, len(SUBJECTS) * np.array([0.05, 0.45, 0.05, 0.45])) < CRITICAL[4]


def test_whole_traffic_is_everybody() -> None:
    assert all(takes_part(experiment("s"), subject) for subject in SUBJECTS)


def test_the_words_of_the_page_give_the_same() -> None:
    """The three lines in the module's text are what a backend copies."""
    assert module.__doc__ is not None
    lines = re.findall(r">>> (.*)", module.__doc__)
    names: dict[str, object] = {}
    exec("\n".join(lines), names)  # noqa: S102 — our own docstring
    arm = "control" if names["point"] == 0 else "treatment"
    assert arm == arm_of(experiment("new_ranker"), "user:alice")
