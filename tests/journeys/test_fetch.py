"""Rows on demand from both ends: real store, real runtimes, frames handed over one at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import edge_runtime as er
from edge_runtime.errors import SyncError
from edge_runtime.sync.fetch import FetchAnswer
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from sync_server.sync.door import SyncDoor
from tests.support.clock import ManualClock
from tests.support.full_disk import FullDisk
from tests.support.shop_server import CATALOG, ShopServer
from tests.support.town import ALICE, P, Session, Town
from tests.support.warm import HOUR_S, Device, publish, warm_catalog, warm_town

PATIENCE_S = 20


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


def live(device: Device) -> Session:
    session = Session(device)  # type: ignore[arg-type]
    session.settle()
    return session


def with_alice(device: Device) -> Session:
    """A session that follows alice's channel."""
    device.rt.consent.give("alice", [P], notice="2026-11")
    session = live(device)
    assert any(isinstance(said, m.Follow) for said in session.said)
    return session


def vec(device: Device, item: str = "a") -> er.Status:
    return device.status("item_vec:look", item=item)


def likes(device: Device, user: str = "alice", item: str = "a") -> er.Status:
    return device.status("taste:likes", user=user, item=item)


# ---- the plain way -------------------------------------------------------------------------------------


def test_a_warm_row_is_not_synced_then_fetched_and_present_until_its_ttl(town: Town, device: Device) -> None:
    """And what the server does not have is NOT_FOUND as long; channels know of nothing."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0], rank=0.25)
    town.put(3)
    session = live(device)
    stands = device.stands()
    assert (vec(device), vec(device, "b")) == (er.Status.NOT_SYNCED, er.Status.NOT_SYNCED)
    fetch = device.rt.fetch("item_vec", item=["a", "b"])
    assert not fetch.done
    assert vec(device) is er.Status.NOT_SYNCED  # asking waits for nobody
    session.settle()
    answer = fetch.wait(0)
    assert (answer.found, answer.absent) == (1, 1)
    found = device.rt.read("item_vec:look", item="a")
    assert (found.status, found.value) == (er.Status.PRESENT, [1.0, 2.0])
    assert device.rt.vector("near", item="a").values.tolist() == [0.25]
    assert device.rt.matrix("near", item=["a", "b"]).values[:, 0].tolist() == [0.25, 0.5]
    assert vec(device, "b") is er.Status.NOT_FOUND
    assert vec(device, "never-asked") is er.Status.NOT_SYNCED
    device.clock.advance(seconds=HOUR_S)
    assert (vec(device), vec(device, "b")) == (er.Status.PRESENT, er.Status.NOT_FOUND)
    device.clock.advance(us=1)
    assert (vec(device), vec(device, "b")) == (er.Status.EXPIRED, er.Status.EXPIRED)
    assert device.stands() == stands
    assert session.device.caught_up
    session.close()


def test_what_is_fetched_again_is_as_it_stands_now(town: Town, device: Device) -> None:
    """Newer, gone, and there again: each fetch tells the present."""
    session = live(device)
    seen = []
    for change in ("absent", "first", "newer", "deleted", "again"):
        device.clock.advance(seconds=1)
        if change in ("first", "newer", "again"):
            publish(town, "item_vec", "item:a", rank={"first": 0.1, "newer": 0.2, "again": 0.3}[change])
        elif change == "deleted":
            publish(town, "item_vec", "item:a", deleted=True)
        device.rt.fetch("item_vec", item="a")
        session.settle()
        found = device.rt.read("item_vec:rank", item="a")
        seen.append((found.value, found.reason.partition(":")[0]))
    assert seen == [(0.5, "NOT_FOUND"), (0.1, ""), (0.2, ""), (0.5, "NOT_FOUND"), (0.3, "")]
    session.close()


def test_a_restart_keeps_what_was_fetched_and_forgets_what_was_only_wanted(
    town: Town, tmp_path: Path
) -> None:
    """Rows rest on disk, personal ones sealed; whoever waits for the rest is told that it will not come."""
    device = Device(town, tmp_path / "device")
    session = with_alice(device)
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    device.rt.fetch("item_vec", item=["a", "b"])
    device.rt.fetch("taste", user="alice", item="a")
    session.settle()
    session.close()
    waiting = device.rt.fetch("item_vec", item="c")
    device.close()
    with pytest.raises(er.RuntimeClosed):
        waiting.wait(0)
    again = Device(town, tmp_path / "device")
    assert (vec(again), vec(again, "b"), vec(again, "c")) == (
        er.Status.PRESENT,
        er.Status.NOT_FOUND,
        er.Status.NOT_SYNCED,
    )
    session = live(again)  # a lease first
    assert again.rt.read("taste:likes", user="alice", item="a").value == 3.0
    session.close()
    again.close()
    for path in (tmp_path / "device").iterdir():
        assert b"item_vec" not in path.read_bytes()


def test_without_a_session_it_waits_and_is_asked_once_in_the_next(town: Town, device: Device) -> None:
    """Wanted five times before it can be sent, asked for once; the session before had ended in between."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    live(device).close()
    fetches = [device.rt.fetch("item_vec", item=["a"]) for _ in range(5)]
    with pytest.raises(SyncError, match="in time"):
        fetches[0].wait(0)
    session = live(device)
    asked = [said for said in session.said if isinstance(said, m.Fetch)]
    assert [ask.entities for ask in asked] == [["item:a"]]
    assert [fetch.wait(0).found for fetch in fetches] == [1] * 5
    session.close()


