"""What changes for those outside: apps that track events and ask services, models that take their rows."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.catalog.change import Change
from edge_runtime.catalog.contract import Contract, Number
from edge_runtime.catalog.document import Catalog
from edge_runtime.catalog.exposure import is_exposure
from edge_runtime.catalog.model import EventType
from edge_runtime.catalog.references import find_key


def event_changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    """Events and properties that apps may no longer send, or must send otherwise."""
    for name, before in old.events.items():
        if is_exposure(name):  # apps do not track it
            continue
        after = new.events.get(name)
        if after is None:
            yield Change(f"events.{name}", "dropped", "an app that still tracks it is refused", True)
            continue
        if before.entities != after.entities:
            detail = f"named {' '.join(before.entities)}, now {' '.join(after.entities)}"
            yield Change(f"events.{name}.entities", "changed", detail, True)
        yield from _property_changes(before, after)


def _property_changes(before: EventType, after: EventType) -> Iterator[Change]:
    for name, dtype in before.properties.items():
        place, now = f"events.{before.name}.properties.{name}", after.properties.get(name)
        if now is None:
            yield Change(place, "dropped", "an app that still sends it is refused", True)
        elif now != dtype:
            yield Change(place, "changed", f"was {dtype}, is {now}", True)


def experiment_changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    """Experiments that apps may no longer ask for, and those that begin anew."""
    for name, before in old.experiments.items():
        place, after = f"experiments.{name}", new.experiments.get(name)
        if after is None:
            yield Change(place, "dropped", "an app that asks for its arm is refused", True)
        elif after.assignment != before.assignment:
            detail = "another salt, arm or weight: subjects are assigned anew, earlier exposures do not count"
            yield Change(place, "changed", detail, True)


def service_changes(old: Catalog, new: Catalog) -> Iterator[Change]:
    """Contracts that end, differ under the same version, or begin; and bare names that mean another one."""
    for key in new.services:
        if key not in old.services:
            yield Change(f"services.{key}", "added", "", False)
            continue
        yield from _contract_changes(Contract.of(old, key), Contract.of(new, key))
    for key in old.services:
        if key not in new.services:
            yield Change(f"services.{key}", "dropped", "an app that asks for it is refused", True)
    yield from _moved_names(old, new)


def _moved_names(old: Catalog, new: Catalog) -> Iterator[Change]:
    for name in dict.fromkeys(service.name for service in old.services.values()):
        before, after = find_key(old.services, name), find_key(new.services, name)
        if before is not None and after is not None and before != after:
            other = Contract.of(old, before).numbers != Contract.of(new, after).numbers
            detail = f"a bare {name} meant {before}, now {after}" + (
                "" if other else ", of the same contract"
            )
            yield Change(f"services.{name}", "moved", detail, other)


def _contract_changes(before: Contract, after: Contract) -> Iterator[Change]:
    place, changes = f"services.{before.service}", list(_row_changes(before, after))
    if not changes:
        yield Change(place, "kept", "", False)
    for detail in changes:
        yield Change(place, "changed", detail, True)


def _row_changes(before: Contract, after: Contract) -> Iterator[str]:
    old = {number.name: number for number in before.numbers}
    new = {number.name: number for number in after.numbers}
    renamed = _renamed(before, after)
    if before.shape != after.shape:
        yield f"width {before.shape[1]} is {after.shape[1]}"
    for name, now in renamed.items():
        yield f"{name} is named {now}"
    for name in old:
        if name not in new and name not in renamed:
            yield f"{name} removed"
    for name in new:
        if name not in old and name not in renamed.values():
            yield f"{name} added at {new[name].position}"
    for name, number in old.items():
        if name in new:
            yield from _number_changes(number, new[name])


def _renamed(before: Contract, after: Contract) -> dict[str, str]:
    """Numbers that stand where they stood and are the same, by another name."""
    taken, gone = set(before.names), set(after.names)
    return {
        one.name: other.name
        for one, other in zip(before.numbers, after.numbers, strict=False)
        if one.name not in gone and other.name not in taken and _meaning(one) == _meaning(other)
    }


def _meaning(number: Number) -> tuple[object, ...]:
    return number.source, number.join, number.encoding, number.default


def _number_changes(before: Number, after: Number) -> Iterator[str]:
    name = before.name
    if before.position != after.position:
        yield f"{name} moved from {before.position} to {after.position}"
    if (before.source, before.join) != (after.source, after.join):
        yield f"{name} is of {after.source}, was of {before.source}"
    if before.encoding != after.encoding:
        yield f"{name} is encoded otherwise"
    if before.default != after.default:
        yield f"{name} defaults to {_shown(after.default)}, did to {_shown(before.default)}"
    if (before.low, before.high) != (after.low, after.high):
        yield f"{name} ranges over {_range(after)}, did over {_range(before)}"


def _shown(default: float | None) -> str:
    return "NaN" if default is None else f"{default:g}"


def _range(number: Number) -> str:
    low = "-inf" if number.low is None else f"{number.low:g}"
    high = "inf" if number.high is None else f"{number.high:g}"
    return f"[{low}, {high}]"
