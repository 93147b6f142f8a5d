"""Of two rows in one place the newer is kept, whatever the order of arrival, and the digest says which."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.cache.database import Database
from edge_runtime.cache.records import LET_GO, Placed, RowPlace
from edge_runtime.sync import personal_rows
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf, Shelf
from edge_runtime.wire import digest
from edge_runtime.wire import messages as m
from edge_runtime.wire.messages import Row
from tests.server.test_features_api import item
from tests.support.clock import ManualClock
from tests.support.consent_room import Room
from tests.support.shop import shop_catalog
from tests.support.shop_server import ShopServer
from tests.support.town import Kiosk, Session, Town

A, B = b"a" * 16, b"b" * 16
DAY_US = 86_400_000_000


@pytest.fixture
def database() -> Iterator[Database]:
    opened = Database.open(":memory:", bytes(32))
    yield opened
    opened.close()


def row(event_us: int, created_us: int, seq: int, values: bytes = b"\x81\xa1x\x01") -> Row:
    return Row(seq, "item:x", "stats", 1, event_us, created_us, 0, False, values)


ARRIVALS = st.permutations(list(itertools.product((1, 2), (1, 2), (1, 2))))


@given(arrivals=ARRIVALS, stubs=st.sets(st.integers(0, 7)))
def test_the_newest_is_kept_in_any_order_of_arrival(
    arrivals: list[tuple[int, int, int]], stubs: set[int]
) -> None:
    """By event time, then created, then seq; a stub stands for its row like any other."""
    database = Database.open(":memory:", bytes(32))
    best: tuple[int, int, int] | None = None
    with database.write("w") as tx:
        for n, order in enumerate(arrivals):
            one = row(*order, values=b"" if n in stubs else bytes([0x81, 0xA1, 0x78, n]))
            before = None if best is None else bytes(best) * 4 + bytes(4)
            placed = tx.put_row("all", one, bytes(order) * 4 + bytes(4), 9)
            assert placed == Placed(best is None or order >= best, before)
            if placed.kept:
                best, kept = order, one
            assert list(tx.rows_in_channel("all")) == [(kept, bytes(best or ()) * 4 + bytes(4))]
    database.close()


@given(arrivals=ARRIVALS, cut=st.integers(0, 8))
def test_rows_put_in_one_go_stand_as_if_put_one_by_one(
    arrivals: list[tuple[int, int, int]], cut: int
) -> None:
    """Also several in one place; told are the hashes of what was replaced and of what was not stored."""
    rows = [row(*order, values=bytes([0x81, 0xA1, 0x78, n])) for n, order in enumerate(arrivals)]
    hashes = [bytes(order) * 4 + bytes(4) for order in arrivals]
    one, other = (Database.open(":memory:", bytes(32)) for _ in range(2))
    with one.write("w") as single, other.write("w") as many:
        placed = [single.put_row("all", r, h, 9) for r, h in zip(rows, hashes, strict=True)]
        gone = [(p.before if p.kept else h) for p, h in zip(placed, hashes, strict=True)]
        for part in (slice(cut), slice(cut, None)):
            kept = sum(p.kept for p in placed[part])
            told = [hash for hash in gone[part] if hash is not None]
            assert many.put_rows("all", rows[part], hashes[part], 9) == (kept, told)
        assert list(many.rows_in_channel("all")) == list(single.rows_in_channel("all"))
    one.close()
    other.close()


def test_across_channels_the_newest_by_event_time_is_read(database: Database) -> None:
    """Also where another channel's row was made later from older data."""
    with database.write("w") as tx:
        tx.put_row("all", row(5, 50, 1), A, 1)
        tx.put_row("segment:gold", row(4, 90, 99), B, 1)
        assert tx.row("item:x", "stats", 1) == row(5, 50, 1)


def shelves(folder: Path, database: Database) -> Iterator[tuple[Shelf, Row]]:
    """Each kind of shelf with a row that belongs there."""
    with database.write("w") as tx:
        yield PlainShelf(tx, "all", 9 * DAY_US), row(20, 20, 5)
    with Room(folder) as room:
        room.consents.give("alice", ["personalization"], notice="n")
        with room.database.write("w") as tx:
            yield PersonalShelf(tx, room.key()), row(20, 20, 5)


