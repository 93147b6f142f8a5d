"""Dtype strings: `bool int64 float32 float64 string time list<T> map<string,T> float32[n]`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, Literal, cast

from edge_runtime.catalog.model import DType

_PlainKind = Literal["bool", "int64", "float32", "float64", "string", "time"]

PLAIN: Final = ("bool", "int64", "float32", "float64", "string", "time")
EXPECTED: Final = "one of bool int64 float32 float64 string time list<T> map<string,T> float32[n]"
_VECTOR: Final = re.compile(r"float32\[([1-9][0-9]{0,5})\]")
INT64_LIMIT: Final = 2**63


def parse_dtype(text: str, vector_size: int = 4_096) -> DType | None:
    """The dtype that `text` names, None for none. `T` is a plain dtype; vectors end at `vector_size`.

    >>> str(parse_dtype("map<string, float32>")), parse_dtype("varchar")
    ('map<string,float32>', None)
    """
    text = text.replace(" ", "") if len(text) < 64 else text
    if text in PLAIN:
        return DType(cast(_PlainKind, text))
    vector = _VECTOR.fullmatch(text)
    if vector is not None:
        size = int(vector[1])
        return DType("float32", size=size) if size <= vector_size else None
    if text.startswith("list<") and text.endswith(">") and text[5:-1] in PLAIN:
        return DType("list", item=DType(cast(_PlainKind, text[5:-1])))
    if text.startswith("map<string,") and text.endswith(">") and text[11:-1] in PLAIN:
        return DType("map", item=DType(cast(_PlainKind, text[11:-1])))
    return None


def fits(dtype: DType, value: object) -> bool:
    """Whether `value` is of this dtype: finite numbers, int64 in range, strings that encode, times int us.

    An int fits a float dtype; a bool is not a number. None fits nothing.
    """
    if dtype.size is not None:
        return _is_list(value) and len(cast(list[object], value)) == dtype.size and _all_fit(dtype, value)
    if dtype.kind == "list":
        return _is_list(value) and _all_fit(dtype, value)
    if dtype.kind == "map":
        return isinstance(value, Mapping) and all(
            _is_text(k) and fits(cast(DType, dtype.item), v) for k, v in value.items()
        )
    return _plain_fits(dtype.kind, value)


def _all_fit(dtype: DType, value: object) -> bool:
    item = dtype.item if dtype.item is not None else DType("float64")
    return all(fits(item, v) for v in cast(list[object], value))


def _plain_fits(kind: str, value: object) -> bool:
    if kind == "bool":
        return isinstance(value, bool)
    if kind == "string":
        return _is_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if kind in ("int64", "time"):
        return isinstance(value, int) and -INT64_LIMIT <= value < INT64_LIMIT
    return is_finite(value)


def is_finite(value: int | float) -> bool:
    """Whether a number is a finite float64 (an int too large for one is not)."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
