"""May this value stand in a row? One feature at a time, by its dtype, range and allowed values. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from edge_runtime.catalog.declared import in_range, listed
from edge_runtime.catalog.dtype import fits, is_finite
from edge_runtime.catalog.model import DType, FieldFeature

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME_LIMIT_US = 2**62


class RowFault(Exception):
    """One row that is refused: a code of `errors.ROW_CODES` and the place. No value is quoted."""

    def __init__(self, code: str, place: str) -> None:
        self.code, self.place = code, place
        super().__init__(f"{place}: {code}")


def check_value(feature: FieldFeature, value: object) -> object:
    """Return `value` as it goes on the wire, or raise `RowFault`. None is NULL and always legal."""
    if value is None:
        return None
    place = f"values.{feature.name}"
    kept = _times(feature.dtype, value, place)
    if not fits(feature.dtype, kept):
        code = "not_finite" if _not_finite(kept) else "wrong_type"
        raise RowFault(code, place)
    if not listed(feature, kept):
        raise RowFault("not_allowed", place)
    if not in_range(feature, kept):
        raise RowFault("out_of_range", place)
    return kept


def time_us(value: object, place: str) -> int:
    """Microseconds of an RFC 3339 time with offset, or of Unix seconds (half to even); raises `RowFault`."""
    if isinstance(value, str):
        return _parsed(value, place)
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_finite(value):
        raise RowFault("invalid_time", place)
    if abs(value) >= TIME_LIMIT_US // 1_000_000:
        raise RowFault("invalid_time", place)
    return value * 1_000_000 if isinstance(value, int) else round(value * 1_000_000)


def _parsed(text: str, place: str) -> int:
    when = _iso(text)
    if when is None or when.tzinfo is None or len(text) < 11:  # naive: another moment in every place
        raise RowFault("invalid_time", place)
    return (when - _EPOCH) // timedelta(microseconds=1)


def _iso(text: str) -> datetime | None:
    """None for no time: Python's own error quotes the text, and would be the context of ours."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _times(dtype: DType, value: object, place: str) -> object:
    """`value` with every time of the dtype as microseconds."""
    if dtype.kind == "time":
        return time_us(value, place)
    if dtype.item is None or dtype.item.kind != "time":
        return value
    if isinstance(value, list | tuple):
        return [time_us(v, place) for v in value]
    if isinstance(value, Mapping):
        return {k: time_us(v, place) for k, v in value.items()}
    return value


def _not_finite(value: object) -> bool:
    parts: Sequence[object] = [value]
    if isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, Mapping):
        parts = list(value.values())
    return any(isinstance(v, float) and not is_finite(v) for v in parts)
