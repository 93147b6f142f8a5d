"""Commands on recorded events and on what was computed of them: `replay`, `parity`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edge_runtime.commands.command import Declare, Out
from edge_runtime.errors import MalformedEvent, MalformedRequest

if TYPE_CHECKING:
    from edge_runtime.history.parity import Parity
    from edge_runtime.history.records import Sheet
    from edge_runtime.history.replay import Progress
    from edge_runtime.session.table import Table

_FORMS = "CSV, TSV, JSON Lines (also .gz) or Parquet, by its ending"
_RENAME = "the events' column COLUMN is NAME; `COLUMN=` leaves it out"


def add(command: Declare) -> None:
    """Declare these commands."""
    replay = command("replay", _replay, "features or service rows of recorded events, as they were at points")
    replay.add_argument("catalog", type=Path)
    replay.add_argument("events", type=Path, help=f"`type`, `at`, entities and properties: {_FORMS}")
    replay.add_argument("--points", type=Path, required=True, help="entities, `at`, perhaps `request`")
    asked = replay.add_mutually_exclusive_group(required=True)
    asked.add_argument("--refs", nargs="+", metavar="VIEW:FEATURE")
    asked.add_argument("--service", metavar="NAME", help="the whole row of a service, `ranker` or `ranker@2`")
    replay.add_argument("--rows", type=Path, help="feature rows: `view`, `entity`, `event_time`, values")
    replay.add_argument("--as-seen", action="store_true", help="leave out what was received after the point")
    replay.add_argument("--event-type", metavar="TYPE", help="of events without a column `type`")
    replay.add_argument("--rename", nargs="+", default=(), metavar="COLUMN=NAME", help=_RENAME)
    replay.add_argument("--zone", help="of times without one, such as UTC or Europe/London; else refused")
    replay.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes; the bits stay the same"
    )
    replay.add_argument("--out", type=Path, help=f"write the rows: {_FORMS}; else JSON Lines are printed")
    replay.add_argument("--status", action="store_true", help="also a column of statuses for each column")
    parity = command("parity", _parity, "whether two sets of feature values are the same, feature by feature")
    parity.add_argument("a", type=Path, help=f"served: {_FORMS}")
    parity.add_argument("b", type=Path, help="computed")
    parity.add_argument("--keys", nargs="+", required=True, metavar="COLUMN", help="join rows by these")
    parity.add_argument("--features", nargs="+", metavar="COLUMN", help="only these; else all but the keys")
    parity.add_argument("--tolerance", type=float, default=0.0, help="relative, of numbers; 0: equal bits")
    parity.add_argument(
        "--max-differing", type=float, default=0.0, metavar="SHARE", help="of a feature's rows"
    )
    parity.add_argument("--max-smape", type=float, metavar="SMAPE", help="0 to 2; else not judged")


def _replay(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.history.files import events_of, located, points_of, rows_of
    from edge_runtime.history.output import rows_beside, write_table
    from edge_runtime.history.records import Sheet, form_of
    from edge_runtime.history.replay import replay

    catalog, zone = Catalog.load(options.catalog), _zone(options.zone)
    if options.out is not None:
        form_of(options.out)
    events, points = Sheet(options.events, _renames(options.rename)), Sheet(options.points)
    rows = None if options.rows is None else Sheet(options.rows)
    asked = list(points_of(points, catalog, zone=zone))
    counted = _Counted(events_of(events, catalog, event_type=options.event_type, zone=zone))
    try:
        with _bar(options.json) as progress:
            table = replay(
                catalog,
                counted,
                points=asked,
                refs=options.refs,
                service=options.service,
                rows=None if rows is None else rows_of(rows, catalog, zone=zone),
                as_seen=options.as_seen,
                workers=options.workers,
                progress=progress,
            )
    except (MalformedEvent, MalformedRequest) as error:
        raise located(error, {"events": events, "points": points, "rows": rows}) from None
    out: Out = {"events": counted.count, "points": len(asked), "statuses": _statuses(table)}
    summary = _summary(counted.count, len(asked), table)
    if options.out is not None:
        write_table(options.out, asked, table, statuses=options.status)
        return 0, out | {"out": str(options.out)}, f"{summary}\nwritten to {options.out}"
    found = list(rows_beside(asked, table, statuses=options.status))
    if not options.json:
        print(summary, file=sys.stderr)
    return 0, out | {"rows": found}, "\n".join(json.dumps(row) for row in found)


def _parity(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.history.parity import compare
    from edge_runtime.history.records import Sheet

    sheets = {"a": Sheet(options.a), "b": Sheet(options.b)}
    found = compare(
        _values(sheets["a"]),
        _values(sheets["b"]),
        options.keys,
        tolerance=options.tolerance,
        features=options.features,
        place=lambda which, number: sheets[which].place_of(number),
    )
    if not found.features:
        raise ValueError("expected a column beside the keys, got none: nothing to compare")
    smape_limit = options.max_smape
    same = found.worst <= options.max_differing and (smape_limit is None or found.smape <= smape_limit)
    out: Out = {
        "same": same,
        "rows": found.rows,
        "only_a": found.only_a,
        "only_b": found.only_b,
        "worst": found.worst,
        "features": {name: one.to_dict() for name, one in found.features.items()},
    }
    return 0 if same else 1, out, _report(found, same)


def _values(sheet: Sheet) -> Iterator[Mapping[str, object]]:
    from edge_runtime.history.parity import parsed

    for _, record in sheet.records():
        yield {name: parsed(value) for name, value in record.items()} if sheet.is_text else record


def _report(found: Parity, same: bool) -> str:
    width = max(len(name) for name in found.features)
    lines = [f"{'feature':{width}}  compared  mismatch  missing  extra  SMAPE"]
    for name, one in found.features.items():
        smape = "-" if one.smape is None else f"{one.smape:.3g}"
        counts = f"{one.compared:8}  {one.mismatch:8}  {one.missing:7}  {one.extra:5}  {smape:>5}"
        lines.append(f"{name:{width}}  {counts}")
    lines.append(f"{found.rows} rows in both, {found.only_a} only in A, {found.only_b} only in B")
    return "\n".join([*lines, "the same" if same else "NOT the same"])


def _summary(events: int, points: int, table: Table) -> str:
    lines = [f"{events} events, {points} points, {len(table.names)} columns"]
    lines += [f"  {name:12} {count:8} cells" for name, count in _statuses(table).items()]
    return "\n".join(lines)


def _statuses(table: Table) -> dict[str, int]:
    from edge_runtime.serving.status import Status

    counts = Counter(status for name in table.names for status in table.status(name))
    return {Status(status).name: counts[status] for status in sorted(counts)}


class _Counted:
    """Events, and how many there were."""

    def __init__(self, events: Iterable[Mapping[str, object]]) -> None:
        self._events, self.count = events, 0

    def __iter__(self) -> Iterator[Mapping[str, object]]:
        for event in self._events:
            self.count += 1
            yield event


@contextmanager
def _bar(quiet: bool) -> Iterator[Progress | None]:
    """A progress bar on a terminal's standard error; elsewhere, with --json, or without rich, none."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
    except ImportError:
        yield None
        return
    columns = ("replay", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("replay", total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _renames(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        column, sign, name = one.partition("=")
        if not column or not sign:
            raise ValueError(f"--rename: expected COLUMN=NAME, got {one!r}")
        found[column] = name
    return found


def _zone(name: str | None) -> ZoneInfo | None:
    try:
        return None if name is None else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"--zone: expected a zone such as UTC or Europe/London, got {name!r}") from None
