"""Law 7 on rows that are not there: "not found" is said only where the server has no such row.

Real sessions between a town and a whole runtime; every frame is one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.wire import digest
from edge_runtime.wire import messages as m
from sync_server.sync.hot_keeping import HotKeeper
from tests.support.absent import (
    ELSEWHERE,
    FEATURE,
    NO_CHANNEL,
    NOT_FOUND,
    ON_ITS_WAY,
    publish,
    reason,
    regroup,
    until_heard,
)
from tests.support.town import Session, Town
from tests.support.warm import Device, live, warm_catalog, warm_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town", frame_rows=2)
    yield made
    made.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Iterator[Device]:
    made = Device(town, tmp_path / "device")
    yield made
    made.close()


# ---- (a) between the frames ---------------------------------------------------------------------------


def test_law_7_in_the_middle_of_a_first_snapshot_nothing_is_called_not_found(
    town: Town, device: Device, tmp_path: Path
) -> None:
    """Neither a row that is still to come nor one that is not there, across a restart in the middle too."""
    town.put(7)
    session = live_until_rows(device)
    assert reason(device, 6) == reason(device, "none") == ON_ITS_WAY
    session.close()
    device.close()
    again = Device(town, tmp_path / "device")
    try:
        assert reason(again, 6) == reason(again, "none") == ON_ITS_WAY
        session = Session(again)  # type: ignore[arg-type]
        looks: list[str] = []
        until_heard(session, m.Checkpoint, lambda: looks.append(reason(again, "none")))
        assert len(looks) > 4
        assert set(looks) == {ON_ITS_WAY}
        assert reason(again, "none") == NOT_FOUND
        assert again.status(FEATURE, item="6") is er.Status.PRESENT
        session.close()
    finally:
        again.close()


def live_until_rows(device: Device) -> Session:
    session = Session(device)  # type: ignore[arg-type]
    until_heard(session, m.Delta, lambda: None)
    assert isinstance(session.heard[-1], m.Delta)
    assert session.heard[-1].more
    return session


def test_law_7_a_replacing_snapshot_takes_it_back_until_it_is_equal_again(town: Town, device: Device) -> None:
    """Before it: not found. From its first frame on: not synced. A vector held in memory says so too."""
    town.put(7)
    session = live(device)
    assert reason(device, "none") == NOT_FOUND
    assert vector(device) == NOT_FOUND
    session.close()
    town.forget(0)
    town.put(1, start=90)
    session = Session(device)  # type: ignore[arg-type]
    until_heard(session, m.Delta, lambda: None)
    assert isinstance(session.heard[-1], m.Delta)
    assert session.heard[-1].replacing
    assert reason(device, 6) == reason(device, "none") == vector(device) == ON_ITS_WAY
    until_heard(session, m.Checkpoint, lambda: None)
    assert reason(device, "none") == vector(device) == NOT_FOUND
    session.close()


def vector(device: Device) -> str:
    """What a held row says of the popularity of an item that is not there."""
    return device.rt.vector("ranker", user="alice", item="none").reason[2]


def test_law_7_between_the_patches_of_a_repair_nothing_is_called_not_found(
    town: Town, device: Device
) -> None:
    """A row of the copy is lost: with the checkpoint that differs nothing is believed any more."""
    town.put(300)
    live(device).close()
    lose(device, 77)
    device.rt._source.changed([("item_stats@1", "item:77")])
    assert reason(device, 77) == NOT_FOUND, "nobody has noticed yet"
    town.put(1, start=500)
    session = Session(device)  # type: ignore[arg-type]
    until_heard(session, m.Checkpoint, lambda: None)
    looks = [reason(device, 77)]
    assert reason(device, "none") == ON_ITS_WAY
    until_heard(session, m.Checkpoint, lambda: looks.append(reason(device, "none")))
    assert len([heard for heard in session.heard if isinstance(heard, m.Patch)]) > 1
    assert set(looks) == {ON_ITS_WAY}
    assert reason(device, "none") == NOT_FOUND
    assert device.status(FEATURE, item="77") is er.Status.PRESENT
    session.close()


def lose(device: Device, n: int) -> None:
    with device.rt._database.write("lose") as tx:
        part = digest.from_bytes(tx.delete_row("all", f"item:{n}", "item_stats", 1) or b"")
        state = tx.channel("all")
        assert state is not None
        left = digest.add(state.digest, removed=part)
        tx.set_channel("all", state.cursor, left, stays_whole=True)


# ---- (b) the budget -----------------------------------------------------------------------------------


def test_law_7_a_row_kept_out_by_the_budget_is_not_called_not_found(tmp_path: Path) -> None:
    """Its delete alone says nothing; when all rows are in again, absent ones are not found again."""
    town = warm_town(tmp_path / "town", hot_channel_bytes=250)
    device = Device(town, tmp_path / "device")
    catalog = warm_catalog()
    keeper = HotKeeper(town.store, lambda: catalog, town.settings)

    def keep() -> None:
        town.clock.advance(seconds=60)
        while keeper.step(town.clock.now_us()):
            pass

    for name in "abc":
        publish(town, name, co_bought={name * 60: 1.0})
        town.clock.advance(seconds=1)
    session = live(device)
    assert reason(device, "none") == NOT_FOUND
    keep()
    until_heard(session, m.Delta, lambda: None)
    with town.store.read() as tx:
        out = next(name for name in "abc" if not tx.channels_of(f"item:{name}", "item_stats", 1))
    assert reason(device, out) == reason(device, "none") == ON_ITS_WAY, "a delete was all that came"
    session.settle()
    assert reason(device, out) == reason(device, "none") == ELSEWHERE
    fetch = device.rt.fetch("item_stats", item=[out, "none"])
    session.settle()
    assert (fetch.done, device.status(FEATURE, item=out)) == (True, er.Status.PRESENT)
    assert device.status(FEATURE, item="none") is er.Status.NOT_FOUND, "the server was asked"
    assert reason(device, "other") == ELSEWHERE
    with town.store.read() as tx:
        kept = next(name for name in "abc" if tx.channels_of(f"item:{name}", "item_stats", 1))
    publish(town, kept, deleted=True)
    keep()
    session.settle()
    assert reason(device, "other") == reason(device, kept) == NOT_FOUND
    session.close()
    device.close()
    town.close()


# ---- (c) and (d): segments ----------------------------------------------------------------------------


def test_law_7_a_row_of_a_segment_that_is_not_followed_is_not_called_not_found(
    town: Town, device: Device, tmp_path: Path
) -> None:
    """It enters only the segment; in `all` nothing moves but what an absence means. A restart keeps that."""
    publish(town, 1)
    session = live(device)
    assert reason(device, "none") == NOT_FOUND
    before = device.stands()
    regroup(town, "none", joined="gold")
    session.settle()
    assert reason(device, "none") == NOT_FOUND, "a segment without rows keeps nothing"
    publish(town, "none")
    session.settle()
    assert device.stands() == before
    assert [type(heard) for heard in session.heard][-1] is m.Checkpoint
    assert reason(device, "none") == ELSEWHERE
    session.close()
    device.close()
    device = Device(town, tmp_path / "device")
    try:
        assert reason(device, "none") == ELSEWHERE
        session = live(device)
        assert reason(device, "none") == ELSEWHERE
        publish(town, "none", deleted=True)
        session.settle()
        assert reason(device, "none") == NOT_FOUND
        session.close()
        device.replica.drop_channel("all")
        assert reason(device, "none") == NO_CHANNEL
    finally:
        device.close()


def test_law_7_a_row_that_leaves_for_a_segment_is_not_called_not_found(town: Town, device: Device) -> None:
    """Between the delete and the checkpoint neither; a real delete is not found from its checkpoint on."""
    for name in (1, 2, 3):
        publish(town, name)
    session = live(device)
    publish(town, 3, deleted=True)
    until_heard(session, m.Delta, lambda: None)
    assert reason(device, 3) == ON_ITS_WAY
    session.settle()
    assert reason(device, 3) == reason(device, "none") == NOT_FOUND
    regroup(town, 2, joined="gold")
    until_heard(session, m.Delta, lambda: None)
    assert reason(device, 2) == reason(device, "none") == ON_ITS_WAY
    session.settle()
    assert reason(device, 2) == reason(device, "none") == ELSEWHERE
    regroup(town, 2, parted="gold")
    session.settle()
    assert device.status(FEATURE, item="2") is er.Status.PRESENT
    assert reason(device, "none") == NOT_FOUND
    session.close()


def test_law_7_an_upsert_leaves_what_is_not_found_as_it_is(town: Town, device: Device) -> None:
    """What was not there at the last checkpoint is not there because another row came."""
    publish(town, 1)
    session = live(device)
    publish(town, 1)
    until_heard(session, m.Delta, lambda: None)
    assert reason(device, "none") == NOT_FOUND
    session.close()


def test_law_10_a_lost_hint_of_it_is_found_by_the_poll(town: Town, device: Device) -> None:
    """Heads are read again every few seconds; a checkpoint of the same seq and digest goes out once."""
    publish(town, 1)
    session = live(device)
    town.store._listeners.remove(town.node.hints.committed)
    regroup(town, 5, joined="gold")
    publish(town, 5)
    assert not session.step()
    assert town.node.heads.poll() == 1
    session.settle()
    assert reason(device, 5) == ELSEWHERE
    count = len(session.heard)
    town.node.heads.poll()
    session.server.look()
    session.settle()
    assert len(session.heard) == count
    session.close()