def test_both_shelves_judge_alike(tmp_path: Path, database: Database) -> None:
    """A refused row leaves the held one with its hash; a delete takes what is held."""
    for shelf, held in shelves(tmp_path, database):
        replaced, a, b = msgspec.structs.replace, digest.from_bytes(A), digest.from_bytes(B)
        assert shelf.put([held], [A]) == (1, a)
        for older in (
            replaced(held, event_time_us=19, created_us=99, seq=99),
            replaced(held, created_us=19, seq=99),
            replaced(held, seq=4),
            replaced(held, event_time_us=19, values=b""),
        ):
            assert shelf.put([older], [B]) == (0, 0)
        assert shelf.put([held], [A]) == (1, 0)  # the same again
        assert shelf.put([replaced(held, seq=6, values=b"")], [B]) == (1, b - a)
        assert shelf.put([held], [A]) == (0, 0)  # a stub counts as a row
        assert shelf.delete(held) == digest.from_bytes(B)
        assert shelf.put([replaced(held, event_time_us=1)], [A]) == (1, a)


def frame(base: int, row: Row, *, replacing: bool = False) -> m.Delta:
    return m.Delta(
        channel="all", base=base, upto=row.seq, epoch=0, replacing=replacing, more=False, rows=[row]
    )


def test_a_refused_row_shows_in_the_digest_until_the_channel_is_repaired(tmp_path: Path) -> None:
    """A server that goes back in time is not believed, and is seen: its checkpoint differs from ours."""
    town = Town(tmp_path / "town")
    kiosk = Kiosk(town, tmp_path / "kiosk")
    first = msgspec.structs.replace(town.item_row(9), seq=1)
    kiosk.replica.apply(frame(0, first, replacing=True))
    older = msgspec.structs.replace(first, seq=2, event_time_us=8, values=b"\x80")
    applied = kiosk.replica.apply(frame(1, older))
    assert (applied.kept, applied.older) == (0, 1)
    key = town.authority.digest_key
    assert kiosk.stand() == (2, digest.row_hash(key, "all", first))
    assert kiosk.rows() == {"item:9": first.values}
    kiosk.replica.apply(frame(0, older, replacing=True))  # a replacing snapshot
    assert kiosk.stand() == (2, digest.row_hash(key, "all", older))
    kiosk.close()
    town.close()


async def test_a_servers_clock_set_back_never_makes_a_newer_row_look_older(tmp_path: Path) -> None:
    """Also through a delete: of one row, event time and created only grow with the seq."""
    clock = ManualClock()
    async with ShopServer(tmp_path, clock) as shop:
        seen = []
        for step, (at, deleted) in enumerate(
            ((20, False), (20, False), (20, True), (20, False), (30, False))
        ):
            clock.set_wall(1_700_000_000_000_000 - step * 3_600_000_000)
            one = {"entity": "item:85123A", "event_time": at, "deleted": True}
            reply = await shop.publish("item_stats", [one if deleted else item(at=at, popularity=step / 10)])
            assert reply.body["refused"] == []
            with shop.store.read() as tx:
                (stored,) = tx.channel_rows("all", 0, 9)
            seen.append((stored.event_time_us, stored.created_us, stored.seq))
        assert seen == sorted(seen)
        assert len({seq for _, _, seq in seen}) == 5


# ---- rows that were let go ---------------------------------------------------------------------------


def test_what_was_let_go_keeps_times_and_hash_and_may_come_again(database: Database) -> None:
    """Only the same row or a newer one; the digest never noticed that it was gone."""
    whole = row(20, 20, 5, values=b"\x81\xa1x\xa5" + b"large")
    place = RowPlace("item:x", "stats", 1, "all")
    with database.write("w") as tx:
        tx.put_row("all", whole, A, 3)
        tx.put_row("all", msgspec.structs.replace(whole, entity="item:stub", values=b""), B, 3)
        assert tx.let_go_rows([place, place._replace(entity="item:stub"), place._replace(version=2)]) == 1
        gone = msgspec.structs.replace(whole, values=LET_GO)
        assert tx.row("item:x", "stats", 1) == gone
        assert {r.entity: h for r, h in tx.rows_in_channel("all")} == {"item:x": A, "item:stub": B}
        assert [size.size_bytes for size in tx.row_sizes(None, 9)] == [0, 1]
        assert tx.let_go_rows([place]) == 0
        assert tx.put_row("all", row(19, 20, 6), B, 4) == Placed(False, A)
        assert tx.put_row("all", whole, A, 4) == Placed(True, A)
        assert tx.row("item:x", "stats", 1) == whole


