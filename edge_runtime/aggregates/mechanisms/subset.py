"""Subset selection: the answer is a set of m categories in which the true one is likelier than the others.

Ye and Barg, "Optimal schemes for discrete distribution estimation under locally differential privacy",
IEEE Trans. Inf. Theory 2018 (arXiv 1702.00610): with the best m its squared error meets the limit for local
privacy at every K. m = 1 is randomized response.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb

from edge_runtime.aggregates.mechanisms.answer import (
    CATEGORY_LIMIT,
    answer_bytes,
    decode_answer,
    encode_answer,
)
from edge_runtime.aggregates.mechanisms.exact import exp_below
from edge_runtime.aggregates.mechanisms.mechanism import Bits, Moves, checked, in_range


def risk(categories: int, size: int, odds: Fraction, n: int) -> Fraction:
    """Expected squared l2 error of the unbiased estimator for n subjects drawn uniformly over K categories.

    (K-1)^2 (m o + K - m)^2 / (n K m (K-m) (o-1)^2), Ye and Barg 2018. With o = e^epsilon and the best m this
    is the limit that the benches compare with.
    """
    k, m, a, b = categories, size, odds.numerator, odds.denominator
    spread = Fraction((k - 1) * (m * a + (k - m) * b), a - b)
    return spread * spread * Fraction(1, n * k * m * (k - m))


def best_size(categories: int, odds: Fraction) -> int:
    """The m in 1 … K-1 with the least `risk`; the smaller one where two tie.

    The risk has one valley, at m = K / (1 + o): its slope has the sign of (1 + o) m - K. So the best integer
    is one of the two beside it.
    """
    a, b, k = odds.numerator, odds.denominator, categories

    def cost(m: int) -> Fraction:
        return Fraction((m * a + (k - m) * b) ** 2, m * (k - m))

    below = min(max(1, k * b // (a + b)), k - 1)
    return min(range(below, min(below + 1, k - 1) + 1), key=cost)


@dataclass(frozen=True, slots=True)
class SubsetSelection:
    """Subset selection over `categories` with sets of `size`; see `Mechanism` for the verbs."""

    categories: int
    odds: Fraction
    size: int
    name: str = "subset_selection"

    def __post_init__(self) -> None:
        checked(self.categories, CATEGORY_LIMIT, self.odds)
        if not 1 <= self.size < self.categories:
            raise ValueError(f"expected a size below {self.categories}, got {self.size}")

    @classmethod
    def of(cls, categories: int, epsilon: Fraction) -> SubsetSelection:
        """The best subset selection for this many categories at `epsilon`."""
        odds = exp_below(epsilon)
        checked(categories, CATEGORY_LIMIT, odds)
        return cls(categories, odds, best_size(categories, odds))

    @property
    def _weights(self) -> tuple[int, int]:
        """Integer weights of (the true category is in the set, it is not)."""
        m, k = self.size, self.categories
        return m * self.odds.numerator, (k - m) * self.odds.denominator

    @property
    def true_rate(self) -> Fraction:
        """m o / (m o + K - m)."""
        inside, outside = self._weights
        return Fraction(inside, inside + outside)

    @property
    def false_rate(self) -> Fraction:
        """The rest of the m names, shared by K - 1 categories: (m - p) / (K - 1)."""
        return (self.size - self.true_rate) * Fraction(1, self.categories - 1)

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
        """A set of m: with weight m·o the true category and m-1 others, else m others, uniformly."""
        in_range(value, self.categories)
        inside, outside = self._weights
        include = bits(inside + outside) < inside
        others = [c + (c >= value) for c in range(self.categories - 1)]
        for i in range(self.size):  # a partial shuffle; always m draws, whatever was included
            j = i + bits(len(others) - i)
            others[i], others[j] = others[j], others[i]
        chosen = [*others[: self.size - 1], value if include else others[self.size - 1]]
        return encode_answer(chosen, self.categories)

    def supported(self, answer: bytes) -> tuple[int, ...] | None:
        """The m categories named, or None."""
        chosen = decode_answer(answer, self.categories)
        return chosen if chosen is not None and len(chosen) == self.size else None

    def moves(self, answer: bytes) -> Moves | None:
        """One more for each category named."""
        named = self.supported(answer)
        return None if named is None else tuple((category, 1) for category in named)

    def probability(self, answer: bytes, value: int) -> Fraction:
        """p / C(K-1, m-1) for sets with the true category, (1-p) / C(K-1, m) for those without."""
        chosen = self.supported(answer)
        if chosen is None:
            return Fraction(0)
        if value in chosen:
            return self.true_rate * Fraction(1, comb(self.categories - 1, self.size - 1))
        return (1 - self.true_rate) * Fraction(1, comb(self.categories - 1, self.size))
