"""What does sealing every row cost, beside the same rows through the same SQLite without any cipher?

Three tables are written as the product writes them, each transaction durable at its end: server rows of 12
features, one subject's 200 of them as a frame of a delta brings them; stored session states; journalled
events, a row a subject as group commits append them. Each table is filled, then written over with other
values (a journal grows). Single rows are read in random order, through the door that a read of a feature
takes, and opened. The file is larger than the page cache, so reads fetch and decrypt pages: hot rows are held
in memory, what comes to the file is cold. `hot` are the same reads of few rows again and again, where only
the sealing is left to see.

Rows go in and come out as the records that the product works with; every side packs and unpacks them into the
same bytes. The limit is plain apsw: the same library, tables, transactions and settings, nothing checked. A
ratio is its time over ours, of the table where it is worst. For `page_encryption_ratio` both sides run that
same code, one of them through our encrypted connection: everything written and read, hot reads left out.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, TypeVar

import msgspec

from bench.cache_stores import (
    Frame,
    Ours,
    Place,
    Record,
    Settings,
    Store,
    pages_only,
    plain_apsw,
    sqlcipher,
    sqlite_plain,
)
from bench.measure import seconds, table
from edge_runtime.cache.stored_state import StoredState
from edge_runtime.keys.datakey import DataKey, new_facts
from edge_runtime.wire.messages import Row

T = TypeVar("T")
ROUNDS, TURNS, SEED, HOT_ROWS = 5, 20, 20266, 200
START_US = 1_700_000_000_000_000
OURS, LIMIT, PAGES = "edge_runtime", "plain apsw, the limit", "encrypted pages alone"
PEERS: Final = ("sqlcipher", "sqlite_plain")


class Kind(NamedTuple):
    """Rows of one table, by the numbers that matter."""

    table: str
    record: Callable[[random.Random], Record]
    row_bytes: int
    """Of a packed record, or so."""
    subjects: int
    rows_each: int
    subjects_a_frame: int


def _row(chance: random.Random) -> Row:
    """A server row of 12 features."""
    values = msgspec.msgpack.encode({f"feature_{n}": chance.random() for n in range(12)})
    return Row(1, "~aaaaaaaaaaaaaaaaaaaaaaaaaa", "profile", 1, START_US, START_US, 1, False, values)


def _state(chance: random.Random) -> StoredState:
    """As large as a state of 10 statistics with windows."""
    return StoredState(1, "activity@1", "user:user-1", {}, chance.randbytes(1_350))


def _entries(chance: random.Random) -> bytes:
    """As large as 5 journalled events."""
    return chance.randbytes(600)


KINDS: Final = (
    Kind("personal", _row, 290, subjects=200, rows_each=200, subjects_a_frame=1),
    Kind("state", _state, 1_400, subjects=8_000, rows_each=1, subjects_a_frame=50),
    Kind("journal", _entries, 600, subjects=8_000, rows_each=1, subjects_a_frame=50),
)
At = tuple[str, str]
"""(table, act)."""
ACTS: Final = {"write": 2, "read": 1, "hot": 0}
"""How often each row counts in the sum of all work."""
COLUMNS: Final[tuple[At, ...]] = (
    ("personal", "write"),
    ("personal", "read"),
    ("personal", "hot"),
    ("state", "write"),
    ("state", "read"),
    ("state", "hot"),
    ("journal", "write"),
)
Maker = Callable[[Path], Store]
Clock = Callable[[], float]


class Work:
    """What every store is given of one kind: frames, frames with other values, places to read."""

    def __init__(self, kind: Kind, chance: random.Random) -> None:
        self.kind = kind
        keys = [_key(n) for n in range(kind.subjects)]
        places = [[Place(key, chance.randbytes(16)) for _ in range(kind.rows_each)] for key in keys]
        starts = range(0, kind.subjects, kind.subjects_a_frame)
        frames = [list(chain(*places[start : start + kind.subjects_a_frame])) for start in starts]
        self._fill = [[(place, kind.record(chance)) for place in frame] for frame in frames]
        chance.shuffle(frames)
        self._again = [[(place, kind.record(chance)) for place in frame] for frame in frames]
        self._expected = {place.slot: record for frame in self._again for place, record in frame}
        self._cold = list(chain(*places))
        chance.shuffle(self._cold)
        self._hot = list(islice(cycle(self._cold[:HOT_ROWS]), len(self._cold)))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._cold)

    def done(self, stores: Mapping[str, Store]) -> Iterator[tuple[str, dict[str, list[float]]]]:
        """(act, seconds of each turn of each store), on fresh stores. Writes wait for the disk: wall time."""
        yield "write", _shared(stores, [*self._fill, *self._again], self._write, time.perf_counter)
        for store in stores.values():
            store.settle()
        for act, places in (("read", self._cold), ("hot", self._hot)):
            if (self.kind.table, act) in COLUMNS:
                yield act, _shared(stores, places, self._read, time.process_time)

    def _write(self, store: Store, frames: Sequence[Frame], clock: Clock) -> float:
        return seconds(lambda: store.write(self.kind.table, frames), clock)

    def _read(self, store: Store, places: Sequence[Place], clock: Clock) -> float:
        found: list[Record | None] = []
        took = seconds(lambda: found.extend(store.read(self.kind.table, places)), clock)
        assert found == [self._expected[place.slot] for place in places], "not the rows that were written"
        return took


def _shared(
    stores: Mapping[str, Store],
    work: Sequence[T],
    timed: Callable[[Store, Sequence[T], Clock], float],
    clock: Clock,
) -> dict[str, list[float]]:
    """Seconds of each store for each part of the same work. They take turns with it, each time in another
    order: what else the machine does falls on all of them.
    """
    found: dict[str, list[float]] = {name: [] for name in stores}
    names = list(stores)
    size = -(-len(work) // TURNS)
    for start in range(0, len(work), size):
        part = work[start : start + size]
        for name in names:
            found[name].append(timed(stores[name], part, clock))
        names = [*names[1:], names[0]]
    return found


def _key(n: int) -> DataKey:
    facts = new_facts("personalization", bytes(16), "1", base=0, at_us=0, grant=1, ordinal=n)
    return DataKey(bytes(16), f"user:user-{n}", facts, bytearray(os.urandom(32)))


Costs = dict[At, float]
"""Microseconds a row."""


def ratios(limit: Costs, store: Costs) -> Costs:
    """The limit's time over the store's."""
    return {at: limit[at] / store[at] for at in COLUMNS}


def total(costs: Costs, kinds: Sequence[Kind]) -> float:
    """Of all that was written (twice) and read in random order."""
    rows = {kind.table: kind.subjects * kind.rows_each for kind in kinds}
    return sum(costs[name, act] * rows[name] * ACTS[act] for name, act in COLUMNS)


def run(scale: float = 1.0, rounds: int = ROUNDS) -> dict[str, object]:
    """Measure, print the table; returns the numbers. A small `scale` only shows whether it runs."""
    kinds = [kind._replace(subjects=round(kind.subjects * scale)) for kind in KINDS]
    with TemporaryDirectory() as name:
        settings = _settings(Path(name))
        costs = _measured(_makers(settings), kinds, Path(name), rounds)
    limit = costs[LIMIT]
    ours, pages = ratios(limit, costs[OURS]), ratios(limit, costs[PAGES])
    result: dict[str, object] = {
        "write_ratio_to_plain": _worst(ours, "write"),
        "read_ratio_to_plain": _worst(ours, "read"),
        "page_encryption_ratio": round(total(limit, kinds) / total(costs[PAGES], kinds), 2),
        "peers": {peer: _named(costs[peer]) if peer in costs else None for peer in PEERS},
        "us_per_row": {"edge_runtime": _named(costs[OURS]), "plain_apsw": _named(limit)},
        "ratios": {"edge_runtime": _named(ours), "encrypted_pages_alone": _named(pages)},
        "settings": {"vfs": settings.vfs, **settings.pragmas},
    }
    print(_report(costs, result, kinds))
    return result


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def _settings(folder: Path) -> Settings:
    ours = Ours(folder / "asked.db")
    try:
        return ours.settings()
    finally:
        ours.close()


def _makers(settings: Settings) -> dict[str, Maker]:
    others = {LIMIT: plain_apsw, PAGES: pages_only, "sqlcipher": sqlcipher(), "sqlite_plain": sqlite_plain}
    made: dict[str, Maker] = {OURS: Ours}
    for name, make in others.items():
        if make is not None:
            made[name] = partial(make, settings=settings)
    return made


def _measured(
    makers: Mapping[str, Maker], kinds: Sequence[Kind], folder: Path, rounds: int
) -> dict[str, Costs]:
    """What each store took. Every round has fresh files, and a turn is the same work in each: its median
    leaves out what something else on the disk did to one of them. One more round warms up.
    """
    found: dict[str, Costs] = {name: {} for name in makers}
    for kind in kinds:
        work = Work(kind, random.Random(SEED))
        gc.freeze()  # it stays till the end; no collection before a turn need look at it
        turns: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
        for number in range(rounds + 1):
            with _fresh(makers, folder) as stores:
                for act, took in work.done(stores):
                    for store, each in took.items() if number else ():
                        turns[store, act].append(each)
        gc.unfreeze()
        for (store, act), each_round in turns.items():
            seconds_each = sum(map(median, zip(*each_round, strict=True)))
            passes = 2 if act == "write" else 1
            found[store][kind.table, act] = seconds_each * 1e6 / work.rows / passes
    return found


@contextmanager
def _fresh(makers: Mapping[str, Maker], folder: Path) -> Iterator[dict[str, Store]]:
    """A store of each kind, each with a file of its own."""
    with TemporaryDirectory(dir=folder) as own, ExitStack() as stack:
        stores = {}
        for number, (name, make) in enumerate(makers.items()):
            stores[name] = make(Path(own) / f"{number}.db")
            stack.callback(stores[name].close)
        yield stores


def _worst(ratios: Costs, act: str) -> float:
    return round(min(ratio for (_, of), ratio in ratios.items() if of == act), 2)


def _named(costs: Costs) -> dict[str, float]:
    return {f"{name}_{act}": round(costs[name, act], 2) for name, act in COLUMNS}


def _report(costs: Mapping[str, Costs], result: Mapping[str, object], kinds: Sequence[Kind]) -> str:
    rows: list[tuple[str, ...]] = [("µs a row", *(f"{name} {act}" for name, act in COLUMNS))]
    rows += [(store, *_cells(costs[store])) for store in costs]
    rows += [(f"limit / {of}", *_cells(ratios(costs[LIMIT], costs[of]))) for of in (OURS, PAGES)]
    sizes = ", ".join(f"{k.subjects * k.rows_each} of {k.row_bytes} bytes in {k.table}" for k in kinds)
    return "\n".join(
        [
            table(rows),
            f"rows: {sizes}",
            f"every store: {result['settings']}",
            *(f"{peer}: not installed" for peer in PEERS if peer not in costs),
            f"written, worst table: {result['write_ratio_to_plain']} of plain's speed (goal 0.6)",
            f"read, worst table: {result['read_ratio_to_plain']} (goal 0.6)",
            f"encrypted pages alone: {result['page_encryption_ratio']} (goal 0.95)",
        ]
    )


def _cells(costs: Costs) -> tuple[str, ...]:
    return tuple(f"{costs[at]:.2f}" for at in COLUMNS)


if __name__ == "__main__":
    main()
