"""Opening what remains: whichever page is damaged, everything that does not need it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.cipher import PAGE_BYTES, raw_key
from edge_runtime.cache.database import Database
from edge_runtime.cache.gaps import Gap, Unreadable
from edge_runtime.cache.plain_tables import Value
from edge_runtime.cache.remains import ANY_ROW, Remains
from edge_runtime.cache.salvage import remains_of
from edge_runtime.errors import DatabaseInUse, KeyMismatch
from tests.support.forensics import bytes_of
from tests.support.logged import KEY, flipped, logged

HANDLES = [bytes([n]) * 16 for n in range(1, 9)]
ROWS = 400
PLAIN = ("meta", "lane", "denial", "outbox", "budget", "channel", "feature")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Something in every table, on many pages of most."""
    path = tmp_path_factory.mktemp("original") / "cache.db"
    database = Database.open(str(path), KEY)
    with database.write("test") as tx:
        tx.append_events([(HANDLES[n % 8], 1, b"%04d" % n * 60) for n in range(ROWS)])
        for number, handle in enumerate(HANDLES):
            for n in range(40):
                tx.put_state(handle, bytes([n]) * 16, n, b"state" * 30)
                tx.put_personal_row(handle, bytes([n]) * 16, n, b"row" * 30)
            tx.mark_trimmed(handle, number + 1)
        for n in range(200):
            tx.set_meta(f"fact {n}", b"value" * 10)
            tx.put_denial(n.to_bytes(16, "big"), b"denial" * 10, open=bool(n % 2))
            tx.enqueue("receipt", n.to_bytes(16, "big"), b"payload" * 10)
            tx.debit(n.to_bytes(16, "big"), n, n)
            tx.set_channel(f"channel {n}", n, n)
            sql = "INSERT INTO lane VALUES(?, 'p', ?, 'given', 1, 0)"
            tx._connection.execute(sql, (n.to_bytes(16, "big"), n))
            sql = "INSERT INTO feature VALUES(?, 'v', 1, 'all', ?, 1, 1, x'80', zeroblob(16), 0)"
            tx._connection.execute(sql, (f"item:{n}", n))
    database.close()
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "cache.db"
    copy.write_bytes(original.read_bytes())
    return copy


def pages(path: Path, table: str, kind: str = "leaf") -> list[int]:
    connection = apsw.Connection(str(path))
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(KEY).hex())
    connection.pragma("locking_mode", "exclusive")
    sql = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path"
    found = [int(str(number)) for (number,) in connection.execute(sql, (table, kind))]
    connection.close()
    return found


def damage(path: Path, *numbers: int) -> None:
    raw = path.read_bytes()
    path.write_bytes(flipped(raw, *((number - 1) * PAGE_BYTES + 2_000 for number in numbers)))


@contextmanager
def remains(path: Path) -> Iterator[Remains]:
    """What remains, with the files checked to be as they were."""
    before = bytes_of(path.parent)
    with remains_of(str(path), KEY, str(path.with_name("scratch"))) as found:
        yield found
    assert bytes_of(path.parent) == before


def journal(found: Remains, handle: bytes) -> tuple[list[int], list[Gap]]:
    left: list[Gap] = []
    return sorted(found.numbers(handle, left)), left


def everything(found: Remains) -> dict[str, int]:
    """Table -> rows that are read."""
    counts = {"journal": sum(1 for _ in found.events([]))}
    for table in ("state", "personal"):
        counts[table] = sum(1 for handle in HANDLES for _ in found.sealed(table, handle, []))
    for name in PLAIN:
        counts[name] = len(set(found.plain(name, set())))
    return counts


WHOLE = {"journal": ROWS, "state": 320, "personal": 320, **dict.fromkeys(PLAIN, 200)}


def test_an_undamaged_file_is_read_whole(path: Path) -> None:
    with remains(path) as found:
        assert everything(found) == WHOLE
        assert not found.log_cut
        assert found.newest_row() == ROWS
        assert found.fact("fact 3") == b"value" * 10
        assert found.trimmed(HANDLES[2]) == 3
        assert journal(found, HANDLES[0]) == ([n for n in range(1, ROWS + 1) if n % 8 == 1], [])


