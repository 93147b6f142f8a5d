"""A cache with canaries in every table, and acts on it during which another process scans all its files.

Runs as a program of its own, because SQLite looks once for where temporary files go: `python -m
tests.support.forensic_scene ACT FOLDER [plain]`, with `TMPDIR` and `SQLITE_TMPDIR` inside FOLDER. Prints what
was scanned. `plain` does the same to a file without a cipher: there the scan must find something.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import apsw

import edge_runtime as er
from edge_runtime.cache.cipher import set_key
from edge_runtime.cache.database import Database
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf
from edge_runtime.wire.messages import LaneEntry, Row
from edge_runtime.wire.seal import subject_token
from tests.support.clock import ManualClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.forensics import plaintext_hits
from tests.support.shop import BASE_US, shop_catalog
from tests.support.town import packed

P: Final = "personalization"
PEOPLE: Final = ("canary-alice-id", "canary-bob-id")
ITEM, CATEGORY, COUNTRY, PAIR = "canary-item-id", "canary-category", "canary-country", "canary-co-bought"
TABLES: Final = (
    *("meta", "journal", "trimmed", "state", "personal", "feature", "channel", "lane", "denial"),
    *("outbox", "budget", "answer"),
)
IN_TABLES: Final = {table: f"canary-in-{table:-<10}"[:16].encode() for table in TABLES}
"""16 bytes that lie in a table itself, sealed by the page key alone."""
CANARIES: Final[tuple[str | bytes, ...]] = (
    *PEOPLE,
    ITEM,
    CATEGORY,
    COUNTRY,
    PAIR,
    "popularity",
    *IN_TABLES.values(),
)
MODES: Final = ("wal", "delete", "truncate", "persist", "memory", "off")
SCANS_AT_MOST: Final = 4
NEW_KEY: Final = bytes(range(64, 96))


class Scanned(NamedTuple):
    """How often the files were scanned while an act went on, and what was found."""

    scans: int
    hits: dict[str, int]


class Scanner:
    """Scans at the 1st, 2nd, 4th, 8th … moment that it is told of, a few times: each costs a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._moments, self._next = 0, 1
        self.scanned = Scanned(0, {})

    def moment(self, *_: object) -> bool:
        """One moment in the middle of something; False lets it go on."""
        self._moments += 1
        if self._moments >= self._next and self.scanned.scans < SCANS_AT_MOST:
            self._next *= 4
            self.scan()
        return False

    def scan(self) -> None:
        """Look at every file, deleted ones that are still open too."""
        found = plaintext_hits(self._folder, CANARIES, pid=os.getpid())
        self.scanned = Scanned(self.scanned.scans + 1, {**self.scanned.hits, **found})


def plant(folder: Path) -> bytes:
    """Fill every table through a real runtime and through transactions; returns the page key."""
    clock = ManualClock(BASE_US)
    with er.Runtime.open(
        folder / "cache.db", catalog=shop_catalog(), key=er.KeyFile(folder / "device.key"), clock=clock
    ) as rt:
        for person in PEOPLE:
            rt.consent.give(person, [P], notice="n")
            for n in range(40):
                seen = {"user": person, "item": f"{ITEM}-{n}", "price": 1.0, "category": f"{CATEGORY}-{n}"}
                assert rt.track("view", **seen) is er.ACCEPTED
        rt.flush()
        with rt._database.write("server rows") as tx:
            key = rt._keyring.key(f"user:{PEOPLE[0]}", P)
            assert key is not None
            token = subject_token(rt._keyring.pseudonym(f"user:{PEOPLE[0]}"))
            profile = Row(1, token, "profile", 1, BASE_US, 1, 0, False, packed({"country": COUNTRY}))
            PersonalShelf(tx, key).put([profile], [bytes(16)])
            values = packed({"popularity": 0.5, "co_bought": {PAIR: 1.0}})
            stats = Row(1, f"item:{ITEM}", "item_stats", 1, BASE_US, 1, 0, False, values)
            PlainShelf(tx, "all", BASE_US).put([stats], [bytes(16)])
        plant_tables(rt._database)
        rt.consent.withdraw(PEOPLE[1], [P])
        return rt._database.page_key


