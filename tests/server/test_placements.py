"""Rows stand in channels: entering and leaving is a change like any other, and followers end up equal."""

from __future__ import annotations

import re
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.wire import digest, seal
from edge_runtime.wire.messages import Row
from sync_server.catalog.registry import Registry
from sync_server.features.tiers import TierWalk
from sync_server.store.channels import partition_of
from sync_server.store.protocol import ReadTx
from sync_server.store.sqlite import SqliteStore
from tests.support.entropy import CountingEntropy

KEY = b"d" * 32
ALICE = b"alice-alice-alic"
TOKEN = seal.subject_token(ALICE)
PERSONAL = seal.personal_channel(ALICE, "ads")
CHANNELS = ("all", "segment:a", "segment:b")
SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "schemas"


def open_store(folder: Path) -> SqliteStore:
    return SqliteStore(folder / "server.db", folder / "keys.db", digest_key=KEY, entropy=CountingEntropy())


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return open_store(tmp_path)


def row(
    entity: str, at_us: int = 1, *, deleted: bool = False, values: bytes = b"\x80", grant: int = 0
) -> Row:
    return Row(0, entity, "v", 1, at_us, at_us, grant, deleted, b"" if deleted else values)


def write(store: SqliteStore, row: Row, *channels: str) -> None:
    with store.write("t") as tx:
        tx.write_row(tx.row_state(row.entity, row.view, row.version), row, channels)


def move(store: SqliteStore, entity: str, *channels: str, now_us: int = 50) -> None:
    with store.write("t") as tx:
        standing = tx.row_state(entity, "v", 1)
        assert standing is not None
        tx.move_row(standing, channels, now_us)


class Follower:
    """What a device holds of one channel, by the rules of the wire."""

    def __init__(self, channel: str) -> None:
        self.channel, self.cursor = channel, 0
        self.rows: dict[tuple[str, str, int], Row] = {}

    def sync(self, tx: ReadTx, page: int) -> None:
        """Up to the head, by pages; from nothing when the cursor is below the floor."""
        head = tx.channel_head(self.channel)
        if self.cursor < head.floor:
            self.cursor, self.rows = 0, {}
        while self.cursor < head.seq:
            rows = tx.channel_rows(self.channel, self.cursor, page)
            for one in rows:
                name = (one.entity, one.view, one.version)
                self.rows.pop(name, None)
                if not one.deleted:
                    self.rows[name] = one
            self.cursor = rows[-1].seq if len(rows) == page else head.seq
        total = sum(digest.row_hash(KEY, self.channel, one) for one in self.rows.values())
        assert total % digest.MODULUS == head.digest


# ---- entering and leaving ------------------------------------------------------------------------------


def test_a_row_stands_in_several_channels_and_a_change_takes_a_seq_in_each(store: SqliteStore) -> None:
    """One row, a placement a channel; its newest state comes in both."""
    write(store, row("item:a"), "segment:a", "segment:b")
    write(store, row("item:a", 2, values=b"\x81\xa1x\x01"), "segment:a", "segment:b")
    with store.read() as tx:
        assert tx.channels_of("item:a", "v", 1) == ["segment:a", "segment:b"]
        assert tx.count_rows() == 1
        for channel in ("segment:a", "segment:b"):
            (one,) = tx.channel_rows(channel, 0, 9)
            assert (one.event_time_us, one.values) == (2, b"\x81\xa1x\x01")
            assert one.seq == tx.channel_head(channel).seq


def test_a_row_that_leaves_a_channel_is_a_delete_there_and_stays_elsewhere(store: SqliteStore) -> None:
    """Entering and leaving take a seq; a channel in which the row stays hears nothing."""
    write(store, row("item:a", values=b"\x81\xa1x\x01"), "all", "segment:b")
    with store.read() as tx:
        stays = tx.channel_head("segment:b")
        before = tx.channel_head("all").seq
    move(store, "item:a", "segment:b", "segment:a")
    with store.read() as tx:
        assert tx.channel_head("segment:b") == stays
        (gone,) = tx.channel_rows("all", before, 9)
        assert (gone.entity, gone.deleted, gone.values) == ("item:a", True, b"")
        assert (tx.channel_head("all").digest, tx.channel_head("all").floor) == (0, 0)
        (come,) = tx.channel_rows("segment:a", 0, 9)
        assert (come.deleted, come.values) == (False, b"\x81\xa1x\x01")
        heads = [tx.channel_head(channel) for channel in CHANNELS]
    move(store, "item:a", "segment:b", "segment:a")
    with store.read() as tx:
        assert [tx.channel_head(channel) for channel in CHANNELS] == heads, "moved again to where it stands"