@pytest.mark.parametrize("number", [1, "list"])
def test_law_6_the_pages_that_lead_to_all_others_are_found_again(path: Path, number: int | str) -> None:
    if number == "list":
        damage(path, *pages(path, "sqlite_schema"))
    else:
        damage(path, 1)
    with remains(path) as found:
        assert everything(found) == WHOLE


def test_the_whole_list_of_tables_and_a_leaf(path: Path) -> None:
    damage(path, 1, *pages(path, "sqlite_schema"), pages(path, "journal")[3])
    with remains(path) as found:
        counts = everything(found)
        assert 0 < ROWS - counts.pop("journal") < 40
        assert counts == {name: rows for name, rows in WHOLE.items() if name != "journal"}


@pytest.mark.parametrize("table", [*PLAIN, "journal", "state", "personal"])
def test_law_6_around_one_leaf_everything_is_read(path: Path, table: str) -> None:
    leaves = pages(path, table)
    assert len(leaves) > 1
    damage(path, leaves[len(leaves) // 2])
    with remains(path) as found:
        counts = everything(found)
        assert 0 < WHOLE[table] - counts[table] < WHOLE[table] * 2 / len(leaves) + 2
        assert {**counts, table: 0} == {**WHOLE, table: 0}
        whole: set[str] = set()
        if table in PLAIN:
            list(found.plain(table, whole))
            assert whole == set()


def test_law_6_between_two_leaves_the_journal_is_read(path: Path) -> None:
    leaves = pages(path, "journal")
    damage(path, leaves[2], leaves[-3])
    with remains(path) as found:
        left: list[Gap] = []
        got = {row.n for row in found.events(left)}
        assert len(left) == 2
        assert all(n in got or any(low <= n <= high for low, high in left) for n in range(1, ROWS + 1))
        assert len(got) > ROWS - 60


@pytest.mark.parametrize("table", ["journal", "state", "personal", "journal_by_handle"])
def test_law_7_without_the_root_of_a_table_nothing_of_it_is_known(path: Path, table: str) -> None:
    damage(path, *pages(path, table, "internal")[:1])
    with remains(path) as found:
        if table == "journal_by_handle":
            assert journal(found, HANDLES[0]) == ([], [ANY_ROW])
            assert everything(found) == WHOLE
        else:
            assert everything(found) == {**WHOLE, table: 0}


def test_single_rows_that_cannot_be_read_say_so(path: Path) -> None:
    damage(path, *pages(path, "meta"), *pages(path, "trimmed"), *pages(path, "sqlite_sequence"))
    damage(path, *pages(path, "journal"))
    with remains(path) as found:
        assert found.newest_row() is None
        with pytest.raises(Unreadable):
            found.fact("fact 3")
        with pytest.raises(Unreadable):
            found.trimmed(HANDLES[0])
        with pytest.raises(Unreadable):
            found.event(5)


def test_law_12_a_wrong_key_is_no_damage(path: Path) -> None:
    before = bytes_of(path.parent)
    with pytest.raises(KeyMismatch), remains_of(str(path), bytes(32), str(path.with_name("scratch"))):
        pass
    assert bytes_of(path.parent) == before


def test_law_12_garbage_is_no_database_of_this_key(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 16 * 30)
    with pytest.raises(KeyMismatch), remains(path):
        pass


def test_law_12_another_database_under_the_key_is_not_ours(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "cache.db"))
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(KEY).hex())
    connection.execute("CREATE TABLE theirs(x); INSERT INTO theirs VALUES(zeroblob(20000))")
    connection.close()
    with pytest.raises(KeyMismatch, match="no cache of ours"), remains(tmp_path / "cache.db"):
        pass


@pytest.mark.parametrize("size", [0, 100, PAGE_BYTES, PAGE_BYTES + 1])
def test_of_a_file_of_less_than_two_pages_nothing_is_read(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with remains(path) as found:
        assert everything(found) == dict.fromkeys(WHOLE, 0)
        assert found.log_cut


def test_of_a_file_that_was_cut_short_the_rest_is_read(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 60 * PAGE_BYTES + 777])
    with remains(path) as found:
        assert 0 < sum(everything(found).values()) < sum(WHOLE.values())


