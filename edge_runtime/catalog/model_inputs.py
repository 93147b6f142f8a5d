"""Whether a model takes what a service gives: its inputs, as plain records, against the names of a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

DTYPE: Final = "float32"
"""Of every number of every row."""
Dimension = int | str | None
"""A number, or any: None or the name that a model gives an open dimension."""


class ModelInput(NamedTuple):
    """One input as a model declares it: `float32`, `[None, 12]`."""

    name: str
    dtype: str
    shape: Sequence[Dimension]


class Mismatch(NamedTuple):
    """Where a model and a contract disagree."""

    place: str
    """An input's name, or `inputs` for all of them."""
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.place}: expected {self.expected}, got {self.got}"


def find_mismatches(service: str, names: Sequence[str], inputs: Sequence[ModelInput]) -> list[Mismatch]:
    """Every disagreement between a model's inputs and rows of `names`; none when it takes them.

    A model takes them as one float32 input of shape [batch, width], batch open or 1; or as one float32
    input of one number ([], [batch] or [batch, 1]) for each number of a row, by its name, in any order.
    """
    if len(inputs) == 1 and (inputs[0].name not in names or len(inputs[0].shape) == 2):
        return list(_row(len(names), inputs[0]))
    if any(one.name in names for one in inputs):
        return list(_named(service, names, inputs))
    row = f"one input {DTYPE} {_shown((None, len(names)))}"
    got = " ".join(one.name for one in inputs) or "none"
    return [Mismatch("inputs", f"{row}, or {len(names)} inputs by the names of {service}", got)]


def _row(width: int, given: ModelInput) -> Iterator[Mismatch]:
    if given.dtype != DTYPE:
        yield Mismatch(given.name, f"dtype {DTYPE}", given.dtype)
    batch, numbers = given.shape if len(given.shape) == 2 else (0, 0)
    if not _takes_one(batch) or (isinstance(numbers, int) and numbers != width):
        yield Mismatch(given.name, f"shape {_shown((None, width))}", f"shape {_shown(given.shape)}")


def _named(service: str, names: Sequence[str], inputs: Sequence[ModelInput]) -> Iterator[Mismatch]:
    given = {one.name: one for one in inputs}
    for name in names:
        if name in given:
            yield from _one_number(given[name])
        else:
            yield Mismatch(name, "an input of this name", "none")
    for name in given:
        if name not in names:
            yield Mismatch(name, f"a name of {service}", "an input that no number of it feeds")


def _one_number(given: ModelInput) -> Iterator[Mismatch]:
    if given.dtype != DTYPE:
        yield Mismatch(given.name, f"dtype {DTYPE}", given.dtype)
    batch, *rest = given.shape or (None,)
    if not _takes_one(batch) or rest not in ([], [1]):
        yield Mismatch(given.name, "shape [], [batch] or [batch, 1]", f"shape {_shown(given.shape)}")


def _takes_one(batch: Dimension) -> bool:
    return not isinstance(batch, int) or batch == 1


def _shown(shape: Sequence[Dimension]) -> str:
    words = ["batch" if d is None and n == 0 else "any" if d is None else str(d) for n, d in enumerate(shape)]
    return f"[{', '.join(words)}]"