def test_a_row_may_stand_nowhere_and_come_back(store: SqliteStore) -> None:
    """Out of every channel it is kept; where it comes back it is a row again, under the same name."""
    write(store, row("item:a"), "all")
    move(store, "item:a")
    with store.read() as tx:
        assert tx.channels_of("item:a", "v", 1) == []
        assert tx.row_state("item:a", "v", 1) is not None
        assert tx.channel_size("all").bytes == 0
    move(store, "item:a", "all")
    with store.read() as tx:
        (one,) = tx.channel_rows("all", 0, 9)
        assert not one.deleted
        assert tx.channel_size("all").bytes == len("item:a") + 1


def test_a_delete_reaches_every_channel_of_the_row(store: SqliteStore) -> None:
    """Also one that it would not enter today."""
    write(store, row("item:a"), "segment:a", "segment:b")
    write(store, row("item:a", 2, deleted=True), "segment:b")
    with store.read() as tx:
        for channel in ("segment:a", "segment:b"):
            assert [r.deleted for r in tx.channel_rows(channel, 0, 9)] == [True]
            assert tx.channel_head(channel).digest == 0
        assert tx.count_rows() == 0


def test_a_forgotten_leave_raises_the_floor_and_the_row_stays(store: SqliteStore) -> None:
    """What left is kept like any delete: long enough, then cursors below it get a snapshot."""
    write(store, row("item:a"), "all")
    write(store, row("item:b"), "all")
    move(store, "item:a", "segment:a", now_us=50)
    with store.write("t") as tx:
        assert tx.drop_deletes(before_us=50) == 0
        assert tx.drop_deletes(before_us=51) == 1
    with store.read() as tx:
        assert tx.channel_head("all").floor == tx.channel_head("all").seq
        assert [r.entity for r in tx.channel_rows("all", 0, 9)] == ["item:b"]
        assert tx.channels_of("item:a", "v", 1) == ["segment:a"]


def test_deletes_are_forgotten_in_bounded_steps(store: SqliteStore) -> None:
    """Each step takes so many; the row goes after its last place."""
    for n in range(5):
        write(store, row(f"item:{n}"), "all", "segment:a")
        write(store, row(f"item:{n}", 2, deleted=True), "all", "segment:a")
    steps = 0
    while True:
        with store.write("t") as tx:
            if tx.drop_deletes(before_us=99, limit=3) == 0:
                break
        steps += 1
    assert steps >= 4
    with store.read() as tx:
        assert tx.rows_after(0, 9) == []
        assert tx.channel_rows("all", 0, 9) == []


def test_law_4_an_erased_pair_leaves_no_placement(tmp_path: Path) -> None:
    """Rows, tombstones and places of the pair go together; other subjects' rows stay where they are."""
    store = open_store(tmp_path)
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1), ALICE, "ads")
        tx.put_row(PERSONAL, Row(0, TOKEN, "w", 1, 1, 1, 1, True, b""), ALICE, "ads")
        tx.put_row("all", row("item:a"))
    with store.write("t") as tx:
        assert tx.drop_personal(ALICE, "ads") == 2
    with store.read() as tx:
        head = tx.channel_head(PERSONAL)
        assert (head.digest, head.floor) == (0, head.seq)
        assert tx.channel_rows(PERSONAL, 0, 9) == []
        assert len(tx.channel_rows("all", 0, 9)) == 1
    store.close()
    with sqlite3.connect(tmp_path / "server.db") as db:
        assert db.execute("SELECT count(*) FROM placements").fetchone() == (1,)
    db.close()


def test_a_personal_row_leaves_its_channel_without_a_trace(store: SqliteStore) -> None:
    """Out of the tier that is pushed: its small channel starts anew, and the payload opens again later."""
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1, values=b"\x81\xa1x\x07"), ALICE, "ads")
    move(store, TOKEN)
    with store.read() as tx:
        head = tx.channel_head(PERSONAL)
        assert (head.digest, head.floor, tx.channel_rows(PERSONAL, 0, 9)) == (0, head.seq, [])
    move(store, TOKEN, PERSONAL)
    with store.read() as tx:
        assert [r.values for r in tx.channel_rows(PERSONAL, 0, 9)] == [b"\x81\xa1x\x07"]


