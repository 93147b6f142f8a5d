"""Has a histogram moved away from a reference, or from an earlier release? Pure; chance comes in as a seed.

The divergence of noised shares is too large: noise alone moves them apart, most where nothing has moved, and
near no drift its error is not normal, so that neither the plain number nor the delta method can be used.
Instead the question is turned around: *for which true drift would a divergence like the one seen be usual?*

- The two estimates are made distributions (`nearest`), and their divergence is T. T is not the drift, it is
  what is compared.
- Between no drift and what was seen lies a path of pairs of distributions, and it leads on beyond: both are
  tilted away from their average m along h = ln(a/b), a_l ~ m exp(l w h) and b_l ~ m exp(-l (1-w) h). w is
  the part that b has of both precisions, and m their average by precision; a reference has w = 1, it is m and
  does not move. The divergence grows with l.
- For a point of the path many pairs of estimates are drawn, with the exact covariance of the mechanism's
  answers, by subjects who are themselves drawn from the population (so a small fleet is not taken for the
  population). All points use the same draws, seeded from the rounds' ids: the same releases give the same
  numbers.
- The interval's lower end is the least drift at which T is not among the upper 1.25 % of what is drawn, its
  upper end the largest at which T is not among the lower 1.25 %; the estimate is where T is the median, and 0
  when it is under the median of no drift. So the estimate is corrected for the bias by construction: it is
  median-unbiased along the path.
- For the upper end T counts as at least the median of no drift (a power-constrained limit; Cowan, Cranmer,
  Gross and Vitells 2011): shares that by luck look more alike than the noise allows prove nothing.

The direction h is itself seen through the noise. For large drift over many categories that costs up to four
points of coverage; therefore the tails are 1.25 % for an interval called 95 %. It all is computed from
published numbers, so it spends no budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final, Literal, NamedTuple, Protocol

import numpy as np

from edge_runtime.aggregates.mechanisms import Question, curator_for, frequencies_for
from sync_server.aggregates.drift.divergence import (
    Divergence,
    Floats,
    held,
    jensen_shannon,
    nearest,
    stability,
    tilted,
)
from sync_server.aggregates.estimators.covariance import population_covariance

MOST_DRAWS: Final = 2_000
FEWEST_DRAWS: Final = 500
DRAWN_SHARES: Final = 100_000
"""Draws times categories at a point of the path: with many categories there are fewer draws."""
CATEGORY_LIMIT: Final = 256
"""Most categories: drawing takes time in proportion to their cube."""
TAIL: Final = 0.0125
"""On either side; half of what an exact 95 % interval would have, see above."""
_STEPS: Final = 11
_FARTHEST: Final = 64.0
"""How far the path is followed; by then all is in one category."""
Verdict = Literal["alarm", "watch", "none", "unsure"]


class Measured(NamedTuple):
    """A divergence with its 95 % interval."""

    estimate: float
    low: float
    high: float


class Side(Protocol):
    """One of the two that are compared."""

    @property
    def shares(self) -> Floats:
        """As estimated, may be negative; or as they are."""
        ...

    @property
    def precision(self) -> float:
        """1 / variance of a share, roughly; infinite where nothing is noised."""
        ...

    def around(self, truth: Floats, rng: np.random.Generator, draws: int) -> Floats:
        """So many estimates [draws, K], were `truth` the population's shares."""
        ...


@dataclass(frozen=True)
class Reference:
    """Shares that are known."""

    shares: Floats
    precision: float = np.inf

    def around(self, truth: Floats, rng: np.random.Generator, draws: int) -> Floats:
        """No noise."""
        return np.broadcast_to(truth, (draws, truth.size))


