"""Ten thousand damages to a file and its log: every read is an error or right, never wrong.

Right is what some commit left. A damaged log ends where the damage is, so what is read then may be an older
commit; of that, and of an old page at its own number, no cipher can tell: see docs/cache.md.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from edge_runtime.cache.cipher import PAGE_BYTES, set_key
from edge_runtime.cache.database import Database
from edge_runtime.wire.messages import LaneEntry, Row
from tests.support.consent_room import die, killed
from tests.support.places import memory_folder

KEY, SEED, DAMAGES = bytes(range(32)), 20261123, 10_000
WAL_HEAD, FRAME_HEAD = 32, 24
FRAME_BYTES = FRAME_HEAD + PAGE_BYTES

Contents = dict[str, list[tuple[object, ...]]]


class Scene(NamedTuple):
    """A file and its log as a killed process left them, and what every commit of it left."""

    path: str
    db: bytes
    wal: bytes
    older: bytes
    """The file as it was one life before, under the same key."""
    commits: list[Contents]
    """What is read with the log cut after each commit; the first: without a log."""


def write_all(database: Database, life: int) -> None:
    """Something in every table, in several commits."""
    for n in range(6):
        handle, name = bytes([n]) * 16, f"life {life} number {n} "
        with database.write("fill") as tx:
            tx.set_meta(f"k{n}", name.encode())
            tx.append_events([(handle, n, f"{name}event {i} ".encode() * 9) for i in range(12)])
            tx.put_state(handle, handle, n, name.encode() * 150)
            tx.put_personal_row(handle, handle, n, name.encode() * 20)
            tx.drop_events(handle, 1 + n)
            for i in range(8):
                row = Row(life * 99 + n, f"item:{n}-{i}", "stats", 1, life, life, 0, False, name.encode() * 9)
                tx.put_row("all", row, handle, life)
            tx.set_channel(f"c{n}", life, n)
            tx.put_lane([LaneEntry(life * 9 + n + 1, handle, "p", "given", life, 0)])
            tx.put_denial(handle, name.encode() * 3, open=bool(n % 2))
            tx.enqueue("receipt", bytes([life]) + handle[1:], name.encode() * 5)
            tx.debit(handle, n, life + 1)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with memory_folder() as folder:
        yield made_in(folder)


def made_in(folder: Path) -> Scene:
    """Three lives under one key: an older copy of the file, the file, and the log of a killed process."""
    path = str(folder / "cache.db")

    def live() -> None:
        database = Database.open(path, KEY)
        write_all(database, 2)
        die()

    database = Database.open(path, KEY)
    write_all(database, 0)
    database.close()
    older = Path(path).read_bytes()
    database = Database.open(path, KEY)
    write_all(database, 1)
    database.close()
    assert killed(live)
    db, wal = Path(path).read_bytes(), Path(path + "-wal").read_bytes()
    return Scene(path, db, wal, older, list(commits(path, wal)))


def commits(path: str, wal: bytes) -> Iterator[Contents]:
    """What is read when the log ends after each of its commits."""
    ends = [WAL_HEAD]
    for at in range(WAL_HEAD, len(wal), FRAME_BYTES):
        if int.from_bytes(wal[at + 4 : at + 8], "big"):  # the size of the file: a commit ends here
            ends.append(at + FRAME_BYTES)
    for end in ends:
        Path(path + "-wal").write_bytes(wal[:end])
        found = contents(path)
        assert isinstance(found, dict), found
        yield found


def contents(path: str) -> Contents | str:
    """Every row of every table, by the table and by each index; or the error."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        set_key(connection, KEY)
        connection.pragma("locking_mode", "exclusive")
        schema = connection.execute("SELECT type, name, tbl_name FROM sqlite_schema").fetchall()
        found: Contents = {"schema": sorted(schema)}
        for kind, name, table in schema:
            if kind == "table":
                found[f"{name}"] = connection.execute(f'SELECT * FROM "{table}"').fetchall()
            elif not str(name).startswith("sqlite_autoindex") and name != "denial_open":
                sql = f'SELECT * FROM "{table}" INDEXED BY "{name}"'
                found[f"{name}"] = sorted(connection.execute(sql).fetchall(), key=repr)
    except apsw.Error as error:
        return type(error).__name__
    finally:
        connection.close()
    return found


class Damage(NamedTuple):
    """What was done, and the files after it."""

    what: str
    db: bytes
    wal: bytes


