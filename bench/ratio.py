"""A mean squared error beside its limit: the ratio, how sure it is, and when it is a fault."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SEED: Final = 20261
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A mean squared error over its limit, with its standard error."""

    value: float
    standard_error: float

    @classmethod
    def of(cls, errors: Floats, limit: float) -> Ratio:
        """From the squared error of each round."""
        spread = errors.std(ddof=1) / len(errors) ** 0.5
        return cls(float(errors.mean() / limit), float(spread / limit))

    @property
    def ci95(self) -> tuple[float, float]:
        """95 % interval of the ratio."""
        half = 1.96 * self.standard_error
        return round(self.value - half, 4), round(self.value + half, 4)


def measured(
    key: str, rounds: int, limit: float, errors_of: Callable[[int, np.random.Generator], Floats]
) -> Ratio:
    """The ratio of so many rounds, or of four times as many where its interval lies under 1."""
    seed = zlib.crc32(key.encode())
    ratio = Ratio.of(errors_of(rounds, np.random.default_rng((SEED, seed))), limit)
    if ratio.ci95[1] < 1:
        ratio = Ratio.of(errors_of(4 * rounds, np.random.default_rng((SEED, seed, 1))), limit)
    assert ratio.standard_error <= 0.01, f"{key}: too few rounds"
    assert ratio.ci95[1] >= 1, f"{key}: error below the limit, so epsilon is not kept"
    return ratio
