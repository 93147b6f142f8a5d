"""A row that moves between channels arrives and leaves on real devices, and every digest stays equal."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.wire import messages as m
from sync_server.features.placing import Placing
from sync_server.sync.hot_keeping import HotKeeper
from tests.support.shop import shop_catalog
from tests.support.town import Kiosk, Session, Town, packed
from tests.support.warm import Device, warm_catalog, warm_town

CHANNELS = ("all", "segment:gold", "segment:silver")
ACTS = ("publish", "regroup", "delete", "weigh", "forget", "talk", "cut")


def regroup(town: Town, n: int, joined: set[str], parted: set[str]) -> None:
    """As the door does it, in one transaction."""
    entity, placing = f"item:{n}", Placing(shop_catalog().model.views)
    with town.store.write("segment") as tx:
        for name in joined:
            tx.join_segment(entity, name, 1)
        for name in parted:
            tx.part_segment(entity, name, 1)
        placing.move_entity(tx, entity, town.clock.now_us())


def publish(town: Town, n: int, popularity: float) -> None:
    placing, view = Placing(shop_catalog().model.views), shop_catalog().view("item_stats")
    with town.store.write("publish") as tx:
        row = town.item_row(n, values={"popularity": popularity})
        standing = tx.row_state(row.entity, row.view, row.version)
        tx.write_row(standing, row, placing.of_view(tx, view, row.entity, None))


def equal(town: Town, kiosk: Kiosk, channels: tuple[str, ...]) -> None:
    for channel in channels:
        assert kiosk.stand(channel) == town.head(channel), channel


def test_a_row_moves_from_all_to_a_segment_and_back_on_who_follows_which(town: Town, tmp_path: Path) -> None:
    """Who follows only `all` loses it; who follows the segment too has it all along."""
    town.put(5)
    both = Kiosk(town, tmp_path / "both", patterns=("all", "segment:gold"))
    plain = Kiosk(town, tmp_path / "plain", patterns=("all",))
    sessions = [Session(both), Session(plain)]
    for session in sessions:
        session.settle()
    regroup(town, 3, {"gold"}, set())
    for session in sessions:
        session.settle()
    assert set(both.rows()) == {f"item:{n}" for n in range(5)}
    assert set(plain.rows()) == {f"item:{n}" for n in (0, 1, 2, 4)}
    publish(town, 3, 0.75)
    regroup(town, 3, set(), {"gold"})
    for session in sessions:
        session.settle()
    assert both.rows() == plain.rows()
    assert len(plain.rows()) == 5
    equal(town, both, ("all", "segment:gold"))
    equal(town, plain, ("all",))
    for session in sessions:
        again = [d for d in session.heard_of(m.Delta) if isinstance(d, m.Delta) and d.replacing]
        assert len(again) == len({d.channel for d in again}), "a move needs no snapshot"
        session.close()
    both.close()
    plain.close()


def test_a_row_kept_out_by_the_budget_is_fetched_and_being_asked_for_brings_it_back(tmp_path: Path) -> None:
    """Out: a delete on the device. On demand: present. Asked for often: pushed again, another one goes."""
    town = warm_town(tmp_path / "town", hot_channel_bytes=250)
    device = Device(town, tmp_path / "device")
    session = Session(device)  # type: ignore[arg-type]
    catalog, use = warm_catalog(), town.node.on_demand.use
    keeper = HotKeeper(town.store, lambda: catalog, town.settings, use.of)

    def look() -> list[str]:
        town.clock.advance(seconds=60)
        while keeper.step(town.clock.now_us()):
            pass
        session.settle()
        assert device.stands()["all"] == town.head()
        with town.store.read() as tx:
            return sorted(r.entity for r in tx.channel_rows("all", 0, 99) if not r.deleted)

    now_us, view = town.clock.now_us(), catalog.view("item_stats")
    with town.store.write("publish") as tx:
        for name in "abc":
            values = packed({"popularity": 0.5, "co_bought": {"x" * 60: 1.0}})
            row = m.Row(0, f"item:{name}", "item_stats", 1, now_us, now_us, 0, False, values)
            belongs = Placing(catalog.model.views).of_view(tx, view, row.entity, None)
            tx.write_row(None, row, belongs, use=1.0)
    session.settle()
    assert device.status("item_stats:popularity", item="c") is er.Status.PRESENT
    assert look() == ["item:a", "item:b"]
    assert device.status("item_stats:popularity", item="c") is not er.Status.PRESENT
    for _ in range(3):
        fetch = device.rt.fetch("item_stats", item=["c"])
        session.settle()
        assert fetch.done
    assert device.status("item_stats:popularity", item="c") is er.Status.PRESENT
    assert look() == ["item:a", "item:c"]
    assert device.status("item_stats:popularity", item="c") is er.Status.PRESENT
    assert device.status("item_stats:popularity", item="b") is not er.Status.PRESENT
    session.close()
    device.close()
    town.close()


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_law_10_after_any_moves_and_cuts_every_device_ends_up_equal(
    town: Town, tmp_path: Path, seed: int
) -> None:
    """Moves, corrections, budgets, deletes, forgotten deletes while devices come and go; a seed replays."""
    chance = random.Random(seed)
    print(f"seed {seed}")
    devices = [
        Kiosk(town, tmp_path / str(n), patterns=patterns)
        for n, patterns in enumerate([CHANNELS, ("all",), ("segment:gold", "segment:silver")])
    ]
    sessions: dict[int, Session] = {}
    for number in range(250):
        n = chance.randrange(8)
        match chance.choice([*ACTS, "regroup", "talk"]):
            case "publish":
                publish(town, n, chance.randrange(100) / 100)
            case "regroup":
                names = {name for name in ("gold", "silver") if chance.random() < 0.5}
                regroup(town, n, names, {"gold", "silver"} - names)
            case "delete":
                with town.store.write("delete") as tx:
                    row = town.item_row(n)
                    standing = tx.row_state(row.entity, row.view, row.version)
                    if standing is not None:
                        gone = type(row)(0, row.entity, row.view, 1, number + 100, number, 0, True, b"")
                        tx.write_row(standing, gone, tx.channels_of(row.entity, row.view, 1))
            case "weigh":
                with town.store.write("hot_set") as tx:
                    standing = tx.row_state(f"item:{n}", "item_stats", 1)
                    if standing is not None:
                        change = chance.choice([tx.demote, tx.promote])
                        change(standing, chance.choice(CHANNELS), number)
            case "forget" if chance.random() < 0.3:
                with town.store.write("forget") as tx:
                    tx.drop_deletes(2**62, limit=chance.randrange(1, 4))
            case "talk":
                who = chance.randrange(len(devices))
                session = sessions.setdefault(who, Session(devices[who]))
                for _ in range(chance.randrange(12)):
                    session.step()
            case "cut":
                who = chance.randrange(len(devices))
                if who in sessions:
                    sessions.pop(who).close()
    for who, kiosk in enumerate(devices):
        session = sessions.get(who) or Session(kiosk)
        session.settle()
        equal(town, kiosk, tuple(kiosk.replica.open_channels.allowed()))
        session.close()
    with town.store.read() as tx:
        for who, kiosk in enumerate(devices):
            wanted = {
                row.entity: row.values
                for channel in kiosk.replica.open_channels.allowed()
                for row in tx.channel_rows(channel, 0, 9_999)
                if not row.deleted
            }
            assert kiosk.rows() == wanted, who
            kiosk.close()
