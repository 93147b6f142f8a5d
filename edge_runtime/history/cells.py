"""What a cell's text means under a declared dtype; texts only: other values pass through to the checks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo

import msgspec

from edge_runtime.catalog import DType
from edge_runtime.errors import MalformedRequest

Convert = Callable[[str], object]


class Unfit(ValueError):
    """A text that is not what is declared: what was expected, what came."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got

    def at(self, place: str) -> MalformedRequest:
        """The error that says where."""
        return MalformedRequest(place, self.expected, self.got)


def converter(dtype: DType, zone: tzinfo | None = None) -> Convert:
    """The function from a cell's text to a value of `dtype`; it raises `Unfit`. Lists and maps are JSON."""
    if dtype.size is not None or dtype.kind.startswith(("map", "list")):
        return read_json
    match dtype.kind:
        case "float64" | "float32":
            return number
        case "int64":
            return integer
        case "bool":
            return _truth
        case "time":
            return lambda text: instant(text, zone)
        case "string":
            return str
    return read_json


def number(text: str) -> float:
    """A decimal number."""
    try:
        if text.isascii() and "_" not in text:
            return float(text)
    except ValueError:
        pass
    raise Unfit("a number", "a text")


def integer(text: str) -> int:
    """A whole number in digits."""
    try:
        if text.isascii() and "_" not in text:
            return int(text)
    except ValueError:
        pass
    raise Unfit("a whole number", "a text")


def instant(text: str, zone: tzinfo | None = None) -> datetime | float | int:
    """A time: Unix seconds, or ISO 8601 with its zone; one without a zone is read in `zone`.

    Raises:
        Unfit: neither, or no zone is known.
    """
    for unix in (integer, number):
        try:
            return unix(text)
        except Unfit:
            continue
    found = _iso(text)
    if found is None:
        raise Unfit("Unix seconds or an ISO 8601 time with a zone", "a text")
    return in_zone(found, zone)


def in_zone(found: datetime, zone: tzinfo | None) -> datetime:
    """`found` with a zone: its own, else `zone`.

    Raises:
        Unfit: it has none and no zone is given.
    """
    if found.utcoffset() is not None:
        return found
    if zone is None:
        raise Unfit("a time with a zone (2026-11-22T09:00:00Z)", "a time without one")
    return found.replace(tzinfo=zone)


def read_json(text: str) -> object:
    """A JSON value."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise Unfit("JSON", "a text") from None


def _iso(text: str) -> datetime | None:
    """None for no time: Python's own error quotes the text, and would be the context of ours."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _truth(text: str) -> bool:
    match text.lower():
        case "true" | "1":
            return True
        case "false" | "0":
            return False
    raise Unfit("true or false", "a text")
