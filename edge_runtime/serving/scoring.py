"""Scores of candidates: a service's rows through a model that was checked against the service's contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_runtime.catalog.contract import Contract
from edge_runtime.errors import ContractMismatch, Fault
from edge_runtime.serving.plan import Matrix, Numbers, Statuses, Vector
from edge_runtime.wire.printing import prints_only


@runtime_checkable
class Model(Protocol):
    """What scores rows. Your own class will do; numbers without a usable value are NaN or their default."""

    def score(self, values: Numbers) -> npt.NDArray[np.float32]:
        """float32[k] or float32[k, m]: one score, or m of them, for each row of float32[k, n]."""
        ...


@runtime_checkable
class Bindable(Protocol):
    """A model that knows which inputs it takes, and so can be checked before it scores."""

    def bind(self, contract: Contract) -> Model:
        """The model for rows of this contract.

        Raises:
            ContractMismatch: it takes other inputs.
        """
        ...


@prints_only("model")
@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a model said of each candidate, in the order given."""

    values: npt.NDArray[np.float32]
    """float32[k], or float32[k, m] of a model with m outputs."""
    candidates: tuple[str, ...]
    """Their ids; empty when one row without candidates was scored (k is 1 then)."""
    rows: Matrix | Vector
    """What was scored: values, statuses, reasons and explanations."""
    model: str
    """The service, `name@version`, that the model is attached to."""

    @property
    def status(self) -> Statuses:
        """uint8[k, n] of `Status`: what each number that went in was. NaN is scored as it is; judge here."""
        return self.rows.status.reshape(-1, len(self.rows.names))


def bound(model: object, contract: Contract) -> Model:
    """The model for rows of this contract; one that does not say what it takes is taken at its word.

    Raises:
        ContractMismatch: it takes other inputs, or is no model.
    """
    made: object = model.bind(contract) if isinstance(model, Bindable) else model
    if not isinstance(made, Model):
        fault = Fault("model", f"expected an object with `score`, got {type(made).__name__}")
        raise ContractMismatch(contract.service, [fault])
    return made


def scored(model: Model, rows: Matrix | Vector, service: str) -> Scores:
    """The scores of these rows.

    Raises:
        ContractMismatch: what the model gives is not one float32 row of scores for each row.
    """
    values = rows.values.reshape(-1, len(rows.names))
    found = np.asarray(model.score(values))
    if found.ndim not in (1, 2) or len(found) != len(values) or found.dtype.kind not in "fiub":
        got = f"{found.dtype}{list(found.shape)}"
        expected = f"float32[{len(values)}] or float32[{len(values)}, m]"
        raise ContractMismatch(service, [Fault("scores", f"expected {expected}, got {got}")])
    candidates = rows.candidates if isinstance(rows, Matrix) else ()
    return Scores(found.astype(np.float32, copy=False), candidates, rows, service)
