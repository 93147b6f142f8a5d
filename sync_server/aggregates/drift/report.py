"""What is said of a release beside its reference or an earlier release. Pure."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np

from edge_runtime.aggregates.mechanisms import Question
from edge_runtime.catalog.model import Metric
from sync_server.aggregates.drift.divergence import floor, held
from sync_server.aggregates.drift.drift import (
    Measured,
    Reference,
    Released,
    Side,
    Verdict,
    jensen_shannon_divergence,
    population_stability,
    verdict,
)
from sync_server.aggregates.release import Figure, Release

ALARM_AT: Final = 0.25
"""Index that is an alarm where the metric declares none: by custom, much."""
REFERENCE: Final = "reference"
PREVIOUS: Final = "previous"


class CategoryDrift(msgspec.Struct, frozen=True):
    """One category on both sides, as distributions; noise and all."""

    category: str
    now: float
    before: float


class DriftReport(msgspec.Struct, frozen=True):
    """How far a released histogram is from what it is compared with."""

    metric: str
    round: str
    """Hex; the release that is judged."""
    closed_at_us: int
    n: int
    """Subjects in it."""
    against: str
    """`reference`, or the round of the earlier release, hex."""
    against_closed_at_us: int | None
    """Null for the reference."""
    against_n: int | None
    stability_index: Figure
    """Population stability index, corrected for the noise: median-unbiased, 0 where noise alone explains what
    was seen. What `alarm_at` is compared with."""
    jensen_shannon: Figure
    """0 for equal distributions, 1 for two that share no category; corrected in the same way."""
    alarm_at: float
    verdict: Verdict
    """`alarm`: the whole interval of the index is above `alarm_at`. `watch`: its estimate is. `none`: the
    whole interval is not. `unsure`: the interval is too wide to say."""
    floor: float
    """What a share counts as at least."""
    categories: list[CategoryDrift]


def comparable(release: Release, metric: Metric) -> bool:
    """Whether `release` has the shares of the categories that `metric` declares."""
    return (
        release.status == "released"
        and release.kind == "histogram"
        and tuple(release.estimate or ()) == metric.categories
    )


def report_of(metric: Metric, now: Release, before: Release | None) -> DriftReport:
    """`now` beside `before`, or beside the metric's reference for None; both must be `comparable`.

    The same releases give the same report. Raises `ValueError` for no reference, or too many categories.
    """
    judged, other = _side(now), _reference(metric) if before is None else _side(before)
    seed = _seed(now.round, REFERENCE if before is None else before.round)
    index = population_stability(judged, other, seed)
    alarm_at = ALARM_AT if metric.drift_alarm is None else metric.drift_alarm
    return DriftReport(
        metric=metric.name,
        round=now.round,
        closed_at_us=now.closed_at_us,
        n=now.n or 0,
        against=REFERENCE if before is None else before.round,
        against_closed_at_us=None if before is None else before.closed_at_us,
        against_n=None if before is None else before.n,
        stability_index=_figure(index),
        jensen_shannon=_figure(jensen_shannon_divergence(judged, other, seed)),
        alarm_at=alarm_at,
        verdict=verdict(index, alarm_at),
        floor=floor(len(metric.categories)),
        categories=_categories(metric, now, before, other),
    )


def _categories(metric: Metric, now: Release, before: Release | None, other: Side) -> list[CategoryDrift]:
    shares = now.share or {}
    then = dict(zip(metric.categories, other.shares.tolist(), strict=True))
    if before is not None:
        then = before.share or {}
    return [CategoryDrift(name, shares[name], round(then[name], 6)) for name in metric.categories]


def _side(release: Release) -> Released:
    """All that the noise depends on is published with a release."""
    numbers = release.estimate or {}
    question = Question(
        kind="histogram",
        mode=release.mode,
        epsilon=str(Fraction(repr(release.epsilon))),
        mechanism=release.mechanism,
        categories=tuple(numbers),
    )
    return Released(np.array(list(numbers.values())), question, release.n or 0, release.reports or 0)


def _reference(metric: Metric) -> Reference:
    if metric.reference is None:
        raise ValueError("expected a reference of the metric")
    shares = np.array(metric.reference, dtype=np.float64)
    return Reference(held(shares / shares.sum()))


def _seed(*rounds: str) -> int:
    return int.from_bytes(hashlib.blake2b(" ".join(rounds).encode(), digest_size=8).digest())


def _figure(found: Measured) -> Figure:
    estimate, low, high = (round(value, 6) for value in found)
    return Figure(estimate, (low, high))
