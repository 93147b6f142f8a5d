"""What the mechanisms for a bounded number have in common, and which of them answers.

The range between a metric's bounds is cut into `STEPS` equal steps; an input is the step nearest to the
value. An output is an integer whose expectation is *exactly* linear in the input, so sums of outputs are
enough for an unbiased estimate of a mean, and sums of their squares for its interval.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, Protocol

from edge_runtime.aggregates.mechanisms.duchi import Duchi
from edge_runtime.aggregates.mechanisms.mechanism import Mechanism
from edge_runtime.aggregates.mechanisms.piecewise import Piecewise

STEPS: Final = 1 << 16
"""Steps between the bounds of a sum or mean: rounding moves a value by at most 2^-17 of the range."""
BOUNDED: Final = ("duchi", "piecewise")


class Bounded(Mechanism, Protocol):
    """A local mechanism for a number between bounds; the inputs are the steps 0 … `steps`.

    The tally has two cells: the sum of the outputs, and the sum of their squares. Of one answer, E[output] =
    slope * u * steps with u = (2x - steps) / steps in -1 … 1, so of n answers with output sum T the unbiased
    estimate of the mean input, in steps, is (T / (n * slope) + steps) / 2.
    """

    @property
    def steps(self) -> int:
        """The largest input; there are steps + 1 of them."""
        ...

    @property
    def slope(self) -> Fraction:
        """E[output] = slope * (2x - steps) for the input x, exactly."""
        ...

    @property
    def worst_variance(self) -> Fraction:
        """Largest `variance` over all inputs."""
        ...

    def variance(self, value: int) -> Fraction:
        """Variance of one answer's unbiased estimate of u, for the input `value`: in squared half-ranges.

        In the unit of the metric multiply by ((high - low) / 2)^2.
        """
        ...


@lru_cache(maxsize=64)
def bounded(name: str, steps: int, epsilon: Fraction) -> Bounded:
    """The mechanism of this name for `steps` at `epsilon`. Raises `ValueError` for an unknown name."""
    match name:
        case "duchi":
            return Duchi.of(steps, epsilon)
        case "piecewise":
            return Piecewise.of(steps, epsilon)
        case _:
            raise ValueError(f"expected one of {' '.join(BOUNDED)}, got {name}")


def best_bounded(steps: int, epsilon: Fraction) -> str:
    """The name with the least worst-case variance at `epsilon`: Duchi's below 1.18, piecewise above."""
    return min(BOUNDED, key=lambda name: bounded(name, steps, epsilon).worst_variance)
