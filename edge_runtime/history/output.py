"""A replay's table written beside its points: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from edge_runtime.history.records import Record, form_of
from edge_runtime.session.table import Table

Points = Sequence[Mapping[str, object]]
STATUS = ".status"
"""Ends the name of a column of statuses."""


def write_table(path: Path, points: Points, table: Table, *, statuses: bool = False) -> None:
    """One row for each point: its own columns, then the table's; with `statuses` also `<name>.status`.

    The ending says the form. In a CSV numbers keep all their digits, None is an empty cell, lists and maps
    are JSON; in Parquet `count_by` is map<string, int64>.

    Raises:
        MalformedRequest: another ending; nothing is written.
        ImportError: a Parquet file, and pyarrow is not installed.
    """
    form = form_of(path)
    if form == ".parquet":
        _write_parquet(path, points, table, statuses)
        return
    rows = rows_beside(points, table, statuses=statuses)
    with _open(path) as file:
        if form in (".csv", ".tsv"):
            names = [*_columns_of(points), *(n for n, _ in _columns(table, statuses))]
            writer = csv.writer(file, delimiter="," if form == ".csv" else "\t")
            writer.writerow(names)
            writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def rows_beside(points: Points, table: Table, *, statuses: bool = False) -> Iterator[Record]:
    """The rows of `write_table` as JSON can hold them."""
    columns = _columns(table, statuses)
    for n, point in enumerate(points):
        yield {name: _shown(value) for name, value in point.items()} | {
            name: _shown(values[n]) for name, values in columns
        }


def _write_parquet(path: Path, points: Points, table: Table, statuses: bool) -> None:
    arrow: Any = table.to_arrow()
    pyarrow, parquet = import_module("pyarrow"), cast("Any", import_module("pyarrow.parquet"))
    columns: dict[str, Any] = {n: [_json(p.get(n)) for p in points] for n in _columns_of(points)}
    columns |= {name: arrow.column(name) for name in table.names}
    if statuses:
        columns |= {f"{name}{STATUS}": list(table.status(name)) for name in table.names}
    parquet.write_table(pyarrow.table(columns), path)


def _columns(table: Table, statuses: bool) -> list[tuple[str, Sequence[object]]]:
    found: list[tuple[str, Sequence[object]]] = []
    for name in table.names:
        found.append((name, table.column(name)))
        if statuses:
            found.append((f"{name}{STATUS}", table.status(name)))
    return found


def _columns_of(points: Points) -> list[str]:
    return list(dict.fromkeys(name for point in points for name in point))


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast("TextIO", gzip.open(path, "wt", encoding="utf-8", newline=""))
    return path.open("w", encoding="utf-8", newline="")


def _shown(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case np.ndarray():
            return value.tolist()
    return value


def _json(value: object) -> object:
    """A table of request values as JSON: Arrow would make a struct with a field for every key."""
    return json.dumps(value) if isinstance(value, Mapping) else value


def _cell(value: object) -> object:
    return json.dumps(value) if isinstance(value, Mapping | list | tuple | bool) else value
