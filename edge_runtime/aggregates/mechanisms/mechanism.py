"""What every local mechanism for a histogram offers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

Bits = Callable[[int], int]
"""Chance: `bits(n)` is uniform on 0 … n-1. On a device `chance.bits`, in tests a seeded one."""


class Mechanism(Protocol):
    """A randomizer with its exact law.

    The claim: for any two categories x, x' and any answer y, `probability(y, x) <= odds * probability(y, x')`
    with `odds <= e^epsilon`.
    """

    @property
    def name(self) -> str:
        """`subset_selection`, `randomized_response` or `unary_encoding`."""
        ...

    @property
    def categories(self) -> int:
        """Number of categories, K >= 2."""
        ...

    @property
    def odds(self) -> Fraction:
        """The rational that stands for e^epsilon; never above it."""
        ...

    @property
    def true_rate(self) -> Fraction:
        """p: the probability that an answer names the subject's own category."""
        ...

    @property
    def false_rate(self) -> Fraction:
        """q: the probability that an answer names one given other category."""
        ...

    def randomize(self, category: int, bits: Bits) -> bytes:
        """One noised answer for `category`; the number of draws does not depend on it.

        Raises `ValueError` when `category` is not in 0 … K-1.
        """
        ...

    def supported(self, answer: bytes) -> tuple[int, ...] | None:
        """The categories that `answer` names, or None for bytes that no honest device can send."""
        ...

    def probability(self, answer: bytes, category: int) -> Fraction:
        """The exact probability of `answer` for a subject in `category`; 0 outside the support."""
        ...


def checked(categories: int, limit: int, odds: Fraction) -> None:
    """Raise `ValueError` unless 2 <= categories <= limit and odds > 1."""
    if not 2 <= categories <= limit:
        raise ValueError(f"expected 2 to {limit} categories, got {categories}")
    if odds <= 1:
        raise ValueError(f"expected odds above 1, got {odds}")


def in_range(category: int, categories: int) -> None:
    """Raise `ValueError` unless `category` is one of 0 … categories-1; the message names no category."""
    if not 0 <= category < categories:
        raise ValueError(f"expected a category below {categories}")
