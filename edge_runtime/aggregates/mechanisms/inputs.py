"""How a value becomes a question's input: a category, yes or no, a grid step, or a leaf. Pure and exact.

A float is taken as the rational number that it is, so no rounding happens but the one to the nearest step. A
value that is no input (of no category, not a number) gives None: then nobody answers with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from numbers import Integral, Real
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final

from edge_runtime.aggregates.mechanisms.bounded import STEPS
from edge_runtime.aggregates.mechanisms.question import Question
from edge_runtime.catalog.model import Where

NO: Final = 0
YES: Final = 1
_TESTS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "eq": eq,
    "ne": ne,
    "gt": gt,
    "ge": ge,
    "lt": lt,
    "le": le,
}


def input_of(question: Question, value: object) -> int | None:
    """The input of `value`, or None when it is none.

    Args:
        value: what was read of a subject; None: that nothing is there, to which a count says no.

    Of a histogram by `values` the text of the value names its category; by `edges` an edge belongs to the
    bucket above it. Of a sum or mean it is the nearest of 2^16 + 1 steps from low to high, the higher where
    two are as near; of a quantile the leaf that holds it, an inner edge belonging to the leaf above it. What
    lies outside the bounds counts as the nearer of them.
    """
    match question.kind:
        case "histogram":
            return _category(question, value)
        case "count":
            return YES if _counts(question.where, value) else NO
        case "sum" | "mean":
            part = _part(question, value)
            return None if part is None else (2 * STEPS * part + 1) // 2
        case "quantile":
            part = _part(question, value)
            return None if part is None else min(part * question.leaves // 1, question.leaves - 1)


def _category(question: Question, value: object) -> int | None:
    if not question.edges:
        return _index(question.categories).get(str(value)) if isinstance(value, str | Real) else None
    if not isinstance(value, Real) or value != value:
        return None
    return bisect_right(_rationals(question.edges), value)  # a rational and a float compare exactly


def _counts(where: tuple[Where, ...], value: object) -> bool:
    if value is None or value != value:
        return False
    return all(_holds(condition, value) for condition in where)


def _holds(condition: Where, value: object) -> bool:
    operand = condition.operand
    if isinstance(operand, tuple):
        return any(_alike(value, one) and value == one for one in operand)
    return _alike(value, operand) and _TESTS[condition.test](value, operand)


def _alike(value: object, operand: object) -> bool:
    """Whether the two can be compared: texts with texts, numbers with numbers."""
    return isinstance(value, str) == isinstance(operand, str) and isinstance(value, str | Real)


def _part(question: Question, value: object) -> Fraction | None:
    """Where the value lies between the bounds, 0 … 1; None for what is no number."""
    if not isinstance(value, Real) or value != value:
        return None
    low, high = _rationals((question.low, question.high))
    if value <= low:
        return Fraction(0)
    if value >= high:
        return Fraction(1)
    reach = high - low
    return (_exact(value) - low) * Fraction(reach.denominator, reach.numerator)


def _exact(value: Any) -> Fraction:
    """The rational that a number is; numpy's too, whose own integers would overflow."""
    return Fraction(int(value)) if isinstance(value, Integral) else Fraction(*value.as_integer_ratio())


@lru_cache(maxsize=64)
def _rationals(texts: tuple[str, ...]) -> tuple[Fraction, ...]:
    return tuple(Fraction(text) for text in texts)


@lru_cache(maxsize=64)
def _index(categories: tuple[str, ...]) -> dict[str, int]:
    return {name: n for n, name in enumerate(categories)}
