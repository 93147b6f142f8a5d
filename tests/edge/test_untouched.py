"""A look at a file changes no byte of it or beside it, and keeps others from writing while it lasts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import VERSION
from edge_runtime.cache.untouched import untouched
from edge_runtime.errors import DatabaseInUse
from tests.support.forensics import bytes_of
from tests.support.logged import KEY, Logged, append, logged


@pytest.fixture
def whole(tmp_path: Path) -> Logged:
    return logged(tmp_path)


def count(connection: apsw.Connection) -> int:
    return int(str(connection.execute("SELECT count(*) FROM journal").get))


def test_a_look_reads_the_log_and_leaves_everything_as_it_was(whole: Logged) -> None:
    before = bytes_of(whole.path.parent)
    with untouched(str(whole.path), KEY) as connection:
        assert count(connection) == 13
        assert connection.execute("PRAGMA integrity_check").get == "ok"
    with untouched(str(whole.path), KEY, log=None) as connection:
        assert count(connection) == 1
    assert bytes_of(whole.path.parent) == before


def test_a_look_at_a_closed_database_makes_no_log(tmp_path: Path) -> None:
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    append(database, 3)
    database.close()
    before = bytes_of(tmp_path)
    with untouched(str(tmp_path / "cache.db"), KEY) as connection:
        assert count(connection) == 3
        assert bytes_of(tmp_path).keys() == before.keys()
    assert bytes_of(tmp_path) == before


def test_a_look_writes_nothing_whatever_is_asked(whole: Logged) -> None:
    before = bytes_of(whole.path.parent)
    with untouched(str(whole.path), KEY) as connection:
        for sql in ("DELETE FROM journal", "PRAGMA user_version = 9", "VACUUM", "CREATE TABLE t(x)"):
            with pytest.raises(apsw.Error):
                connection.execute(sql).fetchall()
    assert bytes_of(whole.path.parent) == before


def test_a_file_that_may_only_be_read_can_be_looked_at(whole: Logged) -> None:
    for name in os.listdir(whole.path.parent):
        (whole.path.parent / name).chmod(0o400)
    whole.path.parent.chmod(0o500)
    try:
        with untouched(str(whole.path), KEY) as connection:
            assert count(connection) == 13
    finally:
        whole.path.parent.chmod(0o700)


def test_nobody_looks_while_somebody_writes_and_nobody_writes_while_somebody_looks(whole: Logged) -> None:
    database = Database.open(str(whole.path), KEY)
    for _ in range(2):
        with pytest.raises(DatabaseInUse), untouched(str(whole.path), KEY):
            pass
    append(database, 1)
    database.close()
    with untouched(str(whole.path), KEY) as connection:
        with pytest.raises(DatabaseInUse):
            Database.open(str(whole.path), KEY)
        with pytest.raises(DatabaseInUse), untouched(str(whole.path), KEY):
            pass
        assert count(connection) == 14
    Database.open(str(whole.path), KEY).close()


def test_nobody_looks_while_another_process_writes(whole: Logged) -> None:
    script = f"""
import sys
from edge_runtime.cache.database import Database
database = Database.open({str(whole.path)!r}, bytes(range(32)))
print("open", flush=True)
sys.stdin.readline()
database.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(DatabaseInUse), untouched(str(whole.path), KEY):
            pass
        process.stdin.write("\n")
        process.stdin.flush()
        process.wait()
    with untouched(str(whole.path), KEY) as connection:
        assert count(connection) == 13


def test_a_wrong_key_shows_with_the_first_look(whole: Logged) -> None:
    with untouched(str(whole.path), bytes(32)) as connection, pytest.raises(apsw.NotADBError):
        count(connection)


def test_a_file_that_was_cut_short_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    database = Database.open(str(path), KEY)
    append(database, 100)
    database.close()
    with untouched(str(path), KEY) as connection:
        sql = "SELECT pageno FROM dbstat WHERE name = 'journal' AND pagetype = 'leaf' ORDER BY pageno"
        _, second, *_ = (int(str(number)) for (number,) in connection.execute(sql))
    path.write_bytes(path.read_bytes()[: (second - 1) * 4096])
    with untouched(str(path), KEY) as connection:
        assert connection.pragma("user_version") == VERSION
        with pytest.raises(apsw.CorruptError):
            connection.execute("SELECT sealed FROM journal").fetchall()
        assert connection.execute("SELECT count(*) FROM meta").get == 0
