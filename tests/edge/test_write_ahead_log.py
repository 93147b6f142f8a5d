"""A log that was damaged in the middle is told from one that a power cut tore, and all it holds is read."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.database import Database
from edge_runtime.cache.mended_log import mend
from edge_runtime.cache.untouched import untouched
from edge_runtime.cache.write_ahead_log import LogState, read_log
from edge_runtime.errors import DatabaseUnreadable, StorageError
from tests.support.forensics import bytes_of
from tests.support.full_disk import FullDisk
from tests.support.logged import FRAME, HEADER, KEY, Logged, append, flipped, logged

PAGES = 1_000
PLACES = {"number": 2, "size": 6, "salts": 9, "sums": 18, "page": 1_000}
"""Something in each part of a frame."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return logged(tmp_path_factory.mktemp("log"))


def events(log: Path) -> int:
    """How many events are read with a log, mended or not."""
    database = log.with_name("cache.db")
    with untouched(str(database), KEY, log=str(log)) as connection:
        return int(str(connection.execute("SELECT count(*) FROM journal").get))


def sqlite_reads(log: Path) -> int:
    """How many frames SQLite takes of it."""
    connection = apsw.Connection(str(log.with_name("cache.db")))
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", (b"raw:" + KEY.hex().encode()).hex())
    connection.pragma("locking_mode", "exclusive")
    connection.pragma("user_version")
    found, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    connection.close()
    return found


def test_a_log_that_is_well_or_not_there(tmp_path: Path, whole: Logged) -> None:
    log = whole.write(whole.log)
    assert read_log(log)[:4] == (whole.frames, 0, whole.frames, False)
    assert read_log(log).frames == sqlite_reads(log)
    assert read_log(tmp_path / "none") == LogState()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "zeros").write_bytes(bytes(HEADER + FRAME))
    assert read_log(tmp_path / "empty") == read_log(tmp_path / "zeros") == LogState()


@pytest.mark.parametrize("part", PLACES)
def test_law_6_damage_before_the_last_commit_is_noticed_wherever_it_is(whole: Logged, part: str) -> None:
    """SQLite drops everything behind it and says nothing."""
    for frame in range(1, whole.commits[-2] + 1):
        log = whole.write(flipped(whole.log, whole.at(frame, PLACES[part])))
        state = read_log(log)
        assert state.commits_behind > 0, frame
        assert state.frames == sqlite_reads(log)
        assert state.frames < whole.frames


@pytest.mark.parametrize("offset", [1, 3, 9, 17, 25])
def test_law_6_a_damaged_header_hides_no_log(whole: Logged, offset: int) -> None:
    log = whole.write(flipped(whole.log, offset))
    assert sqlite_reads(log) == 0
    assert read_log(log)[:4] == (0, len(whole.commits) - 1, whole.frames, False)


@pytest.mark.parametrize("bytes_lost", [1, 100, 4_000, FRAME, FRAME + 1, 2 * FRAME])
def test_a_commit_that_a_power_cut_tore_is_no_damage(whole: Logged, bytes_lost: int) -> None:
    """Cut off, and overwritten with zeros: blocks that the disk had not written yet."""
    kept = whole.log[: len(whole.log) - bytes_lost]
    for torn in (kept, kept + bytes(bytes_lost)):
        state = read_log(whole.write(torn))
        assert (state.commits_behind, state.frames) == (0, whole.commits[-2])


