"""A channel over its byte budget: rows leave it by score and stay on demand; the API says which and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import digest
from edge_runtime.wire.messages import Row
from sync_server.settings import MINUTE_US, Settings
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.hot_keeping import Gathering, HotKeeper
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import ShopServer

KEY = b"d" * 32
SIZE = 100
"""Bytes of one row here: id and payload."""


class Rooms:
    """A store and a keeper without the tasks beside them."""

    def __init__(self, folder: Path, budget_rows: int, chunk: int = 7) -> None:
        self.store = SqliteStore(
            folder / "server.db", folder / "keys.db", digest_key=KEY, entropy=CountingEntropy()
        )
        self.fetched: dict[str, float] = {}
        self.settings = Settings(
            folder, hot_channel_bytes=budget_rows * SIZE, write_chunk_rows=chunk, page_rows=2
        )
        self.keeper = HotKeeper(
            self.store,
            lambda: None,
            self.settings,
            lambda view, entity, now_us: self.fetched.get(entity, 0.0),
        )
        self.now_us = 1_000 * MINUTE_US

    def put(self, *numbers: int, channels: tuple[str, ...] = ("all",), use: float = 0.0) -> None:
        with self.store.write("t") as tx:
            for n in numbers:
                name = f"item:{n:03}"
                payload = b"\xc4" + bytes([SIZE - len(name) - 2]) + bytes(SIZE - len(name) - 2)
                one = Row(0, name, "v", 1, self.now_us, self.now_us, 0, False, payload)
                standing = tx.row_state(name, "v", 1)
                tx.write_row(standing, one, channels, use=use)

    def keep(self) -> int:
        """A minute later: steps until nothing is to do."""
        self.now_us += MINUTE_US
        return next(n for n in range(10_000) if not self.keeper.step(self.now_us))

    def live(self, channel: str = "all") -> set[int]:
        with self.store.read() as tx:
            rows = [r for r in tx.channel_rows(channel, 0, 9_999) if not r.deleted]
            head = tx.channel_head(channel)
            assert sum(digest.row_hash(KEY, channel, r) for r in rows) % digest.MODULUS == head.digest
            size = tx.channel_size(channel)
            assert size.bytes == SIZE * len(rows)
        return {int(r.entity[5:]) for r in rows}

    def kept_out(self, channel: str = "all") -> int:
        with self.store.read() as tx:
            out = tx.rows_kept_out(channel, 0, 9_999)
            assert tx.channel_size(channel).demoted == len(out)
        return len(out)


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    made = Rooms(tmp_path, budget_rows=10)
    yield made
    made.store.close()


def test_law_11_a_channel_over_its_budget_keeps_what_scores_most(rooms: Rooms) -> None:
    """Thirty rows, room for ten: those that are asked for stay; the others are deletes there, and kept."""
    rooms.put(*range(30))
    rooms.fetched = {f"item:{n:03}": 5.0 for n in range(20, 30)}
    assert rooms.keep() > 5, "many short steps"
    assert rooms.live() == set(range(20, 30))
    assert rooms.kept_out() == 20
    with rooms.store.read() as tx:
        for n in range(30):
            state = tx.row_state(f"item:{n:03}", "v", 1)
            assert state is not None
            assert len(state.values) == SIZE - 8
    assert rooms.keeper.moved == {"in": 0, "out": 20}
    rooms.keep()
    assert rooms.keeper.moved == {"in": 0, "out": 20}, "nothing flaps"


def test_a_row_that_is_kept_out_is_published_on_and_comes_back_when_it_is_asked_for(rooms: Rooms) -> None:
    """A publish changes it and enters no channel; then it takes the place of one that nobody asks for."""
    rooms.put(*range(12))
    rooms.keep()
    out = min(set(range(12)) - rooms.live())
    with rooms.store.read() as tx:
        before = tx.channel_head("all")
    rooms.put(out)
    with rooms.store.read() as tx:
        assert tx.channel_head("all") == before
    rooms.fetched = {f"item:{out:03}": 50.0}
    rooms.keep()
    assert out in rooms.live()
    assert len(rooms.live()) == 10
    assert rooms.kept_out() == 2


def test_rows_come_back_when_there_is_room(rooms: Rooms) -> None:
    """Others were deleted or left: what was kept out enters again."""
    rooms.put(*range(14))
    rooms.keep()
    gone = sorted(rooms.live())[:6]
    with rooms.store.write("t") as tx:
        for n in gone:
            state = tx.row_state(f"item:{n:03}", "v", 1)
            assert state is not None
            tx.write_row(state, Row(0, state.entity, "v", 1, 2**60, 2**60, 0, True, b""), ("all",))
    rooms.keep()
    assert rooms.live() == set(range(14)) - set(gone)
    assert rooms.kept_out() == 0


def test_a_row_that_is_kept_out_and_deleted_or_moved_elsewhere_is_kept_out_no_more(rooms: Rooms) -> None:
    """The channel's count goes with it, and in the other channel it stands."""
    rooms.put(*range(13))
    rooms.keep()
    first, second, third = sorted(set(range(13)) - rooms.live())
    with rooms.store.write("t") as tx:
        state = tx.row_state(f"item:{first:03}", "v", 1)
        assert state is not None
        tx.write_row(state, Row(0, state.entity, "v", 1, 2**60, 2**60, 0, True, b""), ("all",))
        moved = tx.row_state(f"item:{second:03}", "v", 1)
        assert moved is not None
        tx.move_row(moved, ("segment:gold",), rooms.now_us)
    assert rooms.kept_out() == 1
    assert rooms.live("segment:gold") == {second}
    rooms.put(first)
    assert first in rooms.live(), "a new row, until it is weighed"
    assert third not in rooms.live()


