"""What a metric's declaration means in numbers: its mechanism, its cost, and the hash both sides compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from typing import Final

from edge_runtime.aggregates.mechanisms.subset import SubsetSelection
from edge_runtime.catalog.model import Metric
from edge_runtime.wire.seal import canonical

BUDGET_CEILING_MICROS: Final = 4_000_000
"""Most epsilon, in millionths, that one subject spends in one window. Built in: no catalog raises it."""
DAY_US: Final = 86_400_000_000
WINDOW_LIMIT_DAYS: Final = 3_650


def epsilon_of(metric: Metric) -> Fraction:
    """The metric's epsilon as the decimal that its author wrote: 0.1 is one tenth, not the nearest float."""
    return Fraction(repr(metric.epsilon))


def cost_micros(metric: Metric) -> int:
    """What one report costs, in millionths of epsilon, rounded up."""
    micros = epsilon_of(metric) * 1_000_000
    return -(-micros.numerator // micros.denominator)


@lru_cache(maxsize=64)
def histogram_mechanism(categories: int, epsilon: Fraction) -> SubsetSelection:
    """The mechanism of every histogram with this many categories at `epsilon`; made once and kept."""
    return SubsetSelection.of(categories, epsilon)


def mechanism_of(metric: Metric) -> SubsetSelection:
    """The mechanism that answers `metric`.

    Raises `ValueError` for what is not a histogram, or whose epsilon, categories or window do not fit.
    """
    if not 0 < metric.window_us <= WINDOW_LIMIT_DAYS * DAY_US:
        raise ValueError(f"expected a budget window of at most {WINDOW_LIMIT_DAYS} days")
    if metric.kind != "histogram":
        raise ValueError(f"expected a histogram, got {metric.kind}")
    return histogram_mechanism(len(metric.categories), epsilon_of(metric))


def budget_window_days(metrics: Iterable[Metric]) -> int:
    """Length of the budget window that all metrics of a catalog share, in whole days, at least one.

    The longest one that any metric declares: a short-window metric beside a long-window one must not refill
    what the long one promised.
    """
    longest_us = max((m.window_us for m in metrics), default=DAY_US)
    return min(max(1, -(-longest_us // DAY_US)), WINDOW_LIMIT_DAYS)


def definition(metric: Metric) -> bytes:
    """16 bytes that change with any parameter of `metric`: both sides must mean the same question."""
    parameters = (
        metric.name,
        metric.purpose,
        metric.kind,
        str(metric.of),
        str(epsilon_of(metric)),
        metric.min_subjects,
        metric.window_us,
        metric.categories,
        repr(metric.edges),
    )
    return hashlib.blake2b(canonical(parameters), digest_size=16, person=b"edge-metric").digest()
