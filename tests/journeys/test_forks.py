"""A forked child never touches its parent's cache and never waits for it; the parent does not notice."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.cipher import raw_key
from edge_runtime.cache.database import Database
from edge_runtime.errors import DatabaseInUse, RuntimeClosed
from tests.journeys.test_threads import USERS, P, crowd_on, open_kiosk
from tests.rules.test_readme import python_blocks
from tests.support.forensics import bytes_of
from tests.support.forks import in_child
from tests.support.shop_server import CATALOG

KEY = bytes(range(32))
FOREIGN = "belongs to the process that opened it"
REQUEST = {"ctx:hour": 1}

CALLS: dict[str, Callable[[er.Runtime], object]] = {
    "track": lambda rt: rt.track("view", user="alice", item="i1"),
    "track_many": lambda rt: rt.track_many([{"type": "view", "user": "alice", "item": "i1"}]),
    "flush": lambda rt: rt.flush(),
    "assign": lambda rt: rt.assign("new_ranker", user="alice"),
    "arm": lambda rt: rt.arm("new_ranker", user="alice"),
    "vector": lambda rt: rt.vector("ranker", user="alice", item="i1", request=REQUEST),
    "matrix": lambda rt: rt.matrix("ranker", user="alice", item=["i1"], request=REQUEST),
    "score": lambda rt: rt.score("ranker", user="alice", item="i1", request=REQUEST),
    "use_model": lambda rt: rt.use_model("ranker", lambda rows: rows),  # type: ignore[arg-type]
    "read": lambda rt: rt.read("activity:views_5m", user="alice"),
    "fetch": lambda rt: rt.fetch("stock", item="i1"),
    "leave": lambda rt: rt.leave("alice"),
    "export": lambda rt: rt.export("alice"),
    "status": lambda rt: rt.status(),
    "sweep": lambda rt: rt.sweep(),
    "rotate_keys": lambda rt: rt.rotate_keys(),
    "rotate_identity": lambda rt: rt.rotate_identity(),
    "enrol": lambda rt: rt.enrol("http://127.0.0.1:1", "token"),
    "admit": lambda rt: rt.admit("alice", [P], "ticket"),
    "sync": lambda rt: rt.sync("http://127.0.0.1:1"),
    "sync_in_background": lambda rt: rt.sync_in_background("http://127.0.0.1:1"),
    "consent": lambda rt: rt.consent.give("alice", [P], notice="n"),
}


def refuses_all(rt: er.Runtime) -> None:
    for call in CALLS.values():
        with pytest.raises(RuntimeClosed, match=FOREIGN):
            call(rt)
    rt.close()
    with rt:
        pass


def test_the_consent_room_taken_before_a_fork_neither_answers_nor_decides_in_the_child(
    tmp_path: Path,
) -> None:
    """It reaches the keystore before the database."""
    with open_kiosk(tmp_path) as rt:
        room = rt.consent
        room.give("alice", [P], notice="2026-11")
        before = (tmp_path / "cache.db-keys").read_bytes()

        def child() -> None:
            for ask in (
                lambda: room.give("forked-child", [P], notice="n"),
                lambda: room.withdraw("alice", [P]),
                lambda: room.permission("user:alice", P),
                lambda: room.key("user:alice", P),
            ):
                with pytest.raises(RuntimeClosed, match=FOREIGN):
                    ask()

        in_child(child)
        assert (tmp_path / "cache.db-keys").read_bytes() == before
        assert room.state("alice", P) == "given"


def test_every_public_call_is_named() -> None:
    """Else a new one would go unasked."""
    public = {name for name in vars(er.Runtime) if not name.startswith("_")}
    assert public - {"open", "close"} == set(CALLS)


def test_law_12_a_child_of_a_busy_runtime_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    """Forked again and again while threads track, read, flush, give and withdraw: no lock hangs a child."""
    with open_kiosk(tmp_path) as rt:
        for user in USERS:
            rt.consent.give(user, [P], notice="2026-11")
        crowd = crowd_on(rt)

        def work() -> None:
            refuses_all(rt)
            with pytest.raises(RuntimeClosed, match=FOREIGN), rt._database.read():
                pass

        for _ in range(15):
            in_child(work)
        crowd.wait(set(USERS[:3]))
        rt.consent.give("alice", [P], notice="n")
        assert rt.track("view", user="alice", item="i1") is er.ACCEPTED
        rt.flush()
    with open_kiosk(tmp_path) as rt:
        assert rt.read("activity:depth", user="alice").value == 1


def test_a_child_has_caches_of_its_own_while_the_parents_threads_write(tmp_path: Path) -> None:
    """No thread of ours is inside SQLite when the fork happens, so its locks are free in the child."""
    (tmp_path / "parent").mkdir()
    with open_kiosk(tmp_path / "parent") as rt:
        rt.consent.give("alice", [P], notice="n")
        over = threading.Event()

        def writes() -> None:
            while not over.is_set():
                with rt._database.write("w") as tx:
                    tx.append_events([(b"a" * 16, 1, bytes(3000))])
                with rt._database.read() as look:
                    assert look.events(b"a" * 16)

        threads = [threading.Thread(target=writes, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()

        def work() -> None:
            folder = tmp_path / f"child-{os.getpid()}"
            folder.mkdir()
            for _ in range(3):
                with open_kiosk(folder) as own:
                    own.consent.give("bob", [P], notice="n")
                    own.track("view", user="bob", item="i1")
            with pytest.raises(DatabaseInUse, match="forked from"):
                open_kiosk(tmp_path / "parent")

        for _ in range(10):
            in_child(work)
        over.set()
        for thread in threads:
            thread.join()
        assert rt.track("view", user="alice", item="i1") is er.ACCEPTED


def test_a_child_that_forgets_and_collects_everything_closes_nothing(tmp_path: Path) -> None:
    """Not even the garbage collector moves the parent's log or drops its lock."""
    path = str(tmp_path / "cache.db")
    databases = [Database.open(path, KEY)]
    for _ in range(3):
        with databases[0].write("w") as tx:
            tx.append_events([(b"a" * 16, 1, b"event")])
    with databases[0].read() as look:
        assert len(look.events(b"a" * 16)) == 3
    seen: list[dict[str, bytes]] = []

    def work() -> None:
        seen.append(bytes_of(tmp_path))
        databases.clear()
        gc.collect()
        assert bytes_of(tmp_path) == seen[0]

    in_child(work)
    code = "import sys; from edge_runtime.cache.database import Database\n"
    code += "from edge_runtime.errors import DatabaseInUse\n"
    code += "try: Database.open(sys.argv[1], bytes(range(32)))\nexcept DatabaseInUse: sys.exit(7)"
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 7
    with databases[0].read() as look:
        assert len(look.events(b"a" * 16)) == 3
    databases[0].close()


