"""`edge-sync aggregates plan`: what a round would tell, and what it would cost, before anybody is asked."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.aggregates.mechanisms import budget_window_days, question_of
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import Metric
from sync_server.aggregates.plan import KIOSK_SUBJECTS, WANTED, Expected, Option, Plan, plan
from sync_server.aggregates.source import source_text
from sync_server.cli.aggregates_text import days_text
from sync_server.cli.command import client
from sync_server.cli.printable import shown, table
from sync_server.cli.told import Told
from sync_server.client import path_of

SIZES: Final = "100,1000,10000"
USELESS: Final = 0.5
"""A half width of so many parts of the range says nothing."""


def plan_options(made: argparse.ArgumentParser) -> None:
    """What the command is told."""
    made.add_argument("metric")
    made.add_argument(
        "--catalog",
        type=Path,
        metavar="FILE",
        help="a catalog file: no server is asked (default: its active)",
    )
    made.add_argument("--subjects", default=SIZES, metavar="N,N", help=f"how many answer (default {SIZES})")
    made.add_argument(
        "--half-width",
        action="append",
        metavar="X",
        help="say how many must answer for this, in parts of the range, e.g. 0.02 or 2%%; repeatable",
    )
    made.add_argument(
        "--kiosk-subjects",
        type=int,
        default=KIOSK_SUBJECTS,
        metavar="S",
        help=f"subjects of one kiosk, where kiosks add the noise (default {KIOSK_SUBJECTS})",
    )


def plan_command(args: argparse.Namespace) -> Told:
    """The plan of one metric of a catalog."""
    catalog = _active(args) if args.catalog is None else Catalog.load(args.catalog)
    metric = catalog.metrics.get(args.metric)
    if metric is None:
        names = " ".join(catalog.metrics) or "none"
        raise ValueError(
            f"expected a metric of {catalog.name}@{catalog.version} ({names}), got {args.metric}"
        )
    wanted = WANTED if args.half_width is None else [_part(text) for text in args.half_width]
    found = plan(question_of(metric), _sizes(args.subjects), args.kiosk_subjects, wanted)
    days = budget_window_days(catalog.metrics.values())
    document = {"metric": metric.name, "min_subjects": metric.min_subjects, "window_days": days}
    text = plan_text(metric, found, source_text(catalog.model, metric), days)
    return Told({**document, **msgspec.to_builtins(found)}, text)


def plan_text(metric: Metric, found: Plan, source: str, window_days: int) -> str:
    """A plan as a person reads it."""
    return "\n".join(_plan(metric, found, source, window_days))


def _plan(metric: Metric, found: Plan, source: str, window_days: int) -> Iterator[str]:
    rounds = "1 round" if found.rounds == 1 else f"{found.rounds} rounds"
    yield f"{shown(metric.name)}   {found.kind} of {f'({source})' if ' ' in source else source}"
    yield f"  asked   by {_way(found.chosen)}"
    ceiling = f"{found.epsilon_ceiling:g} that a subject spends in {days_text(window_days)}"
    yield f"  cost    epsilon {found.epsilon:g} of the {ceiling}:"
    yield f"          {found.budget_part * 100:.3g} % of it, so {rounds} if nothing else is asked"
    yield f"  minimum {metric.min_subjects:,} subjects; with fewer nothing is released"
    yield ""
    titles = ("subjects", "standard error", "95 % interval", "of the range")
    yield table(titles, [_size(found, one, metric) for one in found.chosen.at], right=frozenset({0, 1, 2, 3}))
    yield ""
    yield from _needed(found)
    yield from _others(found)
    yield from _next(metric, found)


def _way(option: Option) -> str:
    kiosk = f", kiosks of {option.kiosk_subjects}" if option.mode == "curator" else ""
    return f"{option.mechanism}, {option.mode}{kiosk}"


def _size(found: Plan, one: Expected, metric: Metric) -> tuple[str, ...]:
    few = " (withheld)" if one.subjects < metric.min_subjects else ""
    part = "nothing learned" if one.relative >= USELESS else f"± {one.relative * 100:.3g} %"
    return (
        f"{one.subjects:,}{few}",
        error_text(found.kind, one.standard_error),
        f"± {error_text(found.kind, one.half_width)}",
        part,
    )


def _needed(found: Plan) -> Iterator[str]:
    for one in found.chosen.needed:
        many = "over a thousand million" if one.subjects is None else f"{one.subjects:,}"
        yield f"  for ± {one.relative * 100:>5.3g} % of the range {many:>11} subjects"


def _others(found: Plan) -> Iterator[str]:
    """The same question asked in other ways, side by side at each fleet size."""
    ways = (found.chosen, *found.alternatives)
    if len(ways) == 1:
        return
    yield ""
    titles = ("in other ways", *(f"± at {one.subjects:,}" for one in found.chosen.at))
    rows = [(_way(way), *(error_text(found.kind, one.half_width) for one in way.at)) for way in ways]
    yield table(titles, rows, right=frozenset(range(1, len(titles))))
    ratio = found.chosen.at[0].limit_ratio if found.chosen.at else None
    if ratio is not None:
        yield f"  The squared error is {ratio:.3g} times the least that any local mechanism can have."


def _next(metric: Metric, found: Plan) -> Iterator[str]:
    yield ""
    if found.chosen.mode == "local":
        yield 'With `mode = "curator"` a kiosk adds up its own subjects, noises the sum, and is trusted to.'
    yield f"Next: `edge-sync aggregates open {shown(metric.name)} --closes-in 7d`, long enough for so many."


def error_text(kind: str, value: float) -> str:
    """An error in the unit of the number, to three figures: of a share in percent."""
    if kind == "histogram":
        return f"{value * 100:.3g} %"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _active(args: argparse.Namespace) -> Catalog:
    """The catalog in force on the server."""
    server = client(args)
    name, _, version = server.aggregates.metrics().catalog.rpartition("@")
    return Catalog.from_dict(server.call("GET", path_of("v1", "catalogs", name, version)))


def _sizes(text: str) -> list[int]:
    try:
        return [int(one.replace("_", "")) for one in text.split(",")]
    except ValueError:
        raise ValueError(f"expected numbers of subjects like {SIZES}, got {text!r}") from None


def _part(text: str) -> float:
    try:
        found = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:  # nor NaN
        raise ValueError(f"expected a part of the range like 0.02 or 2%, got {text!r}")
    return found
