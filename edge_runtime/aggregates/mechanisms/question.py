"""What a metric asks in numbers, apart from whom: everything that makes its mechanism and its estimate. Pure.

A device makes the question from its own catalog, the server freezes it when a round opens; both build the
same mechanism from it, and `definition` is the hash by which they know that they mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Final

import msgspec

from edge_runtime.aggregates.mechanisms.bounded import STEPS, Bounded, best_bounded, bounded
from edge_runtime.aggregates.mechanisms.choice import best_frequencies, frequencies
from edge_runtime.aggregates.mechanisms.curator import DiscreteLaplace
from edge_runtime.aggregates.mechanisms.hierarchical import Hierarchical
from edge_runtime.aggregates.mechanisms.mechanism import Frequencies, Mechanism, Noised
from edge_runtime.catalog.model import Metric, MetricKind, MetricMode, Where
from edge_runtime.wire.seal import canonical

MICRO: Final = 1_000_000
BUDGET_CEILING_MICROS: Final = 4 * MICRO
"""Most epsilon, in millionths, that one subject spends in one window. Built in: no catalog raises it."""
DAY_US: Final = 86_400_000_000
WINDOW_LIMIT_DAYS: Final = 3_650
NO_YES: Final = ("no", "yes")
"""The categories of a count."""
NUMERIC: Final = ("sum", "mean", "quantile")
"""Kinds of a number between bounds."""
SCHEME: Final = 1
"""Changes with how a mechanism, its answers or its tally are made: sides that differ never mix answers."""


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, cache_hash=True):
    """One metric's question. Hashable, and the same text in JSON on both sides."""

    kind: MetricKind
    mode: MetricMode
    epsilon: str
    """A rational, as text: `1`, `1/2`."""
    mechanism: str
    """Its name; see `Mechanism.name`."""
    categories: tuple[str, ...] = ()
    """histogram: the names in order. count: `no`, `yes`. Else empty."""
    low: str = ""
    high: str = ""
    """sum, mean, quantile: the bounds in the feature's unit, rationals as text."""
    leaves: int = 0
    """quantile: buckets on the finest level."""
    quantiles: tuple[str, ...] = ()
    """quantile: which, rationals as text."""
    edges: tuple[str, ...] = ()
    """histogram by edges: each the very rational that its float is, so that floats compare with it."""
    where: tuple[Where, ...] = ()
    """count: what a value must meet to be a yes; see `inputs.py`."""


def question_of(metric: Metric) -> Question:
    """The question of `metric`, its mechanism chosen.

    Raises `ValueError` for a mechanism that its kind and mode do not have, or when epsilon, categories,
    bounds, leaves, quantiles or window do not fit.
    """
    if not 0 < metric.window_us <= WINDOW_LIMIT_DAYS * DAY_US:
        raise ValueError(f"expected a budget window of at most {WINDOW_LIMIT_DAYS} days")
    numeric = metric.kind in NUMERIC
    question = Question(
        kind=metric.kind,
        mode=metric.mode,
        epsilon=str(epsilon_of(metric)),
        mechanism=metric.mechanism or _chosen(metric),
        categories=_categories(metric),
        low=_decimal(metric.low) if numeric else "",
        high=_decimal(metric.high) if numeric else "",
        leaves=metric.leaves if metric.kind == "quantile" else 0,
        quantiles=tuple(_decimal(q) for q in metric.quantiles) if metric.kind == "quantile" else (),
        edges=tuple(str(Fraction(edge)) for edge in metric.edges or ()),
        where=metric.where,
    )
    check(question)
    return question


def _chosen(metric: Metric) -> str:
    if metric.mode == "curator":
        return "discrete_laplace"
    match metric.kind:
        case "quantile":
            return "hierarchical"
        case "sum" | "mean":
            return best_bounded(STEPS, epsilon_of(metric))
        case "count" | "histogram":
            return best_frequencies(len(_categories(metric)), epsilon_of(metric))


def _categories(metric: Metric) -> tuple[str, ...]:
    match metric.kind:
        case "histogram":
            return metric.categories
        case "count":
            return NO_YES
        case _:
            return ()


def _decimal(number: object) -> str:
    """The rational that its author wrote; empty for none, which `check` refuses."""
    return "" if number is None else str(Fraction(repr(number)))


def check(question: Question) -> None:
    """Raise `ValueError` unless `question` has a mechanism and its bounds and quantiles make sense."""
    if question.mode == "local":
        mechanism_for(question)
    else:
        curator_for(question)
    if question.kind in NUMERIC:
        if not (question.low and question.high):
            raise ValueError(f"expected bounds for a {question.kind}")
        if not Fraction(question.low) < Fraction(question.high):
            raise ValueError("expected a lower bound below the upper one")
    if question.kind == "quantile":
        asked = [Fraction(0), *map(Fraction, question.quantiles), Fraction(1)]
        if len(asked) == 2 or any(b <= a for a, b in pairwise(asked)):
            raise ValueError("expected quantiles that rise, each inside 0 … 1")