def test_a_file_that_is_open_is_not_looked_at(path: Path) -> None:
    database = Database.open(str(path), KEY)
    with pytest.raises(DatabaseInUse), remains_of(str(path), KEY, str(path.with_name("scratch"))):
        pass
    database.close()


@pytest.mark.parametrize("places", [[(2, 1_000)], [(2, 1_000), (9, 2)], [(1, 18)]], ids=str)
def test_law_6_through_a_damaged_log_all_of_it_is_read(tmp_path: Path, places: list[tuple[int, int]]) -> None:
    whole = logged(tmp_path)
    whole.write(flipped(whole.log, *(whole.at(*place) for place in places)))
    with remains(whole.path) as found:
        assert not found.log_cut
        assert found.newest_row() == 13


def test_law_7_a_log_of_which_the_end_is_in_doubt_says_that_it_is_cut(tmp_path: Path) -> None:
    whole = logged(tmp_path)
    whole.write(flipped(whole.log, whole.at(2, 1_000), whole.at(whole.frames - 1, 1_000)))
    with remains(whole.path) as found:
        assert found.log_cut


def test_law_7_a_list_of_tables_that_leads_elsewhere_brings_no_false_row(tmp_path: Path) -> None:
    """A file that an earlier release made has its tables on other pages: what is read there does not fit."""
    path = tmp_path / "cache.db"
    connection = apsw.Connection(str(path))
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(KEY).hex())
    connection.execute("CREATE TABLE moved(x)")
    connection.execute((Path(__file__).parents[1] / "data" / "schemas" / "schema_1.sql").read_text())
    connection.execute("DROP TABLE moved")
    connection.pragma("user_version", 1)
    connection.close()
    rows = fill(path)
    damage(path, 1, *pages(path, "sqlite_schema"))
    with remains(path) as found:
        for name in PLAIN:
            assert set(found.plain(name, set())) <= rows[name], name


def fill(path: Path) -> dict[str, set[tuple[Value, ...]]]:
    """A row in every plain table, after an upgrade; returns them."""
    database = Database.open(str(path), KEY)
    with database.write("test") as tx:
        tx.set_meta("fact", b"value")
        tx.put_denial(b"d" * 16, b"denial", open=True)
        tx.enqueue("receipt", b"r" * 16, b"payload")
        tx.debit(b"b" * 16, 1, 2)
        tx.set_channel("all", 3, 4)
        tx.mark_trimmed(b"t" * 16, 5)
        tx._connection.execute("INSERT INTO lane VALUES(zeroblob(16), 'p', 6, 'given', 1, 0)")
        tx._connection.execute(
            "INSERT INTO feature VALUES('i', 'v', 1, 'all', 7, 1, 1, x'80', zeroblob(16), 0)"
        )
    with remains_of_open(database) as found:
        rows = {name: set(found.plain(name, set())) for name in PLAIN}
    assert all(rows.values())
    return rows


@contextmanager
def remains_of_open(database: Database) -> Iterator[Remains]:
    database.close()
    with remains_of(database.path, KEY, f"{database.path}-scratch") as found:
        yield found


def test_a_file_of_the_first_schema_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    connection = apsw.Connection(str(path))
    connection.pragma("cipher", "aegis")
    connection.pragma("hexkey", raw_key(KEY).hex())
    connection.execute((Path(__file__).parents[1] / "data" / "schemas" / "schema_1.sql").read_text())
    connection.execute("INSERT INTO state VALUES(?, ?, x'01')", (HANDLES[0], HANDLES[0]))
    connection.execute("INSERT INTO denial VALUES(?, x'01')", (HANDLES[0],))
    connection.pragma("user_version", 1)
    connection.close()
    with remains(path) as found:
        assert found.version == 1
        assert [row.day for row in found.sealed("state", HANDLES[0], [])] == [0]
        assert list(found.plain("denial", set())) == [(HANDLES[0], b"\1", 1)]
