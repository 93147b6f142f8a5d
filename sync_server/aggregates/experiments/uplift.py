"""What an experiment's release says: each arm's rate, its uplift over the control, and whether that is shown.

- **uplift**: difference of two rates, with the interval of the delta method over the full covariance of the
  cells (`cells.py`), which counts the noise and the sampling of subjects.
- **relative uplift**: rate / control - 1, with the interval of Fieller (1954), which stays right where the
  control's rate is unsure; there is none where that rate cannot be told from zero.
- **several arms, several looks**: every interval holds at level alpha / (comparisons * looks), after
  Bonferroni, so that all of an experiment's intervals over all its planned looks hold together with
  probability 1 - alpha. Whoever looks more often than planned sees differences that are none.
- **verdict**: `up` or `down` where the interval lies on one side of zero; `no_difference_shown` else, which
  is not that there is none: the interval says how large one may be.
- **sample ratio**: whether the arms were exposed in the shares of their weights, by a chi-square over the
  estimated exposed shares and their covariance. An alarm (p < 0.001) says that exposure depends on the arm or
  that something is broken, and that no uplift of this round should be believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final, Literal

import msgspec
import numpy as np

from edge_runtime.aggregates.mechanisms import Question, frequencies_for
from edge_runtime.catalog.model import cells_of
from sync_server.aggregates.experiments.cells import Arms, arms_of
from sync_server.aggregates.experiments.chi_square import upper_tail
from sync_server.aggregates.release import Interval

Verdict = Literal["up", "down", "no_difference_shown"]
ALPHA: Final = 0.05
RATIO_ALARM: Final = 0.001
"""p of the sample ratio under which it is an alarm; the usual one (Fabijan et al., KDD 2019)."""
_NORMAL: Final = NormalDist()


class ArmRate(msgspec.Struct, frozen=True, kw_only=True):
    """One arm by itself."""

    arm: str
    weight: int
    exposed: float
    """Estimated share of all subjects who were exposed to it."""
    rate: float | None
    """Estimated share of successes among those; a little outside 0 … 1 where noise made it so. Null where too
    few were exposed to tell."""
    interval: Interval | None
    """Of the rate, at the experiment's alpha, for itself alone."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One arm against the control."""

    arm: str
    uplift: float | None
    """Rate minus the control's. Null where too few were exposed to either to tell."""
    interval: Interval | None
    relative: float | None
    """Rate over the control's, minus 1."""
    relative_interval: Interval | None
    """Null where the control's rate cannot be told from zero."""
    p_value: float | None
    """Of no difference, adjusted for comparisons and looks."""
    verdict: Verdict


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Whether arms were exposed as their weights say."""

    chi_square: float
    freedom: int
    p_value: float
    alarm: bool


class Uplift(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one release says of an experiment."""

    control: str
    n: int
    """Subjects who answered, unexposed ones among them."""
    unexposed: float
    arms: list[ArmRate]
    comparisons: list[Comparison]
    sample_ratio: SampleRatio
    alpha: float
    looks: int
    """Planned looks at this experiment, this one among them."""
    level: float
    """Confidence level of one interval: 1 - alpha / (comparisons * looks)."""


def uplift(
    question: Question,
    estimate: Mapping[str, float],
    n: int,
    weights: Sequence[tuple[str, int]],
    *,
    alpha: float = ALPHA,
    looks: int = 1,
) -> Uplift:
    """The uplift of each arm over the first one.

    Args:
        question: that of the experiment's round.
        estimate: its release's unbiased estimates, by the cells of the experiment.
        n: subjects in the release.
        weights: (arm, weight) in the order of the cells, control first.
        alpha: chance that any interval of any look is wrong.
        looks: how often the experiment will be looked at in all.

    Raises `ValueError` when the cells are not those of the arms, or alpha or looks make no sense.
    """
    if not 0 < alpha < 1 or looks < 1:
        raise ValueError("expected alpha inside 0 … 1 and at least one look")
    cells = cells_of(weights)
    if question.categories != cells:
        raise ValueError("expected the cells of these arms")
    arms = arms_of([estimate[cell] for cell in cells], n, frequencies_for(question))
    level = 1 - alpha / ((len(weights) - 1) * looks)
    return Uplift(
        control=weights[0][0],
        n=n,
        unexposed=estimate[cells[0]],
        arms=[_rate(arms, i, arm, weight, alpha) for i, (arm, weight) in enumerate(weights)],
        comparisons=[_comparison(arms, i, weights[i][0], level, alpha) for i in range(1, len(weights))],
        sample_ratio=sample_ratio(arms, [weight for _, weight in weights]),
        alpha=alpha,
        looks=looks,
        level=level,
    )


