"""Exact units, and one home for transcendental functions with equal bits on both paths."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.session import exact

LIMIT = 2.0**500


@given(st.floats(-LIMIT, LIMIT) | st.floats(-1.0, 1.0))
def test_units_are_the_value_rounded_once(value: float) -> None:
    """`to_units` is the exact value in units of 2^-60, half to even."""
    assert exact.to_units(value) == round(Fraction(value) * 2**60)


@given(st.integers(-(2**63), 2**63))
def test_integers_are_exact(value: int) -> None:
    """An int has no rounding at all."""
    assert exact.to_units(value) == value * 2**60


@given(st.lists(st.floats(-1e9, 1e9)))
def test_a_sum_of_units_does_not_depend_on_order(values: list[float]) -> None:
    """Forwards, backwards and in two halves: one number, the correctly rounded one."""
    units = [exact.to_units(v) for v in values]
    assert sum(units) == sum(reversed(units))
    assert exact.from_units(sum(units)) == float(Fraction(sum(units), 2**60))


@given(st.lists(st.floats(-1000, 1000), max_size=20))
def test_array_forms_have_the_scalar_bits(values: list[float]) -> None:
    """exp2 and log1p of an array equal the scalar functions, element by element."""
    array = np.array(values, dtype=np.float64)
    assert exact.exp2_array(array).tolist() == [math.exp2(v) for v in values]
    positive = np.abs(array)
    assert exact.log1p_array(positive).tolist() == [math.log1p(abs(v)) for v in values]
    assert exact.sqrt_array(positive).tolist() == [math.sqrt(abs(v)) for v in values]


def test_log1p_outside_its_domain() -> None:
    """-1 gives -inf, below it NaN, and the shape stays."""
    found = exact.log1p_array(np.array([[-1.0, -2.0], [math.nan, 0.0]]))
    assert found[0, 0] == -math.inf
    assert np.isnan(found[0, 1])
    assert np.isnan(found[1, 0])
    assert found[1, 1] == 0.0
