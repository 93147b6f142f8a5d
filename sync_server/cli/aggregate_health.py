"""`edge-sync aggregates health`: how whole and how fresh each view is, as a person reads it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import msgspec

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.health import Health, Measure, ViewHealth
from sync_server.aggregates.release import Figure
from sync_server.cli.command import client
from sync_server.cli.printable import shown, table
from sync_server.cli.told import Told

_TITLES = ("view", "metric", "subjects", "as of", "says")
_MOST_FIGURES = 4
_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def health_command(args: argparse.Namespace) -> Told:
    """What the newest releases say of every view."""
    found = client(args).aggregates.health()
    return Told(msgspec.to_builtins(found), health_text(found))


def health_text(found: Health) -> str:
    """A table, one line a measure, and what could be declared."""
    lines = [f"Health of {shown(found.catalog)}, of subjects with permission:"]
    lines.append(table(_TITLES, [row for view in found.views for row in _rows(view)], right=frozenset({2})))
    silent = [shown(v.view) for v in found.views if not v.completeness or not v.freshness]
    if silent:
        lines.append('Next: metrics with `read = "status"` and `read = "age"` in the catalog watch')
        lines.append(f"what no metric watches yet: {' '.join(silent)} (docs/aggregates.md).")
    if found.without_subjects:
        lines.append(f"Not asked of anybody, for they have no subject: {' '.join(found.without_subjects)}.")
    return "\n".join(lines)


def _rows(view: ViewHealth) -> Iterator[tuple[str, ...]]:
    yield from _part(view.view, "completeness", view.completeness)
    yield from _part(view.view, "freshness", view.freshness)


def _part(view: str, what: str, measures: list[Measure]) -> Iterator[tuple[str, ...]]:
    if not measures:
        yield view, "", "", "", f"{what}: no metric declared"
    for one in measures:
        n = "" if one.n is None else f"{one.n:,}"
        at = "" if one.closed_at_us is None else time_text(one.closed_at_us)
        yield view, one.metric, n, at, f"{what}: {_says(one, what)}"


def _says(one: Measure, what: str) -> str:
    if one.state != "released":
        state = "withheld" if one.state == "withheld" else "not known"
        return f"{state}, {one.reason}"
    if one.kind == "histogram":
        return _shares(one, first=what == "completeness")
    return ", ".join(_age(name, figure) for name, figure in one.figures.items())


def _shares(one: Measure, *, first: bool) -> str:
    """Of statuses PRESENT and the largest of the others; of ages the largest buckets."""
    found = list(one.figures.items())
    head, rest = (found[:1], found[1:]) if first else ([], found)
    rest = sorted((f for f in rest if f[1].estimate > 0), key=lambda f: -f[1].estimate)
    return ", ".join(f"{name} {_share(figure)}" for name, figure in [*head, *rest][:_MOST_FIGURES])


def _share(f: Figure) -> str:
    low, high = f.ci95
    return f"{f.estimate * 100:.1f} % [{low * 100:.1f} … {high * 100:.1f}]"


def _age(name: str, f: Figure) -> str:
    label = "mean" if name == "mean" else f"{float(name) * 100:g} % under"
    low, high = f.ci95
    return f"{label} {age_text(f.estimate)} [{age_text(low)} … {age_text(high)}]"


def age_text(seconds: float) -> str:
    """An age in the largest unit that it fills.

    >>> age_text(5400), age_text(12), age_text(0)
    ('1.5 h', '12 s', '0 s')
    """
    for length, unit in _UNITS:
        if abs(seconds) >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
