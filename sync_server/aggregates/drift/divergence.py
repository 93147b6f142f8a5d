"""How far two distributions over the same categories are apart: PSI and Jensen-Shannon. Pure.

- population stability index: sum of (a - b) ln(a / b), the symmetrised Kullback-Leibler divergence (Jeffreys
  1946). By the custom of credit scoring under 0.1 is little and over 0.25 much.
- Jensen-Shannon: the mean divergence from the average of both (Lin, IEEE Trans. Inf. Theory 1991), in units
  of ln 2: 0 for equal ones, 1 for two that share no category.

A share counts as at least a twentieth of an even one, 1 / 20K of K categories: else one empty category would
make the index infinite, and the noise of rare ones would be all that it says. An empty category of a
reference is therefore one with that share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Divergence = Callable[[Floats, Floats], Floats]
PARTS: Final = 20
"""The floor of a share is an even one divided by this."""


def floor(categories: int) -> float:
    """What a share counts as at least."""
    return 1 / (PARTS * categories)


def stability(a: Floats, b: Floats) -> Floats:
    """The index of each pair of rows."""
    a, b = (np.maximum(shares, floor(shares.shape[-1])) for shares in (a, b))
    found: Floats = ((a - b) * np.log(a / b)).sum(axis=-1)
    return found


def jensen_shannon(a: Floats, b: Floats) -> Floats:
    """The divergence of each pair of rows, 0 … 1."""
    a, b = held(a), held(b)
    middle = (a + b) / 2
    found: Floats = (a * np.log(a / middle) + b * np.log(b / middle)).sum(axis=-1) / (2 * np.log(2))
    return found


def held(shares: Floats) -> Floats:
    """At least the floor everywhere, and sum one again."""
    raised = np.maximum(shares, floor(shares.shape[-1]))
    found: Floats = raised / raised.sum(axis=-1, keepdims=True)
    return found


def nearest(estimates: Floats) -> Floats:
    """Each row's nearest distribution, as `shares.project`."""
    ranked = -np.sort(-estimates, axis=-1)
    shifts = (ranked.cumsum(axis=-1) - 1) / np.arange(1, estimates.shape[-1] + 1)
    kept = (ranked > shifts).sum(axis=-1, keepdims=True)
    found: Floats = np.maximum(estimates - np.take_along_axis(shifts, kept - 1, axis=-1), 0.0)
    return found


def tilted(middle: Floats, ratio: Floats, power: float) -> Floats:
    """The distribution in proportion to `middle` x exp(`power` x `ratio`)."""
    exponent = power * ratio
    weights = middle * np.exp(exponent - exponent.max())
    found: Floats = weights / weights.sum()
    return found
