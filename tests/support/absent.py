"""What reads say of rows that are not there, in the steps of a real session with a town."""

from __future__ import annotations

from collections.abc import Callable

import edge_runtime as er
from edge_runtime.wire import messages as m
from sync_server.catalog.registry import Registry
from sync_server.features.placing import Placing
from tests.support.shop import SHOP
from tests.support.town import Session, Town, packed
from tests.support.warm import WARM, Device, warm_catalog

FEATURE = "item_stats:co_bought"
"""Of a hot view; it has no default."""
NOT_FOUND = "NOT_FOUND: the server has no such row"
ON_ITS_WAY = "NOT_SYNCED: its channel is not known to be equal to the server's yet"
ELSEWHERE = "NOT_SYNCED: the server has rows that no channel here brings: `fetch` tells if this is one"
NO_CHANNEL = "NOT_SYNCED: its channel was not received yet"
VIEWS = warm_catalog().model.views


def reason(device: Device, item: object, feature: str = FEATURE) -> str:
    return device.rt.read(feature, item=str(item)).reason


def profile(device: Device, feature: str = "profile:country") -> str:
    return device.rt.read(feature, user="alice").reason


def publish(town: Town, name: object, *, deleted: bool = False, **values: object) -> None:
    """One row of a hot view, placed as the door places it."""
    entity, now_us = f"item:{name}", town.clock.now_us()
    body = b"" if deleted else packed({"co_bought": {"x": 1.0}, **values})
    with town.store.write("publish") as tx:
        row = m.Row(0, entity, "item_stats", 1, now_us, now_us, 0, deleted, body)
        belongs = Placing(VIEWS).of_view(tx, VIEWS["item_stats@1"], entity, None)
        tx.write_row(tx.row_state(entity, "item_stats", 1), row, belongs)


def regroup(town: Town, name: object, *, joined: str = "", parted: str = "") -> None:
    with town.store.write("segment") as tx:
        if joined:
            tx.join_segment(f"item:{name}", joined, 1)
        if parted:
            tx.part_segment(f"item:{name}", parted, 1)
        Placing(VIEWS).move_entity(tx, f"item:{name}", town.clock.now_us())


def until_heard(session: Session, kind: type[m.Message], look: Callable[[], None]) -> None:
    """Step until a message of this kind is heard, and look after every frame before it."""
    for _ in range(1_000):
        assert session.step()
        if isinstance(session.heard[-1], kind):
            return
        look()
    raise AssertionError(f"no {kind.__name__}")


def register(town: Town, catalog: er.Catalog) -> None:
    Registry(town.store).register(catalog, 1)


def told_whole(device: Device) -> bool | None:
    with device.rt._database.read() as tx:
        return tx.channels()["all"].whole


def demanding(version: int) -> er.Catalog:
    """The catalog with `item_stats` on demand."""
    text = (SHOP + WARM).replace('tier = "hot"', 'tier = "warm"')
    return er.Catalog.from_toml(text.replace("version = 1", f"version = {version}", 1))
