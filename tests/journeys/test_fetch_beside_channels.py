"""What was fetched stands beside what channels push: newest wins, and each goes when it must."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from tests.support.town import ALICE, P, Town
from tests.support.warm import HOUR_S, Device, likes, live, publish, vec, warm_catalog, warm_town, with_alice


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town")
    yield made
    made.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Iterator[Device]:
    made = Device(town, tmp_path / "device")
    yield made
    made.close()


def test_a_dropped_channel_takes_along_what_was_fetched_and_a_new_snapshot_does_not(
    town: Town, device: Device
) -> None:
    """A channel that starts over clears its own rows; one that is no longer ours, all of the subject's."""
    session = with_alice(device)
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    fetch = device.rt.fetch("taste", user="alice", item="a")
    session.settle()
    assert fetch.wait(0).found == 1
    channel = next(said.channel for said in session.said if isinstance(said, m.Follow))
    session.answer([codec.encode(m.Follow(channel=channel, cursor=0))])
    session.settle()
    assert any(isinstance(d, m.Delta) and d.replacing and d.channel == channel for d in session.heard)
    assert likes(device) is er.Status.PRESENT
    session.hand_over(codec.encode(m.Drop(channel=channel)))
    assert likes(device) is er.Status.NOT_SYNCED
    session.close()


def test_another_catalog_and_a_restored_server_let_go_of_what_was_fetched(town: Town, tmp_path: Path) -> None:
    """Nothing brings it anew by itself, so nothing may say that it still fits: it is fetched again."""
    device = Device(town, tmp_path / "device")
    session = with_alice(device)
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    publish(town, "taste", ALICE, "item:a", likes=3.0)

    def fetched() -> tuple[er.Status, er.Status]:
        device.rt.fetch("item_vec", item="a")
        device.rt.fetch("taste", user="alice", item="a")
        session.settle()
        return vec(device), likes(device)

    assert fetched() == (er.Status.PRESENT, er.Status.PRESENT)
    device.replica.continuity.begin(b"another incarnat", [], restored=True)
    assert (vec(device), likes(device)) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    assert fetched() == (er.Status.PRESENT, er.Status.PRESENT)
    session.close()
    device.close()
    device = Device(town, tmp_path / "device", catalog=warm_catalog(2))
    session = live(device)
    assert (vec(device), likes(device)) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    assert fetched() == (er.Status.PRESENT, er.Status.PRESENT)
    session.close()
    device.close()


def test_the_newer_of_a_pushed_and_a_fetched_row_is_read_and_a_delete_takes_both(
    town: Town, device: Device
) -> None:
    """A hot view may be asked for too; whichever came first, the newer is read."""
    now_us = town.clock.now_us()

    def pushed(at_us: int, popularity: float, *, deleted: bool = False) -> None:
        row = town.item_row(1, values={"popularity": popularity})
        row = msgspec.structs.replace(row, event_time_us=at_us, created_us=at_us, deleted=deleted)
        with town.store.write("publish") as tx:
            tx.put_row("all", msgspec.structs.replace(row, values=b"") if deleted else row)
        session.settle()

    def popularity() -> object:
        return device.rt.read("item_stats:popularity", item="1").value

    session = live(device)
    pushed(now_us, 0.25)
    device.rt.fetch("item_stats", item="1")
    session.settle()
    assert popularity() == 0.25
    pushed(now_us + 1, 0.5)
    assert popularity() == 0.5
    device.rt.fetch("item_stats", item="1")
    session.settle()
    pushed(now_us + 2, 0, deleted=True)
    found = device.rt.read("item_stats:popularity", item="1")
    assert (found.status, found.reason) == (er.Status.DEFAULTED, "NOT_FOUND: the server has no such row")
    assert session.device.caught_up
    session.close()


