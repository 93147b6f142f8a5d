"""What a metric asks in numbers, apart from whom: everything that makes its mechanism and its estimate. Pure.

A device makes the question from its own catalog, the server freezes it when a round opens; both build the
same mechanism from it, and `definition` is the hash by which they know that they mean the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Final

import msgspec

from edge_runtime.aggregates.mechanisms.choice import best_frequencies, frequencies
from edge_runtime.aggregates.mechanisms.mechanism import Curator, Frequencies, Mechanism
from edge_runtime.catalog.model import Metric, MetricKind, MetricMode, Where
from edge_runtime.wire.seal import canonical

BUDGET_CEILING_MICROS: Final = 4_000_000
"""Most epsilon, in millionths, that one subject spends in one window. Built in: no catalog raises it."""
DAY_US: Final = 86_400_000_000
WINDOW_LIMIT_DAYS: Final = 3_650


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    Raises `ValueError` for a kind that is not built, or whose epsilon, categories or window do not fit.
    """
    if not 0 < metric.window_us <= WINDOW_LIMIT_DAYS * DAY_US:
        raise ValueError(f"expected a budget window of at most {WINDOW_LIMIT_DAYS} days")
    if metric.kind != "histogram" or metric.mode != "local":
        raise ValueError(f"expected a local histogram, got {metric.mode} {metric.kind}")
    epsilon = epsilon_of(metric)
    chosen = metric.mechanism or best_frequencies(len(metric.categories), epsilon)
    question = Question(
        kind=metric.kind,
        mode=metric.mode,
        epsilon=str(epsilon),
        mechanism=chosen,
        categories=metric.categories,
        edges=tuple(str(Fraction(edge)) for edge in metric.edges or ()),
        where=metric.where,
    )
    mechanism_for(question)
    return question


@lru_cache(maxsize=64)
def mechanism_for(question: Question) -> Mechanism:
    """The local mechanism that answers `question`; made once and kept. Raises `ValueError` for none."""
    return frequencies_for(question)


def frequencies_for(question: Question) -> Frequencies:
    """The mechanism of a histogram or count. Raises `ValueError` for another question."""
    return frequencies(question.mechanism, len(question.categories), Fraction(question.epsilon))


def curator_for(question: Question) -> Curator:
    """The noise that a kiosk adds over its own subjects for `question`. Raises `ValueError` for another."""
    raise ValueError(f"expected a question for a curator, got {question.mode} {question.kind}")


def epsilon_of(metric: Metric) -> Fraction:
    """The metric's epsilon as the decimal that its author wrote: 0.1 is one tenth, not the nearest float."""
    return Fraction(repr(metric.epsilon))


def cost_micros(metric: Metric) -> int:
    """What one report costs, in millionths of epsilon, rounded up."""
    micros = epsilon_of(metric) * 1_000_000
    return -(-micros.numerator // micros.denominator)


def budget_window_days(metrics: Iterable[Metric]) -> int:
    """Length of the budget window that all metrics of a catalog share, in whole days, at least one.

    The longest one that any metric declares: a short-window metric beside a long-window one must not refill
    what the long one promised.
    """
    longest_us = max((m.window_us for m in metrics), default=DAY_US)
    return min(max(1, -(-longest_us // DAY_US)), WINDOW_LIMIT_DAYS)


def definition(metric: Metric) -> bytes:
    """16 bytes that change with any parameter of `metric`: both sides must mean the same question."""
    asked = msgspec.json.encode(question_of(metric), order="deterministic")
    parameters = (
        metric.name,
        metric.purpose,
        str(metric.of),
        metric.read,
        repr(metric.where),
        repr(metric.edges),
        metric.experiment or "",
        metric.min_subjects,
        metric.window_us,
        asked,
    )
    return hashlib.blake2b(canonical(parameters), digest_size=16, person=b"edge-metric").digest()
