"""Admission in real sessions: decisions, leases and receipts flow to everybody; snapshots wait their turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import State
from sync_server.settings import Settings
from sync_server.sync.admission import Turned
from tests.support.town import ALICE, Kiosk, Session, Town


def town_of(folder: Path, settings: Callable[[Settings], Settings]) -> Town:
    return Town(folder / "town", settings=lambda s: settings(replace(s, frame_rows=10)))


def kiosks(town: Town, folder: Path, count: int) -> list[Kiosk]:
    return [Kiosk(town, folder / f"kiosk{n}") for n in range(count)]


def close_all(town: Town, devices: list[Kiosk]) -> None:
    for device in devices:
        device.close()
    town.close()


def test_law_2_a_session_without_a_snapshot_slot_hears_decisions_and_gets_its_lease(tmp_path: Path) -> None:
    """Its rows wait; a denial, its receipt and the lease do not. Then the slot comes and all is equal."""
    town = town_of(tmp_path, lambda s: replace(s, snapshots=1))
    town.put(50)
    devices = kiosks(town, tmp_path, 2)
    first, second = Session(devices[0]), Session(devices[1])
    devices[1].give(ALICE)
    first.open()
    while not first.heard_of(m.Delta):
        first.step()
    second.settle()
    assert second.heard_of(m.Lease)
    assert second.heard_of(m.DecisionAck)
    assert not [d for d in second.heard_of(m.Delta) if isinstance(d, m.Delta) and d.channel == "all"]
    town.decide(ALICE, "withdrawn")
    second.settle()
    assert devices[1].consents.state(ALICE, "personalization") == "withdrawn"
    assert second.heard_of(m.ReceiptAck)
    assert devices[1].stand() == (0, 0)
    first.settle()
    second.settle()
    assert [d.stand() for d in devices] == [town.head()] * 2
    standing = town.node.admission.standing()
    assert (standing["streaming"], standing["streaming_most"], standing["waiting"]) == (0, 1, 0)
    close_all(town, devices)


def test_a_slot_comes_back_when_the_session_ends_or_the_channel_is_left(tmp_path: Path) -> None:
    """In the middle of its snapshot; the next in line is woken and goes on."""
    town = town_of(tmp_path, lambda s: replace(s, snapshots=1))
    town.put(50)
    devices = kiosks(town, tmp_path, 3)
    sessions = [Session(device) for device in devices]
    for session in sessions:
        session.open()
        session.step()
        session.step()
    admission = town.node.admission
    assert (admission.standing()["streaming"], admission.standing()["waiting"]) == (1, 2)
    sessions[0].close()
    assert sessions[1].subscription.wake.is_set()
    while len(sessions[1].heard_of(m.Delta)) < 2:
        assert sessions[1].step()
    sessions[1].server.hear(codec.encode(m.Unfollow(channel="all")))
    sessions[2].settle()
    assert devices[2].stand() == town.head()
    assert admission.standing()["streaming"] == 0
    close_all(town, devices)


def test_a_slot_comes_back_when_the_channel_is_followed_anew_where_no_snapshot_is_due(tmp_path: Path) -> None:
    town = town_of(tmp_path, lambda s: replace(s, snapshots=1))
    town.put(50)
    devices = kiosks(town, tmp_path, 1)
    session = Session(devices[0])
    session.open()
    while len(session.heard_of(m.Delta)) < 2:
        assert session.step()
    assert town.node.admission.standing()["streaming"] == 1
    session.server.hear(codec.encode(m.Follow(channel="all", cursor=town.head()[0])))
    assert town.node.admission.standing()["streaming"] == 0
    close_all(town, devices)


def test_a_snapshot_that_gave_way_goes_on_where_it_was(tmp_path: Path) -> None:
    """It stalled, another had its turn; then it continues from its cursor, not from nothing."""
    town = town_of(tmp_path, lambda s: replace(s, snapshots=1))
    town.put(50)
    devices = kiosks(town, tmp_path, 2)
    slow, fast = Session(devices[0]), Session(devices[1])
    slow.open()
    while len(slow.heard_of(m.Delta)) < 2:
        slow.step()
    fast.settle()
    assert devices[1].stand() == (0, 0)
    town.clock.advance(us=town.settings.snapshot_stall_us)
    town.node.admission.tick(town.clock.now_us())
    assert not slow.step()
    fast.settle()
    assert devices[1].stand() == town.head()
    slow.settle()
    assert devices[0].stand() == town.head()
    assert [d.replacing for d in slow.heard_of(m.Delta) if isinstance(d, m.Delta)] == [True] + [False] * 4
    close_all(town, devices)


def test_a_personal_channel_does_not_wait_behind_snapshots(tmp_path: Path) -> None:
    """Consent given at a kiosk opens at once, whatever a fleet is loading."""
    town = town_of(tmp_path, lambda s: replace(s, snapshots=1))
    town.put(50)
    devices = kiosks(town, tmp_path, 2)
    first, second = Session(devices[0]), Session(devices[1])
    first.open()
    while not first.heard_of(m.Delta):
        first.step()
    second.settle()
    devices[1].give(ALICE)
    second.settle()
    town.put_profile(ALICE)
    second.settle()
    assert devices[1].sealed_rows(ALICE) == 2
    assert devices[1].stand() == (0, 0)
    close_all(town, devices)


def test_law_11_a_refused_hello_reads_and_writes_nothing(tmp_path: Path) -> None:
    """No statement reaches the store, no signature is checked: it might as well be a stranger's."""
    town = town_of(tmp_path, lambda s: replace(s, admissions_burst=1, snapshot_admissions_per_s=1))
    town.put(5)
    first, device = devices = kiosks(town, tmp_path, 2)
    Session(first).settle()
    statements: list[str] = []
    town.store._writer.set_trace_callback(statements.append)
    town.store._reader.set_trace_callback(statements.append)
    turned = Session(device)
    challenge = turned.next()
    assert challenge is not None
    hello = turned.device.hear(challenge, device.clock.boot_us())[0]
    statements.clear()
    with pytest.raises(Turned) as caught:
        turned.server.hear(hello)
    assert caught.value.retry_after_us > 0
    assert statements == []
    close_all(town, devices)


def test_law_2_a_guest_gets_decisions_lease_and_no_rows_until_there_is_room(tmp_path: Path) -> None:
    """Its place is of the reserve: what it missed is enforced, its rows wait for a place."""
    town = town_of(tmp_path, lambda s: replace(s, sessions=1))
    town.put(5)
    devices = kiosks(town, tmp_path, 2)
    before = Session(devices[1])
    before.settle()
    before.close()
    inside = Session(devices[0])
    inside.settle()
    town.put(5, start=5)
    devices[1].consents.give(ALICE, ["personalization"], notice="2026-11")
    town.decide(ALICE, "withdrawn")
    guest = Session(devices[1])
    guest.settle()
    assert guest.device.state is State.LIVE
    assert devices[1].consents.state(ALICE, "personalization") == "withdrawn"
    assert guest.heard_of(m.Lease)
    assert not guest.heard_of(m.Delta)
    inside.close()
    town.node.admission.tick(town.clock.now_us())
    guest.settle()
    assert devices[1].stand() == town.head()
    close_all(town, devices)