def damaged(scene: Scene, rng: random.Random) -> Damage:
    """One damage; never an old page at its own number."""
    db, wal, pages = scene.db, scene.wal, len(scene.db) // PAGE_BYTES
    frames = (len(wal) - WAL_HEAD) // FRAME_BYTES
    match rng.choices(KINDS, WEIGHTS)[0]:
        case "bit of file":
            at, bit = rng.randrange(len(db)), rng.randrange(8)
            return Damage(f"bit {bit} of byte {at} of the file", flipped(db, at, bit), wal)
        case "bit of log":
            at, bit = rng.randrange(len(wal)), rng.randrange(8)
            return Damage(f"bit {bit} of byte {at} of the log", db, flipped(wal, at, bit))
        case "swapped pages":
            one, other = rng.sample(range(pages), 2)
            content = put(put(db, one, page(db, other)), other, page(db, one))
            return Damage(f"pages {one} and {other} swapped", content, wal)
        case "swapped frames":
            one, other = rng.sample(range(frames), 2)
            content = put_frame(put_frame(wal, one, frame(wal, other)), other, frame(wal, one))
            return Damage(f"frames {one} and {other} swapped", db, content)
        case "older page elsewhere":
            source, target = rng.sample(range(min(pages, len(scene.older) // PAGE_BYTES)), 2)
            return Damage(f"older page {source} at {target}", put(db, target, page(scene.older, source)), wal)
        case "frame's page in the file":
            source, target = rng.randrange(frames), rng.randrange(pages)
            body = frame(wal, source)
            if int.from_bytes(body[:4], "big") == target + 1:
                target = (target + 1) % pages
            return Damage(f"page of frame {source} at {target}", put(db, target, body[FRAME_HEAD:]), wal)
        case "file cut":
            size = rng.randrange(len(db))
            return Damage(f"file cut to {size}", db[:size], wal)
        case _:
            size = rng.randrange(len(wal))
            return Damage(f"log cut to {size}", db, wal[:size])


KINDS = (
    *("bit of file", "bit of log", "swapped pages", "swapped frames"),
    *("older page elsewhere", "frame's page in the file", "file cut", "log cut"),
)
WEIGHTS = (30, 20, 12, 6, 14, 6, 6, 6)


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def page(content: bytes, n: int) -> bytes:
    return content[n * PAGE_BYTES : (n + 1) * PAGE_BYTES]


def put(content: bytes, n: int, body: bytes) -> bytes:
    return content[: n * PAGE_BYTES] + body + content[(n + 1) * PAGE_BYTES :]


def frame(wal: bytes, n: int) -> bytes:
    start = WAL_HEAD + n * FRAME_BYTES
    return wal[start : start + FRAME_BYTES]


def put_frame(wal: bytes, n: int, body: bytes) -> bytes:
    start = WAL_HEAD + n * FRAME_BYTES
    return wal[:start] + body + wal[start + FRAME_BYTES :]


def after(scene: Scene, damage: Damage) -> Contents | str:
    Path(scene.path).write_bytes(damage.db)
    Path(scene.path + "-wal").write_bytes(damage.wal)
    return contents(scene.path)


def test_law_7_ten_thousand_damages_give_an_error_or_right_data(scene: Scene) -> None:
    """With the log whole, the newest commit; with a damaged log, one of its commits."""
    rng, seen = random.Random(SEED), Counter[str]()
    for n in range(DAMAGES):
        damage = damaged(scene, rng)
        found = after(scene, damage)
        if isinstance(found, str):
            seen[found] += 1
            continue
        allowed = scene.commits[-1:] if damage.wal == scene.wal else scene.commits
        assert found in allowed, f"damage {n} of seed {SEED}: {damage.what}"
        seen["right"] += 1
    assert set(seen) <= {"right", "CorruptError", "NotADBError", "IOError"}, seen
    assert seen["CorruptError"] > DAMAGES / 10, seen
    assert seen["right"] > DAMAGES / 10, seen


def test_what_no_cipher_can_tell_is_what_the_page_says(scene: Scene) -> None:
    """An old file, an old page at its own number, a log that ends early: read without an error."""
    told = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()
    for words in ("an older copy of the whole file", "an older page at its own number", "a log that was cut"):
        assert words in told
    assert isinstance(after(scene, Damage("older file", scene.older, b"")), dict)
    cut = scene.wal[: len(scene.wal) - FRAME_BYTES]
    assert after(scene, Damage("log cut", scene.db, cut)) == scene.commits[-2]
    unnoticed = []
    for n in range(len(scene.older) // PAGE_BYTES):
        old = Damage("old page", put(scene.db, n, page(scene.older, n)), b"")
        found = after(scene, old)
        if old.db != scene.db and isinstance(found, dict) and found != scene.commits[0]:
            unnoticed.append(n)
    assert unnoticed, "every old page was noticed: the page may promise more"
    for one, other in itertools.permutations(unnoticed[:3], 2):  # the same pages anywhere else are
        moved = Damage("moved", put(scene.db, other, page(scene.older, one)), b"")
        assert isinstance(after(scene, moved), str)
