"""Whose catalog pushes no view that this server does not push."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from sync_server.catalog.registry import Registry, pushed
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.pushed import REMEMBERED, PushedViews
from tests.support.entropy import CountingEntropy
from tests.support.shop import SHOP


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    paths = (tmp_path / "server.db", tmp_path / "keys.db")
    made = SqliteStore(*paths, digest_key=b"d" * 32, entropy=CountingEntropy())
    yield made
    made.close()


def catalog(version: int, tier: str) -> er.Catalog:
    text = SHOP.replace('tier = "hot"', f'tier = "{tier}"')
    return er.Catalog.from_toml(text.replace("version = 1", f"version = {version}", 1))


def test_a_catalog_is_covered_when_all_that_it_pushes_is_pushed(store: SqliteStore) -> None:
    """As of the catalog in force now, whichever was asked about before."""
    registry = Registry(store)
    views = PushedViews(store, lambda: registry.active_or_none)
    assert views.cover("shop@7"), "nothing is in force: nothing is kept from anybody"
    for version, tier in ((1, "hot"), (2, "warm"), (3, "hot"), (4, "cold")):
        registry.register(catalog(version, tier), 1)
    assert pushed(catalog(1, "hot")) - pushed(catalog(2, "warm")) == {"item_stats@1"}
    for active, covered in ((1, [1, 2, 3, 4]), (2, [2, 4]), (3, [1, 2, 3, 4]), (4, [2, 4])):
        registry.activate("shop", active)
        for _ in range(2):
            assert [n for n in range(1, 5) if views.cover(f"shop@{n}")] == covered


@pytest.mark.parametrize(
    "said", ["", "@", "shop", "shop@", "shop@9", "shop@-1", "shop@\u0661", "shop@" + "9" * 40, "x@1", "a@b@1"]
)
def test_law_12_a_name_that_is_none_is_not_covered(store: SqliteStore, said: str) -> None:
    registry = Registry(store)
    registry.register(catalog(1, "hot"), 1)
    assert PushedViews(store, lambda: registry.active_or_none).cover(said) is False


def test_law_11_only_so_many_names_are_remembered(store: SqliteStore) -> None:
    registry = Registry(store)
    registry.register(catalog(1, "hot"), 1)
    views = PushedViews(store, lambda: registry.active_or_none)
    for n in range(3 * REMEMBERED):
        assert not views.cover(f"made up@{n}")
        assert len(views._known) <= REMEMBERED
    assert views.cover("shop@1")
