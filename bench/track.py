"""How long does one whole `Runtime.track` take, journalled by group commit?

Parsing, permission, dedup, lateness, 14 features in two views of one purpose and the journal's queue are in
the call; sealing and writing are on the group commit's thread, which runs all the while on a file of its own
and takes its share of the interpreter. Calls follow each other without a pause: an app that tracks less often
shares less. `track_many` is timed with the `flush` that acknowledges its last event.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import edge_runtime as er
from bench.measure import table
from bench.session import CATALOG
from edge_runtime.settings import Settings

CALLS, MANY, WARM_UP, USERS, SEED = 60_000, 20_000, 3_000, 50, 20262
ROUNDS = 3

SECOND_VIEW = """
[views.habits]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "bench"
[views.habits.features]
visits = { op = "count", event = "view", window = "30d" }
spent = { op = "sum", event = "view", value = "price", window = "30d" }
"""

Fields = dict[str, object]


def fields(count: int, chance: random.Random) -> list[Fields]:
    """What the app tells of `count` views by any of the users."""
    return [
        {
            "user": f"user-{chance.randrange(USERS)}",
            "item": f"item-{chance.randrange(400)}",
            "price": chance.randrange(1, 3000) / 100,
            "category": f"category-{chance.randrange(20)}",
        }
        for _ in range(count)
    ]


@contextmanager
def opened() -> Iterator[er.Runtime]:
    """A runtime on an encrypted file of its own, with consent of every user."""
    catalog = er.Catalog.from_toml(CATALOG + SECOND_VIEW)
    with TemporaryDirectory() as folder:
        key = er.KeyFile(Path(folder) / "device.key")
        with er.Runtime.open(Path(folder) / "cache.db", catalog=catalog, key=key) as rt:
            for n in range(USERS):
                rt.consent.give(f"user-{n}", ["personalization"], notice="bench")
            yield rt


def run() -> dict[str, object]:
    """Measure, print the table; returns the numbers."""
    chance = random.Random(SEED)
    with opened() as rt:
        _each(rt, fields(WARM_UP, chance))
        micros: list[float] = []
        rates: list[float] = []
        for _ in range(ROUNDS):
            micros += _each(rt, fields(CALLS // ROUNDS, chance))
            rates.append(_many(rt, fields(MANY, chance)))
    cuts = quantiles(micros, n=1000)
    found: dict[str, object] = {
        "p50_us": round(median(micros), 2),
        "p99_us": round(cuts[989], 2),
        "many_events_per_s": round(median(rates)),
        "calls": len(micros),
        "p999_us": round(cuts[998], 2),
        "worst_us": round(max(micros), 2),
        "loss_window_ms": Settings().commit_interval_us / 1000,
    }
    print(_report(found))
    return found


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def _each(rt: er.Runtime, given: list[Fields]) -> list[float]:
    """Microseconds of each call; all of it is acknowledged before this returns, outside the times."""
    found: list[float] = []
    clock, track = time.perf_counter_ns, rt.track
    for one in given:
        start = clock()
        verdict = track("view", **one)
        found.append((clock() - start) / 1000)
        assert verdict is er.ACCEPTED
    rt.flush()
    return found


def _many(rt: er.Runtime, given: list[Fields]) -> float:
    """Events a second of one `track_many` and the flush after it."""
    events = [{"type": "view", **one} for one in given]
    start = time.perf_counter()
    summary = rt.track_many(events)
    rt.flush()
    elapsed_s = time.perf_counter() - start
    assert summary.accepted == len(events)
    return len(events) / elapsed_s


def _report(found: dict[str, object]) -> str:
    window = f"events of the last {found['loss_window_ms']:g} ms and of a commit under way can be lost"
    return table(
        [
            ("14 features in two views, journalled", "", ""),
            ("one call, p50", f"{found['p50_us']} µs", "goal 10"),
            ("one call, p99", f"{found['p99_us']} µs", f"goal 100, of {found['calls']} calls"),
            ("one call, p99.9 and worst", f"{found['p999_us']} and {found['worst_us']} µs", ""),
            ("track_many and flush", f"{found['many_events_per_s']} events/s", "goal 100000"),
            ("a power cut without flush()", "", window),
        ]
    )


if __name__ == "__main__":
    main()
