"""Tiers: hot rows are pushed, warm and cold ones stand in no channel; a new catalog moves what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.wire import seal
from edge_runtime.wire.messages import Row
from sync_server.api.rooms import REGISTRY
from sync_server.catalog.registry import Registry
from sync_server.features.placing import Placing
from sync_server.features.tiers import Standing, TierWalk, arrived, begin
from sync_server.store.records import ChannelHead, Committed
from sync_server.store.sqlite import SqliteStore
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import CATALOG, ShopServer

AT = "2023-11-01T00:00:00Z"


def item(name: str, at: object = AT, **more: object) -> dict[str, object]:
    return {"entity": f"item:{name}", "event_time": at, "values": {"popularity": 0.5}, **more}


def catalog(version: int, **tiers: str) -> Catalog:
    table: Any = Catalog.load(CATALOG).to_dict()
    table["catalog"]["version"] = version
    for view, tier in tiers.items():
        (key,) = (key for key in table["views"] if key.startswith(f"{view}@"))
        table["views"][key]["tier"] = tier
    return Catalog.from_dict(table)


def activate(shop: ShopServer, made: Catalog) -> None:
    registry = shop.app[REGISTRY]
    registry.register(made, shop.clock.now_us())
    registry.activate(made.name, made.version)


def walk(shop: ShopServer) -> None:
    """Until every row stands as it should."""
    walker = TierWalk(shop.store, shop.app[REGISTRY], 500)
    while walker.step(shop.clock.now_us()):
        pass


def live(shop: ShopServer, channel: str) -> list[str]:
    with shop.store.read() as tx:
        return sorted(r.entity for r in tx.channel_rows(channel, 0, 99_999) if not r.deleted)


def test_a_view_that_names_no_tier_is_pushed() -> None:
    """As before there were tiers."""
    assert {v.tier for v in catalog(3).model.views.values()} == {"hot"}


@pytest.mark.parametrize("tier", ["warm", "cold"])
async def test_rows_that_are_not_hot_are_kept_and_pushed_to_nobody(shop: ShopServer, tier: str) -> None:
    """Published, corrected and deleted like any row, in no channel; segments change nothing."""
    activate(shop, catalog(9, item_stats=tier))
    await shop.publish("item_stats", [item("a", 10), item("b", 10, segments=["gold"])])
    await shop.publish("item_stats", [item("a", 20)])
    assert live(shop, "all") == live(shop, "segment:gold") == []
    with shop.store.read() as tx:
        standing = tx.row_state("item:a", "item_stats", 1)
        assert standing is not None
        assert (standing.event_time_us, tx.channel_head("all").seq) == (20_000_000, 0)
    await shop.publish("item_stats", [{"entity": "item:a", "event_time": 30, "deleted": True}])
    with shop.store.read() as tx:
        assert tx.channel_rows("all", 0, 9) == []


class Rooms:
    """A store and its registry without the tasks beside them: a walk moves when a test says so."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        paths = (folder / "server.db", folder / "keys.db")
        self.store = SqliteStore(*paths, digest_key=b"d" * 32, entropy=CountingEntropy())
        self.registry = Registry(self.store)

    def activate(self, made: Catalog) -> None:
        self.registry.register(made, 1)
        self.registry.activate(made.name, made.version)

    def publish(self, view: str, *names: str) -> None:
        """As the door does it."""
        declared = self.registry.active.view(view)
        with self.store.write("publish") as tx:
            for name in names:
                one = Row(0, f"item:{name}", view, declared.version, 1, 1, 0, False, b"\x80")
                standing = tx.row_state(one.entity, view, declared.version)
                placing = Placing(self.registry.active.model.views)
                tx.write_row(standing, one, placing.of_view(tx, declared, one.entity, None))

    def walk(self, chunk: int, most: int = 1_000) -> int:
        """Steps until every row stands as it should, or `most`."""
        walker = TierWalk(self.store, self.registry, chunk)
        return next((n for n in range(1, most + 1) if not walker.step(1)), most)

    def live(self, channel: str) -> int:
        with self.store.read() as tx:
            return sum(not r.deleted for r in tx.channel_rows(channel, 0, 99_999))

    def head(self) -> ChannelHead:
        with self.store.read() as tx:
            return tx.channel_head("all")


def test_a_catalog_that_changes_a_tier_moves_the_rows_in_bounded_steps(tmp_path: Path) -> None:
    """Out when it is not hot any more, in when it is again: where segments say by then."""
    rooms = Rooms(tmp_path)
    rooms.activate(catalog(8))
    rooms.publish("item_stats", *map(str, range(25)))
    rooms.publish("item_vec", "0")
    rooms.activate(catalog(9, item_stats="warm"))
    assert rooms.walk(10) == 3
    assert rooms.live("all") == 1, "the vector is still hot"
    with rooms.store.write("segment") as tx:
        for name in "01":
            tx.join_segment(f"item:{name}", "gold", 1)
            Placing(rooms.registry.active.model.views).move_entity(tx, f"item:{name}", 1)
    assert rooms.live("segment:gold") == 1
    rooms.activate(catalog(10))
    assert rooms.walk(10) == 3
    assert (rooms.live("segment:gold"), rooms.live("all")) == (3, 23)
    head = rooms.head()
    assert rooms.walk(10) == 1
    assert rooms.head() == head, "nothing is left to do"


