"""What the population does: `edge-sync aggregates metrics|plan|open|rounds|close|releases|health|show` …"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import msgspec

from sync_server.aggregates.documents import RoundBrief
from sync_server.aggregates.release import Release
from sync_server.aggregates.table import csv_table, parquet_table
from sync_server.cli.aggregate_drift import drift_command
from sync_server.cli.aggregate_experiments import experiment_commands
from sync_server.cli.aggregate_health import health_command
from sync_server.cli.aggregate_plan import plan_command, plan_options
from sync_server.cli.aggregates_text import (
    metrics_text,
    never_asked_text,
    opened_text,
    releases_text,
    rounds_text,
    waiting_text,
)
from sync_server.cli.command import client, command, duration_us
from sync_server.cli.named_round import named_round
from sync_server.cli.release_plot import HISTORY, png
from sync_server.cli.release_text import release_text
from sync_server.cli.told import NOT_YET, REFUSED, Told
from sync_server.client import Client


def aggregate_commands(commands: Any) -> None:
    """Hang the commands under `commands`."""
    text = "what the population does: metrics, rounds, releases (docs/aggregates.md)"
    family = commands.add_parser("aggregates", help=text).add_subparsers(required=True)
    command(family, "metrics", _metrics, "the metrics of the active catalog, and what a round of each costs")
    plan_options(
        command(family, "plan", plan_command, "what a round would tell at which fleet size, and cost")
    )
    made = command(family, "open", _open, "open a round of a metric, or find the one that is open")
    made.add_argument("metric")
    made.add_argument("--closes-in", required=True, help="when it closes by itself, e.g. 1h or 7d")
    command(family, "rounds", _rounds, "rounds, newest first").add_argument("metric", nargs="?")
    made = command(family, "close", _close, "close a round now, instead of when its time is over")
    made.add_argument("round", help="its id, or the beginning of it")
    made = command(
        family, "releases", _releases, "what was published, newest first; also as a table in a file"
    )
    made.add_argument("metric", nargs="?")
    file = made.add_mutually_exclusive_group()
    file.add_argument(
        "--csv", type=Path, metavar="FILE", help="write every number into this file, one row each"
    )
    file.add_argument("--parquet", type=Path, metavar="FILE", help="the same as Parquet")
    command(
        family, "health", health_command, "how whole and how fresh each view is, from the newest releases"
    )
    made = command(family, "show", _show, "one release with its intervals: the newest, or that of a round")
    made.add_argument("metric")
    made.add_argument("--round", metavar="ROUND", help="its id, or the beginning of it")
    made.add_argument("--png", type=Path, metavar="FILE", help="draw it into this file")
    drift_command(family)
    experiment_commands(family)


def _metrics(args: argparse.Namespace) -> Told:
    found = client(args).aggregates.metrics()
    return Told(msgspec.to_builtins(found), metrics_text(found.metrics))


def _open(args: argparse.Namespace) -> Told:
    server, wanted_s = client(args), duration_us(args.closes_in) / 1_000_000
    newest = next(server.aggregates.rounds(args.metric, page=1), None)
    made = server.aggregates.open(args.metric, closes_in_s=wanted_s)
    fresh = newest is None or newest.round != made.round
    return Told(msgspec.to_builtins(made), opened_text(made, fresh=fresh))


def _rounds(args: argparse.Namespace) -> Told:
    found = list(client(args).aggregates.rounds(args.metric))
    return Told({"rounds": msgspec.to_builtins(found), "next": None}, rounds_text(found))


def _close(args: argparse.Namespace) -> Told:
    server = client(args)
    found = named_round(server, None, args.round)
    release = server.aggregates.close(found.metric, found.round)
    return Told(msgspec.to_builtins(release), release_text(release))


def _releases(args: argparse.Namespace) -> Told:
    found = list(client(args).aggregates.releases(args.metric))
    file = args.csv or args.parquet
    if file is None:
        return Told({"releases": msgspec.to_builtins(found), "next": None}, releases_text(found))
    file.write_bytes(csv_table(found) if args.csv else parquet_table(found))
    many = "1 release" if len(found) == 1 else f"{len(found)} releases"
    text = f"Wrote {many} into {file}, one row a number."
    return Told({"written": str(file), "releases": len(found)}, text)


def _show(args: argparse.Namespace) -> Told:
    server = client(args)
    release, waiting = _release(server, args.metric, args.round)
    if release is None:
        document = {"release": None, "round": msgspec.to_builtins(waiting)}
        if waiting is not None:
            return Told(document, waiting_text(waiting), NOT_YET)
        declared = any(one.metric == args.metric for one in server.aggregates.metrics().metrics)
        return Told(document, never_asked_text(args.metric, declared=declared), REFUSED)
    code = REFUSED if release.status == "withheld" else 0
    document = {"release": msgspec.to_builtins(release)}
    if args.png is None:
        return Told(document, release_text(release), code)
    args.png.write_bytes(png(release, _earlier(server, release)))
    text = f"{release_text(release)}\nDrawn into {args.png}."
    return Told({**document, "written": str(args.png)}, text, code)


def _earlier(server: Client, release: Release) -> list[Release]:
    """The newest other releases of the metric, as far as they belong into the same picture."""
    newest = itertools.islice(server.aggregates.releases(release.metric), HISTORY)
    return [one for one in newest if one.round != release.round and one.kind == release.kind]


def _release(server: Client, metric: str, prefix: str | None) -> tuple[Release | None, RoundBrief | None]:
    """The release that is meant; without one the round that it may come of, if there is any."""
    if prefix is not None:
        found = named_round(server, metric, prefix)
        return server.aggregates.round(found.metric, found.round).release, found
    newest = next(server.aggregates.releases(metric, page=1), None)
    return newest, None if newest else next(server.aggregates.rounds(metric, page=1), None)
