"""What a metric will tell at which fleet size, what it costs, and what another mechanism would tell. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import msgspec

from edge_runtime.aggregates.mechanisms import (
    BUDGET_CEILING_MICROS,
    MICRO,
    STEPS,
    Question,
    best_bounded,
    best_frequencies,
    micros,
)
from edge_runtime.aggregates.mechanisms.bounded import BOUNDED
from edge_runtime.aggregates.mechanisms.choice import FREQUENCIES
from edge_runtime.catalog.model import MetricMode
from sync_server.aggregates.estimators.expected import expected

KIOSK_SUBJECTS: Final = 20
WANTED: Final = (0.1, 0.05, 0.02, 0.01)
"""Half widths, in parts of the range, for which the smallest fleet is told."""
FLEET_LIMIT: Final = 10**9


class Expected(msgspec.Struct, frozen=True):
    """The error to expect with so many subjects; `expected.py` says of which inputs."""

    subjects: int
    standard_error: float
    """In the unit of the number: of a histogram a share, of a count subjects, else the metric's own."""
    half_width: float
    """Of the 95 % interval, in the same unit."""
    relative: float
    """Half width in parts of the range: of 1, of all subjects, of the distance of the bounds (times the
    subjects for a sum). From 0.5 on nothing is learned."""
    total_error: float | None = None
    """histogram: expected squared l2 error over all categories."""
    limit_ratio: float | None = None
    """local histogram: that over the least any local mechanism can have; 1 is ideal."""


class Fleet(msgspec.Struct, frozen=True):
    """How many subjects a half width needs."""

    relative: float
    """The half width wanted, in parts of the range."""
    subjects: int | None
    """The smallest fleet that has it; None: none up to 10^9."""


class Option(msgspec.Struct, frozen=True):
    """The same question asked in one way."""

    mechanism: str
    mode: MetricMode
    kiosk_subjects: int | None
    """curator: how many subjects one kiosk adds up."""
    at: tuple[Expected, ...]
    """For each fleet size asked about."""
    needed: tuple[Fleet, ...]
    """For each half width asked about."""


class Plan(msgspec.Struct, frozen=True):
    """What a metric will tell, and what it costs."""

    kind: str
    epsilon: float
    """What one round costs a subject."""
    epsilon_ceiling: float
    """Most that one subject spends in a budget window, over all metrics."""
    budget_part: float
    """Part of the ceiling that one round costs."""
    rounds: int
    """Rounds of this metric in one budget window, when no other metric is asked."""
    chosen: Option
    """As the catalog declares it."""
    alternatives: tuple[Option, ...]
    """Every other mechanism of this kind, and the other mode with its best mechanism."""


def plan(
    question: Question,
    sizes: Sequence[int],
    kiosk_subjects: int = KIOSK_SUBJECTS,
    wanted: Sequence[float] = WANTED,
) -> Plan:
    """What to expect of rounds of `question` with fleets of these sizes.

    Args:
        sizes: subjects who answer, each at least 1.
        kiosk_subjects: how many of them one kiosk adds up, in curator mode.
        wanted: half widths in parts of the range for which the smallest fleet is searched.

    Raises `ValueError` for a size, number of subjects or width that is not positive.
    """
    if any(size < 1 for size in (*sizes, kiosk_subjects)) or any(width <= 0 for width in wanted):
        raise ValueError("expected fleet sizes, subjects of a kiosk and half widths above 0")
    epsilon = Fraction(question.epsilon)
    cost = micros(epsilon)
    others = (other for other in asked_otherwise(question) if other != question)
    return Plan(
        kind=question.kind,
        epsilon=float(epsilon),
        epsilon_ceiling=BUDGET_CEILING_MICROS / MICRO,
        budget_part=cost / BUDGET_CEILING_MICROS,
        rounds=BUDGET_CEILING_MICROS // cost,
        chosen=_option(question, sizes, kiosk_subjects, wanted),
        alternatives=tuple(_option(other, sizes, kiosk_subjects, wanted) for other in others),
    )


def asked_otherwise(question: Question) -> list[Question]:
    """`question` with every mechanism that its kind has locally, and in curator mode."""
    match question.kind:
        case "histogram":
            names: Sequence[str] = FREQUENCIES
        case "count":
            names = (best_frequencies(2, Fraction(question.epsilon)),)
        case "mean" | "sum":
            names = sorted(BOUNDED, key=lambda name: name != best_bounded(STEPS, Fraction(question.epsilon)))
        case "quantile":
            names = ("hierarchical",)
    local = [_with(question, "local", name) for name in names]
    return [*local, _with(question, "curator", "discrete_laplace")]


def fleet(question: Question, relative: float, kiosk_subjects: int = KIOSK_SUBJECTS) -> int | None:
    """The smallest number of subjects whose half width is at most `relative`; None: more than 10^9."""

    def fits(subjects: int) -> bool:
        return expected(question, subjects, kiosk_subjects).half <= relative

    high = 1
    while not fits(high):
        high *= 2
        if high > FLEET_LIMIT:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _with(question: Question, mode: MetricMode, mechanism: str) -> Question:
    return msgspec.structs.replace(question, mode=mode, mechanism=mechanism)


def _option(question: Question, sizes: Sequence[int], kiosk: int, wanted: Sequence[float]) -> Option:
    return Option(
        mechanism=question.mechanism,
        mode=question.mode,
        kiosk_subjects=kiosk if question.mode == "curator" else None,
        at=tuple(_expected(question, size, kiosk) for size in sizes),
        needed=tuple(Fleet(width, fleet(question, width, kiosk)) for width in wanted),
    )


def _expected(question: Question, subjects: int, kiosk: int) -> Expected:
    error = expected(question, subjects, kiosk)
    unit = float(Fraction(question.high) - Fraction(question.low)) if question.low else 1.0
    unit *= subjects if question.kind in ("count", "sum") else 1
    return Expected(
        subjects=subjects,
        standard_error=unit * error.standard,
        half_width=unit * error.half,
        relative=error.half,
        total_error=error.total,
        limit_ratio=error.ratio,
    )
