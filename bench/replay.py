"""A history replayed: events a second by one process and by two, points of a whole service, bytes an event.

Events are those of Online Retail, repeated for other users until there are enough, into the 12 features of
its catalog at the end of each user. Points are those of the shop's `ranker`, with embeddings, over made
events and rows. Two processes are measured on the wall, so another program on the machine (see `load`)
takes from their speedup; `workers2_cpu_s` says what the work costs the processors: in one process, in the
parent of two workers, and in the two together.

The peer is pandas on an easier question, and its values have another meaning: of the same events the
`rolling` count of one day, joined to the points by `merge_asof`; one feature, no check, no ids, no
duplicates, and a window that slides where ours moves by tiles.
"""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

import edge_runtime as er
from bench.measure import seconds, table
from bench.streams import Flat, find
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Question, Training

ROUNDS, EVENTS, POINTS, TRACED = 3, 200_000, 20_000, 20_000
SHOP = Path(__file__).parents[1] / "examples" / "catalogs" / "shop.toml"
START_S, DAY_S = 1_700_000_000, 86_400
Points = list[dict[str, Any]]


def run() -> dict[str, object]:
    """Measure; raises AssertionError where two processes do not give the values of one."""
    catalog = er.Catalog.from_toml(find("online_retail").stream.catalog)
    events = enough(list(find("online_retail").events()))
    last = max(float(e["at"]) for e in events)
    points: Points = [{"user": user, "at": last} for user in sorted({str(e["user"]) for e in events})]
    refs = [f"activity:{name}" for name in catalog.view("activity").features]

    def replayed(workers: int) -> er.Table:
        return er.replay(catalog, events, points=points, refs=refs, workers=workers)

    one, two = replayed(1), replayed(2)
    assert all(one.column(ref) == two.column(ref) for ref in refs)
    alone = timed(lambda: replayed(1), time.process_time)
    wall = timed(lambda: replayed(1)), timed(lambda: replayed(2))
    peer = timed(pandas_asof(events, points))
    service = shop_points()
    found: dict[str, object] = {
        "events": len(events),
        "events_per_s": round(len(events) / alone),
        "points_per_s": round(POINTS / service),
        "workers2_speedup": round(wall[0] / wall[1], 2),
        "workers2_cpu_s": cpu_seconds(alone, lambda: replayed(2)),
        "load": round(os.getloadavg()[0], 1),
        "bytes_per_event": bytes_per_event(catalog, events, points, refs),
        "peers": {"pandas_asof": round(len(events) / peer)},
    }
    print(table([("question", "result"), *((name, json.dumps(value)) for name, value in found.items())]))
    return {"bench": "replay", **found}


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of some rounds."""
    return median(seconds(work, clock) for _ in range(ROUNDS))


def cpu_seconds(alone: float, work: Callable[[], object]) -> dict[str, float]:
    """Seconds of the processors, of all processes."""
    before = os.times()
    work()
    after = os.times()
    parent = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system - before.children_user - before.children_system
    return {"one": round(alone, 2), "parent": round(parent, 2), "children": round(children, 2)}


def enough(events: list[Flat]) -> list[Flat]:
    """At least `EVENTS`: the same again for other users."""
    copies = -(-EVENTS // len(events))
    return [{**e, "user": f"{e['user']}-{n}"} if n else e for n in range(copies) for e in events]


def pandas_asof(events: list[Flat], points: Points) -> Callable[[], object]:
    """The count of purchases in the day before each point."""

    def count_in_a_day() -> object:
        frame = pd.DataFrame(events)
        frame = frame[frame["type"] == "purchase"].assign(at=pd.to_datetime(frame["at"], unit="s"))
        frame = frame.sort_values("at", kind="stable").set_index("at")
        counts = frame.groupby("user")["price"].rolling("1D").count().rename("lines").reset_index()
        asked = pd.DataFrame(points).assign(at=lambda p: pd.to_datetime(p["at"], unit="s"))
        day = pd.Timedelta("1D")
        return pd.merge_asof(
            asked, counts.sort_values("at", kind="stable"), on="at", by="user", tolerance=day
        )

    return count_in_a_day


def shop_points() -> float:
    """Seconds of the processor for `POINTS` points of the shop's ranker, beyond those for its events."""
    rng, catalog = random.Random(1), er.Catalog.load(SHOP)
    users, items = [f"u{n}" for n in range(POINTS // 50)], [f"i{n}" for n in range(300)]
    times = [START_S + rng.randrange(10 * DAY_S) for _ in range(POINTS)]
    events = [
        {"type": "view", "user": rng.choice(users), "item": rng.choice(items), "price": 1.5, "at": at}
        for at in times
    ]
    rows: list[dict[str, Any]] = []
    for item in items:
        base = {"entity": f"item:{item}", "event_time": START_S}
        rows.append({**base, "view": "item_vec", "values": {"embedding": [rng.random() for _ in range(16)]}})
        rows.append({**base, "view": "item_stats", "values": {"popularity": 0.5, "co_bought": {"i1": 0.5}}})
    points: Points = [
        {"user": rng.choice(users), "item": rng.choice(items), "at": at + DAY_S, "request": {"ctx:hour": 5}}
        for at in times
    ]

    def ranked(asked: Points) -> object:
        return er.replay(catalog, events, points=asked, service="ranker", rows=rows)

    ends: Points = [{"user": user, "item": "i1", "at": START_S + 12 * DAY_S} for user in users]
    clock = time.process_time
    return timed(lambda: ranked([*points, *ends]), clock) - timed(lambda: ranked(ends), clock)


def bytes_per_event(catalog: er.Catalog, events: list[Flat], points: Points, refs: list[str]) -> int:
    """What the process that answers holds of one event, whose source keeps nothing; a parent holds none."""
    question = Question(catalog, refs, None, as_seen=False)
    past = PastRows.of(catalog, (), as_seen=False)
    training = Training(question, past, question.moments(points))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    training.take_all(_fresh(events), count())
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return round(held / min(TRACED, len(events)))


def _fresh(events: list[Flat]) -> Iterator[Flat]:
    """Some events as a reader of a file yields them: every text and number is new."""
    for event in islice(events, TRACED):
        yield json.loads(json.dumps(event))
