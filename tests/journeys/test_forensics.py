"""Whoever takes the disk, in the middle of anything: no id, no value, no feature, no entity in plain text.

Canaries lie in every table; another process copies and scans the folder while statements run: the file, its
log or journal, and what SQLite would put into temporary files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.cipher import set_key
from edge_runtime.cache.database import Database
from tests.support.consent_room import die, killed
from tests.support.forensic_scene import ACTS, CANARIES, IN_TABLES, Scanned, plant, plant_tables
from tests.support.forensics import plaintext_hits

KEY, A, B = bytes(range(32)), b"canary-handle-A!", b"canary-handle-B!"


def played(folder: Path, act: str, *more: str) -> Scanned:
    """One act in a process of its own, its temporary files inside the folder that is scanned."""
    (folder / "tmp").mkdir()
    env = {**os.environ, "TMPDIR": str(folder / "tmp"), "SQLITE_TMPDIR": str(folder / "tmp")}
    command = [sys.executable, "-m", "tests.support.forensic_scene", act, str(folder), *more]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return Scanned(**json.loads(done.stdout))


@pytest.mark.parametrize("act", [*ACTS, "rekey"])
def test_law_5_nothing_is_plain_in_the_middle_of(tmp_path: Path, act: str) -> None:
    """Each journal mode under a transaction larger than the cache, VACUUM, a spilled sort, a rekey."""
    scanned = played(tmp_path, act)
    assert scanned.hits == {}
    assert scanned.scans >= 4


@pytest.mark.parametrize("act", ACTS)
def test_the_scan_finds_all_of_it_where_there_is_no_cipher(tmp_path: Path, act: str) -> None:
    """In the file, and in the log, the journal or the temporary file that this act makes."""
    hits = played(tmp_path, act, "plain").hits
    assert hits["cache.db"] > 0
    beside = {name: found for name, found in hits.items() if name != "cache.db"}
    if act not in ("memory", "off"):
        assert beside, "the scan saw nothing beside the file, so it would not see anything there"
    assert ("cache.db-wal" in beside) == (act in ("wal", "vacuum", "sort"))
    assert ("cache.db-journal" in beside) == (act in ("delete", "truncate", "persist"))
    if act in ("sort", "vacuum"):
        assert any(name.endswith("(deleted)") for name in beside), "it made no temporary file"


def test_the_canaries_lie_in_every_table(tmp_path: Path) -> None:
    """Under the page key they are all there to be found: in the pages, as SQLite sees them."""
    page_key = plant(tmp_path)
    connection = apsw.Connection(str(tmp_path / "cache.db"))
    set_key(connection, page_key)
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert {name for (name,) in names if not str(name).startswith("sqlite_")} == set(IN_TABLES)
    for table, canary in IN_TABLES.items():
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
        cells = (cell.encode() if isinstance(cell, str) else cell for row in rows for cell in row)
        assert any(isinstance(cell, bytes) and canary in cell for cell in cells), table
    content = connection.serialize("main")
    assert b"popularity" in content
    assert not any(person.encode() in content for person in CANARIES[:2] if isinstance(person, str))
    connection.close()


@pytest.mark.parametrize("moment", ["committed", "not committed", "cut"])
def test_law_5_nothing_is_plain_right_after_a_kill(tmp_path: Path, moment: str) -> None:
    """With a transaction in the log, half of one, and none."""
    path = str(tmp_path / "cache.db")

    def work() -> None:
        database = Database.open(path, KEY)
        plant_tables(database)
        if moment == "cut":
            database.checkpoint_truncate()
        elif moment == "not committed":
            with database.write("half") as tx:
                tx._connection.pragma("cache_size", 5)
                tx.append_events([(A, 1, IN_TABLES["journal"] * 9)] * 300)
                tx._connection.cache_flush()
                die()
        die()

    assert killed(work)
    assert plaintext_hits(tmp_path, CANARIES) == {}
    assert (os.path.getsize(path + "-wal") == 0) == (moment == "cut")


def test_law_4_forgetting_takes_the_samples_that_somebodys_analyze_took(tmp_path: Path) -> None:
    """No page of the file or its log holds the handle any more, and that of others stays."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    with database.write("rows") as tx:
        for handle in (A, B):
            for n in range(30):
                slot = n.to_bytes(16, "big")
                tx.append_events([(handle, 1, b"e")])
                tx.put_state(handle, slot, 1, b"s")
                tx.put_personal_row(handle, slot, 1, b"r")
            tx.put_answer(handle, bytes(16), handle, handle, b"a")
            tx.drop_events(handle, 3)
        tx._connection.execute("ANALYZE")
        samples = tx._connection.execute("SELECT sample FROM sqlite_stat4").fetchall()
        assert any(A in sample for (sample,) in samples if isinstance(sample, bytes))
        assert A in tx._connection.serialize("main")
    with database.write("erase") as tx:
        assert tx.forget(A) == {"journal": 27, "state": 30, "personal": 30, "answer": 1}
    assert database.checkpoint_truncate()
    with database.read() as look:
        for table in ("sqlite_stat1", "sqlite_stat4"):
            assert look._connection.execute(f"SELECT * FROM {table}").fetchall() == []
        content = look._connection.serialize("main")
        assert A not in content
        assert B in content
    database.close()
