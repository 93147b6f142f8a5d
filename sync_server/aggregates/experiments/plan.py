"""How many subjects an experiment needs, or what it can show with those that there are. Pure.

The power of the two-sided test that `uplift.py` makes, at z its critical value for alpha over all
comparisons and looks: P(|N(uplift / s, 1)| > z), with s the standard deviation of the estimated uplift, noise
and sampling both in it, where the compared arm has its uplift and every other arm the baseline. s^2 falls as
1 / n, so

    n = (z + z_power)^2 n s^2 / uplift^2

(Fleiss, Levin and Paik, 2003, chapter 4, with this s). Of several arms the one with the least weight is
planned for. Whoever answers counts as a subject, exposed or not: those who are not only cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Final

import msgspec
import numpy as np

from edge_runtime.aggregates.mechanisms import Frequencies
from edge_runtime.aggregates.mechanisms.choice import best_frequencies, frequencies
from sync_server.aggregates.experiments.cells import RESOLVED, Vector, arms_of
from sync_server.aggregates.experiments.uplift import ALPHA, critical

POWER: Final = 0.8
_MANY: Final = 10**12
_MARGIN: Final = 2.0
"""Deviations more than `RESOLVED` that an arm is planned to be above zero, so that it is resolved."""
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True)
class Design:
    """An experiment as it is planned."""

    baseline: float
    """Success rate of the control."""
    exposed: float = 1.0
    """Share of the answering subjects who are exposed."""
    weights: tuple[int, ...] = (1, 1)
    """Of the arms, control first."""
    epsilon: str = "1"
    """A rational, as text."""
    alpha: float = ALPHA
    looks: int = 1

    def __post_init__(self) -> None:
        if not (0 < self.baseline < 1 and 0 < self.exposed <= 1 and 0 < self.alpha < 1):
            raise ValueError("expected a baseline and alpha inside 0 … 1, and an exposed share over 0")
        if len(self.weights) < 2 or min(self.weights) < 1 or self.looks < 1:
            raise ValueError("expected two arms or more, of weights of 1 or more, and at least one look")
        if not 0 < Fraction(self.epsilon) <= 16:
            raise ValueError("expected epsilon over 0 and at most 16")

    @property
    def mechanism(self) -> Frequencies:
        """The one that the metric of such an experiment chooses."""
        cells, epsilon = 1 + 2 * len(self.weights), Fraction(self.epsilon)
        return frequencies(best_frequencies(cells, epsilon), cells, epsilon)

    @property
    def z(self) -> float:
        """Critical value of one comparison at one look."""
        return critical(1 - self.alpha / ((len(self.weights) - 1) * self.looks))

    @property
    def arm(self) -> int:
        """The arm planned for: of the least weight, not the control."""
        return 1 + int(np.argmin(self.weights[1:]))


class ExperimentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a design needs and what it can show."""

    baseline: float
    exposed: float
    epsilon: str
    mechanism: str
    arms: int
    alpha: float
    looks: int
    power: float
    uplift: float
    """Absolute difference of the rates that is to be shown, or the least that can be."""
    subjects: int
    """Who must answer for that, over the whole fleet."""
    in_the_clear: int
    """The same without any noise."""
    price: float
    """How many times as many subjects privacy asks for."""


def needed(design: Design, uplift: float, power: float = POWER) -> ExperimentPlan:
    """The subjects that show `uplift` with probability `power`. Raises `ValueError` for no such rate."""
    private = _needed(design, uplift, power, design.mechanism)
    clear = _needed(design, uplift, power, None)
    return _plan(design, uplift, power, private, clear)


def detectable(design: Design, subjects: int, power: float = POWER) -> ExperimentPlan | None:
    """The least uplift that `subjects` show with probability `power`; None when they show none at all."""
    low, high = 0.0, 1 - design.baseline
    if subjects < 1 or _needed(design, high * (1 - 1e-9), power, design.mechanism) > subjects:
        return None
    for _ in range(60):
        middle = (low + high) / 2
        few = middle > 0 and _needed(design, middle, power, design.mechanism) <= subjects
        low, high = (low, middle) if few else (middle, high)
    return _plan(design, high, power, subjects, _needed(design, high, power, None))


def power_of(design: Design, uplift: float, subjects: int, *, clear: bool = False) -> float:
    """The probability that `subjects` show `uplift`, in either direction; `clear`: without noise."""
    deviation = _deviation(design, uplift, None if clear else design.mechanism) / math.sqrt(subjects)
    away = abs(uplift) / deviation
    return _NORMAL.cdf(away - design.z) + _NORMAL.cdf(-away - design.z)


def _plan(design: Design, uplift: float, power: float, subjects: int, clear: int) -> ExperimentPlan:
    return ExperimentPlan(
        baseline=design.baseline,
        exposed=design.exposed,
        epsilon=design.epsilon,
        mechanism=design.mechanism.name,
        arms=len(design.weights),
        alpha=design.alpha,
        looks=design.looks,
        power=power,
        uplift=uplift,
        subjects=subjects,
        in_the_clear=clear,
        price=subjects / clear,
    )


def _needed(design: Design, uplift: float, power: float, mechanism: Frequencies | None) -> int:
    if uplift == 0 or not 0 < design.baseline + uplift < 1 or not 0 < power < 1:
        raise ValueError("expected an uplift whose rate lies inside 0 … 1, and a power inside it")
    deviation = _deviation(design, uplift, mechanism)
    shown = ((design.z + _NORMAL.inv_cdf(power)) * deviation / uplift) ** 2
    return math.ceil(max(shown, _resolving(design, uplift, mechanism), 1))


def _deviation(design: Design, uplift: float, mechanism: Frequencies | None) -> float:
    """Standard deviation of the estimated uplift, times the root of n."""
    covariance = arms_of(_shares(design, uplift), _MANY, mechanism).covariance
    arm = design.arm
    return math.sqrt(_MANY * (covariance[0, 0] - 2 * covariance[0, arm] + covariance[arm, arm]))


def _resolving(design: Design, uplift: float, mechanism: Frequencies | None) -> float:
    """How many subjects it takes until control and arm are resolved; see `cells.py`."""
    arms = arms_of(_shares(design, uplift), _MANY, mechanism)
    spread = np.sqrt(_MANY * np.diag(arms.exposed_covariance))
    wanted: Vector = ((RESOLVED + _MARGIN) * spread / arms.exposed) ** 2
    return float(max(wanted[0], wanted[design.arm]))


def _shares(design: Design, uplift: float) -> Vector:
    weights = np.asarray(design.weights, dtype=np.float64)
    exposed, rates = design.exposed * weights / weights.sum(), np.full(len(weights), design.baseline)
    rates[design.arm] += uplift
    cells = np.stack([exposed * (1 - rates), exposed * rates], axis=1).ravel()
    return np.concatenate([[1 - design.exposed], cells])
