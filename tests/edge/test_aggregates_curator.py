"""A kiosk's noise: its sensitivities by trying every replacement, its bytes, its bound."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    SUBJECT_LIMIT,
    DiscreteLaplace,
    Tree,
    discrete_laplace,
)
from tests.support.exact_laws import Recorded, no_bits

ONE = Fraction(1)
SMALL = [
    DiscreteLaplace.histogram(2, ONE),
    DiscreteLaplace.histogram(4, Fraction(1, 10)),
    DiscreteLaplace.count(Fraction(4)),
    DiscreteLaplace.total(5, ONE),
    DiscreteLaplace.quantiles(6, Fraction(1, 2)),
    DiscreteLaplace("nodes", 5, ONE, Tree(5, 2)),
]
LARGE = [
    DiscreteLaplace.histogram(64, ONE),
    DiscreteLaplace.total(STEPS, Fraction(1, 10)),
    DiscreteLaplace.quantiles(256, Fraction(4)),
]


def label(curator: DiscreteLaplace) -> str:
    return f"{curator.sums}-{curator.inputs}"


def cells_of(curator: DiscreteLaplace, answer: bytes) -> list[int]:
    moves = curator.moves(answer)
    assert moves is not None
    assert [cell for cell, _ in moves] == list(range(curator.cells))
    return [amount for _, amount in moves]


@pytest.mark.parametrize("curator", SMALL, ids=label)
def test_law_9_the_sensitivity_is_the_largest_change_by_a_replacement(curator: DiscreteLaplace) -> None:
    """Over every two subjects and every replacement of one; noise of scale s/epsilon then makes the claim."""
    changes = set()
    for a, b, other in itertools.product(range(curator.inputs), repeat=3):
        before, after = curator.exact([a, other]), curator.exact([b, other])
        changes.add(sum(abs(x - y) for x, y in zip(before, after, strict=True)))
    assert max(changes) == curator.sensitivity
    assert curator.scale * curator.epsilon == curator.sensitivity


@pytest.mark.parametrize("curator", [*SMALL, *LARGE], ids=label)
def test_each_cell_gets_discrete_laplace_noise_of_its_own(curator: DiscreteLaplace) -> None:
    """With the same chance the answer is the exact sums and the same noise, whatever the sums are (T21)."""
    noise = random.Random(3)
    drawn = [discrete_laplace(curator.scale, noise.randrange) for _ in range(curator.cells)]
    asked = []
    for values in ([0], [curator.inputs - 1] * 50, list(range(min(curator.inputs, 90)))):
        chance = Recorded(random.Random(3).randrange)
        answer = curator.noised(values, chance)
        exact = curator.exact(values)
        assert cells_of(curator, answer) == [x + z for x, z in zip(exact, drawn, strict=True)]
        assert len(answer) == curator.answer_bytes
        asked.append(chance.sides)
    assert asked[0] == asked[1] == asked[2]


def test_exact_sums_are_those_of_the_kind() -> None:
    """How many in each category, how many yes, the sum of steps, how many under each node."""
    assert DiscreteLaplace.histogram(3, ONE).exact([0, 2, 2]) == [1, 0, 2]
    assert DiscreteLaplace.count(ONE).exact([0, 1, 1]) == [2]
    assert DiscreteLaplace.total(10, ONE).exact([0, 10, 7]) == [17]
    tree = DiscreteLaplace("nodes", 4, ONE, Tree(4, 2))
    assert tree.exact([0, 3, 3]) == [1, 2, 1, 0, 0, 2]


@pytest.mark.parametrize("curator", [*SMALL, *LARGE], ids=label)
def test_bad_input_draws_nothing(curator: DiscreteLaplace) -> None:
    """No subject, too many, and an input that is none: refused before any chance is used, unnamed."""
    for values in ([], [0] * (SUBJECT_LIMIT + 1), [0, -1], [0, curator.inputs], [99_771]):
        with pytest.raises(ValueError, match="expected") as raised:
            curator.noised(values, no_bits)
        assert "99771" not in str(raised.value)


class Wild:
    """Chance that makes one noise value as large as asked for; it knows the sampler's steps."""

    def __init__(self, turns: int, negative: bool) -> None:
        self._turns, self._sign, self._ended = turns, int(negative), False

    def __call__(self, n: int) -> int:
        if n == 2 and self._ended:
            return self._sign
        if n == 2:
            self._ended = self._turns == 0
            return int(self._ended)
        self._turns -= n == 3
        return n - 1


@pytest.mark.parametrize("negative", [False, True])
def test_noise_past_the_bound_is_set_to_it_and_admitted(negative: bool) -> None:
    """The answer stays of one length, and what the clamp makes is a legal answer."""
    curator = DiscreteLaplace.count(Fraction(4))
    answer = curator.noised([1] * 9, Wild(4 * (curator.bound + 100), negative))
    assert len(answer) == curator.answer_bytes
    assert cells_of(curator, answer) == [-curator.bound if negative else curator.bound]
    inside = curator.noised([1] * 9, Wild(4 * 70, negative))
    assert cells_of(curator, inside) == [9 - 70 if negative else 9 + 70]


@pytest.mark.parametrize("curator", [*SMALL, *LARGE], ids=label)
def test_the_bound_leaves_room_for_all_subjects_and_64_scales(curator: DiscreteLaplace) -> None:
    """Met with a probability under e^-64; its width is the least number of bytes with a sign."""
    largest = max(abs(cell) for cell in curator.exact([curator.inputs - 1] * SUBJECT_LIMIT))
    assert curator.bound >= largest + 64 * curator.scale
    width = curator.answer_bytes // curator.cells
    assert 1 << (8 * width - 1) > curator.bound >= 1 << (8 * (width - 1) - 1)


@pytest.mark.parametrize("curator", [*SMALL, *LARGE], ids=label)
@given(data=st.data())
def test_impossible_bytes_are_refused(curator: DiscreteLaplace, data: st.DataObject) -> None:
    """T25: another length, and any cell past the bound; what is left are integers within it."""
    n = curator.answer_bytes
    width = n // curator.cells
    answer = data.draw(st.binary(min_size=n, max_size=n))
    cells = [int.from_bytes(answer[i : i + width], "little", signed=True) for i in range(0, n, width)]
    moves = curator.moves(answer)
    assert (moves is not None) == all(abs(cell) <= curator.bound for cell in cells)
    assert moves is None or [amount for _, amount in moves] == cells
    zeros = bytes(n)
    assert curator.moves(zeros) is not None
    assert curator.moves(zeros[:-1]) is None
    assert curator.moves(zeros + b"\0") is None
    past = (curator.bound + 1).to_bytes(width, "little", signed=True)
    assert curator.moves(past + zeros[width:]) is None
    assert curator.moves(zeros[width:] + (-curator.bound - 1).to_bytes(width, "little", signed=True)) is None


@pytest.mark.parametrize(
    "broken",
    [
        lambda: DiscreteLaplace.histogram(1, ONE),
        lambda: DiscreteLaplace.histogram(10_002, ONE),
        lambda: DiscreteLaplace.count(Fraction(0)),
        lambda: DiscreteLaplace.count(Fraction(17)),
        lambda: DiscreteLaplace.total((1 << 20) + 1, ONE),
        lambda: DiscreteLaplace("nodes", 4, ONE),
        lambda: DiscreteLaplace("numbers", 4, ONE, Tree(4, 2)),
    ],
)
def test_a_curator_that_makes_no_sense_cannot_be_built(broken: Callable[[], DiscreteLaplace]) -> None:
    with pytest.raises(ValueError):
        broken()