def test_a_fork_inside_a_transaction_leaves_it_to_the_parent(tmp_path: Path) -> None:
    """In the child its every use is an error, and so is its end; nothing is written; the parent commits."""
    database = Database.open(str(tmp_path / "cache.db"), KEY)

    with database.write("w") as tx:
        tx.set_meta("k", b"v")
        in_child(lambda: _refused(lambda: tx.set_meta("k", b"child")))
    with database.read() as look:
        in_child(lambda: _refused(lambda: look.meta("k")))
        assert look.meta("k") == b"v"
    child = -1
    try:
        with database.write("of both"):
            child = os.fork()
    except RuntimeClosed:
        os._exit(0 if child == 0 and not database.writes["of both"] else 1)
    if child == 0:
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert database.writes["of both"] == 1
    database.close()


def _refused(use: Callable[[], object]) -> None:
    with pytest.raises(RuntimeClosed, match=FOREIGN):
        use()


SCRIPT = """
import os, sys
from pathlib import Path
import edge_runtime as er
from edge_runtime.errors import RuntimeClosed
folder = Path(sys.argv[1])
catalog = er.Catalog.load(sys.argv[2])
rt = er.Runtime.open(folder / "cache.db", catalog=catalog, key=er.KeyFile(folder / "device.key"))
rt.consent.give("alice", ["personalization"], notice="n")
rt.track("view", user="alice", item="x", id="before")
rt.flush()
rt.track("view", user="alice", item="x", id="waits")
child = os.fork()
if child == 0:
    try:
        rt.flush()
    except RuntimeClosed as error:
        assert "belongs to the process" in str(error)
        sys.exit(0)  # the interpreter takes everything down, like any program's
    sys.exit(1)
assert os.waitpid(child, 0)[1] == 0
rt.track("view", user="alice", item="x", id="after")
rt.flush()
print(rt.read("activity:depth", user="alice").value)
rt.close()
"""


