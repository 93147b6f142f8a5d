"""Says of each number of a row which feature, version, event and value it came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from edge_runtime.catalog.model import (
    Column,
    DotColumn,
    LookupColumn,
    PlainColumn,
    Ref,
    SumLookupColumn,
)
from edge_runtime.serving.columns import BoundColumn, Plain, Scope
from edge_runtime.serving.evidence import Evidence
from edge_runtime.serving.groups import Group
from edge_runtime.serving.reads import Missing, Reading, value_at
from edge_runtime.serving.status import Status


@dataclass(frozen=True, slots=True)
class Described:
    """A service's columns, as declared and as bound."""

    names: tuple[str, ...]
    groups: tuple[Group, ...]
    declared: tuple[Column, ...]
    columns: tuple[BoundColumn, ...]


def explained(
    described: Described,
    scope: Scope,
    readings: Sequence[Reading],
    values: Sequence[float],
    statuses: Sequence[int],
    reasons: Sequence[str],
) -> list[dict[str, Any]]:
    """One record for each number of the row that was read from these inputs."""
    records: list[dict[str, Any]] = []
    for declared, column in zip(described.declared, described.columns, strict=True):
        refs = refs_of(declared)
        told = {
            "feature": " ".join(map(str, refs)),
            "version": int(refs[0].view.rpartition("@")[2]),
            "event_time": min(_event_times(described.groups, column, scope, readings), default=None),
            "raw": _raw(column, scope, readings),
            "source": _source_of(declared),
        }
        for _ in range(column.width):
            n = len(records)
            status = Status(statuses[n]).name
            one = {"name": described.names[n], "value": values[n], "status": status, "reason": reasons[n]}
            records.append({**one, **told})
    return records


def refs_of(column: Column) -> tuple[Ref, ...]:
    """The features that a column reads."""
    match column:
        case PlainColumn() | LookupColumn():
            return (column.ref,)
        case SumLookupColumn():
            return column.ref, column.keys
        case DotColumn():
            return column.left, column.right
        case _:
            assert_never(column)


def _source_of(column: Column) -> str:
    refs = " ".join(map(str, refs_of(column)))
    if isinstance(column, PlainColumn):
        return refs if column.encoding is None else f"{refs} {column.encoding.kind}"
    return f"{_JOINS[type(column)]} {refs}"


_JOINS = {LookupColumn: "lookup", SumLookupColumn: "sum_lookup", DotColumn: "dot"}


def _raw(column: BoundColumn, scope: Scope, readings: Sequence[Reading]) -> object:
    if isinstance(column, Plain):
        value = value_at(readings[column.group], column.position)
        return None if isinstance(value, Missing) else value
    cell = column.cell(scope, readings)
    return cell.numbers[0] if cell.status is Status.PRESENT else None


def _event_times(
    groups: Sequence[Group], column: BoundColumn, scope: Scope, readings: Sequence[Reading]
) -> Iterator[int]:
    source = scope.source
    assert isinstance(source, Evidence)
    inputs = [(groups[n], groups[n].entity(scope.ids)) for n, _ in column.inputs]
    for group, entity in (*inputs, *column.rows(readings)):
        found = None if isinstance(entity, Missing) else source.event_time_us(group, entity)
        if found is not None:
            yield found
