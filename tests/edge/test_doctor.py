"""`edge-runtime doctor`: each state of a cache is told with what to do, and a look changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.cipher import PAGE_BYTES
from edge_runtime.cache.database import Database
from edge_runtime.cli import main
from edge_runtime.recovery import checks
from edge_runtime.recovery.checks import Count
from edge_runtime.recovery.examination import Examination
from tests.support.clock import ManualClock
from tests.support.consent_room import P as PURPOSE
from tests.support.consent_room import Room, die_at, killed
from tests.support.damaged import ITEMS, USERS, Kiosk, M, P, begun, disagreements, unplugged
from tests.support.forensics import bytes_of
from tests.support.logged import flipped

SEED = 20_261_203
NAMES = [*(f"user:{user}" for user in USERS), *ITEMS, P, M]
ORDER = [
    *("key", "keystore", "database", "log", "pages", "counters", "erasures", "sealed rows", "channels"),
    *("decision lane", "ledger", "outbox", "budget", "aggregates", "sizes", "leftovers"),
]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    return begun(tmp_path_factory.mktemp("kiosk") / "original", SEED)


@pytest.fixture
def kiosk(original: Kiosk, tmp_path: Path) -> Kiosk:
    return original.copied(tmp_path / "kiosk")


class Told:
    """What the doctor said."""

    def __init__(self, code: int, answer: dict[str, object]) -> None:
        self.code, self.answer = code, answer
        found = answer.get("checks", [])
        assert isinstance(found, list)
        self.checks = {str(one["name"]): one for one in found}

    def __getitem__(self, name: str) -> tuple[str, str]:
        return str(self.checks[name]["state"]), str(self.checks[name]["found"])

    @property
    def faults(self) -> set[str]:
        return {name for name, one in self.checks.items() if one["state"] == "fault"}

    @property
    def warnings(self) -> set[str]:
        return {name for name, one in self.checks.items() if one["state"] == "warn"}


def doctor(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Told:
    """Ask about the cache in a folder, and check that nothing but a repair changed it."""
    before = bytes_of(folder)
    capsys.readouterr()
    place = [str(folder / "cache.db"), "--key-file", str(folder / "device.key")]
    code = main(["doctor", *place, "--json", *more])
    told = Told(code, json.loads(capsys.readouterr().out))
    if "--repair" not in more:
        assert bytes_of(folder) == before
    assert code == int(bool(told.faults))
    for one in told.checks.values():
        assert (one["state"] == "ok") == (one["advice"] == "")
        assert not [word for word in NAMES if word in f"{one['found']} {one['advice']}"]
    return told


# ---- what stands well -----------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--deep",)])
def test_a_cache_that_is_well(
    kiosk: Kiosk, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    told = doctor(kiosk.folder, capsys, *more)
    assert told.code == 0
    assert list(told.checks) == ORDER
    assert not told.faults | told.warnings
    assert told.answer["authority"] == "standalone"
    assert told.answer["state"] == "ok"
    assert "8 keys of 4 subjects" in told["keystore"][1]
    assert ("all " if more else "a sample of ") in told["sealed rows"][1]


def test_a_cache_whose_process_was_killed(
    kiosk: Kiosk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = doctor(unplugged(kiosk, tmp_path / "after", SEED, log=True).folder, capsys)
    assert told.code == 0
    assert "pages wait" in told["log"][1]


def test_people_read_a_table_and_what_to_do(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["doctor", str(kiosk.database), "--key-file", str(kiosk.folder / "device.key")]
    assert main(place) == 0
    text = capsys.readouterr().out
    assert "All is well (standalone: its own authority, no lease)." in text
    assert "What to do" not in text
    kiosk.damage(*kiosk.pages()["state"])
    assert main(place) == 1
    text = capsys.readouterr().out
    assert "fault  pages" in text
    assert "doctor --repair" in text
    assert max(map(len, text.splitlines())) <= 110


def test_a_catalog_beside_it_must_load(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    (kiosk.folder / "bad.toml").write_text("[catalog]\n")
    place = ["doctor", str(kiosk.database), "--key-file", str(kiosk.folder / "device.key"), "--json"]
    assert main([*place, "--catalog", str(kiosk.folder / "bad.toml")]) == 2
    assert "CatalogError" in capsys.readouterr().out


# ---- wrong calls ----------------------------------------------------------------------------------------


def test_where_there_is_no_cache_the_call_is_wrong_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["doctor", str(tmp_path / "cache.db"), "--key-file", str(tmp_path / "device.key"), "--json"]
    assert main(place) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "KeyMissing"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", str(tmp_path / "cache.db")])
    assert exit_.value.code == 2


# ---- what is wrong --------------------------------------------------------------------------------------


def other(kiosk: Kiosk) -> Path:
    """The files of another device."""
    folder = kiosk.folder.with_name("other")
    folder.mkdir()
    Kiosk(folder).open().close()
    return folder


def no_key(kiosk: Kiosk) -> None:
    (kiosk.folder / "device.key").unlink()


def open_key(kiosk: Kiosk) -> None:
    (kiosk.folder / "device.key").chmod(0o644)


def damaged_key(kiosk: Kiosk) -> None:
    raw = (kiosk.folder / "device.key").read_bytes()
    (kiosk.folder / "device.key").write_bytes(flipped(raw, 40))


def foreign_key(kiosk: Kiosk) -> None:
    shutil.copy2(other(kiosk) / "device.key", kiosk.folder / "device.key")


def no_keystore(kiosk: Kiosk) -> None:
    (kiosk.folder / "cache.db-keys").unlink()


def foreign_keystore(kiosk: Kiosk) -> None:
    shutil.copy2(other(kiosk) / "cache.db-keys", kiosk.folder / "cache.db-keys")


def damaged_keystore(kiosk: Kiosk) -> None:
    path = kiosk.folder / "cache.db-keys"
    raw = path.read_bytes()
    path.write_bytes(flipped(raw, len(raw) - 40, len(raw) // 2))


def no_database(kiosk: Kiosk) -> None:
    kiosk.database.unlink()


def foreign_database(kiosk: Kiosk) -> None:
    shutil.copy2(other(kiosk) / "cache.db", kiosk.database)


def plain_database(kiosk: Kiosk) -> None:
    kiosk.database.unlink()
    connection = sqlite3.connect(kiosk.database)
    connection.execute("CREATE TABLE t(x)")
    connection.close()


def zero_bytes(kiosk: Kiosk) -> None:
    kiosk.database.write_bytes(b"")


def garbage(kiosk: Kiosk) -> None:
    kiosk.database.write_bytes(bytes(range(256)) * 16 * 20)


def cut_short(kiosk: Kiosk) -> None:
    kiosk.database.write_bytes(kiosk.database.read_bytes()[: 9 * PAGE_BYTES])


def first_page(kiosk: Kiosk) -> None:
    kiosk.damage(1)


def list_of_tables(kiosk: Kiosk) -> None:
    kiosk.damage(*kiosk.pages()["sqlite_schema"])


def newer(kiosk: Kiosk) -> None:
    database = Database.open(str(kiosk.database), kiosk.page_key())
    with database.write("test") as tx:
        tx._connection.pragma("user_version", 99)
    database.close()


@pytest.mark.parametrize(
    ("harm", "check", "says", "advice"),
    [
        (no_key, "key", "not there", "put the key"),
        (open_key, "key", "read by others", "0600"),
        (damaged_key, "key", "damaged", "put the key"),
        (foreign_key, "keystore", "", "discard"),
        (no_keystore, "keystore", "missing", "discard"),
        (foreign_keystore, "keystore", "", "discard"),
        (damaged_keystore, "keystore", "", "discard"),
        (no_database, "database", "not there", "discard"),
        (foreign_database, "database", "no page of it opens", "together again"),
        (plain_database, "database", "unencrypted", "move it away"),
        (zero_bytes, "database", "zero bytes", "--repair"),
        (garbage, "database", "no page of it opens", "together again"),
        (cut_short, "database", "lists its tables", "--repair"),
        (first_page, "database", "the key fits", "--repair"),
        (list_of_tables, "database", "the key fits", "--repair"),
        (newer, "database", "schema 99", "release"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_wrong_is_told_with_what_to_do(
    kiosk: Kiosk,
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Kiosk], None],
    check: str,
    says: str,
    advice: str,
) -> None:
    harm(kiosk)
    told = doctor(kiosk.folder, capsys)
    assert told.code == 1
    assert check in told.faults
    assert says in told[check][1]
    assert advice in told.checks[check]["advice"]


@pytest.mark.parametrize("table", ["state", "journal", "meta", "lane", "outbox", "budget", "denial"])
def test_damaged_pages_are_found_and_the_rest_is_looked_at(
    kiosk: Kiosk, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    kiosk.damage(*kiosk.pages()[table])
    told = doctor(kiosk.folder, capsys, "--deep")
    assert "damaged in" in told["pages"][1]
    assert list(told.checks) == ORDER
    assert "--repair" in told.checks["pages"]["advice"]


def test_a_log_that_was_damaged(kiosk: Kiosk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = unplugged(kiosk, tmp_path / "after", SEED, log=True)
    log = after.folder / "cache.db-wal"
    log.write_bytes(flipped(log.read_bytes(), 32 + 4120 + 900))
    told = doctor(after.folder, capsys)
    assert told.faults >= {"log"}
    assert "behind the damage" in told["log"][1]
    told = doctor(after.folder, capsys, "--repair")
    assert told.code == 0
    with after.open() as rt:
        assert disagreements(after, rt) == []


def test_an_older_copy_of_the_database(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    older = kiosk.database.read_bytes()
    with kiosk.open() as rt:
        rt.consent.withdraw("ann")
    kiosk.database.write_bytes(older)
    told = doctor(kiosk.folder, capsys)
    assert told.warnings == {"counters", "sealed rows"}
    assert "older copy" in told["counters"][1]
    with kiosk.open() as rt:
        assert rt.consent.state("ann", P) == "withdrawn"
    assert doctor(kiosk.folder, capsys)["counters"][0] == "ok"


def test_older_copies_of_key_and_keystore(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    older = {name: (kiosk.folder / name).read_bytes() for name in ("device.key", "cache.db-keys")}
    with kiosk.open() as rt:
        rt.consent.withdraw("ann")
        rt.consent.withdraw("bob")
    for name, raw in older.items():
        (kiosk.folder / name).write_bytes(raw)
    told = doctor(kiosk.folder, capsys)
    assert told["counters"][0] == "fault"
    assert "root slot is an older copy" in told["counters"][1]


def test_an_erasure_that_was_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def erase() -> None:
        room = Room(tmp_path, step=die_at("slot_new"))
        room.consents.give("alice", [PURPOSE], notice="n")
        room.plant("canary")
        room.consents.withdraw("alice", [PURPOSE])

    assert killed(erase)
    told = doctor(tmp_path, capsys)
    assert {"erasures", "sealed rows"} <= told.warnings
    assert "not finished" in told["erasures"][1]
    assert "rows of 1 keys that are gone" in told["sealed rows"][1]
    Room(tmp_path).close()
    told = doctor(tmp_path, capsys)
    assert not told.faults | told.warnings


def test_a_denial_that_the_server_has_not_heard_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Room(tmp_path).enrol().answered() as room:
        room.consents.give("alice", [PURPOSE], notice="n")
        room.consents.withdraw("alice", [PURPOSE])
    told = doctor(tmp_path, capsys)
    assert told.answer["authority"] == "server"
    assert told["keystore"][0] == "warn"
    assert "1 not told" in told["keystore"][1]
    assert "decisions wait" in told["outbox"][1]
    assert told["decision lane"][0] == "warn"


def test_one_that_is_in_use_is_not_looked_into(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    script = f"""
import sys
from tests.support.damaged import *
rt = Kiosk(Path({str(kiosk.folder)!r}), ManualClock({kiosk.clock.wall_us})).open()
print("open", flush=True)
sys.stdin.readline()
rt.close()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "open\n"
        code = main(["doctor", str(kiosk.database), "--key-file", str(kiosk.folder / "device.key"), "--json"])
        told = Told(code, json.loads(capsys.readouterr().out))
        process.stdin.write("\n")
        process.stdin.flush()
    assert code == 0
    assert told["database"] == ("warn", "in use")
    assert "close the app" in told.checks["database"]["advice"]


