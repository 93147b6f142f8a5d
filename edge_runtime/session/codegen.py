"""Writes the source of a view's update and read functions.

Names and texts from the catalog enter the source only as `ascii` literals; nothing in a catalog is code. The
function for one view has a branch for each event type, and within it straight lines: slots by constant index,
conditions spelled out, one unit conversion for each value however many sums use it.
Two shapes of each branch: events as late as the newest or later (nearly every one), and the others.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from edge_runtime.catalog.model import EventType, View, Where
from edge_runtime.session.exact import SCALE, UNIT, UNIT_BITS
from edge_runtime.session.layout import Layout
from edge_runtime.session.operators import (
    decayed,
    derived,
    extremes,
    moments,
    oldest,
    recent,
    runs,
    tally,
    vector,
)
from edge_runtime.session.operators.statistic import Code, Placed
from edge_runtime.session.reading import reads_source

_TESTS = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<=", "in": "in"}
_INDENT = "    "

SUPPORT: dict[str, Any] = {
    **tally.FUNCTIONS,
    **moments.FUNCTIONS,
    **extremes.FUNCTIONS,
    **oldest.FUNCTIONS,
    **recent.FUNCTIONS,
    **decayed.FUNCTIONS,
    **runs.FUNCTIONS,
    **vector.FUNCTIONS,
    **derived.FUNCTIONS,
    "UNIT": UNIT,
}
"""Every name that generated code may use besides its own arguments."""


def view_source(view: View, layout: Layout, events: Mapping[str, EventType], retention_us: int | None) -> str:
    """The source of `update`, `values`, `READS` and one `roll_` for each frame of a view."""
    silence_us = 1 << 61 if retention_us is None else retention_us
    lines = [f"# View {view.key!a}: {len(layout.reads)} features in {layout.width} slots."]
    for frame, slot in layout.frames.items():
        lines += ["", *_roll(layout, frame.hop_us, slot)]
    lines += ["", *_update(view, layout, events, silence_us)]
    lines += ["", *reads_source(view, layout)]
    return "\n".join(lines) + "\n"


def load_source(source: str, name: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Run generated source and return its names; tracebacks show its lines."""
    digest = blake2b(source.encode(), digest_size=6).hexdigest()
    filename = f"<session plan {name} {digest}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    names: dict[str, Any] = {**SUPPORT, **extra}
    exec(compile(source, filename, "exec"), names)  # noqa: S102 — our own source, see the module's text
    return names


def _roll(layout: Layout, hop_us: int, slot: int) -> list[str]:
    lines = [
        f"def roll_{slot}(s, at):",
        f"    tile = at // {hop_us}",
        f"    old = s[{slot}] // {hop_us} - 1",
    ]
    for placed in layout.placed:
        if placed.frame_slot == slot:
            lines += _indented(placed.statistic.roll(placed.base))
    return [*lines, f"    s[{slot}] = (tile + 1) * {hop_us}"]


def _update(view: View, layout: Layout, events: Mapping[str, EventType], silence_us: int) -> list[str]:
    kinds = list(dict.fromkeys(kind for p in layout.placed for kind in p.statistic.stream.events))
    ahead, late = [], []
    for position, kind in enumerate(kinds):
        test = f"{'elif' if position else 'if'} kind == {kind!a}:"
        ahead += [test, *_indented(_branch(layout, events[kind], late=False))]
        late += [test, *_indented(_branch(layout, events[kind], late=True))]
    return [
        "def update(state, event, event_id):",
        "    at = event.at_us",
        "    kind = event.type",
        "    newest = state.newest",
        "    if at >= newest:",
        f"        if at - newest > {silence_us}: turn(state, at)",
        "        state.newest = at",
        "        s = state.cells",
        *_indented(ahead, 2),
        "    else:",
        f"        if state.oldest - at > {silence_us}: return before(state, event, event_id)",
        f"        if state.previous is not None and at - state.previous[0] <= {silence_us}: rejoin(state)",
        "        if at < state.oldest: state.oldest = at",
        "        s = state.cells",
        *_indented(late, 2),
    ]


def _branch(layout: Layout, declared: EventType, *, late: bool) -> list[str]:
    """The lines for one event type."""
    mine = [p for p in layout.placed if declared.name in p.statistic.stream.events]
    used = {name for p in mine for name in _fields(p)}
    names = {name: f"v{position}" for position, name in enumerate(sorted(used))}
    lines = _fetch(declared, names)
    for slot in dict.fromkeys(p.frame_slot for p in mine if p.frame_slot >= 0):
        lines.append(f"if at >= s[{slot}]: roll_{slot}(s, at)")
    groups: dict[tuple[Where, ...], list[Placed]] = {}
    for placed in mine:
        groups.setdefault(placed.statistic.stream.where, []).append(placed)
    for number, (where, members) in enumerate(groups.items()):
        lines += _group(where, members, declared, names, f"w{number}", late=late)
    return lines or ["pass"]