def test_what_an_older_log_left_behind_is_no_damage(tmp_path: Path) -> None:
    """After a checkpoint the log begins anew over the old frames, which stay behind its end."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    opened = database._opened
    assert opened is not None
    for _ in range(30):
        append(database, 1)
    opened.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    append(database, 1)
    state = read_log(tmp_path / "cache.db-wal")
    assert state.commits_behind == 0
    assert 0 < state.frames < (tmp_path / "cache.db-wal").stat().st_size // FRAME
    database.close()


def test_what_failed_commits_left_behind_is_no_damage(tmp_path: Path) -> None:
    """A commit that finds no room leaves frames behind the end, perhaps with the mark of a commit."""
    disk = FullDisk()
    database = Database.open(str(tmp_path / "cache.db"), KEY, disk.name)
    append(database, 1)
    for events_, room in ((40, 10), (30, 6), (20, 5), (9, 3)):
        disk.room = room
        with pytest.raises(StorageError):
            append(database, events_)
        disk.room = None
        append(database, 1)
        assert read_log(tmp_path / "cache.db-wal").commits_behind == 0
    database.close()


def test_law_7_a_damaged_log_is_refused_untouched(whole: Logged) -> None:
    whole.write(flipped(whole.log, whole.at(2, 1_000)))
    before = bytes_of(whole.path.parent)
    for _ in range(2):
        with pytest.raises(DatabaseUnreadable, match="log is damaged"):
            Database.open(str(whole.path), KEY)
        assert bytes_of(whole.path.parent) == before


# ---- mended ---------------------------------------------------------------------------------------------


def mended(whole: Logged, log: bytes) -> tuple[Path, bool]:
    """The mended log, and whether it is all there."""
    old, target = whole.write(log), whole.path.with_name("mended.log")
    return target, mend(str(old), read_log(old), str(target), PAGES)


def test_a_log_that_is_well_is_mended_to_itself(whole: Logged) -> None:
    target, all_there = mended(whole, whole.log)
    assert all_there
    assert events(target) == 13
    assert [whole.log[whole.at(n, 24) : whole.at(n, FRAME)] for n in range(1, whole.frames + 1)] == [
        target.read_bytes()[whole.at(n, 24) : whole.at(n, FRAME)] for n in range(1, whole.frames + 1)
    ]


@pytest.mark.parametrize("part", ["number", "size", "salts", "sums"])
def test_law_6_what_was_damaged_beside_a_page_is_known_again(whole: Logged, part: str) -> None:
    for frame in range(1, whole.commits[-2] + 1):
        target, all_there = mended(whole, flipped(whole.log, whole.at(frame, PLACES[part])))
        assert all_there
        assert events(target) == 13, frame
        numbers = target.read_bytes()[whole.at(frame, 0) : whole.at(frame, 8)]
        assert numbers == whole.log[whole.at(frame, 0) : whole.at(frame, 8)]


@pytest.mark.parametrize("offset", [1, 3, 9, 17, 25])
def test_law_6_a_log_without_its_header_is_whole(whole: Logged, offset: int) -> None:
    target, all_there = mended(whole, flipped(whole.log, offset))
    assert all_there
    assert events(target) == 13


def test_law_7_a_damaged_page_is_missing_and_never_an_older_one(whole: Logged) -> None:
    """Either it was written again later in the log, so nothing is lost; or it fails its seal."""
    kept = 0
    for frame in range(1, whole.commits[-2] + 1):
        target, all_there = mended(whole, flipped(whole.log, whole.at(frame, 1_000)))
        assert all_there
        try:
            assert events(target) == 13, frame
            kept += 1
        except (apsw.CorruptError, apsw.NotADBError):
            pass
    assert kept > whole.commits[-2] // 2


def test_law_7_a_frame_of_which_nothing_can_be_known_ends_the_log(whole: Logged) -> None:
    """Number, salts and page at once: no one can tell which page is missing."""
    frame = whole.commits[3]
    places = [whole.at(frame, offset) for offset in (0, 9, 1_000)]
    target, all_there = mended(whole, flipped(whole.log, *places))
    assert not all_there
    assert events(target) == 4


def test_damage_beside_a_torn_commit_may_have_met_that_commit_too(whole: Logged) -> None:
    places = whole.at(2, 1_000), whole.at(whole.frames - 1, 1_000)
    assert read_log(whole.write(flipped(whole.log, *places))).torn