@lru_cache(maxsize=64)
def mechanism_for(question: Question) -> Mechanism:
    """The local mechanism that answers `question`; made once and kept. Raises `ValueError` for none."""
    match question.kind:
        case "count" | "histogram":
            return frequencies_for(question)
        case "sum" | "mean":
            return bounded_for(question)
        case "quantile":
            return hierarchical_for(question)


def frequencies_for(question: Question) -> Frequencies:
    """The mechanism of a local histogram or count. Raises `ValueError` for another question."""
    _expect(question, "local", ("count", "histogram"))
    return frequencies(question.mechanism, len(question.categories), Fraction(question.epsilon))


def bounded_for(question: Question) -> Bounded:
    """The mechanism of a local sum or mean, over `STEPS` steps. Raises `ValueError` for another question."""
    _expect(question, "local", ("sum", "mean"))
    return bounded(question.mechanism, STEPS, Fraction(question.epsilon))


@lru_cache(maxsize=64)
def hierarchical_for(question: Question) -> Hierarchical:
    """The mechanism of a local quantile. Raises `ValueError` for another question."""
    _expect(question, "local", ("quantile",))
    if question.mechanism != "hierarchical":
        raise ValueError(f"expected hierarchical, got {question.mechanism}")
    return Hierarchical.of(question.leaves, Fraction(question.epsilon))


@lru_cache(maxsize=64)
def curator_for(question: Question) -> DiscreteLaplace:
    """The noise that a kiosk adds over its own subjects for `question`. Raises `ValueError` for another."""
    _expect(question, "curator", ("count", "sum", "mean", "histogram", "quantile"))
    if question.mechanism != "discrete_laplace":
        raise ValueError(f"expected discrete_laplace, got {question.mechanism}")
    epsilon = Fraction(question.epsilon)
    match question.kind:
        case "histogram":
            return DiscreteLaplace.histogram(len(question.categories), epsilon)
        case "count":
            return DiscreteLaplace.count(epsilon)
        case "sum" | "mean":
            return DiscreteLaplace.total(STEPS, epsilon)
        case "quantile":
            return DiscreteLaplace.quantiles(question.leaves, epsilon)


def noised_for(question: Question) -> Noised:
    """What made the answers to `question`, local or a kiosk's. Raises `ValueError` for none."""
    return curator_for(question) if question.mode == "curator" else mechanism_for(question)


def _expect(question: Question, mode: MetricMode, kinds: tuple[MetricKind, ...]) -> None:
    if question.mode != mode or question.kind not in kinds:
        raise ValueError(f"expected a {mode} {' or '.join(kinds)}, got {question.mode} {question.kind}")


def epsilon_of(metric: Metric) -> Fraction:
    """The metric's epsilon as the decimal that its author wrote: 0.1 is one tenth, not the nearest float."""
    return Fraction(repr(metric.epsilon))


def cost_micros(metric: Metric) -> int:
    """What one report costs, in millionths of epsilon, rounded up."""
    return micros(epsilon_of(metric))


def micros(epsilon: Fraction) -> int:
    """`epsilon` in millionths, rounded up."""
    return -(-epsilon.numerator * MICRO // epsilon.denominator)


def budget_window_days(metrics: Iterable[Metric]) -> int:
    """Length of the budget window that all metrics of a catalog share, in whole days, at least one.

    The longest one that any metric declares: a short-window metric beside a long-window one must not refill
    what the long one promised.
    """
    longest_us = max((m.window_us for m in metrics), default=DAY_US)
    return min(max(1, -(-longest_us // DAY_US)), WINDOW_LIMIT_DAYS)


def definition(metric: Metric) -> bytes:
    """16 bytes that change with any parameter of `metric`: both sides must mean the same question."""
    question = question_of(metric)
    around = (metric.name, metric.purpose, metric.min_subjects, metric.window_us)
    return _hashed((*_what_is_read(metric), *around, _text(question)), b"edge-metric")


@lru_cache(maxsize=64)
def same_answers(metric: Metric) -> bytes:
    """16 bytes that change with whatever makes an answer of a value; while they stay, answers are repeated.

    Minimum and window, and which quantiles are read from the tree, are none of it: a change of these alone
    must not make a device draw anew what it has told already.
    """
    question = msgspec.structs.replace(question_of(metric), quantiles=())
    return _hashed((*_what_is_read(metric), _text(question)), b"edge-answers")


def _what_is_read(metric: Metric) -> tuple[object, ...]:
    return (
        SCHEME,
        str(metric.of),
        metric.read,
        repr(metric.where),
        repr(metric.edges),
        metric.experiment or "",
        metric.assignment or "",
        repr(metric.absent),
    )


def _text(question: Question) -> bytes:
    return msgspec.json.encode(question, order="deterministic")


def _hashed(parameters: tuple[object, ...], person: bytes) -> bytes:
    return hashlib.blake2b(canonical(parameters), digest_size=16, person=person).digest()
