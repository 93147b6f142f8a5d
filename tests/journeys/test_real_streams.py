"""On real streams the device, a replay of one and of two processes and a backfill say the same, bit for bit.

Sessions of a web shop, purchases with cancellations, ties and rows that repeat, and a web server's log with a
hole of a month. With EDGE_BENCH_DATA the whole data sets are taken instead of the samples beside the tests.
"""

from __future__ import annotations

import random
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from bench.streams import find
from tests.support.stream_device import Lived, catalogs, live

SAMPLE_ROWS = {"otto_sessions": 862, "online_retail": 4_000, "nasa_http": 5_897}
HOLE_S = 30 * 86_400


def stream(name: str) -> tuple[str, list[dict[str, Any]]]:
    """The catalog's text and the events, in the order of the file."""
    found = find(name)
    rows = SAMPLE_ROWS[name] if found.what == "sample" else None
    return found.stream.catalog, list(islice(found.events(), rows))


def plain(value: object) -> object:
    """A value and its type: 1 and 1.0 are not the same bits."""
    return type(value), value


@pytest.mark.parametrize("name", sorted(SAMPLE_ROWS))
def test_law_8_device_replay_workers_and_backfill_agree(name: str, tmp_path: Path) -> None:
    """Arrivals within the lateness, a restart and a catalog upgrade in the middle, reads on the way."""
    text, events = stream(name)
    lived = live(tmp_path, text, events, random.Random(20261122), reads=60)
    assert len(lived.events) == len(events)
    _, catalog = catalogs(text)
    refs = [f"activity:{feature}" for feature in catalog.view("activity").features]
    one, two = (
        er.replay(catalog, lived.events, points=lived.points, refs=refs, as_seen=True, workers=workers)
        for workers in (1, 2)
    )
    for ref in refs:
        assert cells(one, ref) == cells(two, ref)
    assert differing(lived, one, refs) == []
    users = len({e["user"] for e in events})
    last = Lived(points=lived.points[-users:], values=lived.values[-users:])
    shuffled = events.copy()
    random.Random(8).shuffle(shuffled)
    assert differing(last, er.replay(catalog, shuffled, points=last.points, refs=refs), refs) == []
    if find(name).what == "sample":  # shorter than the journal reaches back, so every value is whole
        assert all(value.complete_from is None for values in lived.values for value in values.values())
    assert all(len(values) == len(refs) for values in last.values)


def cells(table: er.Table, ref: str) -> list[tuple[object, int]]:
    return list(zip(map(exact, table.column(ref)), table.status(ref), strict=True))


def differing(lived: Lived, table: er.Table, refs: list[str]) -> list[tuple[int, str]]:
    """Where a read on the device was not what the replay says of that point.

    A WARMING value makes no claim.
    """
    told = {ref: cells(table, ref) for ref in refs}
    return [
        (n, ref)
        for n, values in enumerate(lived.values)
        for ref, served in values.items()
        if served.status is not er.Status.WARMING and told[ref][n] != (exact(served.value), served.status)
    ]


def exact(value: object) -> object:
    """A value and its type: 1 and 1.0 are not the same bits."""
    return type(value), value


def test_the_streams_hold_what_they_are_taken_for() -> None:
    """All of OTTO; cancellations, ties and rows that repeat; a hole with hosts on both sides of it."""
    _, otto = stream("otto_sessions")
    assert len(otto) == 862
    _, retail = stream("online_retail")
    assert sum(e["type"] == "cancel" for e in retail) >= 50
    assert len({tuple(e.items()) for e in retail}) < len(retail)
    assert len({(e["user"], e["at"]) for e in retail}) < len(retail) / 2
    _, nasa = stream("nasa_http")
    times = sorted(e["at"] for e in nasa)
    split = next(a for a, b in pairwise(times) if b - a > HOLE_S)
    before, after = ({e["user"] for e in nasa if (e["at"] > split) is late} for late in (False, True))
    assert len(before & after) == 37
