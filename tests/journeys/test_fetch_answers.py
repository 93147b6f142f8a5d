"""Answers that were not asked for, come twice, late or never, are refused, or find no room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.errors import SyncError
from edge_runtime.sync.fetch import FetchAnswer
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support.full_disk import FullDisk
from tests.support.town import Town
from tests.support.warm import Device, live, publish, vec, warm_town


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


def test_an_answer_that_was_not_asked_for_changes_nothing(town: Town, device: Device) -> None:
    """Unasked, and again; then too often, which ends the session. One row too many ends it at once."""
    session = live(device)
    row = m.Row(0, "item:a", "item_vec", 1, 5, 5, 0, False, b"\x80")
    unasked = m.Fetched(id=bytes(16), epoch=0, more=False, rows=[row])
    for _ in range(SyncSettings().refollows):
        session.hand_over(codec.encode(unasked))
        assert session.said[-1] == m.Refusal(code="out_of_turn", about=bytes(16).hex())
    with pytest.raises(WireFailure, match="out_of_turn"):
        session.device.hear(codec.encode(unasked), 0)
    assert vec(device) is er.Status.NOT_SYNCED
    session.close()
    session = live(device)
    device.rt.fetch("item_vec", item="b")
    session.tick()
    frame = session.next()
    assert frame is not None
    answer = codec.decode(frame)
    other = msgspec.structs.replace(row, entity="item:b", view="item_stats")
    bob = msgspec.structs.replace(row, entity="user:bob")
    hers = msgspec.structs.replace(row, entity="item:b")
    for rows in ([row], [other], [bob], [hers, hers]):
        with pytest.raises(WireFailure, match="malformed"):
            session.device.hear(codec.encode(msgspec.structs.replace(answer, rows=rows)), 0)
    personal = msgspec.structs.replace(answer, rows=[msgspec.structs.replace(hers, grant=7)])
    session.hand_over(codec.encode(personal))
    assert isinstance(session.said[-1], m.Refusal)
    assert session.said[-1].code == "no_permission"
    assert (vec(device), vec(device, "b")) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    assert device.status("item_stats:popularity", item="b") is er.Status.DEFAULTED
    session.close()


def test_an_answer_that_comes_twice_is_taken_once(town: Town, device: Device) -> None:
    """The second is one that was not asked for; what the first brought stays."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    session = live(device)
    device.rt.fetch("item_vec", item="a")
    session.tick()
    frame = session.next()
    assert frame is not None
    session.hand_over(frame)
    session.hand_over(frame)
    assert isinstance(session.said[-1], m.Refusal)
    assert vec(device) is er.Status.PRESENT
    assert session.device.caught_up
    session.close()


def test_a_server_that_never_answers_is_given_up_and_a_late_answer_is_no_fault(
    town: Town, device: Device
) -> None:
    """After a minute whoever waits is told; what comes then is ignored, and the next fetch is answered."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    session = live(device)
    fetch = device.rt.fetch("item_vec", item="a")
    session.tick()
    late = session.next()
    assert late is not None
    device.clock.advance(us=SyncSettings().fetch_answer_us)
    session.tick()
    with pytest.raises(SyncError, match="did not answer"):
        fetch.wait(0)
    said = len(session.said)
    session.hand_over(late)
    assert len(session.said) == said
    assert vec(device) is er.Status.NOT_SYNCED
    device.rt.fetch("item_vec", item="a")
    session.settle()
    assert vec(device) is er.Status.PRESENT
    session.close()


def test_views_that_are_not_on_demand_are_refused_on_both_sides(town: Town, device: Device) -> None:
    """Here with a clear error; a server whose catalog has other views says so, and whoever waits is told."""
    session = live(device)
    for view, wrong in (("activity", "a session view"), ("secret", "never leaves"), ("nothing", "unknown")):
        with pytest.raises(er.MalformedRequest, match=wrong):
            device.rt.fetch(view, item="a", **({"user": "x"} if view == "activity" else {}))
    assert device.status("secret:margin", item="a") is er.Status.NOT_SYNCED
    town.catalog = None
    fetch = device.rt.fetch("item_vec", item="a")
    session.settle()
    with pytest.raises(er.SyncRefused, match="not_on_demand"):
        fetch.wait(0)
    session.close()


def test_a_server_without_time_is_asked_again_when_it_said(town: Town, tmp_path: Path) -> None:
    """20 rows a minute: 15 come, the next 15 when there is time for them, without being wanted anew."""
    town.close()
    town = warm_town(tmp_path / "slow", fetched_per_minute=20)
    device = Device(town, tmp_path / "device")
    session = live(device)
    first = device.rt.fetch("item_vec", item=[f"{n}" for n in range(15)])
    session.settle()
    second = device.rt.fetch("item_vec", item=[f"{n}" for n in range(15, 30)])
    session.settle()
    assert first.wait(0).absent == 15
    assert not second.done
    refusal = next(r for r in session.heard if isinstance(r, m.Refusal))
    assert (refusal.code, refusal.retry_after_us) == ("overloaded", 30_000_000)
    asked = sum(isinstance(said, m.Fetch) for said in session.said)
    device.clock.advance(us=refusal.retry_after_us - 1)
    session.tick()
    assert sum(isinstance(said, m.Fetch) for said in session.said) == asked
    device.clock.advance(us=1)
    session.settle()
    assert second.wait(0).absent == 15
    session.close()
    device.close()
    town.close()


# ---- a full disk ---------------------------------------------------------------------------------------


def test_law_12_an_answer_that_finds_no_room_changes_nothing_and_is_asked_for_again(
    town: Town, tmp_path: Path
) -> None:
    """The session ends with the disk's error; with room, the next one brings what was wanted."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    disk = FullDisk()
    device = Device(town, tmp_path / "device", disk=disk)
    session = live(device)
    fetch = device.rt.fetch("item_vec", item=[f"{n}" for n in range(200)] + ["a"])
    session.tick()
    answer = session.next()
    assert answer is not None
    disk.room = 0
    with pytest.raises(er.StorageFull):
        session.device.hear(answer, device.clock.boot_us())
    session.close()
    disk.room = None
    assert (fetch.done, vec(device), vec(device, "1")) == (
        False,
        er.Status.NOT_SYNCED,
        er.Status.NOT_SYNCED,
    )
    session = live(device)
    assert fetch.wait(0) == FetchAnswer(1, 200)
    assert vec(device) is er.Status.PRESENT
    session.close()
    device.close()