def test_a_session_that_ends_before_the_answer_is_asked_again_in_the_next(town: Town, device: Device) -> None:
    """Nothing is lost with the socket, and the answer to the first asking is not known in the second."""
    publish(town, "item_vec", "item:a", look=[1.0, 2.0])
    session = live(device)
    fetch = device.rt.fetch("item_vec", item="a")
    session.tick()
    late = session.next()
    assert late is not None
    assert isinstance(codec.decode(late), m.Fetched)
    session.close()
    assert not fetch.done
    session = live(device)
    assert fetch.wait(0).found == 1
    session.hand_over(late)
    assert session.said[-1] == m.Refusal(code="out_of_turn", about=codec.decode(late).id.hex())  # type: ignore[union-attr]
    session.close()


# ---- laws 1 and 2: a subject's rows --------------------------------------------------------------------


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
    device.replica.begin(b"another incarnat", restored=True)
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


# ---- what is not answered ------------------------------------------------------------------------------


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


# ---- beside channels -----------------------------------------------------------------------------------


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
    assert (found.status, found.reason) == (er.Status.DEFAULTED, "NOT_FOUND: the server sent no such row")
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


# ---- real sockets --------------------------------------------------------------------------------------


async def test_two_threads_fetch_over_a_real_socket_and_all_of_it_comes(town: Town, tmp_path: Path) -> None:
    """Each asks for 600 rows in 60 requests, overlapping; every handle is settled, some awaited."""
    for n in range(0, 600, 2):
        publish(town, "item_vec", f"item:{n}", rank=(n % 100) / 100)
    device, door = Device(town, tmp_path / "device"), SyncDoor(town.node)
    app = web.Application()
    app.router.add_get("/v1/sync", door.handle)
    server = TestServer(app)
    await server.start_server()
    url, rt = str(server.make_url("")), device.rt
    found: list[int] = []

    def fetches(start: int) -> None:
        asked = [
            rt.fetch("item_vec", item=[f"{(n + k) % 600}" for k in range(10)])
            for n in range(start, start + 600, 10)
        ]
        found.extend(fetch.wait(PATIENCE_S).found for fetch in asked)

    settings = SyncSettings(tick_us=HOUR_S * 1_000_000)  # nobody looks by the clock: a fetch must poke
    with await asyncio.to_thread(rt.sync_in_background, url, settings=settings):
        threads = [threading.Thread(target=fetches, args=(start,)) for start in (0, 300)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(PATIENCE_S):
            assert (await rt.fetch("item_vec", item=["0", "1"])).found == 1
        for thread in threads:
            await asyncio.to_thread(thread.join, PATIENCE_S)
        async with asyncio.timeout(PATIENCE_S):
            assert (await rt.fetch("item_vec", item="nowhere")).absent == 1
    assert found == [5] * 120
    for n in range(600):
        value = rt.read("item_vec:rank", item=f"{n}").value
        assert value == ((n % 100) / 100 if n % 2 == 0 else 0.5)
    await asyncio.to_thread(device.close)
    await door.close()
    await server.close()


async def test_a_published_warm_row_is_not_pushed_but_fetched(tmp_path: Path) -> None:
    """The whole way: an HTTP publish, a server over a real socket, a runtime that asks; then a withdrawal."""
    clock = ManualClock()
    kiosk, embedding = tmp_path / "kiosk", [0.5] * 16
    kiosk.mkdir()
    warm = tmp_path / "warm.toml"
    warm.write_text(CATALOG.read_text().replace('owner = "crm"', 'owner = "crm"\ntier = "warm"'))
    warm.write_text(warm.read_text().replace("[views.item_vec]", '[views.item_vec]\ntier = "warm"'))
    async with ShopServer(tmp_path / "server", clock, catalog=warm) as server:
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        now_s = clock.now_us() // 1_000_000
        row = {"entity": "item:a", "event_time": now_s, "values": {"embedding": embedding}}
        assert (await server.publish("item_vec", [row])).body["accepted"] == 1
        catalog, key = er.Catalog.load(warm), er.KeyFile(kiosk / "device.key")
        with er.Runtime.open(kiosk / "cache.db", catalog=catalog, key=key, clock=clock) as rt:
            await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token)
            rt.consent.give("alice", [P], notice="2026-11")
            async with asyncio.timeout(PATIENCE_S), rt.sync() as link:
                await link.caught_up()
                head = (await server.call("GET", "/v1/consent-ledger/head")).body["size"]
                hers = {"entity": ALICE, "event_time": now_s, "values": {"country": "FR"}}
                assert (await server.publish("profile", [hers], as_of=head)).body["accepted"] == 1
                await link.caught_up()
                assert rt.read("item_vec:embedding", item="a").status is er.Status.NOT_SYNCED
                assert rt.read("profile:country", user="alice").reason.startswith("NOT_SYNCED")
                assert await rt.fetch("item_vec", item=["a", "b"]) == FetchAnswer(1, 1)
                assert await rt.fetch("profile", user="alice") == FetchAnswer(1, 0)
                assert rt.read("item_vec:embedding", item="a").value == embedding
                assert rt.read("item_vec:embedding", item="b").status is er.Status.NOT_FOUND
                assert rt.read("profile:country", user="alice").value == "FR"
                assert (await server.revoke("alice", [P])).status == 202
                while rt.read("profile:country", user="alice").status is not er.Status.REVOKED:
                    await asyncio.sleep(0)
                with pytest.raises(er.SyncRefused, match="no_permission"):
                    await rt.fetch("profile", user="alice")
        with er.Runtime.open(kiosk / "cache.db", catalog=catalog, key=key, clock=clock) as rt:
            assert rt.read("item_vec:embedding", item="a").value == embedding


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
