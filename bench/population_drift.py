"""The drift of what real customers spend: each month against the first, beside the drift that there was.

The metric is a histogram of the month's spend; the reference is the first month's shares, as a model would
have been trained on them. The truth is the index between the two months' populations; the fleets are drawn
from them.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench.population_data import Customer, Customers
from bench.population_round import tally_of
from edge_runtime.aggregates.mechanisms import Question, input_of
from sync_server.aggregates.drift.divergence import held, stability
from sync_server.aggregates.drift.drift import Measured, Reference, Released, population_stability
from sync_server.aggregates.estimate import estimates

EDGES: Final = (100, 200, 300, 500, 1_000)
"""Pounds a month."""
DRAWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Drift:
    """One month's drift as it was measured, beside the truth."""

    month: str
    subjects: int
    truth: float
    found: Measured

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        return self.found.low <= self.truth <= self.found.high


def drift_of(question: Question, people: Customers, month: str, subjects: int, rng: random.Random) -> Drift:
    """Ask so many of a month's customers, and compare with the first month's."""
    fleet = rng.choices(people.months[month], k=subjects)
    inputs = [value for value in (input_of(question, one.spend) for one in fleet) if value is not None]
    found = estimates(question, tally_of(question, inputs), subjects, subjects)
    now = Released(np.array([float(one.estimate) for one in found.values()]), question, subjects, subjects)
    before, after = shares(next(iter(people.months.values()))), shares(people.months[month])
    measured = population_stability(now, Reference(before), rng.getrandbits(32), DRAWS)
    return Drift(month, subjects, float(stability(held(after), held(before))), measured)


def shares(people: list[Customer]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The part of these customers in each band."""
    bands = [bisect_right(EDGES, one.spend) for one in people]
    return np.bincount(bands, minlength=len(EDGES) + 1) / len(bands)
