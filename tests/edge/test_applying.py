"""A frame's rows are put together as if one by one: of each place the newest stands, and the sum is right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import LET_GO
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.sync import gate
from edge_runtime.sync.applying import Applying
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf, Shelf
from edge_runtime.wire import codec, digest, seal
from edge_runtime.wire.digest import RowHasher
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Row
from tests.support.consent_room import Room
from tests.support.shop import shop_catalog

SHOP = shop_catalog().model
ALL, KEY = gate.channel_of("all"), bytes(range(32))
GOOD = codec.pack({"popularity": 0.5})
TRIMMED = codec.pack({"popularity": "high"})

rows = st.builds(
    Row,
    seq=st.just(0),
    entity=st.sampled_from(["item:1", "item:2", "item:3"]),
    view=st.sampled_from(["item_stats", "item_stats", "unknown"]),
    version=st.just(1),
    event_time_us=st.integers(1, 3),
    created_us=st.just(1),
    grant=st.just(0),
    deleted=st.sampled_from([False, False, False, True]),
    values=st.sampled_from([GOOD, TRIMMED, codec.pack({})]),
)
frames = st.lists(st.lists(rows, max_size=6), max_size=4)


def numbered(said: list[list[Row]]) -> list[list[Row]]:
    """As a server counts them: through all frames."""
    seq = itertools.count(1)
    return [[Row(next(seq), *_after_seq(row)) for row in frame] for frame in said]


def _after_seq(row: Row) -> tuple[str, str, int, int, int, int, bool, bytes]:
    times = row.event_time_us, row.created_us
    return row.entity, row.view, row.version, *times, row.grant, row.deleted, row.values


def applying(shelf: Shelf, channel: gate.Channel, grant: int, *, room: bool = True) -> Applying:
    return Applying(shelf, channel, grant, SHOP, Fitting(SHOP), RowHasher(KEY, channel.name), room)


@given(said=frames, room=st.booleans(), replacing=st.booleans())
@settings(max_examples=200)
def test_whatever_a_frame_holds_the_newest_stand_and_the_digest_is_their_sum(
    said: list[list[Row]], room: bool, replacing: bool
) -> None:
    """The oracle keeps, row by row, the newest of each place in a dict."""
    held: dict[tuple[str, str, int], Row] = {}
    database = Database.open(":memory:", bytes(32))
    total = 0
    for number, frame in enumerate(numbered(said)):
        with database.write("frame") as tx:
            shelf = PlainShelf(tx, "all", 0)
            if replacing and number == 1:
                shelf.clear()
                held.clear()
                total = 0
            total = applying(shelf, ALL, 0, room=room).take(frame, total)
            shelf.move(number, total)
        for row in frame:
            place = row.entity, row.view, row.version
            if row.deleted:
                held.pop(place, None)
            elif place not in held or held[place].event_time_us <= row.event_time_us:
                held[place] = row
    assert total == sum(digest.row_hash(KEY, "all", row) for row in held.values()) % digest.MODULUS
    with database.read() as tx:
        stored = {(row.entity, row.view, row.version): row for row, _ in tx.rows_in_channel("all")}
    assert stored.keys() == held.keys()
    for place, row in stored.items():
        assert (row.seq, row.values) == (held[place].seq, expected(held[place], room=room))
    database.close()


def expected(row: Row, *, room: bool) -> bytes:
    if row.view == "unknown":
        return b""
    kept = codec.pack({}) if row.values == TRIMMED else row.values
    return kept if room or len(kept) <= len(LET_GO) else LET_GO


def places(tmp_path: Path) -> Iterator[tuple[WriteTransaction, Shelf, gate.Channel, Row]]:
    with Room(tmp_path) as room:
        room.consents.give("alice", ["personalization"], notice="n")
        key = room.key()
        channel = gate.channel_of(seal.personal_channel(bytes(16), "personalization"))
        assert isinstance(channel, gate.Personal)
        with room.database.write("w") as tx:
            mine = Row(1, channel.token, "profile", 1, 5, 5, 4, False, codec.pack({"country": "DE"}))
            yield tx, PersonalShelf(tx, key), channel, mine
            yield tx, PlainShelf(tx, "all", 0), ALL, Row(1, "item:1", "item_stats", 1, 5, 5, 0, False, GOOD)


def test_both_kinds_of_channel_count_what_became_of_rows(tmp_path: Path) -> None:
    """Kept, older, deleted; the second time the same row takes its own part out of the digest."""
    for _, shelf, channel, row in places(tmp_path):
        first = applying(shelf, channel, row.grant)
        total = first.take([row], 0)
        older = Row(2, row.entity, row.view, 1, 4, 4, row.grant, False, row.values)
        assert first.take([row], total) == total
        assert first.take([older], total) == total
        assert (first.applied.kept, first.applied.older) == (2, 1)
        gone = Row(3, row.entity, row.view, 1, 6, 6, row.grant, True, b"")
        assert first.take([gone, older], total) == digest.row_hash(KEY, channel.name, older)
        assert (first.applied.kept, first.applied.deleted) == (3, 1)


@pytest.mark.parametrize("grant", [0, 4])
def test_a_frame_without_rows_changes_nothing_whatever_the_grant(tmp_path: Path, grant: int) -> None:
    for _, shelf, channel, _ in places(tmp_path):
        assert applying(shelf, channel, grant).take([], 7) == 7


def test_law_2_a_frame_with_one_row_of_another_grant_keeps_the_others(tmp_path: Path) -> None:
    for _, shelf, channel, row in places(tmp_path):
        if not isinstance(channel, gate.Personal):
            continue
        old = Row(2, f"{row.entity}|item:1", row.view, 1, 9, 9, row.grant - 1, False, row.values)
        work = applying(shelf, channel, row.grant)
        total = work.take([row, old], 0)
        assert work.applied.stubs == {"another grant": 1}
        assert work.applied.kept == 1
        parts = [digest.row_hash(KEY, channel.name, one) for one in (row, old)]
        assert total == sum(parts) % digest.MODULUS


def test_law_1_a_row_that_must_never_stand_here_refuses_the_frame(tmp_path: Path) -> None:
    for _, shelf, channel, row in places(tmp_path):
        other = Row(2, "user:bob", row.view, 1, 9, 9, row.grant, False, row.values)
        with pytest.raises(WireFailure, match="no_permission"):
            applying(shelf, channel, row.grant).take([row, other], 0)
