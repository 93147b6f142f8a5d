"""The embedded store keeps its promises: dense sequences, digests that add up, keys apart from rows."""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.wire import digest, seal
from edge_runtime.wire.messages import LaneEntry, Row
from sync_server.errors import StoreForeign, StoreTooNew
from sync_server.store.channels import partition_of
from sync_server.store.records import Committed
from sync_server.store.sqlite import SqliteStore
from tests.support.entropy import CountingEntropy
from tests.support.town import ALICE as SUBJECT
from tests.support.town import BOB, P, Town

KEY = b"d" * 32
ALICE = b"alice-alice-alic"
TOKEN = seal.subject_token(ALICE)
PERSONAL = seal.personal_channel(ALICE, "ads")


def open_store(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "server.db", folder / "keys.db", digest_key=KEY, entropy=CountingEntropy())


def row(
    entity: str, at_us: int = 1, *, grant: int = 0, deleted: bool = False, values: bytes = b"\x80"
) -> Row:
    return Row(0, entity, "v", 1, at_us, 5, grant, deleted, b"" if deleted else values)


def test_law_6_a_row_written_is_there_after_reopening(tmp_path: Path) -> None:
    """What a write block ended with is read by the next process."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        seq = tx.put_row("all", row("item:a", values=b"\x81\xa1x\x01"))
    store.close()
    again = open_store(tmp_path)
    with again.read() as reading:
        assert [(r.seq, r.values) for r in reading.channel_rows("all", 0, 9)] == [(seq, b"\x81\xa1x\x01")]
    again.close()


def test_a_block_that_raises_changes_nothing(tmp_path: Path) -> None:
    """Rows, heads, sequences and keys roll back together, and nobody is told."""
    store, told = open_store(tmp_path), list[Committed]()
    store.listen(told.append)

    def fail() -> None:
        with store.write("t") as tx:
            tx.put_row(PERSONAL, row(TOKEN, grant=1), ALICE, "ads")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.read() as reading:
        assert reading.channel_head(PERSONAL).seq == 0
    assert told == []
    assert store.transactions() == {"recover": 1}
    store.close()


changes = st.lists(
    st.tuples(st.sampled_from(["all", "segment:a", "segment:b"]), st.sampled_from("abc"), st.booleans()),
    max_size=25,
)


@settings(max_examples=40)
@given(changes, st.integers(1, 3))
def test_sequences_are_dense_and_digests_add_up(steps: list[tuple[str, str, bool]], size: int) -> None:
    """After any changes, moves and deletes: seqs dense per partition, digest equals the sum over the rows."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        taken: dict[int, list[int]] = {}
        for start in range(0, len(steps), size):
            with store.write("t") as tx:
                for channel, entity, deleted in steps[start : start + size]:
                    seq = tx.put_row(channel, row(f"item:{entity}", deleted=deleted))
                    taken.setdefault(partition_of(channel, 16), []).append(seq)
        with store.read() as reading:
            for channel in ("all", "segment:a", "segment:b"):
                rows, head = reading.channel_rows(channel, 0, 99), reading.channel_head(channel)
                assert head.digest == sum(digest.row_hash(KEY, channel, r) for r in rows) % digest.MODULUS
                assert [r.seq for r in rows] == sorted({r.seq for r in rows})
                assert all(r.seq <= head.seq for r in rows)
        for seqs in taken.values():
            assert seqs == sorted(set(seqs))
        store.close()


