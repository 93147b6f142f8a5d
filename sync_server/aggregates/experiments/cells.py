"""An experiment's cells as estimates with one covariance, from which the rates of its arms follow. Pure.

What an experiment claims is about the population that its subjects came from, so the covariance counts both
the noise that the devices added and which subjects answered (`estimators/covariance.py`). A histogram's own
interval leaves the second out, for it speaks of the subjects who answered.

The rate of an arm is yes / (yes + no), a ratio of two estimates. Its gradient gives the covariance of the
rates of all arms to first order (the delta method), which holds while what stands below is well away from
zero: `Arms.resolved` says for which arms it is. Floats, unlike the release itself: these are judgements about
numbers that are published already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_runtime.aggregates.mechanisms import Frequencies
from sync_server.aggregates.estimators.covariance import population_covariance

RESOLVED: Final = 4.0
"""How many standard deviations the exposed share of an arm must be above zero. The first order of a ratio by
less is a guess; at four, simulated intervals of 95 % cover in 94.5 to 96 % (`bench experiment`)."""
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Arms:
    """What is known of each arm, control first."""

    exposed: Vector
    """Share of all subjects who were exposed to it."""
    exposed_covariance: Vector
    rates: Vector
    """Success rate among those; NaN where nobody seems exposed."""
    covariance: Vector
    """Of the rates; as good as nothing where an arm is not resolved."""
    resolved: npt.NDArray[np.bool_]


def arms_of(shares: Sequence[float] | Vector, n: int, mechanism: Frequencies | None) -> Arms:
    """The arms behind the estimates `shares` (unexposed, then no and yes of each arm) of `n` subjects.

    Args:
        mechanism: how the answers were noised; None for answers in the clear.
    """
    found = np.asarray(shares, dtype=np.float64)
    cells = population_covariance(_plausible(found), n, mechanism)
    count = (len(found) - 1) // 2
    no, yes = found[1::2], found[2::2]
    exposed = no + yes
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(exposed > 0, yes / exposed, np.nan)
        held = np.clip(rates, 0.0, 1.0)  # a slope outside would be that of no population
        slopes = np.zeros((count, len(found)))
        arm = np.arange(count)
        slopes[arm, 1 + 2 * arm], slopes[arm, 2 + 2 * arm] = -held / exposed, (1 - held) / exposed
    sums = np.zeros((count, len(found)))
    sums[arm, 1 + 2 * arm] = sums[arm, 2 + 2 * arm] = 1.0
    of_exposed = sums @ cells @ sums.T
    resolved = exposed > RESOLVED * np.sqrt(np.diag(of_exposed))
    slopes[~resolved] = 0.0
    return Arms(exposed, of_exposed, rates, slopes @ cells @ slopes.T, resolved)


def _plausible(shares: Vector) -> Vector:
    """The estimates as shares of a population: held to 0 … 1, sum one."""
    held = np.clip(shares, 0.0, None)
    total = held.sum()
    return held / total if total > 0 else np.full(len(shares), 1 / len(shares))
