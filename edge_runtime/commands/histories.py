"""Commands on recorded events: `replay`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.commands.command import Declare, Out
from edge_runtime.commands.shown import plain


def add(command: Declare) -> None:
    """Declare these commands."""
    replay = command("replay", _replay, "session features of recorded events, as they were at given times")
    replay.add_argument("catalog", type=Path)
    replay.add_argument("events", type=Path, help="JSON Lines: one flat event a line, with `type` and `at`")
    replay.add_argument("--points", type=Path, required=True, help="JSON Lines: entities and `at`")
    replay.add_argument("--refs", nargs="+", required=True, metavar="VIEW:FEATURE")


def _replay(options: argparse.Namespace) -> tuple[int, Out, str]:
    from edge_runtime.catalog import Catalog
    from edge_runtime.serving.training import replay

    points = list(_lines(options.points))
    table = replay(Catalog.load(options.catalog), _lines(options.events), points=points, refs=options.refs)
    rows = [
        {**point, **{ref: plain(table.column(ref)[n]) for ref in options.refs}}
        for n, point in enumerate(points)
    ]
    return 0, {"rows": rows}, "\n".join(json.dumps(row) for row in rows)


def _lines(path: Path) -> Iterator[dict[str, object]]:
    with path.open() as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            found = json.loads(line)
            if not isinstance(found, dict):
                raise ValueError(f"{path}:{number}: expected an object, got {type(found).__name__}")
            yield found
