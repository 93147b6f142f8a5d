"""Oracles for noise: a sampler run on every sequence of draws, and all answers a mechanism can give."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TypeVar

from edge_runtime.aggregates.mechanisms import (
    Bits,
    Duchi,
    Frequencies,
    Hierarchical,
    Mechanism,
    Piecewise,
)
from edge_runtime.aggregates.mechanisms.answer import encode_answer

Drawn = TypeVar("Drawn")


def exp_bounds(epsilon: Fraction) -> tuple[Fraction, Fraction]:
    """e^epsilon between two rationals: 80 terms of the series, and those plus a bound of the rest."""
    term = total = Fraction(1)
    for n in range(1, 81):
        term = term * epsilon / n
        total += term
    return total, total + 2 * term


def law_of(sampler: Callable[[Bits], Drawn]) -> dict[Drawn, Fraction]:
    """The distribution of what `sampler` returns, by running it on every sequence of draws there is."""
    law: dict[Drawn, Fraction] = {}

    def run(script: list[int]) -> None:
        sides: list[int] = []

        def bits(n: int) -> int:
            sides.append(n)
            return script[len(sides) - 1] if len(sides) <= len(script) else 0

        drawn = sampler(bits)
        if len(sides) > len(script):
            for value in range(sides[len(script)]):
                run([*script, value])
            return
        weight = Fraction(1)
        for n in sides:
            weight /= n
        law[drawn] = law.get(drawn, Fraction(0)) + weight

    run([])
    return law


def named_sets(categories: int) -> Iterator[bytes]:
    """Every answer that names some of the categories, or none."""
    for bits in itertools.product((0, 1), repeat=categories):
        yield encode_answer([c for c, bit in enumerate(bits) if bit], categories)


def every_answer(mechanism: Mechanism) -> Iterator[bytes]:
    """Every answer that `mechanism` can give, from the layout of its answers and not from its sampler."""
    match mechanism:
        case Duchi():
            yield from (b"\x00", b"\x01")
        case Piecewise():
            yield from (y.to_bytes(4, "little") for y in range(mechanism.steps + mechanism.width))
        case Hierarchical():
            for n, level in enumerate(mechanism.levels):
                for answer in every_answer(level):
                    yield bytes([n]) + answer.ljust(mechanism.answer_bytes - 1, b"\0")
        case _:
            yield from supported_sets(mechanism)


def supported_sets(mechanism: Mechanism) -> Iterator[bytes]:
    """Of a histogram's mechanism: the sets of categories that it names."""
    yield from (a for a in named_sets(mechanism.inputs) if mechanism.moves(a) is not None)


class Recorded:
    """Chance that remembers the ranges it was asked for."""

    def __init__(self, bits: Bits) -> None:
        self._bits = bits
        self.sides: list[int] = []

    def __call__(self, n: int) -> int:
        """One draw, its range noted."""
        self.sides.append(n)
        return self._bits(n)


def no_bits(n: int) -> int:
    """Chance that must not be asked."""
    raise AssertionError("drew")


def label(mechanism: Mechanism | Frequencies) -> str:
    """A readable test id."""
    return f"{mechanism.name}-{mechanism.inputs}"