def test_law_6_a_walk_goes_on_after_a_restart_and_starts_over_for_another_catalog(tmp_path: Path) -> None:
    """Its position is in the store; rows published meanwhile stand right at once."""
    rooms = Rooms(tmp_path)
    rooms.activate(catalog(8))
    rooms.publish("item_stats", *map(str, range(30)))
    rooms.activate(catalog(9, item_stats="warm"))
    assert rooms.walk(10, most=1) == 1
    assert rooms.live("all") == 20
    rooms.store.close()
    rooms = Rooms(tmp_path)
    rooms.publish("item_stats", "late")
    assert rooms.walk(10, most=1) == 1
    assert rooms.live("all") == 10, "it went on where it stopped, and `late` never stood there"
    rooms.activate(catalog(10))
    assert rooms.walk(10, most=1) == 1
    assert rooms.live("all") == 20, "it started over"
    rooms.activate(catalog(11, item_stats="cold"))
    rooms.walk(7)
    assert rooms.live("all") == 0
    rooms.activate(catalog(12))
    rooms.walk(7)
    assert rooms.live("all") == 31


async def test_a_catalog_that_comes_between_two_chunks_of_a_batch_counts_from_there_on(
    tmp_path: Path,
) -> None:
    """Else rows written behind the walk would stand wrong for ever."""
    async with ShopServer(tmp_path / "data", ManualClock(), write_chunk_rows=10) as shop:
        made = iter([catalog(9, item_stats="warm")])

        def another(moved: Committed) -> None:
            if "all" in moved.channels and (new := next(made, None)) is not None:
                activate(shop, new)

        shop.store.listen(another)
        await shop.publish("item_stats", [item(str(n)) for n in range(40)])
        assert len(live(shop, "all")) <= 10
        walk(shop)
        assert live(shop, "all") == []


async def test_personal_rows_leave_their_channel_with_their_tier_and_come_back(shop: ShopServer) -> None:
    """Still under the live grant, still sealed; and a withdrawal erases them wherever they stand."""
    await shop.give("alice")
    row = {"entity": "user:alice", "event_time": AT, "values": {"country": "UK"}}
    await shop.publish("profile", [row], as_of=1)
    channel = seal.personal_channel(shop.pseudonym("alice"), "personalization")
    assert len(live(shop, channel)) == 1
    activate(shop, catalog(9, profile="warm"))
    walk(shop)
    assert live(shop, channel) == []
    activate(shop, catalog(10, profile="hot"))
    walk(shop)
    assert len(live(shop, channel)) == 1
    activate(shop, catalog(9, profile="warm"))
    walk(shop)
    await shop.revoke("alice")
    token = seal.subject_token(shop.pseudonym("alice"))
    with shop.store.read() as tx:
        assert tx.row_state(token, "profile", 1) is None


async def test_rows_of_a_view_that_the_catalog_lacks_stay_as_they_are(shop: ShopServer) -> None:
    """Devices with an older catalog still use them; segments still move them."""
    await shop.publish("item_stats", [item("a")])
    table: Any = catalog(9).to_dict()
    del table["views"]["item_stats@1"]
    table["services"] = {}
    activate(shop, Catalog.from_dict(table))
    walk(shop)
    assert live(shop, "all") == ["item:a"]
    await shop.call("PUT", "/v1/segments/gold", {"members": ["item:a"]})
    assert (live(shop, "all"), live(shop, "segment:gold")) == ([], ["item:a"])


tiers = st.dictionaries(st.sampled_from(["a@1", "b@1", "c@1"]), st.booleans())


@settings(max_examples=200)
@given(st.lists(tiers, min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_after_any_catalogs_and_any_steps_between_them_every_row_stands_right(
    plan: list[dict[str, bool]], steps: list[int]
) -> None:
    """A model of nine rows: whatever was cut off where, the last walk leaves each as its view says."""
    rows = [(n, "abc"[n % 3] + "@1") for n in range(9)]
    stands = dict.fromkeys(range(9), True)
    standing = Standing()

    def go(goal: dict[str, bool]) -> bool:
        nonlocal standing
        standing = begin(standing, goal)
        if not standing.walk:
            return False
        page = [row for row in rows if row[0] >= standing.after][:2]
        for n, view in page:
            if view in standing.walk:
                stands[n] = standing.walk[view]
        if len(page) < 2:
            standing = arrived(standing)
            return False
        standing = Standing(standing.pushed, standing.walk, page[-1][0] + 1)
        return True

    for goal, count in zip(plan, steps, strict=False):
        for _ in range(count):
            go(goal)
    while go(plan[-1]):
        pass
    for n, view in rows:
        if view in plan[-1]:
            assert stands[n] == plan[-1][view]
