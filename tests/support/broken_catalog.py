"""The shop catalog as a table, and ways to break it at one place."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.catalog import Catalog, CatalogError

SHOP = Path(__file__).parents[2] / "examples" / "catalogs" / "shop.toml"
TABLE: dict[str, Any] = tomllib.loads(SHOP.read_text())

Table = dict[str, Any]
Change = Callable[[Table], object]


def changed(change: Change) -> Table:
    table = copy.deepcopy(TABLE)
    change(table)
    return table


def faults(table: object) -> dict[str, str]:
    with pytest.raises(CatalogError) as caught:
        Catalog.from_dict(table)  # type: ignore[arg-type]
    return {f.place: f.reason for f in caught.value.faults}


def put(path: str, value: object) -> Change:
    """Set the value at a path; `/` separates keys."""

    def change(table: Table) -> None:
        *parents, last = path.split("/")
        here: Any = table
        for key in parents:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value

    return change


def drop(path: str) -> Change:
    def change(table: Table) -> None:
        *parents, last = path.split("/")
        here: Any = table
        for key in parents:
            here = here[key]
        del here[last]

    return change