@settings(max_examples=25)
@given(changes, st.integers(1, 3))
def test_sub_ranges_hold_every_row_once_and_add_up(steps: list[tuple[str, str, bool]], size: int) -> None:
    """The 64 parts add up to the head's digest; paging through each gives every row of it in order."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        for number, (channel, entity, deleted) in enumerate(steps):
            with store.write("t") as tx:
                tx.put_row(channel, row(f"item:{entity}{number % 4}", deleted=deleted))
        with store.read() as reading:
            for channel in ("all", "segment:a", "segment:b"):
                parts, rows = reading.channel_range_digests(channel), reading.channel_rows(channel, 0, 99)
                assert sum(parts) % digest.MODULUS == reading.channel_head(channel).digest
                paged: list[Row] = []
                for place in range(64):
                    mine, after = [], 0
                    while page := reading.channel_range_rows(channel, place, after, size):
                        mine += page
                        after = page[-1].seq
                    assert all(digest.range_of(KEY, r.entity, r.view, r.version) == place for r in mine)
                    hashes = sum(digest.row_hash(KEY, channel, r) for r in mine)
                    assert hashes % digest.MODULUS == parts[place]
                    assert mine == sorted(mine, key=lambda r: r.seq)
                    paged += mine
                assert sorted(paged, key=lambda r: r.seq) == rows
        store.close()


def test_one_query_serves_first_sync_catch_up_and_live(tmp_path: Path) -> None:
    """Rows after a cursor come in order, each entity once, in its newest state."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        for i in range(6):
            tx.put_row("all", row(f"item:{i % 3}", i))
    with store.read() as reading:
        everything = reading.channel_rows("all", 0, 10)
        assert [r.event_time_us for r in everything] == [3, 4, 5]
        assert reading.channel_rows("all", everything[1].seq, 10) == everything[2:]
        assert reading.channel_rows("all", 0, 2) == everything[:2]
    store.close()


def test_law_4_no_copy_of_the_main_store_opens_without_its_key(tmp_path: Path) -> None:
    """Yesterday's rows restored beside today's keys stay shut: the erased pair is dropped at the start."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1, values=b"\x81\xa1c\xa6canary"), ALICE, "ads")
        tx.put_row("all", row("item:a"))
    store.close()
    yesterday = (tmp_path / "server.db").read_bytes()
    assert b"canary" not in yesterday + (tmp_path / "keys.db").read_bytes()
    store = open_store(tmp_path)
    with store.write("deny") as tx:
        tx.drop_personal(ALICE, "ads")
        tx.erase_keys(ALICE, "ads", 2)
        tx.lane_moved = True
    with store.read() as reading:
        assert reading.pending_key_erasures() == []
    store.close()
    for leftover in tmp_path.glob("server.db-*"):
        leftover.unlink()
    (tmp_path / "server.db").write_bytes(yesterday)
    restored = open_store(tmp_path)
    with restored.read() as reading:
        assert reading.channel_rows(PERSONAL, 0, 9) == []
        head = reading.channel_head(PERSONAL)
        assert (head.digest, head.floor) == (0, head.seq)
        assert len(reading.channel_rows("all", 0, 9)) == 1
    restored.close()


def test_law_4_a_kill_between_the_commits_is_finished_at_the_next_start(tmp_path: Path) -> None:
    """The denial committed, the process died before keys.db heard of it: opening destroys the key."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1), ALICE, "ads")
    with store.write("deny") as tx:  # lane_moved stays False: as if killed right after the commit
        tx.erase_keys(ALICE, "ads", 2)
    store.close()
    keys = sqlite3.connect(tmp_path / "keys.db")
    assert keys.execute("SELECT count(*) FROM payload_keys").fetchone() == (1,)
    store = open_store(tmp_path)
    with store.read() as reading:
        assert reading.pending_key_erasures() == []
        assert reading.channel_rows(PERSONAL, 0, 9) == []
    assert keys.execute("SELECT count(*) FROM payload_keys").fetchone() == (0,)
    keys.close()
    store.close()


def test_a_key_of_a_newer_grant_survives_the_older_denial(tmp_path: Path) -> None:
    """Destroying everything before denial 2 leaves the key of grant 3."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=3, values=b"\x81\xa1x\x07"), ALICE, "ads")
        tx.erase_keys(ALICE, "ads", 2)
        tx.lane_moved = True
    with store.read() as reading:
        assert reading.channel_rows(PERSONAL, 0, 9)[0].values == b"\x81\xa1x\x07"
    store.close()


def test_a_payload_moved_to_another_row_does_not_open(tmp_path: Path) -> None:
    """The seal binds entity, view, version, subject, purpose and grant."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1), ALICE, "ads")
        tx.execute("UPDATE rows SET version = 2")
    with pytest.raises(StoreForeign, match="does not open"), store.read() as reading:
        reading.channel_rows(PERSONAL, 0, 9)
    store.close()