def test_a_personal_row_of_another_purpose_stands_in_that_purposes_channel_only(store: SqliteStore) -> None:
    """A catalog gave its view another purpose: erasing the new one erases the row; the old holds nothing."""
    other = seal.personal_channel(ALICE, "news")
    with store.write("t") as tx:
        tx.put_row(PERSONAL, row(TOKEN, grant=1), ALICE, "ads")
    with store.write("t") as tx:
        tx.put_row(other, row(TOKEN, 2, grant=2, values=b"\x81\xa1x\x07"), ALICE, "news")
    with store.read() as tx:
        old = tx.channel_head(PERSONAL)
        assert (old.digest, old.floor, tx.channel_rows(PERSONAL, 0, 9)) == (0, old.seq, [])
        assert [r.values for r in tx.channel_rows(other, 0, 9)] == [b"\x81\xa1x\x07"]
    with store.write("t") as tx:
        assert tx.drop_personal(ALICE, "ads") == 0
        assert tx.drop_personal(ALICE, "news") == 1
    with store.read() as tx:
        assert tx.channel_rows(other, 0, 9) == []


# ---- followers -----------------------------------------------------------------------------------------

places = st.lists(st.sampled_from(CHANNELS), unique=True, max_size=3)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from("abcd"), places),
        st.tuples(st.just("delete"), st.sampled_from("abcd"), places),
        st.tuples(st.just("move"), st.sampled_from("abcd"), places),
        st.tuples(st.just("forget"), st.just(""), st.just(list[str]())),
        st.tuples(st.just("sync"), st.sampled_from(CHANNELS), st.just(list[str]())),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(steps, st.integers(1, 3), st.integers(1, 4))
def test_whoever_follows_ends_up_with_what_stands_there(
    plan: list[tuple[str, str, list[str]]], page: int, partitions: int
) -> None:
    """Any order of writes, deletes, moves and forgetting, followed at any time: rows and digest are equal."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        store = SqliteStore(
            path / "s.db", path / "k.db", digest_key=KEY, entropy=CountingEntropy(), partitions=partitions
        )
        followers = {name: Follower(name) for name in CHANNELS}
        stands: dict[str, dict[str, int]] = {name: {} for name in CHANNELS}
        for now_us, (what, name, channels) in enumerate(plan, 1):
            entity = f"item:{name}"
            with store.write("t") as tx:
                standing = tx.row_state(entity, "v", 1)
                alive = standing is not None and not standing.deleted
                match what:
                    case "write" | "delete":
                        one = row(
                            entity, now_us, deleted=what == "delete", values=b"\x81\xa1x" + bytes([now_us])
                        )
                        tx.write_row(standing, one, channels)
                    case "move" if standing is not None and alive:
                        tx.move_row(standing, channels, now_us)
                    case "forget":
                        tx.drop_deletes(now_us - 3)
                    case "sync":
                        followers[name].sync(tx, page)
            if what in ("write", "delete") or (what == "move" and alive):
                was = next((at[entity] for at in stands.values() if entity in at), now_us)
                for channel in CHANNELS:
                    stands[channel].pop(entity, None)
                    if what != "delete" and channel in channels:
                        stands[channel][entity] = now_us if what == "write" else was
        with store.read() as tx:
            for channel in CHANNELS:
                followers[channel].sync(tx, page)
                late = Follower(channel)
                late.sync(tx, page)
                assert late.rows == followers[channel].rows
                assert {r.entity for r in late.rows.values()} == set(stands[channel])
                sizes = [len(r.entity) + len(r.values) for r in late.rows.values()]
                assert tx.channel_size(channel).bytes == sum(sizes)
                head = tx.channel_head(channel)
                assert sum(tx.channel_range_digests(channel)) % digest.MODULUS == head.digest
                seqs = [r.seq for r in tx.channel_rows(channel, 0, 99)]
                assert seqs == sorted(set(seqs))
                assert max(seqs, default=0) <= head.seq
        taken = sqlite3.connect(path / "s.db")
        for number, seq in taken.execute("SELECT partition, seq FROM partitions").fetchall():
            heads = taken.execute("SELECT channel, seq FROM channels").fetchall()
            assert seq == max(s for c, s in heads if partition_of(c, partitions) == number)
        taken.close()
        store.close()


# ---- a store of version 1 ------------------------------------------------------------------------------


def _load(folder: Path) -> None:
    for name in ("server", "keys"):
        with sqlite3.connect(folder / f"{name}.db") as db:
            db.executescript((SCHEMAS / f"{name}_1.sql").read_text())
        db.close()


def _schema(path: Path) -> dict[str, str]:
    """name -> SQL without comments and spacing."""
    with sqlite3.connect(path) as db:
        found = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        version = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    bare = {name: "".join(re.sub(r"--[^\n]*", "", sql).split()) for name, sql in found}
    return {**bare, "version": str(version)}


def test_a_store_of_version_1_upgraded_equals_a_new_one(tmp_path: Path) -> None:
    """Same tables and indexes, and the rows stand where they stood: cursors and digests still hold."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    _load(old)
    with sqlite3.connect(old / "server.db") as db:
        before = db.execute("SELECT channel, seq, digest, floor FROM channels ORDER BY channel").fetchall()
    db.close()
    store = open_store(old)
    open_store(new).close()
    with store.read() as tx:
        for channel, seq, total, floor in before:
            head = tx.channel_head(channel)
            assert (head.seq, digest.to_bytes(head.digest), head.floor) == (seq, total, floor)
            rows = tx.channel_rows(channel, 0, 99)
            assert sum(digest.row_hash(KEY, channel, r) for r in rows) % digest.MODULUS == head.digest
            assert sum(tx.channel_range_digests(channel)) % digest.MODULUS == head.digest
            ranged = [r for n in range(64) for r in tx.channel_range_rows(channel, n, 0, 99)]
            assert sorted(ranged, key=lambda r: r.seq) == rows
            live = [r for r in rows if not r.deleted and not channel.startswith("~")]
            if live:
                assert tx.channel_size(channel).bytes == sum(len(r.entity.encode() + r.values) for r in live)
        assert [(r.entity, r.deleted) for r in tx.channel_rows("all", 0, 99)] == [
            *(("item:é2", False), ("item:é4", False), ("item:é5", False)),
            *(("item:é1", True), ("item:é3", False)),
        ]
        assert [r.values for r in tx.channel_rows(PERSONAL, 0, 9)] == [b"\x81\xa1c\x07", b""]
    with store.write("t") as tx:
        tx.put_row("segment:gold", row("item:é3", 50))
        assert tx.drop_deletes(before_us=32) == 2  # from before the upgrade: of item:é1, and a personal one
    store.close()
    assert _schema(old / "server.db") == _schema(new / "server.db")


