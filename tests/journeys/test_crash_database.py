"""Killed at every write, sync, truncate and delete of the file: it opens again, as before or as after.

The points are counted in a run that ends well, then each is died at in a child: with everything written kept,
with half a write, and with all that no sync had covered lost. A failure names the point.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import VERSION
from edge_runtime.consent.opening import open_cache
from edge_runtime.errors import KeyMismatch
from tests.edge.test_cache_schema import KEY as PAGE_KEY
from tests.edge.test_cache_schema import check_contents, connected, made_by_schema_1, shrinks
from tests.support.clock import ManualClock
from tests.support.consent_room import killed
from tests.support.faulty_disk import FaultyDisk, How
from tests.support.places import memory_folder
from tests.support.shop import BASE_US, shop_catalog

HOWS: tuple[How, ...] = ("kill", "torn", "power")
NEXT_KEY, A = bytes(range(32, 64)), b"a" * 16
P = "personalization"
EVENTS = 24


@pytest.fixture
def place() -> Iterator[Path]:
    """The disk that fails is ours, so the one below may be memory."""
    with memory_folder() as folder:
        yield folder


class Crash(NamedTuple):
    """A copy of the folder after it died at a point."""

    folder: Path
    point: str


def crashes(made: Path, work: Callable[[Path, FaultyDisk], None], how: How, most: int) -> Iterator[Crash]:
    """Run `work` on copies of `made`, dying at every point when killed, else at about `most` of them."""
    counting = FaultyDisk()
    whole = Path(shutil.copytree(made, made.parent / f"whole-{how}"))
    work(whole, counting)
    for n, point in enumerate(chosen(counting.points, how, most)):
        folder = Path(shutil.copytree(made, made.parent / f"{how}-{n}"))
        disk = FaultyDisk(point, how)
        assert killed(lambda: work(folder, disk)), f"{point} was not passed"  # noqa: B023 - called at once
        yield Crash(folder, point)
        shutil.rmtree(folder)


def chosen(points: list[str], how: How, most: int) -> list[str]:
    """All of them, or evenly, with each kind's first and last; a torn write must be a write."""
    usable = [point for point in points if how != "torn" or ".write." in point]
    ends = {point for kind in kinds(usable) for point in (kind[0], kind[-1])}
    step = 1 if how == "kill" else max(len(usable) // most, 1)
    return [point for n, point in enumerate(usable) if n % step == 0 or point in ends]


def kinds(points: list[str]) -> list[list[str]]:
    """The points of each kind: `wal.write`, `db.sync`, ..."""
    found: dict[str, list[str]] = {}
    for point in points:
        found.setdefault(point.rpartition(".")[0], []).append(point)
    return list(found.values())


# ---- make --------------------------------------------------------------------------------------------


def make(folder: Path, disk: FaultyDisk) -> None:
    Database.open(str(folder / "cache.db"), PAGE_KEY, vfs=disk.name).close()


@pytest.mark.parametrize("how", HOWS)
def test_law_12_a_file_whose_making_was_cut_short_is_made_by_the_next(place: Path, how: How) -> None:
    """Nothing, a beginning, or all of it lies there."""
    made = place / "made"
    made.mkdir()
    for folder, point in crashes(made, make, how, most=99):
        path = str(folder / "cache.db")
        database = Database.open(path, PAGE_KEY)
        with database.write("first") as tx:
            tx.set_meta("k", b"v")
        assert shrinks(database), f"{how} at {point}"
        database.close()
        Database.open(path, PAGE_KEY, create=False).close()


# ---- commit ------------------------------------------------------------------------------------------


def opened(folder: Path, vfs: str | None) -> er.Runtime:
    keyring, database = open_cache(str(folder / "cache.db"), er.KeyFile(folder / "device.key"), vfs=vfs)
    settings = er.Settings(snapshot_every_events=5, commit_interval_us=3_600_000_000)
    return er.Runtime(shop_catalog(), database, keyring, ManualClock(BASE_US), settings)


def track(rt: er.Runtime, n: int) -> er.Admission:
    return rt.track("view", user="alice", item="x", price=1.0, category="c", id=f"e{n}")


def shopping(folder: Path, disk: FaultyDisk) -> None:
    """Events in group commits of 1, 2, 3, …; a byte in `acknowledged` after each flush for each event."""
    rt = opened(folder, disk.name)
    held = rt._database._opened
    assert held is not None
    held.connection.wal_autocheckpoint(12)
    told = os.open(folder / "acknowledged", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    n = size = 0
    while n < EVENTS:
        size += 1
        for _ in range(size):
            assert track(rt, n) is er.ACCEPTED
            n += 1
        rt.flush()
        os.write(told, b"x" * size)
    rt.close()
    os.close(told)


@pytest.mark.parametrize("how", HOWS)
def test_law_6_what_a_flush_acknowledged_is_there_exactly_once(place: Path, how: How) -> None:
    """Events, and the states made of them; what it did not acknowledge is there whole or not at all."""
    made = place / "made"
    made.mkdir()
    with opened(made, None) as rt:
        rt.consent.give("alice", [P], notice="n")
    counts = set()
    for folder, point in crashes(made, shopping, how, most=30):
        acknowledged = (folder / "acknowledged").stat().st_size if (folder / "acknowledged").exists() else 0
        with opened(folder, None) as rt:
            kept = rt.read("activity:views", user="alice").value
            assert isinstance(kept, int)
            batch = 1 + next(size for size in range(9) if size * (size + 1) // 2 == acknowledged)
            assert kept in (acknowledged, acknowledged + batch), f"{how} at {point}"
            again = [track(rt, n) for n in range(acknowledged + batch)]
            assert again == [er.DUPLICATE] * kept + [er.ACCEPTED] * (acknowledged + batch - kept), point
            assert rt.read("activity:views", user="alice").value == acknowledged + batch, point
            counts.add(kept)
    assert len(counts) > 3, "the points lie too close together to show anything"


# ---- migrate -----------------------------------------------------------------------------------------


def migrate(folder: Path, disk: FaultyDisk) -> None:
    Database.open(str(folder / "cache.db"), PAGE_KEY, vfs=disk.name).close()


@pytest.mark.parametrize("how", HOWS)
def test_law_6_an_upgrade_ends_before_or_after(place: Path, how: How) -> None:
    """The steps from schema 1 on, which are one, and the VACUUM behind them."""
    made = place / "made"
    made.mkdir()
    made_by_schema_1(str(made / "cache.db"))
    versions = set()
    for folder, point in crashes(made, migrate, how, most=40):
        path = str(folder / "cache.db")
        shutil.copytree(folder, folder / "look")
        look = connected(str(folder / "look" / "cache.db"))
        version = look.pragma("user_version")
        assert look.execute("PRAGMA integrity_check").fetchall() == [("ok",)], f"{how} at {point}"
        look.close()
        assert version in (1, VERSION), f"{how} at {point}"
        versions.add(version)
        database = Database.open(path, PAGE_KEY)
        check_contents(database)
        assert shrinks(database), f"{how} at {point}"
        database.close()
    assert versions == {1, VERSION}


# ---- rekey -------------------------------------------------------------------------------------------


def rekey(folder: Path, disk: FaultyDisk) -> None:
    database = Database.open(str(folder / "cache.db"), PAGE_KEY, vfs=disk.name)
    with database.write("last") as tx:
        tx._connection.pragma("cache_size", 10)  # pages go to the log before the end
        tx.set_meta("last", b"commit")
    database.rekey(NEXT_KEY)
    with database.write("first") as tx:
        tx.set_meta("first", b"commit")
    database.close()


@pytest.mark.parametrize("how", HOWS)
def test_law_6_a_rekey_ends_under_one_key_or_the_other(place: Path, how: How) -> None:
    """Exactly one of them opens it, whichever is tried first, and every row is there."""
    made = place / "made"
    made.mkdir()
    path = str(made / "cache.db")
    database = Database.open(path, PAGE_KEY)
    with database.write("fill") as tx:
        for n in range(60):
            tx.append_events([(A, 1, b"%04d" % n * 200)])
        tx.append_events([(b"b" * 16, 1, bytes(90_000))])
    with database.write("free pages") as tx:
        tx.forget(b"b" * 16)
    database.close()
    keys = []
    for folder, point in crashes(made, rekey, how, most=40):
        path = str(folder / "cache.db")
        alone = [key for key in (PAGE_KEY, NEXT_KEY) if opens_with(folder, key)]
        database = Database.open(path, PAGE_KEY, next_page_key=NEXT_KEY)
        assert alone == [database.page_key], f"{how} at {point}"
        with database.read() as look:
            assert [sealed for _, sealed in look.events(A)] == [b"%04d" % n * 200 for n in range(60)], point
            assert look.meta("first") is None or look.meta("last") == b"commit", point
        keys.append(database.page_key)
        database.rekey(NEXT_KEY)  # whoever was interrupted does it again
        database.close()
        Database.open(path, NEXT_KEY).close()
    assert keys == sorted(keys)
    assert set(keys) == {PAGE_KEY, NEXT_KEY}


def opens_with(folder: Path, key: bytes) -> bool:
    """Whether a copy opens under this key alone."""
    copy = Path(shutil.copytree(folder, folder / "copy"))
    try:
        Database.open(str(copy / "cache.db"), key).close()
    except KeyMismatch:
        return False
    else:
        return True
    finally:
        shutil.rmtree(copy)
