"""A model in an ONNX file, run by onnxruntime on the CPU. Install `edge-runtime[onnx]` for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edge_runtime.catalog.contract import Contract
from edge_runtime.catalog.model_inputs import ModelInput
from edge_runtime.errors import ContractMismatch, Fault, MalformedRequest, MissingExtra
from edge_runtime.serving.plan import Numbers

if TYPE_CHECKING:
    import onnxruntime

_SHAPES = ((), (-1,), (-1, 1))
"""Of a column of numbers, by the rank that the model's input has."""
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxModel:
    """The model of `path`. It takes rows as one float32[batch, n] input, or each number as one of its name.

    Args:
        threads: how many one scoring may use.
        output: the output that holds the scores; by default the first of floats ([batch] or [batch, m]).

    Raises:
        MissingExtra: onnxruntime is not installed.
        MalformedRequest: no such file, not an ONNX model, or no such output.
    """

    def __init__(self, path: str | PathLike[str], *, threads: int = 1, output: str | None = None) -> None:
        self.path = Path(path)
        self._session = _session(fspath(path), threads)
        found = {one.name: str(one.type) for one in self._session.get_outputs()}
        floats = [name for name, kind in found.items() if kind in _DTYPES]
        if output is None and floats:
            output = floats[0]
        if output not in found:
            raise MalformedRequest("output", f"one of {' '.join(floats) or 'none'}", repr(output))
        self._output = output
        self.inputs = tuple(
            ModelInput(one.name, _DTYPES.get(one.type, str(one.type)), tuple(one.shape))
            for one in self._session.get_inputs()
        )
        """As the file declares them."""

    def bind(self, contract: Contract) -> BoundOnnx:
        """The model for rows of this contract.

        Raises:
            ContractMismatch: it takes other inputs.
        """
        found = contract.mismatches(self.inputs)
        if found:
            faults = [Fault(one.place, f"expected {one.expected}, got {one.got}") for one in found]
            raise ContractMismatch(contract.service, faults)
        by_name = not (len(self.inputs) == 1 and len(self.inputs[0].shape) == 2)
        columns = {name: n for n, name in enumerate(contract.names)}
        feeds = [_Feed(one, columns[one.name] if by_name else None) for one in self.inputs]
        return BoundOnnx(partial(self._session.run, [self._output]), feeds)


class BoundOnnx:
    """An ONNX model that is fed from a service's rows. Made by `OnnxModel.bind`."""

    def __init__(self, run: Any, feeds: Sequence[_Feed]) -> None:
        self._run, self._feeds = run, feeds
        self._one_by_one = any(feed.takes_one for feed in feeds)

    def score(self, values: Numbers) -> npt.NDArray[np.float32]:
        """float32[k], or float32[k, m] of a model with m outputs, for float32[k, n]."""
        if not len(values):
            return np.empty(0, dtype=np.float32)
        parts = [values[n : n + 1] for n in range(len(values))] if self._one_by_one else [values]
        scores = np.concatenate([self._part(part) for part in parts])
        one_each: npt.NDArray[np.float32] = scores[:, 0] if scores.shape[1] == 1 else scores
        return one_each.astype(np.float32, copy=False)

    def _part(self, rows: Numbers) -> npt.NDArray[np.float32]:
        found = np.asarray(self._run({feed.name: feed.of(rows) for feed in self._feeds})[0])
        # One score for all rows is none for each: as a single row it is refused where scores are counted.
        return found.reshape(len(rows) if found.shape[:1] == (len(rows),) else 1, -1)


class _Feed:
    """One input of a model: whole rows, or the numbers of one column."""

    def __init__(self, declared: ModelInput, column: int | None) -> None:
        self.name, self._rank, self._column = declared.name, len(declared.shape), column
        self.takes_one = not declared.shape or declared.shape[0] == 1

    def of(self, rows: Numbers) -> Numbers:
        """What is fed for these rows, in the shape that was declared."""
        if self._column is None:
            return np.ascontiguousarray(rows)
        column = np.ascontiguousarray(rows[:, self._column])
        return column.reshape(_SHAPES[self._rank])


def _session(path: str, threads: int) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as failures
    except ImportError as error:
        raise MissingExtra("onnxruntime", "onnx") from error
    if not Path(path).is_file():
        raise MalformedRequest("model", "an ONNX file", "no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
        failures.RuntimeException,
    ) as error:
        got = f"{type(error).__name__}: {str(error)[:200]}"
        raise MalformedRequest("model", "an ONNX model", got) from error
