"""Optimized unary encoding: each category says yes or no by itself.

Wang, Blocki, Li and Jha, "Locally differentially private protocols for frequency estimation", USENIX Security
2017: the true category is named with probability 1/2, every other with 1 / (e^epsilon + 1). Good for many
categories; any set may be the answer.
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
class UnaryEncoding:
    """Optimized unary encoding over `categories`; see `Mechanism` for the verbs."""

    categories: int
    odds: Fraction
    name: str = "unary_encoding"

    def __post_init__(self) -> None:
        checked(self.categories, CATEGORY_LIMIT, self.odds)

    @classmethod
    def of(cls, categories: int, epsilon: Fraction) -> UnaryEncoding:
        """Optimized unary encoding at `epsilon`."""
        return cls(categories, exp_below(epsilon))

    @property
    def true_rate(self) -> Fraction:
        """1/2."""
        return Fraction(1, 2)

    @property
    def false_rate(self) -> Fraction:
        """1 / (o + 1)."""
        return Fraction(self.odds.denominator, self.odds.numerator + self.odds.denominator)

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
        """Each value is named or not, independently; one draw each, all from the same range."""
        in_range(value, self.categories)
        a, b = self.odds.numerator, self.odds.denominator
        limits = (2 * b, a + b)  # out of 2 (a + b): 1/(o+1) for the others, 1/2 for the true one
        chosen = [c for c in range(self.categories) if bits(2 * (a + b)) < limits[c == value]]
        return encode_answer(chosen, self.categories)

    def supported(self, answer: bytes) -> tuple[int, ...] | None:
        """The categories named (any set), or None for bytes of the wrong length or padding."""
        return decode_answer(answer, self.categories)

    def moves(self, answer: bytes) -> Moves | None:
        """One more for each category named."""
        named = self.supported(answer)
        return None if named is None else tuple((category, 1) for category in named)

    def probability(self, answer: bytes, value: int) -> Fraction:
        """The product over all categories of saying yes or no as this answer does."""
        chosen = self.supported(answer)
        if chosen is None:
            return Fraction(0)
        others = len(chosen) - (value in chosen)
        silent = self.categories - 1 - others
        q = self.false_rate
        return Fraction(1, 2) * q**others * (1 - q) ** silent
