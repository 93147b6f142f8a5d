"""Whether rows stand outside a channel: as a slow look through all of them says, told when it changes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.wire.messages import Row
from sync_server.catalog.registry import Registry
from sync_server.features.tiers import TierWalk
from sync_server.store.channels import _BESIDE
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import Committed
from sync_server.store.sqlite import SqliteStore
from tests.support.entropy import CountingEntropy
from tests.support.shop import SHOP
from tests.support.warm import WARM

PERSONAL = "~aaaqeayeaudaocajbifqydiob4/personalization"
CHANNELS = ("all", "segment:a", "segment:b")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    paths = (tmp_path / "server.db", tmp_path / "keys.db")
    made = SqliteStore(*paths, digest_key=b"d" * 32, entropy=CountingEntropy())
    yield made
    made.close()


def whole(store: SqliteStore, channel: str = "all") -> bool:
    with store.read() as tx:
        return tx.channel_head(channel).whole


def by_hand(tx: ReadTx) -> bool:
    """No row that is pushed, or would be but for a budget, stands elsewhere than in `all`."""
    outside = tx.execute(
        "SELECT 1 FROM rows r WHERE r.deleted = 0 AND (r.id IN (SELECT row FROM demoted) OR r.id IN"
        " (SELECT p.row FROM placements p JOIN channels c ON c.id = p.channel"
        " WHERE p.deleted = 0 AND c.channel <> 'all'))"
    )
    return outside.fetchone() is None


def move(tx: WriteTx, rng: random.Random, now_us: int) -> None:
    """Something that changes where one of five rows stands."""
    name = f"item:{rng.randrange(5)}"
    standing = tx.row_state(name, "v", 1)
    belongs = rng.choice((("all",), ("all",), ("all",), ("segment:a",), ("segment:a", "segment:b"), ()))
    if standing is None or standing.deleted or rng.random() < 0.4:
        deleted = rng.random() < 0.3
        row = Row(0, name, "v", 1, now_us, now_us, 0, deleted, b"" if deleted else b"\x80")
        tx.write_row(standing, row, belongs)
    elif rng.random() < 0.5:
        tx.move_row(standing, belongs, now_us)
    else:
        change = rng.choice((tx.demote, tx.promote))
        change(standing, rng.choice(CHANNELS), now_us)


@pytest.mark.parametrize("seed", range(6))
def test_law_7_all_is_whole_exactly_when_no_row_stands_beside_it(store: SqliteStore, seed: int) -> None:
    """After every transaction, and inside of it; who follows `all` hears of each change."""
    print(f"seed {seed}")
    rng, told, seen = random.Random(seed), list[frozenset[str]](), set[bool]()
    store.listen(lambda moved: told.append(moved.channels))
    before = whole(store)
    assert before
    for step in range(300):
        told.clear()
        with store.write("move") as tx:
            for _ in range(rng.randrange(1, 4)):
                move(tx, rng, step + 1)
            inside = tx.channel_head("all").whole
        with store.read() as tx:
            expected = by_hand(tx)
        after = whole(store)
        assert inside == after == expected, step
        if after != before:
            assert "all" in told[0], step
        assert not whole(store, "segment:a")
        assert whole(store, PERSONAL)
        before = after
        seen.add(after)
    assert seen == {True, False}


def test_a_transaction_that_fails_tells_nothing_and_changes_nothing(store: SqliteStore) -> None:
    """Heads are written in its middle when somebody asks; they go with the rest."""
    told: list[Committed] = []
    store.listen(told.append)

    def fails() -> None:
        with store.write("t") as tx:
            tx.write_row(None, Row(0, "item:1", "v", 1, 1, 1, 0, False, b"\x80"), ("segment:a",))
            assert not tx.channel_head("all").whole
            raise RuntimeError("in its middle")

    with pytest.raises(RuntimeError, match="middle"):
        fails()
    assert whole(store)
    assert not told


def test_law_11_it_costs_one_look_into_an_index_whatever_is_there(store: SqliteStore) -> None:
    """Thousands of segments that nothing stands in any more are not gone through."""
    with store.write("t") as tx:
        for n in range(2_000):
            row = Row(0, f"item:{n}", "v", 1, 1, 1, 0, False, b"\x80")
            tx.write_row(None, row, (f"segment:{n}",))
        for n in range(2_000):
            standing = tx.row_state(f"item:{n}", "v", 1)
            assert standing is not None
            tx.move_row(standing, ("all",), 2)
    assert whole(store)
    with store.read() as tx:
        plan = " ".join(str(row) for row in tx.execute("EXPLAIN QUERY PLAN " + _BESIDE).fetchall())
        assert "channels_beside" in plan
        held = tx.execute(
            "SELECT count(*) FROM channels INDEXED BY channels_beside WHERE channel >= 'segment:'"
            " AND channel < 'segment;' AND (bytes > 0 OR demoted > 0)"
        )
        assert held.fetchone()[0] == 0, "none of them is in the index"


# ---- rows on their way in -----------------------------------------------------------------------------


def tiered(version: int, tier: str) -> Catalog:
    """The catalog with `item_vec` in another tier."""
    text = SHOP + WARM.replace('tier = "warm"', f'tier = "{tier}"', 1)
    return Catalog.from_toml(text.replace("version = 1", f"version = {version}", 1))


def test_law_7_no_channel_is_whole_while_a_new_catalog_brings_rows_into_it(store: SqliteStore) -> None:
    """From the activation to the last step of the walk, across a restart of the walker."""
    registry = Registry(store)
    walker = TierWalk(store, registry, 2)
    told: list[frozenset[str]] = []
    store.listen(lambda moved: told.append(moved.channels))

    def activate(version: int, tier: str) -> None:
        registry.register(tiered(version, tier), 1)
        registry.activate("shop", version)

    activate(1, "warm")
    while walker.step(1):
        pass
    with store.write("publish") as tx:
        for n in range(5):
            tx.write_row(None, Row(0, f"item:{n}", "item_vec", 1, 1, 1, 0, False, b"\x80"), ())
    assert whole(store)
    assert whole(store, PERSONAL)
    told.clear()
    activate(2, "hot")
    assert (whole(store), whole(store, PERSONAL)) == (False, False)
    assert told == [frozenset({"all"})]
    assert walker.step(1)
    registry = Registry(store)
    walker = TierWalk(store, registry, 2)
    assert not whole(store)
    while walker.step(1):
        assert not whole(store)
    assert (whole(store), whole(store, PERSONAL)) == (True, True)
    with store.read() as reading:
        assert len(reading.channel_rows("all", 0, 9)) == 5
    activate(3, "hot")
    assert whole(store), "nothing more is pushed"
    activate(4, "warm")
    assert walker.step(1)
    assert whole(store), "they are on their way out"
    while walker.step(1):
        pass
    count = store.transactions()["tiers"]
    assert not walker.step(1)
    assert store.transactions()["tiers"] == count, "nothing to do, nothing written"


def test_a_catalog_with_a_view_that_nobody_has_rows_of_makes_channels_whole_at_the_next_look(
    store: SqliteStore,
) -> None:
    """Nothing to walk for: the first step says so."""
    registry = Registry(store)
    walker = TierWalk(store, registry, 10)
    another = '[views.extra]\nversion = 1\nentity = "item"\nsource = "server"\nttl = 0\nowner = "o"\n'
    more = f'{SHOP}{another}[views.extra.features]\nx = {{ dtype = "float64" }}\n'
    for version, text in enumerate((SHOP, more, SHOP, more), 1):  # it comes, goes, and comes as it was
        registry.register(Catalog.from_toml(text.replace("version = 1", f"version = {version}", 1)), 1)
        registry.activate("shop", version)
        assert whole(store) is (text is SHOP)
        while walker.step(1):
            pass
        assert whole(store)