def test_catalogs_of_version_1_go_on_pushing_what_they_pushed(tmp_path: Path) -> None:
    """A view that named no tier was written down as warm, and was pushed: it is hot now, as its file says."""
    _load(tmp_path)
    with sqlite3.connect(tmp_path / "server.db") as db:
        old = dict(db.execute("SELECT name, document FROM catalogs").fetchall())
        db.execute("INSERT INTO catalogs VALUES ('broken', 1, 'print', ?, 9)", (b"{",))
    db.close()
    assert b'"tier":"warm"' in old["shop"]
    store = open_store(tmp_path)
    registry = Registry(store)
    examples = Path(__file__).resolve().parents[2] / "examples"
    for file in (examples / "catalogs" / "shop.toml", examples / "demo" / "catalog.toml"):
        catalog = registry.load_file(file, 9)  # no conflict: the same version with the same meaning
        assert {view.tier for view in catalog.model.views.values()} == {"hot"}
    walker = TierWalk(store, registry, 500)
    while walker.step(9):
        pass
    with store.read() as tx:
        assert len([r for r in tx.channel_rows("all", 0, 99) if not r.deleted]) == 4
        broken = tx.catalog("broken", 1)
        assert broken is not None
        assert (broken.document, broken.fingerprint) == (b"{", "print")
    store.close()


def test_law_12_an_upgrade_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """All steps in one transaction: a fault in the last statement, and version 1 is still there whole."""
    _load(tmp_path)
    with sqlite3.connect(tmp_path / "server.db") as db:
        db.execute("CREATE TABLE lineages (x)")  # in the way of the new one
        before = "\n".join(db.iterdump())
    db.close()
    with pytest.raises(sqlite3.OperationalError):
        open_store(tmp_path)
    with sqlite3.connect(tmp_path / "server.db") as db:
        assert "\n".join(db.iterdump()) == before
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
