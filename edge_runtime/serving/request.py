"""Values given at the read (`request={"ctx:hour": 14}`), checked against what the catalog declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from edge_runtime.catalog.dtype import fits
from edge_runtime.catalog.model import FieldFeature, View
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.session.event import instant_us
from edge_runtime.wire.utf8 import utf8_size


class RequestForm:
    """What a request may hold: every feature of the catalog's request views, by reference."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self._places: dict[str, tuple[str, int]] = {}
        self._empty: dict[str, tuple[object, ...]] = {}
        self._features: dict[str, FieldFeature] = {}
        highest: dict[str, int] = {}
        for key, view in views.items():
            if view.source == "request":
                highest[view.name] = max(view.version, highest.get(view.name, 0))
                self._empty[key] = (None,) * len(view.features)
        for key in self._empty:
            view = views[key]
            prefixes = (key, view.name) if view.version == highest[view.name] else (key,)
            for n, (name, feature) in enumerate(view.features.items()):
                for prefix in prefixes:
                    self._places[f"{prefix}:{name}"] = key, n
                    self._features[f"{prefix}:{name}"] = cast(FieldFeature, feature)

    def read(self, request: Mapping[str, object] | None) -> Mapping[str, tuple[object, ...]]:
        """Values by request view, in feature order; None where a feature is not given (it reads NULL).

        Raises:
            MalformedRequest: an unknown reference, a wrong type, a number out of range, a value not declared.
        """
        if not request:
            return self._empty
        given = {key: list(values) for key, values in self._empty.items()}
        for ref, value in request.items():
            place = self._places.get(ref)
            if place is None:
                legal = " ".join(self._places) or "no request features"
                raise MalformedRequest("request", legal, "an unknown reference")
            if value is not None:
                _check(ref, self._features[ref], value)
            given[place[0]][place[1]] = value
        return {key: tuple(values) for key, values in given.items()}


def _check(ref: str, feature: FieldFeature, value: object) -> None:
    place = f"request.{ref}"
    if not fits(feature.dtype, value):
        raise MalformedRequest(place, str(feature.dtype), type(value).__name__)
    if feature.values is not None and value not in feature.values:
        raise MalformedRequest(place, "one of the declared values", "another value")
    if feature.range is not None:
        low, high = feature.range
        numbers = cast("list[float]", value if isinstance(value, list | tuple) else [value])
        if not all(low <= number <= high for number in numbers):
            raise MalformedRequest(place, f"a number from {low:g} to {high:g}", "one outside")


def check_id(kind: str, bare: object) -> None:
    """An entity's bare id as a read takes it.

    Raises:
        MalformedRequest: no text, an empty one, or one that UTF-8 cannot encode.
    """
    if not isinstance(bare, str) or not bare:
        raise MalformedRequest(kind, "an id: text that is not empty", type(bare).__name__)
    if utf8_size(bare) is None:
        raise MalformedRequest(kind, "an id that is valid Unicode", "a lone surrogate")


def read_time_us(at: object) -> int | None:
    """The time to read at (aware datetime or Unix seconds) in microseconds; None stands for now.

    Raises:
        MalformedRequest: not a time, or a naive one.
    """
    if at is None:
        return None
    try:
        return instant_us(at)
    except MalformedEvent as error:
        raise MalformedRequest(error.place, error.expected, error.got) from None
