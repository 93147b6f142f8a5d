"""The shelf of a subject's rows: what a delta puts there is written together, and is there meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import ChannelState
from edge_runtime.keys.datakey import DataKey, new_facts
from edge_runtime.sync import personal_rows
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf, Shelf, personal_state
from edge_runtime.wire import digest
from edge_runtime.wire.messages import Row

ENTITY = "~aaaa"


@pytest.fixture
def database() -> Iterator[Database]:
    database = Database.open(":memory:", bytes(32))
    yield database
    database.close()


def key_of(subject: str) -> DataKey:
    facts = new_facts("p", bytes(16), "n", base=0, at_us=0, grant=1, ordinal=1)
    return DataKey(bytes(16), subject, facts, bytearray(range(32)))


def parts(number: int) -> bytes:
    return digest.to_bytes(number)


def row(seq: int, view: str = "profile") -> Row:
    return Row(seq, ENTITY, view, 1, 0, 0, 1, False, b"\x80" + bytes([seq]))


def held(database: Database, key: DataKey, view: str = "profile") -> Row | None:
    slot = personal_rows.row_slot(key, f"{view}@1", ENTITY)
    with database.read() as tx:
        sealed = tx.personal_row(key.handle, slot)
    return None if sealed is None else personal_rows.open_row(key, slot, sealed)


def test_a_row_that_comes_twice_in_one_delta_takes_its_first_part_out_of_the_digest(
    database: Database,
) -> None:
    key = key_of("user:alice")
    with database.write("first") as tx:
        shelf = PersonalShelf(tx, key)
        assert shelf.put([row(1)], [parts(7)]) == (1, 7)
        assert shelf.put([row(2)], [parts(8)]) == (1, 8 - 7)
        shelf.move(2, 8)
    assert held(database, key) == row(2)
    with database.write("second") as tx:
        shelf = PersonalShelf(tx, key)
        assert shelf.stand() == (2, 8)
        assert shelf.put([row(3)], [parts(9)]) == (1, 9 - 8)
        shelf.move(3, 9)
    assert held(database, key) == row(3)


def test_within_one_delta_too_the_newest_row_wins(database: Database) -> None:
    key = key_of("user:alice")
    with database.write("delta") as tx:
        shelf = PersonalShelf(tx, key)
        shelf.put([row(2)], [parts(2)])
        assert shelf.put([row(1)], [parts(1)]) == (0, 0)
        shelf.move(2, 2)
    assert held(database, key) == row(2)


def test_a_row_put_and_deleted_in_one_delta_is_gone_and_so_is_the_one_before_it(
    database: Database,
) -> None:
    key = key_of("user:alice")
    with database.write("before") as tx:
        shelf = PersonalShelf(tx, key)
        shelf.put([row(1)], [parts(1)])
        shelf.move(1, 1)
    with database.write("delta") as tx:
        shelf = PersonalShelf(tx, key)
        shelf.put([row(3)], [parts(3)])
        assert shelf.delete(row(4)) == 3
        assert shelf.delete(row(5)) == 0
        shelf.move(5, 0)
    assert held(database, key) is None


def test_clearing_for_a_snapshot_takes_what_waits_and_what_lies_there_and_nobody_elses(
    database: Database,
) -> None:
    alice, bob = key_of("user:alice"), key_of("user:bob")
    with database.write("fill") as tx:
        for key in (alice, bob):
            shelf = PersonalShelf(tx, key)
            shelf.put([row(1)], [parts(1)])
            shelf.move(1, 1)
    with database.write("snapshot") as tx:
        shelf = PersonalShelf(tx, alice)
        shelf.put([row(2, "taste")], [parts(2)])
        shelf.clear()
        assert shelf.stand() == (0, 0)
        shelf.put([row(3, "habits")], [parts(3)])
        shelf.move(3, 3)
    assert held(database, alice) is None
    assert held(database, alice, "taste") is None
    assert held(database, alice, "habits") == row(3, "habits")
    assert held(database, bob) == row(1)


def whole(database: Database, key: DataKey) -> bool | None:
    with database.read() as tx:
        state = personal_state(tx, key)
    assert state is not None
    return state.whole


def test_whether_a_channel_is_whole_goes_with_the_next_move_unless_it_stays(database: Database) -> None:
    """The same on both kinds of shelf; rows, cursor and digest do not mind it."""
    key = key_of("user:alice")
    for known in (True, False):
        for stays in (True, False):
            with database.write("judge") as tx:
                shelves: list[Shelf] = [PersonalShelf(tx, key), PlainShelf(tx, "all", 0)]
                for shelf in shelves:
                    shelf.put([row(1)], [parts(1)])
                    shelf.move(1, 1)
                    shelf.judge(known)
                    assert shelf.stand() == (1, 1)
                    shelf.move(2, 1, stays_whole=stays)
                    assert shelf.stand() == (2, 1)
            with database.read() as tx:
                assert tx.channels()["all"] == ChannelState(2, 1, known if stays else None)
            assert whole(database, key) is (known if stays else None)
            assert held(database, key) == row(1)


def test_a_stand_of_the_release_before_says_nothing_about_it(database: Database) -> None:
    key = key_of("user:alice")
    slot = personal_rows.stand_slot(key)
    old = msgspec.msgpack.encode((7, parts(9)))
    with database.write("old") as tx:
        tx.put_personal_row(key.handle, slot, 0, key.seal(personal_rows.TABLE, slot, old))
    assert whole(database, key) is None
    with database.read() as tx:
        assert personal_state(tx, key) == ChannelState(7, 9)