@dataclass(frozen=True)
class Released:
    """The unbiased shares of a released histogram, and how they came about."""

    shares: Floats
    question: Question
    subjects: int
    reports: int

    @property
    def precision(self) -> float:
        """Of an even share."""
        even = np.full(self.shares.size, 1 / self.shares.size)
        return float(1 / (self.covariance(even)[0, 0] + self._kiosk_noise**2 * 2 * self.reports))

    @cached_property
    def _kiosk_noise(self) -> float:
        """Scale of one report's noise on a share; 0 where subjects are noised one by one."""
        if self.question.mode == "local":
            return 0.0
        return float(curator_for(self.question).scale) / self.subjects

    def covariance(self, truth: Floats) -> Floats:
        """Of the estimates, of subjects drawn from a population with the shares `truth`.

        Without a kiosk's own noise, which is not normal.
        """
        local = self.question.mode == "local"
        return population_covariance(truth, self.subjects, frequencies_for(self.question) if local else None)

    def around(self, truth: Floats, rng: np.random.Generator, draws: int) -> Floats:
        """Normal with the covariance; a kiosk's own noise is a difference of two gamma draws."""
        values, vectors = np.linalg.eigh(self.covariance(truth))
        root = vectors * np.sqrt(np.maximum(values, 0))
        found: Floats = truth + rng.standard_normal((draws, truth.size)) @ root.T
        if self.question.mode == "curator":
            shape = (draws, truth.size)
            noise = rng.gamma(self.reports, size=shape) - rng.gamma(self.reports, size=shape)
            found = found + noise * self._kiosk_noise
        return found


def draws_for(categories: int) -> int:
    """How many pairs are drawn at each point of the path."""
    return min(MOST_DRAWS, max(FEWEST_DRAWS, DRAWN_SHARES // categories))


def measure(
    now: Released, before: Side, divergence: Divergence, seed: int, draws: int | None = None
) -> Measured:
    """How far the population of `now` is from `before`, with a 95 % interval.

    Raises `ValueError` when they have not equally many categories, or more than `CATEGORY_LIMIT`.
    """
    if now.shares.size != before.shares.size or now.shares.size > CATEGORY_LIMIT:
        raise ValueError(f"expected two histograms of the same categories, at most {CATEGORY_LIMIT}")
    many = draws_for(now.shares.size) if draws is None else draws
    path = _path(now, before)
    seen = float(divergence(nearest(now.shares), nearest(before.shares)))

    @cache  # the three ends are searched along the same path
    def drawn(power: float) -> Floats:
        """Divergences seen at this point of the path."""
        rng = np.random.default_rng(seed)
        a, b = path(power)
        return divergence(nearest(now.around(a, rng, many)), nearest(before.around(b, rng, many)))

    def drift(wanted: float, threshold: float) -> float:
        """That at which `wanted` of the draws are apart as far as `threshold`."""
        a, b = path(_crossing(lambda power: float((drawn(power) >= threshold).mean()), wanted))
        return float(divergence(a, b))

    usual = max(seen, float(np.median(drawn(0.0))))
    return Measured(drift(0.5, seen), drift(TAIL, seen), drift(1 - TAIL, usual))


def population_stability(now: Released, before: Side, seed: int, draws: int | None = None) -> Measured:
    """The population stability index of `now` against `before`; see `measure`."""
    return measure(now, before, stability, seed, draws)


def jensen_shannon_divergence(now: Released, before: Side, seed: int) -> Measured:
    """The Jensen-Shannon divergence of `now` and `before`, 0 … 1; see `measure`."""
    return measure(now, before, jensen_shannon, seed)


def verdict(stability_index: Measured, alarm_at: float) -> Verdict:
    """`alarm`: surely above; `watch`: estimated above; `none`: surely not above; else it cannot be said."""
    if stability_index.low > alarm_at:
        return "alarm"
    if stability_index.estimate > alarm_at:
        return "watch"
    return "none" if stability_index.high <= alarm_at else "unsure"


def _path(now: Released, before: Side) -> Callable[[float], tuple[Floats, Floats]]:
    """Power -> the pair of distributions there; equal at 0, about what was estimated at 1."""
    a, b = held(nearest(now.shares)), held(nearest(before.shares))
    weight = 1.0 if np.isinf(before.precision) else before.precision / (now.precision + before.precision)
    middle = held(nearest((1 - weight) * now.shares + weight * before.shares)) if weight < 1 else b
    ratio = np.log(a / b)
    return lambda power: (tilted(middle, ratio, power * weight), tilted(middle, ratio, power * (weight - 1)))


def _crossing(higher: Callable[[float], float], wanted: float) -> float:
    """The power from which on at least `wanted` of the draws are apart as far as what was seen."""
    if higher(0.0) >= wanted:
        return 0.0
    low, high = 0.0, 1.0
    while higher(high) < wanted:
        low, high = high, 2 * high
        if high > _FARTHEST:
            return _FARTHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if higher(middle) >= wanted else (middle, high)
    return high