def test_a_personal_row_is_let_go_under_its_seal(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", ["personalization"], notice="n")
        key, whole = room.key(), row(20, 20, 5)
        slot = personal_rows.row_slot(key, "stats@1", "item:x")
        sealed = personal_rows.seal_row(key, slot, whole, A)
        gone = personal_rows.let_go(key, slot, sealed)
        assert gone is not None
        held = personal_rows.open_delivered(key, slot, gone)
        assert (held.hash, held.row) == (A, msgspec.structs.replace(whole, values=LET_GO))
        assert personal_rows.let_go(key, slot, gone) is None
        stub = personal_rows.seal_row(key, slot, row(20, 20, 5, values=b""), A)
        assert personal_rows.let_go(key, slot, stub) is None
        with room.database.write("w") as tx:
            shelf = PersonalShelf(tx, key)
            tx.put_personal_row(key.handle, slot, 0, gone)
            assert shelf.put([row(19, 20, 9)], [B]) == (0, 0)
            assert shelf.put([whole], [A]) == (1, 0)


def test_a_sweeper_sees_every_row_once_in_steps(database: Database) -> None:
    """In the order of the primary key, with what it needs to judge and nothing else."""
    with database.write("w") as tx:
        for n, channel in itertools.product(range(7), ("all", "segment:x")):
            one = msgspec.structs.replace(row(n, n, n), entity=f"item:{n}", values=bytes(n))
            tx.put_row(channel, one, A, n)
        tx.touch_rows([("item:3", "stats", 1), ("item:5", "stats", 1), ("item:none", "stats", 1)], 4)
        seen, after = [], None
        while step := tx.row_sizes(after, 3):
            assert len(step) <= 3
            seen += step
            after = step[-1].place
        assert [one.place for one in seen] == sorted(one.place for one in seen)
        assert {one.place.entity: (one.event_time_us, one.used_day, one.size_bytes) for one in seen} == {
            f"item:{n}": (n, 4 if n == 3 else n, n) for n in range(7)
        }
        assert len(seen) == 14


def test_days_of_a_handle_count_what_is_known(database: Database) -> None:
    """Day 0 is not known: it is no day of the subject, and never the newest."""
    with database.write("w") as tx:
        tx.put_state(A, A, 0, b"covered")
        tx.put_personal_row(A, A, 0, b"stand")
        assert tx.newest_day(A) is None
        tx.put_personal_row(A, B, 5, b"r")
        assert tx.newest_day(A) == 5
        tx.put_state(A, B, 9, b"s")
        assert tx.newest_day(A) == 9
        tx.append_events([(A, 11, b"e"), (A, 10, b"e")])
        assert tx.newest_day(A) == 11
        assert tx.days(A) == {"journal": {10: 1, 11: 1}, "state": {0: 1, 9: 1}, "personal": {0: 1, 5: 1}}
        assert tx.personal_rows_by_day(A) == [(0, A, b"stand"), (5, B, b"r")]
        assert tx.newest_day(B) is None


def test_open_denials_are_found_by_themselves(database: Database) -> None:
    with database.write("w") as tx:
        tx.put_denial(A, b"1", open=True)
        tx.put_denial(B, b"2", open=True)
        assert tx.open_denials() == [b"1", b"2"]
        tx.put_denial(A, b"3", open=False)
        assert tx.open_denials() == [b"2"]
        assert tx.denial(A) == b"3"
        assert tx.denial(bytes(16)) is None
        plan = tx._connection.execute(
            "EXPLAIN QUERY PLAN SELECT body FROM denial WHERE open = 1 ORDER BY id"
        ).fetchall()
        assert "denial_open" in str(plan)


def test_the_day_a_row_was_brought_is_the_clocks(tmp_path: Path) -> None:
    """From the sync path: PlainShelf gets it from the replica's clock."""
    town = Town(tmp_path / "town")
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.put(2)
    Session(kiosk).settle()
    with kiosk.database.read() as tx:
        assert {one.used_day for one in tx.row_sizes(None, 9)} == {kiosk.clock.now_us() // DAY_US}
    kiosk.close()
    town.close()


def test_a_stored_state_carries_the_day_of_its_newest_event(tmp_path: Path) -> None:
    """For retention, outside the seal; one that retention has ended has no row any more."""
    clock = ManualClock()
    with er.Runtime.open(
        tmp_path / "cache.db", catalog=shop_catalog(), key=er.KeyFile(tmp_path / "device.key"), clock=clock
    ) as rt:
        rt.consent.give("alice", ["personalization", "measurement"], notice="n")
        rt.track("view", user="alice", item="x", price=1.0, category="c")
        event_day = clock.now_us() // DAY_US
        clock.advance(us=2 * DAY_US)
        handles = [key.handle for key in rt._keyring.keys_of("user:alice")]
        rt._commit.flush(everything=True)
        with rt._database.read() as tx:
            assert [tx.days(handle)["state"] for handle in handles] == [{0: 1, event_day: 1}] * 2
            assert [tx.newest_day(handle) for handle in handles] == [event_day] * 2
        clock.advance(us=40 * DAY_US)  # past the retention: the next read finds nothing, the commit says so
        assert rt.read("activity:views", user="alice").value == 0
        assert rt.read("habits:visits", user="alice").value == 0
        rt._commit.flush(everything=True)
        with rt._database.read() as tx:
            assert [tx.days(handle)["state"] for handle in handles] == [{0: 1}] * 2