def test_forgotten_deletes_raise_the_floor(tmp_path: Path) -> None:
    """A cursor below a forgotten delete can no longer be caught up with deltas, and the floor says so."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row("all", row("item:a"))
        gone = tx.put_row("all", row("item:a", deleted=True))
        tx.put_row("all", row("item:b"))
    with store.write("t") as tx:
        assert tx.drop_deletes(before_us=5) == 0
        assert tx.drop_deletes(before_us=6) == 1
    with store.read() as reading:
        assert reading.channel_head("all").floor == gone
        assert [r.entity for r in reading.channel_rows("all", 0, 9)] == ["item:b"]
    store.close()


def test_the_lane_holds_one_entry_a_pair_in_order(tmp_path: Path) -> None:
    """A pair's older entry is gone once a newer stands; positions stay ordered."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        for seq, (pair, state) in enumerate([("a", "given"), ("b", "given"), ("a", "withdrawn")], 1):
            subject = pair.encode() * 16
            tx.put_lane(LaneEntry(seq, subject, "ads", state, int(state == "given") * seq, 0))
    with store.read() as reading:
        assert [(e.seq, e.state) for e in reading.lane_since(0, 9)] == [(2, "given"), (3, "withdrawn")]
        assert [e.seq for e in reading.lane_since(2, 9)] == [3]
    store.close()


def test_law_12_a_newer_foreign_or_keyless_store_is_not_touched(tmp_path: Path) -> None:
    """Each damage has an error of its own, and not one byte changes."""
    open_store(tmp_path).close()
    path = tmp_path / "server.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreTooNew, match="found 99; untouched"):
        open_store(tmp_path)
    assert path.read_bytes() == before
    path.write_bytes(b"not a database, but long enough to look at" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreForeign, match="not a store"):
        open_store(tmp_path)
    assert path.read_bytes() == before
    (tmp_path / "keys.db").unlink()
    with pytest.raises(StoreForeign, match="nothing was created"):
        open_store(tmp_path)
    assert not (tmp_path / "keys.db").exists()


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A valid SQLite file that is not ours stays as it is."""
    (tmp_path / "keys.db").touch()
    with sqlite3.connect(tmp_path / "server.db") as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(StoreForeign, match="another program"):
        open_store(tmp_path)


def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    """Neither rows nor keys may be read by others."""
    open_store(tmp_path).close()
    assert {p.stat().st_mode & 0o777 for p in tmp_path.glob("*.db")} == {0o600}


def test_law_2_a_denial_whose_keys_cannot_be_destroyed_yet_stands_and_is_told(tmp_path: Path) -> None:
    """keys.db takes no writes: caller and sessions hear of it, and the next denial finishes both."""
    town = Town(tmp_path / "town")
    town.store.listen(lambda moved: town.office.settle() if moved.lane else None)
    town.decide(SUBJECT, "given")
    town.put_profile(SUBJECT)
    told = town.node.hints.subscribe()

    def stuck(action: int, *_: object) -> int:
        return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_DELETE else sqlite3.SQLITE_OK

    town.store._keys._db.set_authorizer(stuck)
    with pytest.raises(sqlite3.DatabaseError):
        town.decide(SUBJECT, "withdrawn")
    assert told.wake.is_set()
    with town.store.read() as tx:
        assert tx.decision_state(town.pseudonym(SUBJECT), P).state == "withdrawn"
        assert len(tx.unerased_revocations()) == 1
    town.store._keys._db.set_authorizer(None)
    town.decide(BOB, "withdrawn")
    with town.store.read() as tx:
        assert (tx.unerased_revocations(), tx.pending_key_erasures()) == ([], [])
    town.close()


def test_law_6_what_was_put_off_is_on_disk_before_it_is_vouched_for(tmp_path: Path) -> None:
    """`flush` waits once for commits that were not durable, and not at all when there are none."""
    store = open_store(tmp_path)

    def flushed() -> bytes | None:
        with store.read() as tx:
            return tx.meta("flushed")

    store.flush()
    assert flushed() is None
    with store.write("durable") as tx:
        tx.set_meta("x", b"1")
    store.flush()
    assert flushed() is None
    with store.write("put off", durable=False) as tx:
        tx.set_meta("x", b"2")
    store.flush()
    assert flushed() == b""
    store.close()