def test_a_child_that_exits_like_any_program_leaves_the_parents_cache_alone(tmp_path: Path) -> None:
    """No warning that something was not closed, no word on stderr, and every event counts once."""
    catalog = str(CATALOG)
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    done = subprocess.run(
        [*command, str(tmp_path), catalog], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def _in_pool(_: int) -> str:
    assert _shared is not None
    try:
        _shared.track("view", user="alice", item="i1")
    except RuntimeClosed as error:
        return str(error)
    return "taken"


_shared: er.Runtime | None = None


def test_a_pool_of_forked_workers_is_refused_and_the_parent_goes_on(tmp_path: Path) -> None:
    global _shared
    with open_kiosk(tmp_path) as rt:
        rt.consent.give("alice", [P], notice="n")
        _shared = rt
        with multiprocessing.get_context("fork").Pool(2) as pool:
            answers = pool.map(_in_pool, range(6))
        assert all(FOREIGN in answer for answer in answers)
        assert rt.track("view", user="alice", item="i1") is er.ACCEPTED
        _shared = None
    with open_kiosk(tmp_path) as rt:
        assert rt.read("activity:depth", user="alice").value == 1


# ---- other ways to be used by many -----------------------------------------------------------------------


async def test_asyncio_many_tasks_on_one_runtime(tmp_path: Path) -> None:
    """Calls that never wait for the disk on the loop itself, `flush` in a thread: every event counts once."""
    with open_kiosk(tmp_path) as rt:
        rt.consent.give("alice", [P], notice="n")

        async def visits(n: int) -> None:
            for _ in range(10):
                assert rt.track("view", user="alice", item=f"i{n}") is er.ACCEPTED
                await asyncio.sleep(0)
                rt.vector("ranker", user="alice", item=f"i{n}", request=REQUEST)
            await asyncio.to_thread(rt.flush)

        await asyncio.gather(*(visits(n) for n in range(20)))
        assert rt.read("activity:depth", user="alice").value == 200
    with open_kiosk(tmp_path) as rt:
        assert rt.read("activity:depth", user="alice").value == 200


def test_the_page_about_embedding_runs(tmp_path: Path) -> None:
    """Its Python, as written, in a folder with a catalog."""
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "catalog.toml").write_bytes(CATALOG.read_bytes())
    (tmp_path / "page.py").write_text("\n".join(python_blocks(root / "docs" / "embedding.md")))
    command = [sys.executable, "-W", "error", "page.py"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "embedded.db").exists()


@pytest.mark.parametrize("vfs", [None, "multipleciphers-unix"])
def test_law_12_a_second_process_gets_no_look_at_the_file(tmp_path: Path, vfs: str | None) -> None:
    """Whatever way it takes: not even one of its own that shares with readers."""
    path = str(tmp_path / "cache.db")
    database = Database.open(path, KEY)
    with database.write("w") as tx:
        tx.append_events([(b"a" * 16, 1, b"event")])

    def work() -> None:
        os.execv(sys.executable, [sys.executable, "-c", OTHER, path, vfs or "", raw_key(KEY).hex()])

    in_child(work)
    with database.read() as look:
        assert len(look.events(b"a" * 16)) == 1
    database.close()


OTHER = """
import sys, apsw
path, vfs, key = sys.argv[1:]
connection = apsw.Connection(path, vfs=vfs or None)
connection.pragma("cipher", "aegis")
connection.pragma("hexkey", key)
for sql in ("SELECT count(*) FROM journal", "BEGIN IMMEDIATE", "PRAGMA wal_checkpoint(TRUNCATE)"):
    try:
        connection.execute(sql).fetchall()
    except apsw.BusyError:
        continue
    sys.exit(1)
"""
