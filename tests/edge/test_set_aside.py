"""Putting a new database in the place of a damaged one: killed anywhere, nothing is lost, all is finished."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from edge_runtime.errors import DatabaseInUse, StorageError, StorageFull
from edge_runtime.recovery import set_aside
from edge_runtime.recovery.set_aside import KEPT, Place, claimed, finish, unfinished
from tests.support.consent_room import die_at, killed
from tests.support.forensics import bytes_of

NOW = 1_700_000_000_000_000
NAME = "cache.db.damaged-20231114T221320Z"
AFTER = {"cache.db": b"new", NAME: b"old", f"{NAME}-wal": b"old log", f"{NAME}.txt": b"told"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "cache.db").write_bytes(b"old")
    (tmp_path / "cache.db-wal").write_bytes(b"old log")
    return tmp_path / "cache.db"


def swap(path: Path, step: str = "") -> None:
    with claimed(path, NOW) as place:
        place.rebuilt.write_bytes(b"new")
        place.swap("told", die_at(step))


def test_a_swap_keeps_the_damaged_file_its_log_and_a_word_about_it(path: Path) -> None:
    swap(path)
    assert bytes_of(path.parent) == AFTER
    assert set_aside.set_aside(path) == [path.with_name(NAME)]
    assert not unfinished(path)
    assert not finish(path)


@pytest.mark.parametrize("point", ["intent", "log", "aside", "in_place", "told"])
def test_law_6_killed_at_any_point_the_next_opening_finishes_the_swap(path: Path, point: str) -> None:
    assert killed(lambda: swap(path, point))
    contents = bytes_of(path.parent).values()
    assert b"old" in contents
    assert b"old log" in contents
    assert unfinished(path)
    assert finish(path)
    assert bytes_of(path.parent) == AFTER


def test_law_6_killed_while_it_finishes_it_is_finished_later(path: Path) -> None:
    assert killed(lambda: swap(path, "intent"))

    def finish_and_die(point: str) -> None:
        intent = set_aside._read(path.with_name("cache.db.rebuild"))
        assert intent is not None
        set_aside._swap(path, intent, die_at(point))

    for point in ("log", "aside", "in_place"):
        assert killed(partial(finish_and_die, point))
    assert finish(path)
    assert bytes_of(path.parent) == AFTER


def test_law_12_before_the_intent_nothing_is_decided(path: Path) -> None:
    """Killed while the new one is made: the damaged one stands, and the next attempt clears the rest away."""
    before = bytes_of(path.parent)

    def make_and_die() -> None:
        with claimed(path, NOW) as place:
            place.rebuilt.write_bytes(b"half")
            place.scratch.write_bytes(b"x")
            die_at("now")("now")

    assert killed(make_and_die)
    assert not finish(path)
    assert {name: raw for name, raw in bytes_of(path.parent).items() if name in before} == before
    with claimed(path, NOW) as place:
        assert not place.rebuilt.exists()
    assert bytes_of(path.parent) == before


def test_law_12_an_attempt_that_fails_leaves_nothing(path: Path) -> None:
    before = bytes_of(path.parent)

    def attempt() -> None:
        with claimed(path, NOW) as place:
            place.rebuilt.write_bytes(b"half")
            raise StorageFull("no room")

    with pytest.raises(StorageFull):
        attempt()
    assert bytes_of(path.parent) == before


@pytest.mark.parametrize("content", [b"", b'{"aside": "cache.db.dam', b"\0" * 40])
def test_an_intent_that_was_not_written_whole_is_none(path: Path, content: bytes) -> None:
    path.with_name("cache.db.rebuild").write_bytes(content)
    assert not finish(path)
    swap(path)
    assert bytes_of(path.parent) == AFTER


def test_one_rebuilds_at_a_time(path: Path) -> None:
    with claimed(path, NOW), pytest.raises(DatabaseInUse), claimed(path, NOW):
        pass
    swap(path)


def test_law_11_only_the_newest_few_stay(path: Path) -> None:
    for _ in range(KEPT + 3):
        path.with_name("cache.db-wal").write_bytes(b"old log")
        swap(path)
        path.write_bytes(b"old")
    kept = set_aside.set_aside(path)
    assert len(kept) == KEPT
    assert len({p.name for p in kept}) == KEPT
    names = {name for name in os.listdir(path.parent) if ".damaged-" in name}
    assert names == {f"{p.name}{ending}" for p in kept for ending in ("", "-wal", ".txt")}


def test_a_name_that_is_taken_is_not_written_over(path: Path) -> None:
    path.with_name(NAME).write_bytes(b"older")
    swap(path)
    assert path.with_name(NAME).read_bytes() == b"older"
    assert path.with_name(f"{NAME}-1").read_bytes() == b"old"


def test_where_no_file_can_be_made_nothing_changes(path: Path) -> None:
    before = bytes_of(path.parent)
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(StorageError), claimed(path, NOW):
            pass
    finally:
        path.parent.chmod(0o700)
    assert bytes_of(path.parent) == before


def test_the_place_names_files_beside_the_database(path: Path) -> None:
    with claimed(path, NOW) as place:
        assert isinstance(place, Place)
        assert {p.parent for p in (place.rebuilt, place.scratch, place.aside)} == {path.parent}
