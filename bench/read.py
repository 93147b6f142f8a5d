"""How long does one vector of 32 features take, at a clock that moves with every read?

12 server features, 10 windowed, 4 decayed, 2 since, 4 session features of one user, through `Runtime.vector`:
permission, lease, ttl and statuses included. The limit is the same 32 numbers by hand, for this user alone,
and every number of ours is compared with it. It keeps what time has not changed, as we do: it is what a
patient programmer would write for one user who never withdraws. The peers answer an easier question: they
fetch 32 numbers that somebody else has computed. `matrix` has these 32 numbers and three of the item for each
of 50 candidates, with a limit of its own. `after an event` is the first read after one more event; tracking
it is not in that time, and neither is taking it in by hand.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from statistics import median, quantiles

import msgspec
import numpy as np
import numpy.typing as npt

import edge_runtime as er
from bench.measure import seconds, table
from bench.read_by_hand import DECAYED, SERVER, SESSIONS, SINCE, WINDOWED, ByHand
from bench.read_peers import feast_sqlite, redis_loopback, sqlite_plain
from edge_runtime.sync.personal_rows import row_slot, seal_row
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token

CANDIDATES = tuple(f"item-{n}" for n in range(50))
START_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
STEP_US = 137_000
READS = 1_000
ROUNDS = 7
EVENTS = 3_000
OURS, LIMIT = "edge_runtime", "by hand"
AFTER, AFTER_LIMIT = "after an event", "after an event, by hand"
MATRIX, MATRIX_LIMIT = "matrix, 50 candidates", "matrix by hand"
Timings = list[float]
Numbers = npt.NDArray[np.float32]


class BenchClock:
    """Stands still until it is moved."""

    def __init__(self, now_us: int) -> None:
        self.now = now_us

    def now_us(self) -> int:
        return self.now

    def boot_us(self) -> int:
        return self.now


def catalog_table() -> dict[str, object]:
    """A catalog whose service `bench` is the 32 features."""
    session = dict((*WINDOWED, *DECAYED, *SINCE, *SESSIONS))
    names = [f"profile:{name}" for name in SERVER] + [f"activity:{name}" for name in session]
    view = {"entity": "user", "purpose": "ads", "owner": "bench"}
    return {
        "catalog": {"name": "bench", "version": 1},
        "purposes": {
            "ads": {"legal_basis": "consent", "lease": "24h", "retention": "30d", "keep_events": "1d"}
        },
        "entities": {"user": {"personal": True}, "item": {}},
        "events": {
            "view": {"entities": ["user"], "properties": {"price": "float64"}},
            "buy": {"entities": ["user"], "properties": {"price": "float64"}},
        },
        "views": {
            "profile": {
                **view,
                "source": "server",
                "ttl": "7d",
                "features": {name: {"dtype": "float64"} for name in SERVER},
            },
            "activity": {**view, "source": "session", "ttl": "30d", "features": session},
            "stock": {
                "entity": "item",
                "owner": "bench",
                "source": "server",
                "ttl": "2h",
                "features": {name: {"dtype": "float32"} for name in ("popularity", "price", "margin")},
            },
        },
        "services": {
            "bench": {"features": names},
            "ranker": {"features": [*names, "stock:popularity", "stock:price", "stock:margin"]},
        },
    }


def events(seed: int) -> Iterator[tuple[str, int, float]]:
    """(type, event time, price) of one user over seven days, denser towards the end, in order."""
    rng = random.Random(seed)
    ages = sorted((7 * 86_400_000_000 * rng.random() ** 4 for _ in range(EVENTS)), reverse=True)
    for age_us in ages:
        yield rng.choice(("view", "view", "buy")), START_US - int(age_us), round(rng.uniform(0.5, 90), 2)


@contextmanager
def opened(clock: BenchClock, server: tuple[float, ...]) -> Iterator[er.Runtime]:
    """A standalone runtime in memory: consent given, the server row in the cache, all events tracked."""
    catalog = er.Catalog.from_dict(catalog_table())
    with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory(), clock=clock) as rt:
        rt.consent.give("alice", ["ads"], notice="bench")
        _store_row(rt, server)
        for kind, at_us, price in events(seed=3):
            clock.now = at_us
            rt.track(kind, user="alice", price=price)
        yield rt


def _store_row(rt: er.Runtime, server: tuple[float, ...]) -> None:
    """Put the row where a delta would have put it (the bench has no server)."""
    key = rt._keyring.key("user:alice", "ads")
    assert key is not None
    entity = subject_token(rt._keyring.pseudonym("user:alice"))
    values = msgspec.msgpack.encode(dict(zip(SERVER, server, strict=True)))
    at_us = START_US - HOUR_US
    row = Row(1, entity, "profile", 1, at_us, at_us, 1, False, values)
    slot = row_slot(key, "profile@1", entity)
    with rt._database.write("bench") as tx:
        tx.put_personal_row(key.handle, slot, at_us // 86_400_000_000, seal_row(key, slot, row, bytes(16)))
        tx.set_channel("all", 1, 0)
        tx.set_whole("all", True)
        for n, item in enumerate(CANDIDATES):
            stock = msgspec.msgpack.encode({"popularity": n / 50, "price": 2.5, "margin": 0.25})
            row = Row(1, f"item:{item}", "stock", 1, at_us, at_us, 0, False, stock)
            tx.put_row("all", row, bytes(16), at_us // 86_400_000_000)


def timed(
    read: Callable[[int], object], before: Callable[[int], object] | None = None, start_us: int = START_US
) -> Timings:
    """Microseconds of each of READS reads at a moving time; `before`, half a step earlier, is not timed."""
    found: Timings = []

    def work() -> None:
        clock = time.perf_counter_ns
        for n in range(READS):
            t_us = start_us + n * STEP_US
            if before is not None:
                before(t_us - STEP_US // 2)
            start = clock()
            read(t_us)
            found.append((clock() - start) / 1000)

    seconds(work)
    return found


def run() -> dict[str, object]:
    """Measure, compare and print; the keys are those of the bench's JSON line."""
    server = tuple(random.Random(5).uniform(-5, 5) for _ in SERVER)
    clock = BenchClock(START_US)
    hand = ByHand(server, START_US - HOUR_US, list(events(seed=3)), by_item())
    with opened(clock, server) as rt:

        def ours(t_us: int) -> er.Vector:
            clock.now = t_us
            return rt.vector("bench", user="alice")

        def candidates(t_us: int) -> er.Matrix:
            clock.now = t_us
            return rt.matrix("ranker", user="alice", item=CANDIDATES)

        _compare(ours, candidates, hand)
        timings = _rounds({OURS: ours, LIMIT: hand.vector}, hand)
        by_hand = partial(hand.matrix, items=CANDIDATES)
        timings |= _rounds({MATRIX: candidates, MATRIX_LIMIT: by_hand}, hand)
        timings |= _after_events(rt, clock, hand)
    peers = [sqlite_plain(timed), redis_loopback(timed), feast_sqlite(READS)]
    _print(timings, peers)
    p50, limit = median(timings[OURS]), median(timings[LIMIT])
    after, after_limit = median(timings[AFTER]), median(timings[AFTER_LIMIT])
    matrix, matrix_limit = median(timings[MATRIX]), median(timings[MATRIX_LIMIT])
    return {
        "p50_us": round(p50, 2),
        "p99_us": round(quantiles(timings[OURS], n=100)[98], 2),
        "limit_p50_us": round(limit, 2),
        "ratio_to_limit": round(p50 / limit, 2),
        "after_event_p50_us": round(after, 2),
        "after_event_limit_p50_us": round(after_limit, 2),
        "after_event_ratio_to_limit": round(after / after_limit, 2),
        "matrix_50_us": round(matrix, 2),
        "matrix_50_limit_us": round(matrix_limit, 2),
        "matrix_50_ratio_to_limit": round(matrix / matrix_limit, 2),
        "peers": {name: None if times is None else round(median(times), 2) for name, times, _ in peers},
    }


