"""The contract of a service: what each number of a row is, and whether a model's inputs take such rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.encodings import default_numbers
from edge_runtime.catalog.feature_table import Table, encoding_table
from edge_runtime.catalog.model import (
    Column,
    DotColumn,
    Encoding,
    FieldFeature,
    LookupColumn,
    PlainColumn,
    Ref,
    Service,
    SumLookupColumn,
    View,
)
from edge_runtime.catalog.model_inputs import DTYPE, Mismatch, ModelInput, find_mismatches
from edge_runtime.catalog.ranges import UNBOUNDED, Bounds, encoded_range, feature_range


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a row."""

    name: str
    position: int
    source: str
    """The feature as `view@version:feature`, or what a join joins."""
    join: str | None
    """`lookup`, `sum_lookup` or `dot`; None for a feature of its own."""
    encoding: Encoding | None
    low: float | None
    """No usable value is less, before the cast to float32; None: nothing says so."""
    high: float | None
    default: float | None
    """What stands here without a usable value; None: NaN."""

    def to_dict(self) -> Table:
        """JSON-able."""
        return {
            "name": self.name,
            "position": self.position,
            "dtype": DTYPE,
            "range": [self.low, self.high],
            "default": self.default,
            "source": self.source,
            "join": self.join,
            "encoding": None if self.encoding is None else encoding_table(self.encoding),
        }


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model may rely on: `numbers` in order, float32, rows of shape [batch, width]."""

    service: str
    """`name@version`."""
    catalog: str
    """`name@version` of the catalog."""
    numbers: tuple[Number, ...]

    @classmethod
    def of(cls, catalog: Catalog, service: str) -> Contract:
        """The contract of `name@version`, or of the highest version of a bare name.

        Raises:
            MalformedRequest: no such service.
        """
        found = catalog.service(service)
        return cls(
            service=f"{found.name}@{found.version}",
            catalog=f"{catalog.name}@{catalog.version}",
            numbers=tuple(_numbers(found, catalog.views)),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The names in order."""
        return tuple(number.name for number in self.numbers)

    @property
    def shape(self) -> tuple[None, int]:
        """Of a batch of rows: any number of them, each of this many numbers."""
        return None, len(self.numbers)

    def to_dict(self) -> Table:
        """JSON-able; a bound, default or dimension that is not known is null."""
        return {
            "service": self.service,
            "catalog": self.catalog,
            "dtype": DTYPE,
            "shape": list(self.shape),
            "numbers": [number.to_dict() for number in self.numbers],
        }

    def mismatches(self, inputs: Sequence[ModelInput]) -> list[Mismatch]:
        """Where a model's inputs do not take rows of this contract; see `find_mismatches`."""
        return find_mismatches(self.service, self.names, inputs)


def _numbers(service: Service, views: Mapping[str, View]) -> Iterator[Number]:
    position = 0
    for column in service.columns:
        source, join = _source(column)
        encoding = column.encoding if isinstance(column, PlainColumn) else None
        low, high = _bounds(column, views)
        for default in _defaults(column, views):
            yield Number(service.names[position], position, source, join, encoding, low, high, default)
            position += 1


def _source(column: Column) -> tuple[str, str | None]:
    match column:
        case PlainColumn():
            return str(column.ref), None
        case LookupColumn():
            return f"{column.ref}[{column.key}]", "lookup"
        case SumLookupColumn():
            return f"{column.ref}[{column.keys}][{column.key}]", "sum_lookup"
        case DotColumn():
            return f"{column.left} . {column.right}", "dot"
        case _:
            assert_never(column)


def _bounds(column: Column, views: Mapping[str, View]) -> Bounds:
    if isinstance(column, LookupColumn):
        return _range_at(column.ref, views)
    if not isinstance(column, PlainColumn):
        return UNBOUNDED
    bounds = _range_at(column.ref, views)
    return bounds if column.encoding is None else encoded_range(bounds, column.encoding)


def _range_at(ref: Ref, views: Mapping[str, View]) -> Bounds:
    view = views[ref.view]
    return feature_range(view, view.features[ref.feature])


def _defaults(column: Column, views: Mapping[str, View]) -> tuple[float | None, ...]:
    """One for each number of the column."""
    if column.default is not None or not isinstance(column, PlainColumn):
        return (column.default,) * column.width
    feature = views[column.ref.view].features[column.ref.feature]
    values = feature.values if isinstance(feature, FieldFeature) else None
    found = default_numbers(feature.default, feature.dtype, values, column.encoding)
    return (None,) * column.width if found is None else found