def plant_tables(database: Database) -> None:
    """A canary in a column of each table, without a seal of its own."""
    at = IN_TABLES
    with database.write("canaries") as tx:
        for n in range(200):
            handle = n.to_bytes(16, "big")
            tx.set_meta(f"{at['meta'].decode()}{n}", at["meta"])
            tx.append_events([(handle, 1, at["journal"] * 20)])
            tx.put_state(handle, at["state"], 1, at["state"] * 30)
            tx.put_personal_row(handle, at["personal"], 1, at["personal"] * 30)
            row = Row(n, f"item:{n}{at['feature'].decode()}", "v", 1, n, n, 0, False, at["feature"] * 30)
            tx.put_row("all", row, bytes(16), 1)
            tx.set_channel(f"{at['channel'].decode()}{n}", n, n)
            tx.put_lane([LaneEntry(n + 1, handle, at["lane"].decode(), "given", 1, 0)])
            tx.put_denial(handle, at["denial"] * 20, open=bool(n % 2))
            tx.enqueue("receipt", handle, at["outbox"] * 20)
            tx.put_answer(handle, bytes(16), handle, handle, at["answer"] * 20)
        tx.append_events([(at["trimmed"], 1, b"x")])
        tx.drop_events(at["trimmed"], tx.newest_event(at["trimmed"]))
        tx.debit(at["budget"], 1, 1)


def plain_copy(folder: Path) -> None:
    """What the cipher is for: the same canaries in a file without one."""
    connection = apsw.Connection(str(folder / "cache.db"))
    database = Database.open(":memory:", bytes(32))
    plant_tables(database)
    with database.read() as tx, connection.backup("main", tx._connection, "main") as backup:
        while not backup.done:
            backup.step()
    connection.close()


# ---- acts ----------------------------------------------------------------------------------------------


def churn(connection: apsw.Connection) -> None:
    """One transaction that is larger than the cache: pages go to the file, or its log, before it ends."""
    connection.execute("BEGIN")
    for _ in range(2):
        connection.execute("UPDATE journal SET sealed = sealed || sealed, day = day + 1")
        connection.execute("UPDATE state SET sealed = sealed || sealed")
        connection.execute("UPDATE feature SET vals = vals || vals, seq = seq + 1")
        connection.execute("UPDATE outbox SET payload = payload || payload")
        connection.execute("DELETE FROM personal WHERE handle < x'00000000000000000000000000000050'")
    connection.execute("COMMIT")


def vacuum(connection: apsw.Connection) -> None:
    connection.execute("DELETE FROM outbox")
    connection.execute("VACUUM")


def sort(connection: apsw.Connection) -> None:
    """More than the sorter holds in its cache, three ways."""
    pairs = "feature a, feature b WHERE a.version = b.version LIMIT 20000"
    both = f"SELECT CAST(a.vals || b.vals AS BLOB) FROM {pairs}"
    for _ in connection.execute(f"SELECT * FROM ({both}) ORDER BY 1 DESC"):
        pass
    connection.execute("CREATE INDEX by_vals ON feature(vals, entity)")
    connection.execute(f"CREATE TEMP TABLE spilled AS {both}")


ACTS: Final[dict[str, Callable[[apsw.Connection], None]]] = {
    **dict.fromkeys(MODES, churn),
    "vacuum": vacuum,
    "sort": sort,
}


def act_on(folder: Path, name: str, page_key: bytes | None) -> Scanned:
    """One act on a connection as the cache makes it, scanned in the middle of its statements."""
    scanner = Scanner(folder)
    connection = apsw.Connection(str(folder / "cache.db"))
    if page_key is not None:
        set_key(connection, page_key)
    connection.pragma("journal_mode", name if name in MODES else "wal")
    connection.pragma("cache_size", 10)
    if page_key is None:
        connection.pragma("temp_store", "file")
    connection.set_progress_handler(scanner.moment, 500)
    ACTS[name](connection)
    connection.set_progress_handler(None)
    scanner.scan()
    connection.close()
    scanner.scan()
    return scanner.scanned


def rekey(folder: Path, page_key: bytes) -> Scanned:
    """Scanned at what it does to the disk: it is one statement, and none of its steps is told of."""
    scanner = Scanner(folder)
    disk = FaultyDisk()
    database = Database.open(str(folder / "cache.db"), page_key, vfs=disk.name)
    disk.watch = scanner.moment
    database.rekey(NEW_KEY)
    scanner.scan()
    database.close()
    scanner.scan()
    return scanner.scanned


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    if "plain" in sys.argv[3:]:
        plain_copy(folder)
        found = act_on(folder, name, None)
    else:
        page_key = plant(folder)
        found = rekey(folder, page_key) if name == "rekey" else act_on(folder, name, page_key)
    print(json.dumps(found._asdict()))


if __name__ == "__main__":
    main()
