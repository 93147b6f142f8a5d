"""A device that lives through a recorded stream: late arrivals, a restart, a catalog upgrade, reads."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import edge_runtime as er
from tests.support.clock import ManualClock

LATE_S = 55
"""Events arrive up to so much after their time; the catalogs allow 60 s."""
Flat = dict[str, Any]
Arrivals = Sequence[tuple[float, int]]
"""Time of arrival and number of each event, in that order."""


@dataclass
class Lived:
    """What was tracked, with its time of receipt, and what was read when."""

    events: list[Flat] = field(default_factory=list)
    points: list[Flat] = field(default_factory=list)
    values: list[dict[str, er.FeatureValue]] = field(default_factory=list)


def catalogs(text: str) -> tuple[er.Catalog, er.Catalog]:
    """The catalog with half of its features, then with all; the journal reaches as far as the retention."""
    found = re.search(r'retention = "(\w+)"', text)
    assert found is not None
    text = re.sub(r'keep_events = "\w+"', f'keep_events = "{found[1]}"', text)
    head, mark, features = text.partition("[views.activity.features]\n")
    lines = features.splitlines()
    later = "\n".join([head + mark.rstrip(), *lines]).replace("version = 1", "version = 2", 1)
    return er.Catalog.from_toml("\n".join([head + mark.rstrip(), *lines[::2]])), er.Catalog.from_toml(later)


def live(folder: Path, text: str, events: Sequence[Flat], chance: random.Random, reads: int) -> Lived:
    """Track all events in their order of arrival, in parts, between them `reads` subjects read whole.

    A part is tracked singly or by `track_many`; after the first third the runtime restarts, after the second
    it is opened under the catalog with all features.
    """
    few, all_features = catalogs(text)
    lived, clock = Lived(), ManualClock(round(min(e["at"] for e in events) * 1_000_000))
    arrivals = sorted(((e["at"] + chance.randrange(LATE_S), n) for n, e in enumerate(events)))
    bounds = [0, len(arrivals) // 3, 2 * len(arrivals) // 3, len(arrivals)]
    known: list[str] = []
    for turn, catalog in enumerate((few, few, all_features)):
        key = er.KeyFile(folder / "device.key")
        with er.Runtime.open(folder / "cache.db", catalog=catalog, key=key, clock=clock) as rt:
            if not turn:
                consent(rt, events)
            part = arrivals[bounds[turn] : bounds[turn + 1]]
            for chunk in _chunks(part, chance):
                clock.advance(us=max(1, round(chunk[-1][0] * 1_000_000) - clock.now_us()))
                told = [events[n] | {"received": clock.now_us() / 1_000_000} for _, n in chunk]
                track(rt, [events[n] for _, n in chunk], chance)
                lived.events += told
                known += [e["user"] for e in told]
                if chance.random() < reads / max(1, len(arrivals) // 40):
                    look(rt, catalog, chance.choice(known[-200:]), clock, lived)
            if turn == 2:
                for user in dict.fromkeys(known):
                    look(rt, catalog, user, clock, lived)
    return lived


def consent(rt: er.Runtime, events: Sequence[Flat]) -> None:
    """Every subject agrees."""
    for user in dict.fromkeys(e["user"] for e in events):
        rt.consent.give(user, ["personalization"], notice="2026-11")


def track(rt: er.Runtime, chunk: Sequence[Flat], chance: random.Random) -> None:
    """One by one or all in one call; not one is lost."""
    if chance.random() < 0.5:
        summary = rt.track_many(chunk)
        assert summary.accepted == len(chunk), summary
        return
    for event in chunk:
        fields = dict(event)
        assert rt.track(fields.pop("type"), **fields) is er.ACCEPTED


def look(rt: er.Runtime, catalog: er.Catalog, user: str, clock: ManualClock, lived: Lived) -> None:
    """Read every feature of one subject now."""
    names = catalog.view("activity").features
    lived.values.append({f"activity:{name}": rt.read(f"activity:{name}", user=user) for name in names})
    lived.points.append({"user": user, "at": clock.now_us() / 1_000_000})


def _chunks(
    arrivals: Sequence[tuple[float, int]], chance: random.Random
) -> Iterator[Sequence[tuple[float, int]]]:
    at = 0
    while at < len(arrivals):
        size = chance.randrange(1, 80)
        yield arrivals[at : at + size]
        at += size
