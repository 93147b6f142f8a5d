"""A linear model in numpy: for apps that need nothing more, and for trying a service out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.catalog.contract import Contract
from edge_runtime.errors import ContractMismatch, Fault
from edge_runtime.serving.encodings import Floats
from edge_runtime.serving.plan import Numbers


class LinearModel:
    """bias + the sum of weight * number, in float64 and in the row's order; `logistic`: 1 / (1 + exp(-that)).

    Args:
        weights: one for each number of a row, by its name or in order.
        bias: added to the sum.
        logistic: give a probability.

    Example:
        >>> model = LinearModel([0.5, -1.0], bias=0.25)
        >>> model.score(np.array([[2.0, 1.0], [0.0, 0.0]], dtype=np.float32)).tolist()
        [0.25, 0.25]
    """

    def __init__(
        self, weights: Mapping[str, float] | Sequence[float], bias: float = 0.0, *, logistic: bool = False
    ) -> None:
        self._names = tuple(weights) if isinstance(weights, Mapping) else None
        given = weights.values() if isinstance(weights, Mapping) else weights
        self._weights: Floats = np.array([float(weight) for weight in given], dtype=np.float64)
        self._bias, self._logistic = float(bias), logistic

    def bind(self, contract: Contract) -> LinearModel:
        """The model with its weights in the order of the contract.

        Raises:
            ContractMismatch: not exactly one weight for each number.
        """
        if self._names is None:
            if len(self._weights) != len(contract.numbers):
                reason = f"expected {len(contract.numbers)}, got {len(self._weights)}"
                raise ContractMismatch(contract.service, [Fault("weights", reason)])
            return self
        left = [name for name in contract.names if name not in self._names]
        missing = [Fault(name, "expected a weight, got none") for name in left]
        foreign = [
            Fault(name, f"expected a number of {contract.service}, got another name")
            for name in self._names
            if name not in contract.names
        ]
        if missing or foreign:
            raise ContractMismatch(contract.service, [*missing, *foreign])
        by_name = dict(zip(self._names, self._weights.tolist(), strict=True))
        return LinearModel([by_name[name] for name in contract.names], self._bias, logistic=self._logistic)

    def score(self, values: Numbers) -> Numbers:
        """float32[k] for float32[k, n]; NaN for a row that holds one."""
        # Added in order, never by BLAS: a row alone and among others has the same bits.
        with np.errstate(over="ignore", invalid="ignore"):
            products = values.astype(np.float64) * self._weights
            totals = np.add.accumulate(products, axis=1)[:, -1] + self._bias
            if self._logistic:
                totals = np.array([_logistic(total) for total in totals.tolist()], dtype=np.float64)
            return totals.astype(np.float32)


def _logistic(total: float) -> float:
    """1 / (1 + exp(-x)), without an overflow on either side."""
    if total >= 0:
        return 1.0 / (1.0 + math.exp(-total))
    grown = math.exp(total)
    return grown / (1.0 + grown)
