"""One bit for a bounded number: yes the likelier, the nearer the input is to the upper bound.

Duchi, Jordan and Wainwright, "Minimax optimal procedures for locally private estimation", JASA 2018 (arXiv
1604.02390), in one dimension. With u = (2x - S) / S the input on -1 … 1 and o the odds,

    P(yes) = 1/2 + u (o - 1) / (2 (o + 1)),

so an output of +1 for yes and -1 for no has the expectation u (o - 1) / (o + 1): divided by that slope it is
unbiased, with variance ((o + 1) / (o - 1))^2 - u^2. Its worst variance is the least of our two for an epsilon
below 1.18.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Moves, checked_steps, in_range

_NO, _YES = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Duchi:
    """One randomized bit over inputs 0 … `steps`; see `Bounded` for the verbs."""

    steps: int
    odds: Fraction
    name: str = "duchi"

    def __post_init__(self) -> None:
        checked_steps(self.steps, self.odds)

    @classmethod
    def of(cls, steps: int, epsilon: Fraction) -> Duchi:
        """The mechanism at `epsilon`."""
        return cls(steps, exp_below(epsilon))

    @property
    def inputs(self) -> int:
        """The steps, both ends included."""
        return self.steps + 1

    @property
    def cells(self) -> int:
        """Sum of outputs, sum of their squares (which counts the answers)."""
        return 2

    @property
    def answer_bytes(self) -> int:
        """One byte: 0 or 1."""
        return 1

    def _yes(self, value: int) -> Fraction:
        a, b = self.odds.numerator, self.odds.denominator
        return Fraction(self.steps * b + value * (a - b), self.steps * (a + b))

    def randomize(self, value: int, bits: Bits) -> bytes:
        """Yes with a probability linear in the input; one draw, of one range for all inputs."""
        in_range(value, self.inputs)
        a, b = self.odds.numerator, self.odds.denominator
        return _YES if bits(self.steps * (a + b)) < self.steps * b + value * (a - b) else _NO

    def moves(self, answer: bytes) -> Moves | None:
        """+1 for yes, -1 for no, and the square of either."""
        if answer not in (_NO, _YES):
            return None
        return ((0, 1 if answer == _YES else -1), (1, 1))

    def probability(self, answer: bytes, value: int) -> Fraction:
        """P(yes) or the rest to one."""
        if answer not in (_NO, _YES):
            return Fraction(0)
        return self._yes(value) if answer == _YES else 1 - self._yes(value)

    @property
    def slope(self) -> Fraction:
        """(o - 1) / ((o + 1) S)."""
        a, b = self.odds.numerator, self.odds.denominator
        return Fraction(a - b, (a + b) * self.steps)

    @property
    def worst_variance(self) -> Fraction:
        """Of the input nearest to the middle, where the bit says least."""
        return self.variance(self.steps // 2)

    def variance(self, value: int) -> Fraction:
        """((o + 1) / (o - 1))^2 - u^2."""
        a, b = self.odds.numerator, self.odds.denominator
        u = Fraction(2 * value - self.steps, self.steps)
        return Fraction((a + b) * (a + b), (a - b) * (a - b)) - u * u
