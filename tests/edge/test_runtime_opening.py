"""What cannot be opened says what to do and stays as it was; what leaves no trace leaves none."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.keys.keyring import Keyring
from tests.support.clock import ManualClock
from tests.support.forensics import bytes_of, plaintext_hits
from tests.support.shop import BASE_US, SHOP, shop_catalog

P = "personalization"
KIOSK = SHOP.replace('retention = "30d"\nkeep_events = "7d"\n[purposes.measurement]', "RETENTION", 1)
KIOSK = KIOSK.replace("RETENTION", 'retention = "session"\n[purposes.measurement]')
KIOSK = KIOSK.replace('window = "7d"', 'window = "1h"').replace('window = "30d"', 'window = "1h"')


def open_at(folder: Path, catalog: er.Catalog | None = None, clock: ManualClock | None = None) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=catalog or shop_catalog(),
        key=er.KeyFile(folder / "device.key"),
        clock=clock or ManualClock(BASE_US),
    )


def made(folder: Path) -> None:
    with open_at(folder) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")


def wrong_key(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    made(other)
    (folder / "device.key").write_bytes((other / "device.key").read_bytes())


def no_key(folder: Path) -> None:
    (folder / "device.key").unlink()


def no_database(folder: Path) -> None:
    (folder / "cache.db").unlink()


def no_keystore(folder: Path) -> None:
    (folder / "cache.db-keys").unlink()


def garbage(folder: Path) -> None:
    (folder / "cache.db").write_bytes(secrets.token_bytes(40_960))


def plain(folder: Path) -> None:
    (folder / "cache.db").unlink()
    connection = sqlite3.connect(folder / "cache.db")
    connection.execute("CREATE TABLE t(x)")
    connection.close()


def truncated(folder: Path) -> None:
    content = (folder / "cache.db").read_bytes()
    (folder / "cache.db").write_bytes(content[: len(content) // 2 + 100])


def cut_to_pages(folder: Path) -> None:
    content = (folder / "cache.db").read_bytes()
    (folder / "cache.db").write_bytes(content[:8_192])


def newer(folder: Path) -> None:
    key = er.KeyFile(folder / "device.key")
    keyring = Keyring.open(key, folder / "cache.db-keys", True)
    database = Database.open(str(folder / "cache.db"), keyring.slot.page_key)
    with database.write("test") as tx:
        tx._connection.pragma("user_version", 99)
    database.close()


@pytest.mark.parametrize(
    ("harm", "error", "says"),
    [
        (wrong_key, er.KeyMismatch, "key"),
        (no_key, er.KeyMissing, "without its key"),
        (no_database, er.KeyMissing, "without its database"),
        (no_keystore, er.EdgeError, "keystore"),
        (garbage, er.KeyMismatch, "untouched"),
        (plain, er.DatabaseUnreadable, "plain SQLite"),
        (truncated, er.DatabaseUnreadable, "truncated"),
        (cut_to_pages, er.DatabaseUnreadable, "damaged"),
        (newer, er.DatabaseTooNew, "expected schema"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_law_12_what_cannot_be_opened_says_so_and_stays_as_it_was(
    tmp_path: Path, harm: Callable[[Path], None], error: type[Exception], says: str
) -> None:
    folder = tmp_path / "kiosk"
    folder.mkdir()
    made(folder)
    harm(folder)
    before = bytes_of(folder)
    for _ in range(2):
        with pytest.raises(error, match=says):
            open_at(folder)
        assert bytes_of(folder) == before


def test_a_runtime_can_be_closed_twice_and_opened_again_and_again(tmp_path: Path) -> None:
    made(tmp_path)
    for _ in range(3):
        rt = open_at(tmp_path)
        with pytest.raises(er.DatabaseInUse):
            open_at(tmp_path)
        assert rt.read("activity:views", user="alice").value == 1
        rt.close()
        rt.close()


def test_law_5_a_guest_leaves_nothing_on_disk_not_even_sealed(tmp_path: Path) -> None:
    """`retention = "session"`: other users' rows grow the files, the guest's own never reach them."""
    catalog, clock = er.Catalog.from_toml(KIOSK), ManualClock(BASE_US)
    with open_at(tmp_path, catalog, clock) as rt:
        rt.consent.give("guest-of-today", [P], notice="n")
        for n in range(600):
            clock.advance(seconds=1)
            assert rt.track("view", user="guest-of-today", item=f"secret-{n}") is er.ACCEPTED
        rt.flush()
        assert rt.read("activity:views", user="guest-of-today").value == 600
        with rt._database.read() as tx:
            assert tx.handles() == set()
        assert plaintext_hits(tmp_path, ["guest-of-today", "secret-"]) == {}
        rt.leave("guest-of-today")
        assert rt.read("activity:views", user="guest-of-today").status is er.Status.REVOKED
        rt.consent.give("guest-of-today", [P], notice="n")
        assert rt.read("activity:views", user="guest-of-today").value == 0
        rt.track("view", user="guest-of-today", item="x")
    with open_at(tmp_path, catalog, clock) as rt:
        assert rt.consent.state("guest-of-today", P) == "unknown"


def test_a_subject_who_leaves_and_comes_back_is_known(tmp_path: Path) -> None:
    with open_at(tmp_path) as rt:
        rt.consent.give("alice", [P], notice="n")
        rt.track("view", user="alice", item="x")
        rt.leave("alice")
        assert rt.status()["states_in_memory"] == 0
        assert rt.read("activity:views", user="alice").value == 1


@pytest.mark.parametrize(("days", "left"), [(-365, 3), (29, 3), (365, 0)])
def test_retention_is_judged_by_the_clock_at_hand_and_what_went_stays_gone(
    tmp_path: Path, days: int, left: int
) -> None:
    """A clock a year ahead ends retention, once it was looked at; setting it back revives nothing."""
    clock = ManualClock(BASE_US)
    with open_at(tmp_path, clock=clock) as rt:
        rt.consent.give("alice", [P], notice="n")
        for _ in range(3):
            clock.advance(seconds=1)
            rt.track("view", user="alice", item="x")
        now_us = clock.now_us()
        clock.set_wall(now_us + days * 86_400_000_000)
        if days > 0:
            assert rt.read("activity:views", user="alice").value == left
        clock.set_wall(now_us)
        rt.flush()
    with open_at(tmp_path, clock=clock) as rt:
        assert rt.read("activity:views", user="alice").value == left