def critical(level: float) -> float:
    """How many standard deviations a two-sided interval of `level` reaches."""
    return _NORMAL.inv_cdf((1 + level) / 2)


def sample_ratio(arms: Arms, weights: Sequence[int]) -> SampleRatio:
    """Chi-square of the exposed shares against the weights: a Wald test of all but one difference."""
    due = np.asarray(weights, dtype=np.float64) / sum(weights)
    count = len(weights)
    contrast = (np.eye(count) - np.outer(due, np.ones(count)))[1:]
    off = contrast @ arms.exposed
    spread = contrast @ arms.exposed_covariance @ contrast.T
    value = float(off @ np.linalg.solve(spread, off))
    p = upper_tail(value, count - 1)
    return SampleRatio(chi_square=value, freedom=count - 1, p_value=p, alarm=p < RATIO_ALARM)


def _rate(arms: Arms, i: int, arm: str, weight: int, alpha: float) -> ArmRate:
    exposed = float(arms.exposed[i])
    if not arms.resolved[i]:
        return ArmRate(arm=arm, weight=weight, exposed=exposed, rate=None, interval=None)
    rate = float(arms.rates[i])
    half = critical(1 - alpha) * math.sqrt(arms.covariance[i, i])
    return ArmRate(arm=arm, weight=weight, exposed=exposed, rate=rate, interval=(rate - half, rate + half))


def _comparison(arms: Arms, i: int, arm: str, level: float, alpha: float) -> Comparison:
    if not (arms.resolved[0] and arms.resolved[i]):
        return Comparison(
            arm=arm,
            uplift=None,
            interval=None,
            relative=None,
            relative_interval=None,
            p_value=None,
            verdict="no_difference_shown",
        )
    control, rate = float(arms.rates[0]), float(arms.rates[i])
    of_control, both, of_arm = map(float, arms.covariance[[0, 0, i], [0, i, i]])
    deviation = math.sqrt(of_control - 2 * both + of_arm)
    difference, half = rate - control, critical(level) * deviation
    low, high = difference - half, difference + half
    tail = 2 * _NORMAL.cdf(-abs(difference) / deviation)
    ratio = fieller(rate, control, of_arm, both, of_control, critical(level))
    return Comparison(
        arm=arm,
        uplift=difference,
        interval=(low, high),
        relative=None if ratio is None else rate / control - 1,
        relative_interval=None if ratio is None else (ratio[0] - 1, ratio[1] - 1),
        p_value=min(1.0, tail * alpha / (1 - level)),
        verdict="up" if low > 0 else "down" if high < 0 else "no_difference_shown",
    )


def fieller(
    above: float, below: float, variance: float, covariance: float, variance_below: float, z: float
) -> tuple[float, float] | None:
    """The interval of above / below, both normal: all ratios r with |above - r below| within z deviations.

    Fieller, "Some problems in interval estimation", JRSS B 16 (1954). None where `below` is not positive by z
    of its deviations: then no interval bounds the ratio.
    """
    a = below * below - z * z * variance_below
    if below <= 0 or a <= 0:
        return None
    b = above * below - z * z * covariance
    c = above * above - z * z * variance
    half = math.sqrt(max(0.0, b * b - a * c))
    return (b - half) / a, (b + half) / a
