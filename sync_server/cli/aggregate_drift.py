"""`edge-sync aggregates drift`: has a histogram moved?"""

from __future__ import annotations

import argparse
from typing import Any, Final

import msgspec

from edge_runtime.wire.time_text import time_text
from sync_server.aggregates.drift.drift import Verdict
from sync_server.aggregates.drift.report import PREVIOUS, REFERENCE, DriftReport
from sync_server.aggregates.release import Figure
from sync_server.cli.command import client, command
from sync_server.cli.named_round import named_round
from sync_server.cli.printable import shown, table
from sync_server.cli.told import DONE, NOT_YET, REFUSED, Told

CODES: Final[dict[Verdict, int]] = {"alarm": REFUSED, "unsure": NOT_YET, "watch": DONE, "none": DONE}
"""So that a script takes a fleet that is too small to say for anything but all clear."""
MEANINGS: Final[dict[Verdict, str]] = {
    "alarm": "It has moved: the whole interval is above the alarm.",
    "watch": "It has probably moved: the estimate is above the alarm, the interval reaches below.",
    "none": "It has not moved so far: the whole interval is below the alarm.",
    "unsure": "Too few subjects to say: the interval reaches above the alarm.",
}
MOST_LINES: Final = 20
"""Of more categories only those that differ most are shown."""


def drift_command(family: Any) -> None:
    """Hang the command under `edge-sync aggregates`."""
    made = command(
        family, "drift", _drift, "how far a histogram's newest release is from its reference; 1: alarm"
    )
    made.add_argument("metric")
    made.add_argument(
        "--against",
        default=REFERENCE,
        metavar="WHAT",
        help=f"`{REFERENCE}` (default), `{PREVIOUS}` release, or the beginning of a round's id",
    )


def _drift(args: argparse.Namespace) -> Told:
    server, against = client(args), args.against
    if against not in (REFERENCE, PREVIOUS):
        against = named_round(server, args.metric, against).round
    found = server.aggregates.drift(args.metric, against=against)
    return Told(msgspec.to_builtins(found), drift_text(found), CODES[found.verdict])


def drift_text(found: DriftReport) -> str:
    """What is said, as a person reads it."""
    far = sorted(found.categories, key=lambda c: -abs(c.now - c.before))
    kept = {c.category for c in far[:MOST_LINES]}
    rows = [
        (c.category, f"{c.now * 100:.1f} %", f"{c.before * 100:.1f} %", f"{(c.now - c.before) * 100:+.1f}")
        for c in found.categories
        if c.category in kept
    ]
    lines = [
        f"{shown(found.metric)}   {found.n:,} subjects until {time_text(found.closed_at_us)}",
        f"  against {_against(found)}",
        "",
        table(("category", "now", "before", "points"), rows, right=frozenset({1, 2, 3})),
    ]
    if len(far) > MOST_LINES:
        lines.append(f"  … and {len(far) - MOST_LINES} categories that differ less.")
    return "\n".join([*lines, "", *_measures(found)])


def _against(found: DriftReport) -> str:
    if found.against_closed_at_us is None:
        return "the reference that the catalog declares"
    at = time_text(found.against_closed_at_us)
    return f"round {found.against[:8]}, {found.against_n or 0:,} subjects until {at}"


def _measures(found: DriftReport) -> list[str]:
    return [
        f"  stability index  {_figure(found.stability_index)}   alarm at {found.alarm_at:g}",
        f"  Jensen-Shannon   {_figure(found.jensen_shannon)}",
        f"  {found.verdict}: {MEANINGS[found.verdict]}",
        "  The shares above hold the noise of the answers; the two measures are corrected for it.",
    ]


def _figure(figure: Figure) -> str:
    low, high = figure.ci95
    return f"{figure.estimate:.3f} [{low:.3f} … {high:.3f}]"