def by_item() -> dict[str, tuple[int, tuple[float, ...]]]:
    """Event time and numbers of each candidate."""
    return {item: (START_US - HOUR_US, (n / 50, 2.5, 0.25)) for n, item in enumerate(CANDIDATES)}


def _after_events(rt: er.Runtime, clock: BenchClock, hand: ByHand) -> dict[str, Timings]:
    """Microseconds of the read that follows an event, each event a moment after the last."""

    def track(t_us: int) -> None:
        clock.now = t_us
        rt.track("view", user="alice", price=2.5)

    def read(t_us: int) -> er.Vector:
        clock.now = t_us
        return rt.vector("bench", user="alice")

    found: dict[str, Timings] = {AFTER: [], AFTER_LIMIT: []}
    ways = {AFTER: (track, read), AFTER_LIMIT: (hand.view, hand.vector)}
    for number in range(ROUNDS):
        start_us = START_US + (number + 1) * READS * STEP_US
        for name, (take, give) in ways.items():
            found[name] += timed(give, take, start_us)
        vector = read(start_us + READS * STEP_US - 1)
        _check(vector, hand.vector(vector.as_of), number)
    return found


def _compare(ours: Callable[[int], er.Vector], matrix: Callable[[int], er.Matrix], hand: ByHand) -> None:
    for n in range(0, READS, 7):
        t_us = START_US + n * STEP_US
        _check(ours(t_us), hand.vector(t_us), n)
        rows = matrix(t_us)
        if rows.status.any() or rows.values.tobytes() != hand.matrix(t_us, CANDIDATES).tobytes():
            raise AssertionError(f"not the matrix made by hand, at {n}")
    hand.rewind()


def _check(vector: er.Vector, expected: Numbers, n: int) -> None:
    if vector.status.any() or vector.values.tobytes() != expected.tobytes():
        wrong = np.flatnonzero(vector.values != expected).tolist()
        raise AssertionError(f"not the numbers made by hand, at {n}: {[vector.names[i] for i in wrong]}")


def _rounds(contestants: Mapping[str, Callable[[int], object]], hand: ByHand) -> dict[str, Timings]:
    """Each round begins at the first time again; every other one in reverse order."""
    found: dict[str, Timings] = {name: [] for name in contestants}
    for number in range(ROUNDS + 1):
        order = list(contestants) if number % 2 else list(contestants)[::-1]
        for name in order:
            hand.rewind()
            times = timed(contestants[name])
            if number:
                found[name] += times
    return found


def _print(timings: Mapping[str, Timings], peers: list[tuple[str, Timings | None, str]]) -> None:
    rows: list[tuple[str, ...]] = [("32 features, one user", "p50 µs", "p99 µs", "")]
    for name, times in timings.items():
        rows.append((name, f"{median(times):.2f}", f"{quantiles(times, n=100)[98]:.2f}", ""))
    for name, found, note in peers:
        if found is None:
            rows.append((name, "-", "-", note))
        else:
            rows.append((name, f"{median(found):.2f}", f"{quantiles(found, n=100)[98]:.2f}", note))
    print(table(rows))
