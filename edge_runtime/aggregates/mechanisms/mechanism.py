"""What every mechanism offers: the words that devices, the server, tests and the auditor share.

An *input* is an integer: which category, which place on the grid between the bounds. An *answer* is bytes of
one fixed length. A *tally* is the list of sums that the server keeps of a round's answers, one integer
a cell; it adds and forgets, so a mechanism says of each answer which cells it moves and by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, Protocol

Bits = Callable[[int], int]
"""Chance: `bits(n)` is uniform on 0 … n-1. On a device `chance.system_bits`, in tests a seeded one."""
Moves = tuple[tuple[int, int], ...]
"""(cell, amount) pairs that one answer adds to the tally; no cell twice."""
STEP_LIMIT: Final = 1 << 20
"""Most steps between the bounds of a number; no metric comes near it."""


class Noised(Protocol):
    """What local and curator mechanisms have in common: the server's side of an answer."""

    @property
    def name(self) -> str:
        """As catalogs and releases write it: `subset_selection`, `duchi`, `discrete_laplace` …"""
        ...

    @property
    def cells(self) -> int:
        """Number of integers in the tally."""
        ...

    @property
    def answer_bytes(self) -> int:
        """Length of every answer: it says nothing about the input."""
        ...

    def moves(self, answer: bytes) -> Moves | None:
        """What `answer` adds to the tally; None for bytes that no honest device can send."""
        ...


class Mechanism(Noised, Protocol):
    """A local mechanism with its exact law: one subject's input in, one noised answer out.

    The claim: for any two inputs x, x' and any answer y, `probability(y, x) <= odds *
    probability(y, x')` with `odds <= e^epsilon`.
    """

    @property
    def inputs(self) -> int:
        """Number of inputs, at least 2: they are 0 … inputs-1."""
        ...

    @property
    def odds(self) -> Fraction:
        """The rational that stands for e^epsilon; never above it."""
        ...

    def randomize(self, value: int, bits: Bits) -> bytes:
        """One noised answer for the input `value`; the number of draws does not depend on it.

        Raises `ValueError` when `value` is not in 0 … inputs-1.
        """
        ...

    def probability(self, answer: bytes, value: int) -> Fraction:
        """The exact probability of `answer` for the input `value`; 0 outside the support."""
        ...


class Curator(Noised, Protocol):
    """Noise over the exact sums of many subjects on one device (a kiosk), added before anything leaves it.

    The claim is about one subject's input being replaced by any other; who took part is known anyway, by the
    tickets.
    """

    def noised(self, values: Sequence[int], bits: Bits) -> bytes:
        """One answer for all `values` (one input a subject).

        Raises `ValueError` for no value, or one that is not an input.
        """
        ...


class Frequencies(Mechanism, Protocol):
    """A local mechanism for a histogram: an answer names some of the categories, and a cell counts one."""

    @property
    def categories(self) -> int:
        """Number of categories, K >= 2; the inputs are these."""
        ...

    @property
    def true_rate(self) -> Fraction:
        """p: the probability that an answer names the subject's own category."""
        ...

    @property
    def false_rate(self) -> Fraction:
        """q: the probability that an answer names one given other category."""
        ...

    def supported(self, answer: bytes) -> tuple[int, ...] | None:
        """The categories that `answer` names, ascending, or None for bytes that no honest device can send."""
        ...


def checked(categories: int, limit: int, odds: Fraction) -> None:
    """Raise `ValueError` unless 2 <= categories <= limit and odds > 1."""
    if not 2 <= categories <= limit:
        raise ValueError(f"expected 2 to {limit} categories, got {categories}")
    if odds <= 1:
        raise ValueError(f"expected odds above 1, got {odds}")


def checked_steps(steps: int, odds: Fraction) -> None:
    """Raise `ValueError` unless 2 <= steps <= 2^20 and odds > 1."""
    if not 2 <= steps <= STEP_LIMIT:
        raise ValueError(f"expected 2 to {STEP_LIMIT} steps, got {steps}")
    if odds <= 1:
        raise ValueError(f"expected odds above 1, got {odds}")


def in_range(value: int, inputs: int) -> None:
    """Raise `ValueError` unless `value` is one of 0 … inputs-1; the message names no value."""
    if not 0 <= value < inputs:
        raise ValueError(f"expected an input below {inputs}")
