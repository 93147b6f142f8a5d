"""How long does a withdrawal take until its subject is erased, and does it grow with the number of subjects?

`Runtime.consent.withdraw` of one subject at a time, chosen at random, among 10, 1,000 and 100,000 who hold
keys: from the call to the receipt, everything durable. Each has two sealed server rows; the one who withdraws
has besides a stored session state, journalled events and that state in memory. She gives consent again
afterwards, outside the times, so that the number stays. The three runtimes take turns, each with an encrypted
file and a key file of its own, so that what else the disk does falls on all of them.

The limit is the durable work that nobody can leave out, by hand on the same disk: a commit that denies, new
keys written along one path, the key file replaced by one that names them, a commit that deletes, the log cut
to nothing, a commit that says what was done. `where` tells what our steps take.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Final

import apsw
import msgspec

import edge_runtime as er
from bench.measure import table
from bench.startup import CATALOG
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.consent.erasure import POINTS
from edge_runtime.keys.datakey import KeyFacts, new_facts
from edge_runtime.sync.personal_rows import row_slot, seal_row
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token

SUBJECTS: Final = (10, 1_000, 100_000)
ERASURES, WARM_UP, SEED = 300, 10, 20267
FILL: Final = 10_000
PURPOSE: Final = "personalization"
DAY_US: Final = 86_400_000_000
CALL, RETURN = "called", "returned"


def run(subjects: tuple[int, ...] = SUBJECTS, erasures: int = ERASURES) -> dict[str, object]:
    """Measure, print the table; returns the numbers. `flat_ratio` is of the most to the fewest subjects."""
    times: dict[int, list[float]] = defaultdict(list)
    steps: dict[int, list[dict[str, float]]] = defaultdict(list)
    limit: list[float] = []
    with ExitStack() as stack:
        kiosks = [stack.enter_context(opened(count)) for count in subjects]
        hand = stack.enter_context(by_hand())
        gc.collect()
        gc.freeze()
        for number in range(WARM_UP + erasures):
            for kiosk in kiosks:
                marks = kiosk.erase_one()
                if number >= WARM_UP:
                    times[kiosk.subjects].append(sum(marks.values()))
                    steps[kiosk.subjects].append(marks)
            took = hand.erase_one()
            if number >= WARM_UP:
                limit.append(took)
        gc.unfreeze()
    found = _found(times, steps, limit)
    print(_report(found))
    return found


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


class Kiosk:
    """A runtime whose subjects all gave consent."""

    def __init__(self, rt: er.Runtime, subjects: int) -> None:
        self.subjects = subjects
        self._rt, self._chance = rt, random.Random(SEED)
        self._marks: list[tuple[str, float]] = []
        fill(rt, subjects)
        with rt._database.write("bench") as tx:
            for n in range(subjects):
                self._put_rows(tx, f"user-{n}")
        rt._database.checkpoint_truncate()
        rt.consent._eraser._step = self._mark

    def erase_one(self) -> dict[str, float]:
        """Step -> milliseconds of one withdrawal; its subject is here again when this returns."""
        subject = f"user-{self._chance.randrange(self.subjects)}"
        self._live(subject)
        self._marks = []
        gc.collect(0)
        self._mark(CALL)
        receipt = self._rt.consent.withdraw(subject)
        self._mark(RETURN)
        said = receipt.receipt
        assert said.keys_destroyed == 1
        assert said.canary_unreadable
        assert said.rows_deleted["personal"] == 2
        assert said.rows_deleted["journal"] >= 1
        assert said.rows_deleted["state"] >= 1
        self._rt.consent.give(subject, [PURPOSE], notice="bench")
        with self._rt._database.write("bench") as tx:
            self._put_rows(tx, subject)
        return {name: (at - before) * 1e3 for (_, before), (name, at) in pairwise(self._marks)}

    def _live(self, subject: str) -> None:
        """Events: some in a stored state, some in the journal, all in memory."""
        rt = self._rt
        for everything in (True, False):
            for n in range(4):
                rt.track("view", user=subject, item=f"item-{n}", price=n + 0.5)
            rt._commit.flush(everything=everything)

    def _put_rows(self, tx: WriteTransaction, subject: str) -> None:
        """Server rows, where a delta would have put them."""
        key = self._rt._keyring.key(f"user:{subject}", PURPOSE)
        assert key is not None
        entity = subject_token(self._rt._keyring.pseudonym(f"user:{subject}"))
        values = msgspec.msgpack.encode({f"p{n}": self._chance.random() for n in range(12)})
        now_us = er.SystemClock().now_us()
        for view in ("profile", "taste"):
            row = Row(1, entity, view, 1, now_us, now_us, 1, False, values)
            slot = row_slot(key, f"{view}@1", entity)
            tx.put_personal_row(key.handle, slot, now_us // DAY_US, seal_row(key, slot, row, bytes(16)))

    def _mark(self, name: str) -> None:
        self._marks.append((name, time.perf_counter()))


def fill(rt: er.Runtime, subjects: int) -> None:
    """Consent of so many subjects, as `give` records it, but many in one change of the keystore."""
    keyring, now_us = rt._keyring, er.SystemClock().now_us()

    def facts() -> KeyFacts:
        ordinal, decision = keyring.next_ordinal(), os.urandom(16)
        return new_facts(PURPOSE, decision, "bench", base=0, at_us=now_us, grant=ordinal, ordinal=ordinal)

    for start in range(0, subjects, FILL):
        some = range(start, min(start + FILL, subjects))
        keyring.create([(f"user:user-{n}", facts()) for n in some])


@contextmanager
def opened(subjects: int) -> Iterator[Kiosk]:
    """A kiosk on files of its own."""
    catalog = er.Catalog.from_toml(CATALOG)
    with TemporaryDirectory() as folder:
        key = er.KeyFile(Path(folder) / "device.key")
        with er.Runtime.open(Path(folder) / "cache.db", catalog=catalog, key=key) as rt:
            yield Kiosk(rt, subjects)


class ByHand:
    """The same durable work with nothing around it: no cipher, no checks, no receipt."""

    def __init__(self, folder: Path) -> None:
        self._slot, self._nodes = folder / "slot", folder / "nodes"
        self._connection = apsw.Connection(str(folder / "plain.db"))
        for pragma in ("journal_mode = wal", "synchronous = full", "locking_mode = exclusive"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        self._connection.execute("CREATE TABLE denial(id INTEGER PRIMARY KEY, body)")
        self._connection.execute("CREATE TABLE personal(id INTEGER PRIMARY KEY, sealed)")
        self._count = 0

    def erase_one(self) -> float:
        """Milliseconds."""
        self._count += 1
        execute, count, row = self._connection.execute, self._count, os.urandom(300)
        execute("INSERT INTO personal VALUES(?, ?)", (count, row))
        start = time.perf_counter()
        execute("INSERT INTO denial VALUES(?, ?)", (count, row))
        self._append_nodes()
        self._replace_slot()
        execute("DELETE FROM personal WHERE id = ?", (count,))
        execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        execute("UPDATE denial SET body = ? WHERE id = ?", (row, count))
        return (time.perf_counter() - start) * 1e3

    def _replace_slot(self) -> None:
        fresh = self._slot.with_suffix(".new")
        _write_durably(fresh, os.O_TRUNC, bytes(200))
        os.replace(fresh, self._slot)
        folder = os.open(self._slot.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _append_nodes(self) -> None:
        """Three nodes of a tree with a fan-out of 64."""
        _write_durably(self._nodes, os.O_APPEND, bytes(3 * 64 * 64))

    def close(self) -> None:
        self._connection.close()


def _write_durably(path: Path, flags: int, content: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o600)
    os.write(file, content)
    os.fsync(file)
    os.close(file)


@contextmanager
def by_hand() -> Iterator[ByHand]:
    """The limit, on files of its own."""
    with TemporaryDirectory() as folder:
        hand = ByHand(Path(folder))
        try:
            yield hand
        finally:
            hand.close()


def _found(
    times: Mapping[int, list[float]], steps: Mapping[int, list[dict[str, float]]], limit: list[float]
) -> dict[str, object]:
    few, many = min(times), max(times)
    ms = {count: median(found) for count, found in times.items()}
    return {
        "ms": {str(count): round(took, 3) for count, took in ms.items()},
        "flat_ratio": round(ms[many] / ms[few], 2),
        "p99_ms": {str(count): round(quantiles(found, n=100)[98], 3) for count, found in times.items()},
        "limit_ms": round(median(limit), 3),
        "ratio_to_limit": {str(count): round(took / median(limit), 2) for count, took in ms.items()},
        "where_ms": {str(count): _where(steps[count]) for count in times},
        "erasures": len(limit),
    }


def _where(steps: list[dict[str, float]]) -> dict[str, float]:
    """Median milliseconds that end at each step."""
    return {name: round(median(one[name] for one in steps), 3) for name in (*POINTS, RETURN)}


def _report(found: Mapping[str, Any]) -> str:
    counts = list(found["ms"])
    rows: list[tuple[str, ...]] = [("one subject erased, ms", *(f"among {int(n):,}" for n in counts), "")]
    rows.append(("median", *(f"{found['ms'][n]:.2f}" for n in counts), "goal 20"))
    rows.append(("p99", *(f"{found['p99_ms'][n]:.2f}" for n in counts), f"of {found['erasures']}"))
    rows.append(("median, times the limit", *(f"{found['ratio_to_limit'][n]:.2f}" for n in counts), ""))
    rows += [
        (f"  {_STEPS[name]}", *(f"{found['where_ms'][n][name]:.2f}" for n in counts), "")
        for name in found["where_ms"][counts[0]]
    ]
    growth = f"among most / among fewest: {found['flat_ratio']} (goal 2)"
    return f"{table(rows)}\nthe same durable work by hand: {found['limit_ms']:.2f} ms\n{growth}"


_STEPS: Final = {
    "begin": "asked: what stands, the denial made",
    "denied": "denial committed",
    "silenced": "memory zeroed",
    "slot_both": "slot holds both roots",
    "keystore": "keys written without hers",
    "slot_new": "slot holds the new root alone",
    "rows": "rows deleted",
    "wal": "log cut to nothing",
    "canary": "canary no longer opens",
    "receipt": "evidence committed",
    RETURN: "receipt signed",
}


if __name__ == "__main__":
    main()
