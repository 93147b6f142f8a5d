"""A service's contract as `explain` and `check` print it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_runtime.commands.table import table

if TYPE_CHECKING:
    from edge_runtime.catalog.contract import Contract


def contract_text(contract: Contract) -> str:
    """A heading and a line for each number, in order."""
    rows = []
    for number in contract.numbers:
        bounds = f"[{_or(number.low, '-inf')}, {_or(number.high, 'inf')}]"
        made = number.join or ("" if number.encoding is None else number.encoding.kind)
        place = str(number.position)
        rows.append((place, number.name, bounds, _or(number.default, "NaN"), made, number.source))
    heading = f"Service {contract.service}: float32[batch, {contract.shape[1]}]\n\n"
    return heading + table(("", "name", "range", "default", "by", "source"), rows)


def _or(number: float | None, word: str) -> str:
    return word if number is None else f"{number:g}"
