"""From a service's declared columns to columns bound to groups, with their fallbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from edge_runtime.catalog.model import (
    Column,
    DotColumn,
    LookupColumn,
    PlainColumn,
    Purpose,
    Ref,
    Service,
    SumLookupColumn,
    View,
)
from edge_runtime.serving.cells import Fallback
from edge_runtime.serving.columns import BoundColumn, Dot, Lookup, Plain, SumLookup
from edge_runtime.serving.encodings import encoder_for
from edge_runtime.serving.groups import Group


class Binding:
    """The groups of one service, each view once, and its columns bound to them."""

    def __init__(self, views: Mapping[str, View], purposes: Mapping[str, Purpose], service: Service) -> None:
        self._views, self._purposes = views, purposes
        self._numbers: dict[str, int] = {}
        self.groups: list[Group] = []
        self.columns: list[BoundColumn] = [self._bind(column) for column in service.columns]

    def _place(self, ref: Ref) -> tuple[int, int]:
        """Group number and position in the view's feature order."""
        number = self._numbers.get(ref.view)
        if number is None:
            number = self._numbers[ref.view] = len(self.groups)
            self.groups.append(group_of(self._views[ref.view], self._purposes))
        return number, self.groups[number].positions[ref.feature]

    def _bind(self, column: Column) -> BoundColumn:
        match column:
            case PlainColumn():
                return self._plain(column)
            case LookupColumn():
                group, position = self._place(column.ref)
                entities = frozenset((*self.groups[group].types, column.key))
                return Lookup(group, position, column.key, _number(column.default), entities)
            case SumLookupColumn():
                return self._sum_lookup(column)
            case DotColumn():
                left, right = self._place(column.left), self._place(column.right)
                entities = frozenset((*self.groups[left[0]].types, *self.groups[right[0]].types))
                size = self._views[column.left.view].features[column.left.feature].dtype.size or 1
                return Dot(left, right, size, _number(column.default), entities)
            case _:
                assert_never(column)

    def _plain(self, column: PlainColumn) -> Plain:
        feature = self._views[column.ref.view].features[column.ref.feature]
        encoder = encoder_for(feature, column.encoding)
        default: tuple[float, ...] | None = None
        if column.default is not None:
            default = (column.default,)
        elif feature.default is not None:
            default = encoder.one(feature.default)
        group, position = self._place(column.ref)
        entities = frozenset(self.groups[group].types)
        return Plain(group, position, encoder, Fallback(default, encoder.width), entities)

    def _sum_lookup(self, column: SumLookupColumn) -> SumLookup:
        rows = group_of(self._views[column.ref.view], self._purposes)
        group, position = self._place(column.keys)
        return SumLookup(
            lists=rows,
            map_position=rows.positions[column.ref.feature],
            group=group,
            position=position,
            key=column.key,
            fallback=_number(column.default),
            entities=frozenset((*self.groups[group].types, column.key)),
        )


def group_of(view: View, purposes: Mapping[str, Purpose]) -> Group:
    """The group of a view, with the retention of its purpose."""
    purpose = None if view.purpose is None else purposes[view.purpose]
    return Group(view, None if purpose is None else purpose.retention_us)


def _number(default: float | None) -> Fallback:
    return Fallback(None if default is None else (default,), 1)