def test_a_subjects_row_that_its_channel_deletes_goes_where_it_was_fetched_too(
    town: Town, device: Device
) -> None:
    session = with_alice(device)
    town.put_profile(ALICE, "FR")
    device.rt.fetch("profile", user="alice")
    session.settle()
    key = device.rt._keyring.key(ALICE, P)
    assert key is not None
    with device.rt._database.read() as tx:
        assert len(tx.personal_rows(key.handle)) == 3  # the channel's, the fetched, and the channel's stand
    with town.store.write("publish") as tx:
        row = msgspec.structs.replace(
            town.profile_row(ALICE, key.grant), created_us=7, deleted=True, values=b""
        )
        channel = device.replica.fetched.channel(ALICE, P)
        tx.put_row(channel, row, town.pseudonym(ALICE), P)
    session.settle()
    assert device.rt.read("profile:country", user="alice").reason.startswith("NOT_FOUND")
    session.close()


def test_rows_of_a_subject_wait_until_its_channel_is_followed(town: Town, tmp_path: Path) -> None:
    """Of two that consented, one channel may be open: the other's rows are asked for when it is."""
    device = Device(town, tmp_path / "device", sync=SyncSettings(personal_channels=1))
    device.rt.consent.give("alice", [P], notice="2026-11")
    device.rt.consent.give("bob", [P], notice="2026-11")
    session = live(device)
    hers, his = (device.rt.fetch("taste", user=user, item="a") for user in ("alice", "bob"))
    session.settle()
    assert (hers.done, his.done) == (False, True)
    assert his.wait(0).absent == 1
    assert sum(isinstance(said, m.Fetch) for said in session.said) == 1
    device.rt.consent.withdraw("bob")
    session.settle()
    assert hers.wait(0).absent == 1
    session.close()
    device.close()


def test_law_11_so_many_requests_are_in_flight_and_no_more(town: Town, device: Device) -> None:
    """1,500 rows are six requests: four are sent, each answer makes room for another."""
    session = live(device)
    fetches = [device.rt.fetch("item_vec", item=[f"{n}-{k}" for k in range(250)]) for n in range(6)]
    session.tick()
    asked = [said for said in session.said if isinstance(said, m.Fetch)]
    assert [len(ask.entities) for ask in asked] == [256] * SyncSettings().fetches_in_flight
    assert session.step()
    assert sum(isinstance(said, m.Fetch) for said in session.said) == len(asked) + 1
    session.settle()
    assert [fetch.wait(0).absent for fetch in fetches] == [250] * 6
    session.close()


def test_the_coldest_of_too_many_go(town: Town, tmp_path: Path) -> None:
    """Law 11: kept to the limit, those first that were not used for longest; the newest are all there."""
    settings = er.Settings(sweep_interval_us=0, fetched_rows=300, fetched_rows_of_subject=40)
    device = Device(town, tmp_path / "device", settings=settings)
    session = with_alice(device)
    for day in range(3):
        for n in range(150):
            publish(town, "item_vec", f"item:{day}-{n}", look=[1.0, 2.0])
        device.rt.fetch("item_vec", item=[f"{day}-{n}" for n in range(200)])  # the last 50 are not there
        session.settle()
        device.clock.advance(seconds=24 * HOUR_S)
        session.settle()  # a lease
    with device.rt._database.read() as tx:
        assert len(list(tx.rows())) == 300
    statuses = [vec(device, f"{day}-{n}") for day, n in ((0, 0), (0, 199), (2, 0), (2, 199))]
    assert statuses == [er.Status.NOT_SYNCED, er.Status.NOT_SYNCED, er.Status.EXPIRED, er.Status.EXPIRED]
    for n in range(60):
        publish(town, "taste", ALICE, f"item:{n}", likes=1.0)
    device.rt.fetch("taste", user="alice", item=[f"{n}" for n in range(60)])
    session.settle()
    assert sum(likes(device, item=f"{n}") is er.Status.PRESENT for n in range(60)) == 40
    session.close()
    device.close()