def test_a_runtime_of_this_process_keeps_its_locks(kiosk: Kiosk) -> None:
    with kiosk.open() as rt:
        key = er.KeyFile(kiosk.folder / "device.key")
        found = Examination(kiosk.database, key, deep=False, now_us=kiosk.clock.now_us()).run()
        assert [c.found for c in found if c.name == "database"] == ["in use"]
        script = f"""
from tests.support.damaged import *
try:
    Kiosk(Path({str(kiosk.folder)!r}), ManualClock(1)).open()
except er.DatabaseInUse:
    raise SystemExit(7)
"""
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
        assert disagreements(kiosk, rt) == []


# ---- repairing ------------------------------------------------------------------------------------------


def test_a_repair_says_what_it_did(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    kiosk.damage(kiosk.pages()["state"][0])
    told = doctor(kiosk.folder, capsys, "--repair")
    assert told.code == 0
    assert told.warnings <= {"leftovers", "counters"}
    assert "damaged databases set aside: 1" in told["leftovers"][1]
    lines = told.answer["repaired"]
    assert isinstance(lines, list)
    assert any(".damaged-" in line for line in lines)
    assert any(line.startswith("lost   something of state") for line in lines)
    with kiosk.open() as rt:
        assert disagreements(kiosk, rt) == []
    assert doctor(kiosk.folder, capsys, "--repair").answer["repaired"] == []


def test_a_repair_does_not_touch_what_it_cannot_mend(
    kiosk: Kiosk, capsys: pytest.CaptureFixture[str]
) -> None:
    no_keystore(kiosk)
    kiosk.damage(kiosk.pages()["state"][0])
    before = bytes_of(kiosk.folder)
    code = main(
        ["doctor", str(kiosk.database), "--key-file", str(kiosk.folder / "device.key"), "--json", "--repair"]
    )
    told = Told(code, json.loads(capsys.readouterr().out))
    assert code == 1
    assert "keystore" in told.faults
    assert bytes_of(kiosk.folder) == before


def test_a_rebuild_that_was_cut_short_is_finished(kiosk: Kiosk, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_runtime.keys.keyring import Keyring
    from edge_runtime.recovery.rebuild import rebuild

    kiosk.damage(kiosk.pages()["state"][0])

    def cut() -> None:
        key = er.KeyFile(kiosk.folder / "device.key")
        keyring = Keyring.open(key, f"{kiosk.database}-keys", True).load()
        rebuild(str(kiosk.database), keyring, "test", kiosk.clock.now_us(), step=die_at("aside"))

    assert killed(cut)
    told = doctor(kiosk.folder, capsys)
    assert "cut short" in told["database"][1]
    told = doctor(kiosk.folder, capsys, "--repair")
    assert told.code == 0
    assert told.answer["repaired"]
    with kiosk.open() as rt:
        assert disagreements(kiosk, rt) == []


# ---- single checks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slot", "noted", "cut", "state"),
    [
        (Count(3, 9), Count(3, 9), False, "ok"),
        (Count(3, 9), Count(3, 10), False, "ok"),
        (Count(3, 9), Count(2, 9), False, "warn"),
        (Count(3, 9), Count(3, 8), False, "warn"),
        (Count(3, 9), Count(0, 0), False, "warn"),
        (Count(3, 9), Count(4, 9), True, "warn"),
        (Count(3, 9), Count(4, 9), False, "fault"),
        (Count(3, 9), Count(5, 9), True, "fault"),
    ],
)
def test_counters_tell_which_is_older(slot: Count, noted: Count, cut: bool, state: str) -> None:
    assert checks.counters(slot, noted, cut_short=cut).state == state


def test_the_budget_is_judged_by_the_day() -> None:
    assert checks.budget(5, 100, None, today=100).state == "ok"
    assert checks.budget(5, 103, None, today=100).state == "warn"
    assert checks.budget(5, 100, 80, today=100).state == "warn"
    assert checks.budget(5, 100, 10, today=100).state == "ok"


def test_sizes_are_judged_by_the_room_that_is_left() -> None:
    sizes = checks.Sizes(1 << 20, 1 << 10, 1 << 12, 1 << 12, 1 << 30)
    assert checks.sizes(sizes).state == "ok"
    assert checks.sizes(sizes._replace(free_on_volume=1 << 20)).state == "warn"
    assert checks.sizes(sizes._replace(log=1 << 30)).state == "warn"


def test_channels_are_judged_by_their_digests() -> None:
    facts = checks.ChannelFacts(2, 3, 0, 0, 9)
    assert checks.channels(facts).state == "ok"
    assert checks.channels(facts._replace(fresh=1)).state == "warn"
    assert checks.channels(facts._replace(fresh=1, wrong=1)).state == "fault"


def test_rows_that_do_not_open_are_a_fault() -> None:
    assert checks.sealed(checks.Sampled(1, 9, {}, 0, True)).state == "ok"
    assert checks.sealed(checks.Sampled(1, 9, {}, 2, True)).state == "warn"
    assert "3 of journal" in checks.sealed(checks.Sampled(1, 9, {"journal": 3}, 2, True)).found


def test_channels_are_added_up_from_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_runtime.sync.shelf import PersonalShelf, PlainShelf
    from edge_runtime.wire import digest
    from tests.edge.test_taking_over import row

    with Room(tmp_path).enrol().answered() as room:
        room.consents.give("alice", [PURPOSE], notice="n")
        with room.database.write("test") as tx:
            total = 0
            shelves = (PlainShelf(tx, "all", 0), PersonalShelf(tx, room.key()))
            for n in range(9):
                total = digest.add(total, added=digest.from_bytes(bytes([n]) * 16))
                for shelf in shelves:
                    shelf.put([row(n, f"item:{n}")], [bytes([n]) * 16])
            for shelf in shelves:
                shelf.move(9, total)
    assert doctor(tmp_path, capsys, "--deep")["channels"] == ("ok", "1 shared with 9 rows, 1 of subjects")
    with Room(tmp_path) as room, room.database.write("test") as tx:
        PersonalShelf(tx, room.key()).move(9, 7)
        PlainShelf(tx, "all", 0).move(0, 0)
    told = doctor(tmp_path, capsys)
    assert told["channels"][0] == "fault"
    assert "rows of 1 do not add up" in told["channels"][1]


def test_nothing_is_left_of_the_private_copies(kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = kiosk.folder.with_name("tmp")
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    kiosk.damage(1)
    key = er.KeyFile(kiosk.folder / "device.key")
    Examination(kiosk.database, key, deep=True, now_us=ManualClock().now_us()).run()
    assert os.listdir(temporary) == []