def test_a_budget_is_a_channels_own(rooms: Rooms) -> None:
    """A row of two channels may be kept out of the full one and stand in the other."""
    rooms.put(*range(9), channels=("segment:a",))
    rooms.put(*range(20, 24), channels=("segment:a", "segment:b"), use=0.0)
    rooms.fetched = {f"item:{n:03}": 9.0 for n in range(9)}
    rooms.keep()
    assert len(rooms.live("segment:a")) == 10
    assert rooms.live("segment:a") >= set(range(9))
    assert rooms.live("segment:b") == set(range(20, 24))
    assert rooms.kept_out("segment:a") == 3


def test_law_4_personal_channels_are_not_weighed(rooms: Rooms) -> None:
    """However large: no use of a subject is counted, and no row of theirs is a candidate."""
    with rooms.store.write("t") as tx:
        for n in range(30):
            one = Row(0, "~token", f"v{n}", 1, 1, 1, 1, False, bytes(SIZE))
            tx.write_row(None, one, ("~token/ads",), b"alice-alice-alic", "ads")
    rooms.keep()
    with rooms.store.read() as tx:
        assert len(tx.channel_rows("~token/ads", 0, 99)) == 30


def test_rows_that_change_while_they_are_read_are_moved_as_they_stand_then(rooms: Rooms) -> None:
    """Moves and publishes between any two steps: the store's sums hold all along, and the next look fits."""
    rooms.put(*range(40))
    rooms.now_us += MINUTE_US
    for number in range(200):
        if not rooms.keeper.step(rooms.now_us):
            break
        n = (number * 7) % 40
        with rooms.store.write("t") as tx:
            state = tx.row_state(f"item:{n:03}", "v", 1)
            assert state is not None
            if number % 3 == 0 and not state.deleted:
                tx.move_row(state, ("segment:gold",) if number % 2 else ("all",), rooms.now_us)
        if number % 3 == 1:
            rooms.put(n)
        rooms.live()
        rooms.kept_out()
    rooms.keep()
    assert len(rooms.live()) <= 10


def test_a_row_that_changes_between_two_pages_is_read_once(rooms: Rooms) -> None:
    """Its new seq lies ahead of the reading; counted twice it would take another's room."""
    rooms.put(*range(10))
    gathering, found = Gathering("all", 4), list[int]()
    while True:
        with rooms.store.read() as tx:
            page = gathering.read(tx)
        if page is None:
            break
        found += [row.id for row in page]
        if len(found) == 4:
            rooms.put(0, 1)
    assert sorted(found) == sorted(set(found))
    assert len(found) == 10


def test_rows_written_and_kept_out_in_one_transaction_stand_as_both_say(rooms: Rooms) -> None:
    """What a transaction has looked up before does not outlive a demotion in it."""
    rooms.put(1)
    with rooms.store.write("t") as tx:
        other = Row(0, "item:002", "v", 1, 1, 1, 0, False, bytes(SIZE - 8))
        tx.write_row(None, other, ("all",))
        state = tx.row_state("item:001", "v", 1)
        assert state is not None
        assert tx.demote(state, "all", 1)
        assert not tx.demote(state, "all", 1), "it does not stand there"
    assert rooms.live() == {2}
    with rooms.store.write("t") as tx:
        assert tx.promote(state, "all", 1)
        assert not tx.promote(state, "all", 1), "it is not kept out"
    assert rooms.live() == {1, 2}


