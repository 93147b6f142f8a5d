"""Looks beside the writer: each sees one commit, none waits for another's disk, none keeps the log long."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.cache.readers import READER_CONNECTIONS
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.errors import RuntimeClosed, StorageError
from tests.support.clock import ManualClock
from tests.support.faulty_disk import FaultyDisk
from tests.support.shop import shop_catalog

KEY, A = bytes(range(32)), b"a" * 16
PATIENCE_S = 20


@pytest.fixture(params=["readers", "alone", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """With readers, on a disk that allows one connection only, and in memory."""
    disk = FaultyDisk(shared=False)
    path = ":memory:" if request.param == "memory" else str(tmp_path / "cache.db")
    opened = Database.open(path, KEY, vfs=disk.name if request.param == "alone" else None)
    yield opened
    opened.close()


def put(database: Database, n: int) -> None:
    with database.write("put") as tx:
        tx.set_meta("n", n.to_bytes(8, "big"))
        tx.append_events([(A, 1, b"%d" % n)])


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_inside_a_transaction_the_database_gives_no_other(database: Database) -> None:
    """Whatever the disk allows: what a write has changed is seen through its own transaction alone."""
    with database.write("w") as tx:
        tx.set_meta("k", b"1")
        assert tx.meta("k") == b"1"
        with pytest.raises(RuntimeError, match=r"read\(\) inside write\('w'\)"), database.read():
            pass
        with pytest.raises(RuntimeError, match="pass the transaction on"):
            database.close()
    with database.read() as look:
        for refused in (database.read(), database.write("x")):
            with pytest.raises(RuntimeError, match=r"inside read\(\)"), refused:
                pass
        assert look.meta("k") == b"1"
    put(database, 1)


def newest(tx: ReadTransaction) -> bytes | None:
    return tx.meta("n")


def test_a_question_sees_the_last_commit_and_nothing_inside_another_transaction(database: Database) -> None:
    """One statement needs no look; it obeys the same rules, and is over when it is answered."""
    assert database.ask(newest) is None
    put(database, 1)
    with database.write("w") as tx:
        tx.set_meta("n", b"not yet")
        with pytest.raises(RuntimeError, match=r"ask\(\) inside write\('w'\)"):
            database.ask(newest)
        tx.set_meta("n", (2).to_bytes(8, "big"))
    assert database.ask(newest) == (2).to_bytes(8, "big")
    assert database.checkpoint_truncate() is not database.in_memory
    assert database.ask(newest) == (2).to_bytes(8, "big")
    with pytest.raises(StorageError):
        database.ask(lambda tx: tx._connection.execute("SELECT * FROM nothing").fetchall())
    assert database.ask(newest) == (2).to_bytes(8, "big")
    database.close()
    with pytest.raises(RuntimeClosed):
        database.ask(newest)


def test_a_look_sees_the_last_commit_while_a_write_goes_on_in_another_thread(tmp_path: Path) -> None:
    """And the same commit to its end, whatever is committed meanwhile."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    put(database, 1)
    inside, done, committed = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        with database.write("w") as tx:
            tx.set_meta("n", (2).to_bytes(8, "big"))
            tx._connection.cache_flush()
            inside.set()
            assert done.wait(PATIENCE_S)
        committed.set()

    thread = in_thread(work)
    assert inside.wait(PATIENCE_S)
    with database.read() as tx:
        assert tx.meta("n") == (1).to_bytes(8, "big")
        done.set()
        assert committed.wait(PATIENCE_S)
        assert tx.meta("n") == (1).to_bytes(8, "big")
        assert tx.events(A) == [(1, b"1")]
    with database.read() as tx:
        assert tx.meta("n") == (2).to_bytes(8, "big")
    thread.join()
    database.close()


