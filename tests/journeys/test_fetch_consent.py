"""A subject's rows on demand: under its live consent alone, and gone with it, wherever the answer was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support.town import ALICE, P, Town
from tests.support.warm import Device, likes, live, publish, vec, warm_town, with_alice


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


def test_law_1_a_subjects_rows_come_under_consent_alone(town: Town, device: Device) -> None:
    """Nobody's, then another's, then hers: bob never consented, and reads REVOKED before and after."""
    publish(town, "taste", ALICE, "item:a", likes=3.0)  # of no grant: no permission, at the server either
    session = with_alice(device)
    publish(town, "taste", ALICE, "item:b", likes=4.0)
    refused = device.rt.fetch("taste", user="bob", item=["a", "b"])
    with pytest.raises(er.SyncRefused, match="no_permission"):
        refused.wait(0)
    assert likes(device, "bob") is er.Status.REVOKED
    fetch = device.rt.fetch("taste", user=["alice"], item=["a", "b"])
    session.settle()
    assert (fetch.wait(0).found, fetch.wait(0).absent) == (1, 1)
    assert (likes(device), likes(device, item="b")) == (er.Status.NOT_FOUND, er.Status.PRESENT)
    assert device.rt.read("taste:likes", user="alice", item="b").value == 4.0
    assert likes(device, "bob", "b") is er.Status.REVOKED
    key = device.rt._keyring.key(ALICE, P)
    assert key is not None
    with device.rt._database.read() as tx:
        assert all(b"likes" not in sealed for _, sealed in tx.personal_rows(key.handle))
        assert list(tx.rows()) == []
    session.close()


@pytest.mark.parametrize("here", [True, False])
def test_law_2_a_withdrawal_in_the_middle_of_a_fetch_leaves_nothing(
    town: Town, device: Device, here: bool
) -> None:
    """Half of the answer is here when alice withdraws, at the device or at the server: all of it goes."""
    session = with_alice(device)
    items = [f"{n}" for n in range(100)]
    for item in items:
        publish(town, "taste", ALICE, f"item:{item}", likes=1.0)
    session.settle()
    fetch = device.rt.fetch("taste", user="alice", item=items)
    session.tick()
    first = session.next()
    assert first is not None
    message = codec.decode(first)
    assert isinstance(message, m.Fetched)
    cut = msgspec.structs.replace(message, rows=message.rows[:50], more=True)
    session.hand_over(codec.encode(cut))
    assert likes(device, item="1") is er.Status.PRESENT
    rest = msgspec.structs.replace(message, rows=message.rows[50:])
    if here:
        device.rt.consent.withdraw("alice")
    else:
        town.decide(ALICE, "withdrawn")
        session.settle()
    session.hand_over(codec.encode(rest))
    with pytest.raises(er.SyncRefused, match="no_permission"):
        fetch.wait(0)
    session.settle()
    device.rt.consent.give("alice", [P], notice="2026-11")
    session.settle()
    assert {likes(device, item=item) for item in items} == {er.Status.NOT_SYNCED}
    session.close()


def test_law_2_a_denial_that_lands_between_two_frames_is_sent_before_the_next(
    town: Town, tmp_path: Path
) -> None:
    """The server reads each frame anew: the lane comes first, then the refusal, and no row after it."""
    town.close()
    town = warm_town(tmp_path / "small", frame_rows=10)
    device = Device(town, tmp_path / "other")
    session = with_alice(device)
    for n in range(30):
        publish(town, "taste", ALICE, f"item:{n}", likes=1.0)
    session.settle()
    fetch = device.rt.fetch("taste", user="alice", item=[f"{n}" for n in range(30)])
    session.tick()
    assert session.step()
    assert isinstance(session.heard[-1], m.Fetched)
    assert len(session.heard[-1].rows) == 10
    town.decide(ALICE, "withdrawn")
    session.heard.clear()
    session.settle()
    assert isinstance(session.heard[0], m.Lane)
    assert not session.heard_of(m.Fetched)
    assert any(isinstance(r, m.Refusal) and r.code == "no_permission" for r in session.heard)
    with pytest.raises(er.SyncRefused, match="no_permission"):
        fetch.wait(0)
    session.close()
    device.close()
    town.close()


def test_law_2_an_answer_from_before_a_new_consent_says_nothing_under_it(town: Town, device: Device) -> None:
    """Neither its rows nor what it leaves out: alice withdrew and gave again while it was on its way."""
    session = with_alice(device)
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    fetch = device.rt.fetch("taste", user="alice", item=["a", "b"])
    session.tick()
    answer = session.next()
    assert answer is not None
    device.rt.consent.withdraw("alice")
    device.rt.consent.give("alice", [P], notice="2026-11")
    session.hand_over(answer)
    with pytest.raises(er.SyncRefused, match="stale_grant"):
        fetch.wait(0)
    assert (likes(device), likes(device, item="b")) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    session.close()


def test_law_2_an_answer_of_one_consent_is_not_taken_under_the_next(town: Town, device: Device) -> None:
    """Both are in the ledger by now; the answer was on its way all the time."""
    session = with_alice(device)
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    fetch = device.rt.fetch("taste", user="alice", item=["a", "b"])
    session.tick()
    answer = session.next()
    assert answer is not None
    for step in (device.rt.consent.withdraw, lambda who: device.rt.consent.give(who, [P], notice="2026-11")):
        step("alice")
        session.settle()
    key = device.rt._keyring.key(ALICE, P)
    assert key is not None
    assert key.grant > 1
    session.hand_over(answer)
    with pytest.raises(er.SyncRefused, match="stale_grant"):
        fetch.wait(0)
    assert (likes(device), likes(device, item="b")) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    session.close()


def test_law_2_who_withdraws_or_leaves_is_wanted_no_more(town: Town, device: Device) -> None:
    """Whether it waited to be sent, or was sent and the session ended without an answer."""
    session = with_alice(device)
    flying = device.rt.fetch("taste", user="alice", item="a")
    session.tick()
    device.rt.consent.withdraw("alice")
    session.close()
    assert flying.done
    device.rt.consent.give("alice", [P], notice="2026-11")
    waiting, other = device.rt.fetch("taste", user="alice", item="b"), device.rt.fetch("item_vec", item="a")
    device.rt.leave("alice")
    assert (waiting.done, other.done) == (True, False)
    left = device.rt.fetch("taste", user="alice", item="c")
    device.rt.consent.withdraw("alice")
    for fetch in (flying, waiting, left):
        with pytest.raises(er.SyncRefused, match="no_permission"):
            fetch.wait(0)
    assert not other.done


def test_law_2_an_answer_read_ahead_of_our_lane_is_refused_whole(town: Town, device: Device) -> None:
    """The decision that it already knows may be a withdrawal: the session ends with nothing changed."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    session = live(device)
    device.rt.fetch("item_vec", item="a")
    session.tick()
    frame = session.next()
    assert frame is not None
    ahead = msgspec.structs.replace(codec.decode(frame), epoch=town.lane_head() + 1)
    with pytest.raises(WireFailure, match="lane_behind"):
        session.device.hear(codec.encode(ahead), 0)
    assert vec(device) is er.Status.NOT_SYNCED
    session.close()
    session = live(device)
    assert vec(device) is er.Status.PRESENT
    session.close()
