"""Generalized randomized response: the true category with odds e^epsilon against each other one.

Kairouz, Bonawitz and Ramage, "Discrete distribution estimation under local privacy", ICML 2016. Better than
unary encoding for few categories (K < 3 e^epsilon + 2); subset selection with m = 1 is the same law.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from edge_runtime.aggregates.mechanisms.answer import (
    CATEGORY_LIMIT,
    answer_bytes,
    decode_answer,
    encode_answer,
)
from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Moves, checked, in_range


@dataclass(frozen=True, slots=True)
class RandomizedResponse:
    """Randomized response over `categories`; see `Mechanism` for the verbs."""

    categories: int
    odds: Fraction
    name: str = "randomized_response"

    def __post_init__(self) -> None:
        checked(self.categories, CATEGORY_LIMIT, self.odds)

    @classmethod
    def of(cls, categories: int, epsilon: Fraction) -> RandomizedResponse:
        """Randomized response at `epsilon`."""
        return cls(categories, exp_below(epsilon))

    @property
    def true_rate(self) -> Fraction:
        """o / (o + K - 1)."""
        a, b = self.odds.numerator, self.odds.denominator
        return Fraction(a, a + (self.categories - 1) * b)

    @property
    def false_rate(self) -> Fraction:
        """1 / (o + K - 1)."""
        a, b = self.odds.numerator, self.odds.denominator
        return Fraction(b, a + (self.categories - 1) * b)

    @property
    def inputs(self) -> int:
        """The categories."""
        return self.categories

    @property
    def cells(self) -> int:
        """One a category: how many answers name it."""
        return self.categories

    @property
    def answer_bytes(self) -> int:
        """One bit a category, in whole blocks."""
        return answer_bytes(self.categories)

    def randomize(self, value: int, bits: Bits) -> bytes:
        """The true category with probability p, else one of the others uniformly."""
        in_range(value, self.categories)
        a, b = self.odds.numerator, self.odds.denominator
        keep = bits(a + (self.categories - 1) * b) < a
        other = bits(self.categories - 1)
        other += other >= value
        return encode_answer([value if keep else other], self.categories)

    def supported(self, answer: bytes) -> tuple[int, ...] | None:
        """The one value named, or None."""
        chosen = decode_answer(answer, self.categories)
        return chosen if chosen is not None and len(chosen) == 1 else None

    def moves(self, answer: bytes) -> Moves | None:
        """One more for each category named."""
        named = self.supported(answer)
        return None if named is None else tuple((category, 1) for category in named)

    def probability(self, answer: bytes, value: int) -> Fraction:
        """p for the true category, q for each other."""
        chosen = self.supported(answer)
        if chosen is None:
            return Fraction(0)
        return self.true_rate if chosen[0] == value else self.false_rate
