"""How long does one whole `Runtime.track` take, journalled by group commit? How many a second go in?

Parsing, permission, dedup, lateness, 14 features in two views of one purpose and the journal's queue are in
the call; sealing and writing are on the group commit's thread, which runs all the while on a file of its own
and takes its share of the interpreter. Calls follow each other without a pause: an app that tracks less often
shares less. `track_many` is timed with the `flush` that acknowledges its last event; users take turns at
random.

The limit beside it is what nobody can leave out: the same events, already parsed and named, through the bare
engine, and the same bytes in as many rows written by one transaction of plain SQLite, nothing sealed.
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

import apsw

import edge_runtime as er
from bench.measure import table
from bench.session import CATALOG
from edge_runtime.cache.journal_entry import pack_entry
from edge_runtime.session.event import content_id, make_event
from edge_runtime.session.plan import compile_catalog
from edge_runtime.settings import Settings

CALLS, MANY, WARM_UP, USERS, SEED = 60_000, 20_000, 3_000, 50, 20262
ROUNDS = 3
CROWDS = (1, 10, 1_000)
"""Other numbers of users that take turns."""

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


def fields(count: int, users: int, chance: random.Random) -> list[Fields]:
    """What the app tells of `count` views by any of the users."""
    return [
        {
            "user": f"user-{chance.randrange(users)}",
            "item": f"item-{chance.randrange(400)}",
            "price": chance.randrange(1, 3000) / 100,
            "category": f"category-{chance.randrange(20)}",
        }
        for _ in range(count)
    ]


def catalog() -> er.Catalog:
    """14 features in two views of one purpose."""
    return er.Catalog.from_toml(CATALOG + SECOND_VIEW)


@contextmanager
def opened(users: int = USERS) -> Iterator[er.Runtime]:
    """A runtime on an encrypted file of its own, with consent of every user."""
    with TemporaryDirectory() as folder:
        key = er.KeyFile(Path(folder) / "device.key")
        with er.Runtime.open(Path(folder) / "cache.db", catalog=catalog(), key=key) as rt:
            for n in range(users):
                rt.consent.give(f"user-{n}", ["personalization"], notice="bench")
            yield rt


def run() -> dict[str, object]:
    """Measure, print the table; returns the numbers."""
    chance = random.Random(SEED)
    micros: list[float] = []
    rates: list[float] = []
    bare: list[tuple[float, float]] = []
    with opened() as rt:
        each(rt, fields(WARM_UP, USERS, chance))
        for _ in range(ROUNDS):
            micros += each(rt, fields(CALLS // ROUNDS, USERS, chance))
            rates.append(many(rt, fields(MANY, USERS, chance)))
            bare.append(limit(fields(MANY, USERS, chance)))
    cuts = quantiles(micros, n=1000)
    rate, limit_rate = median(rates), median(rate for _, rate in bare)
    found: dict[str, object] = {
        "p50_us": round(median(micros), 2),
        "p99_us": round(cuts[989], 2),
        "many_events_per_s": round(rate),
        "calls": len(micros),
        "p999_us": round(cuts[998], 2),
        "worst_us": round(max(micros), 2),
        "limit_p50_us": round(median(p50 for p50, _ in bare), 2),
        "limit_many_events_per_s": round(limit_rate),
        "many_ratio_to_limit": round(limit_rate / rate, 2),
        "many_events_per_s_by_users": {str(users): round(_crowd(users, chance)) for users in CROWDS},
        "loss_window_ms": Settings().commit_interval_us / 1000,
    }
    print(_report(found))
    return found


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def each(rt: er.Runtime, given: list[Fields]) -> list[float]:
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


def many(rt: er.Runtime, given: list[Fields]) -> float:
    """Events a second of one `track_many` and the flush after it."""
    events = [{"type": "view", **one} for one in given]
    start = time.perf_counter()
    summary = rt.track_many(events)
    rt.flush()
    elapsed_s = time.perf_counter() - start
    assert summary.accepted == len(events)
    return len(events) / elapsed_s


def _crowd(users: int, chance: random.Random) -> float:
    with opened(users) as rt:
        many(rt, fields(MANY, users, chance))
        return median(many(rt, fields(MANY, users, chance)) for _ in range(ROUNDS))


def limit(given: list[Fields]) -> tuple[float, float]:
    """(median microseconds of the engine for one event, events a second with the plain write)."""
    declared = catalog()
    plans = list(compile_catalog(declared).views.values())
    states = {user: [(plan, plan.new_state()) for plan in plans] for user in {str(g["user"]) for g in given}}
    now_us = time.time_ns() // 1000
    events = [make_event(declared, "view", one, now_us=now_us + n) for n, one in enumerate(given)]
    named = [(event, content_id(event, 0)) for event in events]
    slots, micros, rows = [bytes(16)] * len(plans), [], dict[str, list[bytes]]()
    clock, start = time.perf_counter_ns, time.perf_counter()
    for event, event_id in named:
        began = clock()
        for plan, state in states[event.entities["user"]]:
            plan.offer(state, event, event_id, event.at_us)
        micros.append((clock() - began) / 1000)
        entry = pack_entry((event, event_id, event.at_us, slots))
        rows.setdefault(event.entities["user"], []).append(entry)
    _write_plain([b"".join(entries) for entries in rows.values()])
    return median(micros), len(given) / (time.perf_counter() - start)


def _write_plain(rows: list[bytes]) -> None:
    """One durable transaction of plain SQLite."""
    with TemporaryDirectory() as folder:
        connection = apsw.Connection(f"{folder}/plain.db")
        for sql in ("PRAGMA journal_mode = wal", "PRAGMA synchronous = full", "CREATE TABLE journal(row)"):
            connection.execute(sql).fetchall()
        with connection:
            connection.executemany("INSERT INTO journal VALUES(?)", [(row,) for row in rows])
        connection.close()


def _report(found: dict[str, object]) -> str:
    window = f"events of the last {found['loss_window_ms']:g} ms and of a commit under way can be lost"
    return table(
        [
            ("14 features in two views, journalled", "", ""),
            ("one call, p50", f"{found['p50_us']} µs", f"goal 10; engine alone {found['limit_p50_us']} µs"),
            ("one call, p99", f"{found['p99_us']} µs", f"goal 100, of {found['calls']} calls"),
            ("one call, p99.9 and worst", f"{found['p999_us']} and {found['worst_us']} µs", ""),
            (f"track_many and flush, {USERS} users", f"{found['many_events_per_s']} events/s", "goal 100000"),
            (
                "engine and plain SQLite",
                f"{found['limit_many_events_per_s']} events/s",
                f"{found['many_ratio_to_limit']} times ours",
            ),
            ("track_many by number of users", str(found["many_events_per_s_by_users"]), ""),
            ("a power cut without flush()", "", window),
        ]
    )


if __name__ == "__main__":
    main()