def test_law_6_every_look_is_of_one_commit_under_a_storm_of_writes(database: Database) -> None:
    """Two tables that are always written together are always read together; the log is cut meanwhile."""
    put(database, 0)
    over, errors = threading.Event(), list[BaseException]()

    def looks() -> None:
        try:
            seen = 0
            while not over.is_set():
                with database.read() as tx:
                    n = int.from_bytes(tx.meta("n") or b"", "big")
                    assert len(tx.events(A)) == n + 1
                    assert n >= seen
                    seen = n
        except BaseException as error:  # noqa: BLE001 - handed to the test, which raises it
            errors.append(error)

    threads = [in_thread(looks) for _ in range(READER_CONNECTIONS + 2)]
    for n in range(1, 200):
        put(database, n)
        if n % 20 == 0 and not database.in_memory:
            assert database.checkpoint_truncate()
    over.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert errors == []


def test_law_4_the_log_is_cut_to_nothing_with_readers_around(tmp_path: Path) -> None:
    """Also where somebody kept the rows of a look that is over."""
    path = str(tmp_path / "cache.db")
    database = Database.open(path, KEY)
    for n in range(50):
        put(database, n)
    with database.read() as tx:
        kept = tx.rows_in_channel("all")
        events = iter(tx._connection.execute("SELECT n FROM journal"))
        next(events)
    put(database, 50)
    assert database.wal_bytes() > 0
    assert database.checkpoint_truncate()
    assert os.path.getsize(path + "-wal") == 0
    with database.read() as tx:
        assert len(tx.events(A)) == 51
    del kept, events
    database.close()


def test_a_look_waits_for_looks_only_and_a_close_waits_for_it(tmp_path: Path) -> None:
    """After the close there is none, and another process may have the file."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    put(database, 1)
    inside, leave = threading.Event(), threading.Event()

    def looks() -> None:
        with database.read() as tx:
            inside.set()
            assert leave.wait(PATIENCE_S)
            assert len(tx.events(A)) == 1

    first = in_thread(looks)
    assert inside.wait(PATIENCE_S)
    with database.read() as tx:  # a second one beside it
        assert len(tx.events(A)) == 1
    closing = in_thread(database.close)
    leave.set()
    for thread in (first, closing):
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert database.closed
    with pytest.raises(RuntimeClosed), database.read():
        pass
    again = Database.open(str(tmp_path / "cache.db"), KEY)
    again.close()


def test_no_file_beside_the_log_is_made(tmp_path: Path) -> None:
    """The index of the log is in memory: it would lie in plain text, and another process could map it."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    put(database, 1)
    with database.read() as tx:
        assert len(tx.events(A)) == 1
        assert sorted(os.listdir(tmp_path)) == ["cache.db", "cache.db-wal"]
    database.close()
    assert sorted(os.listdir(tmp_path)) == ["cache.db"]


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    database = Database.open(str(tmp_path / "cache.db"), KEY)
    with database.read() as tx, pytest.raises(apsw.ReadOnlyError):
        tx._connection.execute("INSERT INTO meta VALUES('k', x'')")
    database.close()


def test_law_6_an_event_that_comes_while_its_subject_leaves_is_kept(tmp_path: Path) -> None:
    """Another thread tracks between the commit and the letting go: no accepted event goes with the state."""
    clock = ManualClock()
    with er.Runtime.open(
        tmp_path / "cache.db", catalog=shop_catalog(), key=er.KeyFile(tmp_path / "device.key"), clock=clock
    ) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        event = {"user": "alice", "item": "x", "price": 1.0, "category": "c"}
        rt.track("view", **event)
        plain, late = rt._commit.flush, iter(["late"])

        def flush_late(*, then: Callable[[], None] = lambda: None) -> None:
            def and_then() -> None:
                for id_ in late:
                    assert rt.track("view", id=id_, **event) is er.ACCEPTED
                then()

            plain(then=and_then)

        rt._commit.flush = flush_late  # type: ignore[method-assign, assignment]
        rt.leave("alice")
        rt._commit.flush = plain  # type: ignore[method-assign]
        assert len(rt._states) == 0
        rt.flush()
        assert rt.read("activity:views", user="alice").value == 2
    with er.Runtime.open(
        tmp_path / "cache.db", catalog=shop_catalog(), key=er.KeyFile(tmp_path / "device.key"), clock=clock
    ) as rt:
        assert rt.read("activity:views", user="alice").value == 2