# ---- the doors -----------------------------------------------------------------------------------------


def item(name: str) -> dict[str, object]:
    return {"entity": f"item:{name}", "event_time": 1_700_000_000, "values": {"embedding": [0.5] * 16}}


async def test_the_hot_set_is_explained_and_importance_changes_it(tmp_path: Path) -> None:
    """Scores, parts, reasons, pages; what an operator says counts from the next look on."""
    async with ShopServer(tmp_path / "data", ManualClock(), hot_channel_bytes=450, page_rows=3) as shop:
        await shop.publish("item_vec", [item(n) for n in "abcd"])
        reply = await shop.call("GET", "/v1/hot-set?channel=all")
        assert reply.status == 200
        assert (reply.body["budget_bytes"], reply.body["rows"] + reply.body["kept_out"]) == (450, 4)
        first = reply.body["ranking"][0]
        assert first.items() >= {"rank": 1, "entity": "item:a", "view": "item_vec@2", "hot": True}.items()
        assert first["reason"] == "within the budget"
        assert reply.body["next"] == 3
        rest = await shop.call("GET", "/v1/hot-set?channel=all&after=3")
        assert [r["entity"] for r in rest.body["ranking"]] == ["item:d"]
        assert rest.body["ranking"][0]["reason"] == "the budget is full"
        assert rest.body["next"] is None
        said = {"view": "item_vec", "entity": "item:d", "importance": 1.0}
        assert (await shop.call("PUT", "/v1/hot-set/importance", said)).status == 200
        reply = await shop.call("GET", "/v1/hot-set?channel=all")
        assert reply.body["ranking"][0].items() >= {"entity": "item:d", "importance": 1.0}.items()
        await shop.call("PUT", "/v1/hot-set/importance", {**said, "importance": None})
        reply = await shop.call("GET", "/v1/hot-set?channel=all")
        assert reply.body["ranking"][0]["entity"] == "item:a"
        text = (await shop.call("GET", "/metrics")).body.decode()
        assert 'edge_sync_channel_bytes{channel="all"}' in text
        assert 'edge_sync_channel_rows_kept_out{channel="all"}' in text
        assert 'edge_sync_hot_set_moves_total{way="out"}' in text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"view": "nothing", "importance": 0.5}, 422, "unknown_view"),
        ({"view": "activity", "importance": 0.5}, 422, "unknown_view"),
        ({"view": "item_vec", "importance": 1.5}, 422, "invalid_request"),
        ({"view": "item_vec", "importance": -0.1}, 422, "invalid_request"),
        ({"view": "item_vec", "importance": "high"}, 422, "invalid_request"),
        ({"view": "item_vec"}, 422, "invalid_request"),
        ({"view": "profile", "entity": "user:alice", "importance": 1}, 422, "invalid_id"),
    ],
)
async def test_law_12_an_importance_that_is_none_is_refused(
    shop: ShopServer, body: object, status: int, code: str
) -> None:
    """By its code; a subject has none."""
    reply = await shop.call("PUT", "/v1/hot-set/importance", body)
    assert (reply.status, reply.body["code"]) == (status, code)


@pytest.mark.parametrize(
    "query", ["", "?channel=", "?channel=~x/ads", "?channel=all&after=-1", "?channel=all&after=x"]
)
async def test_law_12_a_question_that_is_none_is_refused(shop: ShopServer, query: str) -> None:
    """A personal channel is nobody's to explain."""
    reply = await shop.call("GET", f"/v1/hot-set{query}")
    assert (reply.status, reply.body["code"]) == (400, "malformed_query")


async def test_law_11_importances_are_bounded(tmp_path: Path) -> None:
    """What is set can still be changed when no more fit."""
    async with ShopServer(tmp_path / "data", ManualClock(), importances=1) as shop:
        said = {"view": "item_vec", "entity": "item:a", "importance": 0.1}
        assert (await shop.call("PUT", "/v1/hot-set/importance", said)).status == 200
        assert (await shop.call("PUT", "/v1/hot-set/importance", {**said, "entity": "item:b"})).status == 413
        assert (await shop.call("PUT", "/v1/hot-set/importance", {**said, "importance": 0.9})).status == 200