def _fields(placed: Placed) -> Iterable[str]:
    stream = placed.statistic.stream
    if stream.value is not None:
        yield stream.value
    yield from (where.property for where in stream.where)


def _fetch(declared: EventType, names: Mapping[str, str]) -> list[str]:
    """Local names for the properties and ids that this type's features use."""
    lines = []
    properties = [n for n in names if n in declared.properties]
    if len(properties) > 1:
        lines.append("get = event.properties.get")
    get = "get" if len(properties) > 1 else "event.properties.get"
    lines += [f"{names[n]} = {get}({n!a})" for n in properties]
    entities = [n for n in names if n in declared.entities and n not in declared.properties]
    return [*lines, *(f"{names[n]} = event.entities[{n!a}]" for n in entities)]


def _group(
    where: tuple[Where, ...],
    members: list[Placed],
    declared: EventType,
    names: Mapping[str, str],
    hit: str,
    *,
    late: bool,
) -> list[str]:
    """The statistics under one condition: those that see all events first, then the others inside it."""
    lines: list[str] = []
    condition = _condition(where, declared, names)
    inside = [p for p in members if not p.statistic.sees_all]
    always = [p for p in members if p.statistic.sees_all]
    if not where:
        hit = "True"
    elif always:
        lines.append(f"{hit} = {condition}")
        condition = hit
    for placed in always:
        lines += _lines(placed, _seen_by_all(placed, hit, declared, names), late=late)
    body = _by_value(inside, declared, names, late=late)
    if where and body:
        return [*lines, f"if {condition}:", *_indented(body)]
    return lines + body


def _seen_by_all(placed: Placed, hit: str, declared: EventType, names: Mapping[str, str]) -> Code:
    """For a statistic that sees every event: a hit must carry its value, if it has one."""
    value = placed.statistic.stream.value
    if value is None:
        return Code("None", "0", hit)
    name = names[value]
    if value in declared.properties:
        carried = f"{name} is not None"
        hit = carried if hit == "True" else f"{hit} and {carried}"
    units = _in_units(declared, value, name) if placed.statistic.needs_units else "0"
    return Code(name, units, hit)


def _by_value(
    members: list[Placed], declared: EventType, names: Mapping[str, str], *, late: bool
) -> list[str]:
    lines: list[str] = []
    groups: dict[str | None, list[Placed]] = {}
    for placed in members:
        groups.setdefault(placed.statistic.stream.value, []).append(placed)
    for value, sharing in groups.items():
        if value is None:
            for placed in sharing:
                lines += _lines(placed, Code("None", "0", "True"), late=late)
        elif value in names and (value in declared.properties or value in declared.entities):
            name = names[value]
            body = _conversions(sharing, value, name, declared)
            for placed in sharing:
                body += _lines(placed, Code(name, f"u_{name}", "True"), late=late)
            optional = value in declared.properties
            lines += [f"if {name} is not None:", *_indented(body)] if optional else body
    return lines


def _conversions(sharing: list[Placed], value: str, name: str, declared: EventType) -> list[str]:
    """A line that turns a value into units of 2^-60, where some statistic adds that."""
    if not any(p.statistic.needs_units for p in sharing):
        return []
    return [f"u_{name} = {_in_units(declared, value, name)}"]


def _in_units(declared: EventType, value: str, name: str) -> str:
    whole = declared.properties[value].kind not in ("float32", "float64")
    return f"({name} << {UNIT_BITS})" if whole else f"round({name} * {SCALE!r})"


def _lines(placed: Placed, code: Code, *, late: bool) -> list[str]:
    statistic = placed.statistic
    in_order = statistic.ahead(placed.base, code)
    if not late and not statistic.ordered:
        return in_order
    anywhere = statistic.late(placed.base, placed.frame_slot, code)
    return anywhere if late else ["if at > newest:", *_indented(in_order), "else:", *_indented(anywhere)]


def _condition(where: tuple[Where, ...], declared: EventType, names: Mapping[str, str]) -> str:
    """All tests hold; a property that is not there fails every test."""
    terms = []
    for test in where:
        if test.property not in declared.properties and test.property not in declared.entities:
            return "False"
        name = names[test.property]
        operand = test.operand
        literal = _tuple(operand) if isinstance(operand, tuple) else ascii(operand)
        present = f"{name} is not None and " if test.property in declared.properties else ""
        terms.append(f"{present}{name} {_TESTS[test.test]} {literal}")
    return " and ".join(terms)


def _tuple(operands: tuple[Any, ...]) -> str:
    return "(" + "".join(f"{o!a}, " for o in operands) + ")"


def _indented(lines: Iterable[str], depth: int = 1) -> list[str]:
    return [_INDENT * depth + line for line in lines]
