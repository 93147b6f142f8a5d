"""What a feature declares besides its dtype: the bounds of its numbers, and the values that it may have."""

from __future__ import annotations

from edge_runtime.catalog.model import FieldFeature, Scalar


def listed(feature: FieldFeature, value: object) -> bool:
    """Whether `value` is one of the values that the feature names; any value where it names none.

    >>> from edge_runtime.catalog.model import DType
    >>> country = FieldFeature("country", DType("string"), values=("DE", "FR"))
    >>> listed(country, "DE"), listed(country, "UK")
    (True, False)
    """
    return feature.values is None or any(_same(value, named) for named in feature.values)


def in_range(feature: FieldFeature, value: object) -> bool:
    """Whether every number in `value` lies within the feature's closed range; True where it has none.

    >>> from edge_runtime.catalog.model import DType
    >>> share = FieldFeature("share", DType("map", item=DType("float32")), range=(0.0, 1.0))
    >>> in_range(share, {"a": 0.5, "b": 1}), in_range(share, {"a": 0.5, "b": 1.5})
    (True, False)
    """
    return feature.range is None or _within(value, feature.range)


def _same(value: object, named: Scalar) -> bool:
    return value == named and isinstance(value, bool) == isinstance(named, bool)


def _within(value: object, bounds: tuple[float, float]) -> bool:
    low, high = bounds
    match value:
        case list() | tuple():
            return all(_within(v, bounds) for v in value)
        case dict():
            return all(_within(v, bounds) for v in value.values())
        case int() | float():
            return low <= value <= high
        case _:
            return True
