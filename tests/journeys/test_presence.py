"""Channels follow who is here: they close behind those who walked on, and open again before their eyes."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import edge_runtime as er
from edge_runtime.presence import Presence
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire import ticket as tickets
from tests.support.town import ALICE, BOB, P, Session, Town
from tests.support.warm import Device, publish, warm_town

MINUTE_S = 60
TIMEOUT_US = 10 * MINUTE_S * 1_000_000
SETTINGS = er.Settings(sweep_interval_us=0, presence_timeout_us=TIMEOUT_US)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = warm_town(tmp_path / "town")
    yield made
    made.close()


@pytest.fixture
def device(town: Town, tmp_path: Path) -> Iterator[Device]:
    made = Device(town, tmp_path / "device", settings=SETTINGS)
    yield made
    made.close()


def live(device: Device) -> Session:
    session = Session(device)  # type: ignore[arg-type]
    session.settle()
    return session


def with_alice(town: Town, device: Device) -> Session:
    device.rt.consent.give("alice", [P], notice="2026-11")
    session = live(device)
    put_profile(town, "FR")
    session.settle()
    session.said.clear()
    return session


def put_profile(town: Town, country: str) -> None:
    """Her profile, true now."""
    alice, now_us = town.pseudonym(ALICE), town.clock.now_us()
    with town.store.write("publish") as tx:
        row = town.profile_row(ALICE, tx.decision_state(alice, P).grant, country)
        row = msgspec.structs.replace(row, event_time_us=now_us, created_us=now_us)
        tx.put_row(channel(town, ALICE), row, alice, P)


class First:
    """A model that scores by the first column."""

    def score(self, rows: np.ndarray) -> np.ndarray:
        return rows[:, 0]


def channel(town: Town, subject: str) -> str:
    return seal.personal_channel(town.pseudonym(subject), P)


def said(session: Session) -> list[tuple[type[m.Message], str]]:
    """What was said of channels since it was last asked."""
    found: list[tuple[type[m.Message], str]] = [
        (type(one), one.channel) for one in session.said if isinstance(one, m.Follow | m.Unfollow)
    ]
    session.said.clear()
    return found


def country(device: Device, user: str = "alice") -> object:
    return device.rt.read("profile:country", user=user).value


def test_a_subject_not_seen_for_so_long_is_unfollowed_and_nothing_is_erased(
    town: Town, device: Device
) -> None:
    """To the microsecond; seen again it follows from where it stood, and gets what came meanwhile."""
    session = with_alice(town, device)
    device.clock.advance(us=TIMEOUT_US)
    session.settle()
    assert said(session) == []
    device.clock.advance(us=1)
    session.settle()
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    assert session.device.caught_up
    put_profile(town, "UK")
    session.settle()
    assert country(device) == "FR"
    session.tick()
    follow = next(one for one in session.said if isinstance(one, m.Follow))
    assert follow.cursor > 0
    session.settle()
    assert country(device) == "UK"
    session.close()


@pytest.mark.parametrize("how", ["read", "vector", "matrix", "score", "track", "track_many", "fetch"])
def test_whatever_is_read_or_happens_keeps_a_subject_here(town: Town, device: Device, how: str) -> None:
    session = with_alice(town, device)
    rt, item = device.rt, {"user": "alice", "item": "a"}
    rt.use_model("ranker", First())
    acts: dict[str, Callable[[], object]] = {
        "read": lambda: rt.read("profile:country", user="alice"),
        "vector": lambda: rt.vector("ranker", user="alice", item="a"),
        "matrix": lambda: rt.matrix("ranker", user="alice", item=["a", "b"]),
        "score": lambda: rt.score("ranker", user="alice", item="a"),
        "track": lambda: rt.track("view", **item, price=1.0, category="x"),
        "track_many": lambda: rt.track_many([{"type": "view", **item, "price": 1.0, "category": "x"}]),
        "fetch": lambda: rt.fetch("taste", **item),
    }
    for _ in range(4):
        device.clock.advance(us=TIMEOUT_US - 1)
        acts[how]()
        session.settle()
    assert said(session) == []
    device.clock.advance(us=TIMEOUT_US + 1)
    session.settle()
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    session.close()


def test_who_leaves_is_unfollowed_at_once_until_seen_or_asked_again(town: Town, device: Device) -> None:
    """`rt.leave` is the timeout without waiting; only what was said stays, and bob is not touched by it."""
    device.rt.consent.give("bob", [P], notice="2026-11")
    session = with_alice(town, device)
    device.clock.advance(seconds=1)
    device.rt.leave("alice")
    session.settle()
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    device.clock.advance(seconds=1)
    assert country(device) == "FR"
    session.settle()
    assert said(session) == [(m.Follow, channel(town, ALICE))]
    device.rt.leave("alice")
    session.settle()
    device.rt.consent.withdraw("alice")
    session.settle()
    device.clock.advance(seconds=1)
    device.rt.consent.give("alice", [P], notice="2026-11")
    session.settle()
    assert said(session)[-1] == (m.Follow, channel(town, ALICE))
    session.close()


def test_a_fetch_opens_the_channel_it_needs(town: Town, device: Device) -> None:
    """Asked for by the app, so she is here; her rows come in the same breath."""
    session = with_alice(town, device)
    publish(town, "taste", ALICE, "item:a", likes=3.0)
    device.rt.leave("alice")
    session.settle()
    device.clock.advance(seconds=1)
    fetch = device.rt.fetch("taste", user="alice", item="a")
    session.settle()
    assert fetch.wait(0).found == 1
    session.close()


def test_who_is_admitted_again_is_here(town: Town, device: Device) -> None:
    """The backend's word that she stands there, with a ticket that the server still takes."""
    alice = town.pseudonym(ALICE)
    town.decide(ALICE, "given")
    session = live(device)
    made = tickets.issue(
        town.authority.signing, device.rt._keyring.identity.device_id, alice, [P], town.clock.now_us() + 10**9
    )
    ticket = urlsafe_b64encode(made).decode().rstrip("=")
    device.rt.admit("alice", [P], ticket)
    device.clock.advance(seconds=1)
    device.rt.leave("alice")
    session.settle()
    assert said(session) == []
    device.clock.advance(seconds=1)
    device.rt.admit("alice", [P], ticket)
    session.settle()
    assert said(session) == [(m.Follow, channel(town, ALICE))]
    session.close()


def test_nobody_who_was_erased_is_remembered_as_seen(town: Town, device: Device) -> None:
    session = with_alice(town, device)
    country(device)
    assert "alice" in device.rt._presence._seen["user"]
    device.rt.consent.withdraw("alice")
    assert device.rt._presence._seen["user"] == {}
    session.close()


def test_rows_that_were_asked_for_come_however_long_the_way_was(town: Town, device: Device) -> None:
    """Asked for without a session; hours later she is not here, and her channel opens for the answer."""
    with_alice(town, device).close()
    fetch = device.rt.fetch("taste", user="alice", item="a")
    device.clock.advance(us=3 * TIMEOUT_US)
    session = live(device)
    assert fetch.wait(0).absent == 1
    session.tick()
    assert said(session) == [(m.Follow, channel(town, ALICE)), (m.Unfollow, channel(town, ALICE))]
    session.close()


def test_after_a_restart_everybody_is_here_until_the_timeout(town: Town, tmp_path: Path) -> None:
    """A device of one person need not be looked at to be up to date."""
    device = Device(town, tmp_path / "other", settings=SETTINGS)
    with_alice(town, device).close()
    device.close()
    device.clock.advance(us=5 * TIMEOUT_US)
    device = Device(town, tmp_path / "other", settings=SETTINGS)
    session = live(device)
    assert said(session) == [(m.Follow, channel(town, ALICE))]
    device.clock.advance(us=TIMEOUT_US + 1)
    session.settle()
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    session.close()
    device.close()


def test_a_read_for_a_report_is_nobody_here(town: Town, device: Device) -> None:
    """The rounds of aggregates read too, and no one asked them to."""
    session = with_alice(town, device)
    device.clock.advance(us=TIMEOUT_US)
    assert device.rt._read_subject("profile:country", ALICE).value == "FR"
    device.clock.advance(us=1)
    session.settle()
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    session.close()


def test_a_withdrawal_reaches_who_is_not_here(town: Town, device: Device) -> None:
    """Law 2: the lane knows no presence."""
    session = with_alice(town, device)
    device.clock.advance(us=TIMEOUT_US + 1)
    session.settle()
    town.decide(ALICE, "withdrawn")
    session.settle()
    assert device.rt._keyring.key(ALICE, P) is None
    assert device.status("profile:country", user="alice") is er.Status.REVOKED
    session.close()


# ---- who is here ---------------------------------------------------------------------------------------


def test_law_11_of_so_many_subjects_and_no_more_it_is_known_when_they_were_seen() -> None:
    """Of the others it is as if they had not been seen; a clock set back sends nobody away."""
    presence = Presence(["user"], 10, 100, limit=3)
    for n in range(5):
        presence.note({"user": f"{n}", "item": "x"}, 1_000 + n)
    assert [presence.here_until_us(f"user:{n}", 0) >= 1_005 for n in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert presence.here_until_us("user:4", 0) >= 5
    assert presence.here_until_us("user:new", 1_000) >= 1_005
    presence.note({"user": 7}, 1_005)
    presence.note({"user": ["a", "b"]}, 1_005)
    presence.note({}, 1_005)
    assert len(presence._seen["user"]) == 3


def test_without_a_timeout_only_leaving_ends_it() -> None:
    presence = Presence(["user", "guest"], 0, 100)
    assert presence.here_until_us(BOB, 0) >= 10**15
    presence.left(BOB, 500)
    assert presence.here_until_us(BOB, 500) < 501
    assert presence.here_until_us(BOB, 501) >= 502
    presence.forget(BOB)
    assert presence.here_until_us(BOB, 0) >= 10**15
    presence.left("item:x", 1)
    presence.forget("item:x")
    assert presence.here_until_us("item:x", 0) >= 101


def test_who_is_here_is_worked_out_anew_only_when_something_may_differ(
    town: Town, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at all reads the whole keystore: not at every tick of a link on a device of many subjects."""
    session = with_alice(town, device)
    session.settle()
    looks = 0
    every_key = device.rt._keyring.every_key

    def counted() -> object:
        nonlocal looks
        looks += 1
        return every_key()

    monkeypatch.setattr(device.rt._keyring, "every_key", counted)
    for _ in range(20):
        device.clock.advance(us=1_000_000)
        session.settle()
    assert looks == 0
    device.clock.advance(us=TIMEOUT_US)
    session.settle()
    assert looks > 0
    looks = 0
    device.rt.read("profile:country", user="alice")  # here again
    session.settle()
    assert looks == 1
    session.close()


def test_law_3_a_purpose_whose_own_lease_ends_first_is_unfollowed_and_followed_again(tmp_path: Path) -> None:
    """The device's lease goes on; what was open under the purpose's is looked at anew all the same."""
    day_us = 24 * 3_600 * 1_000_000
    town = warm_town(tmp_path / "long", lease_us=4 * day_us)
    device = Device(
        town, tmp_path / "kiosk", settings=er.Settings(sweep_interval_us=0, presence_timeout_us=0)
    )
    session = with_alice(town, device)
    device.clock.advance(us=day_us)
    session.settle()
    assert device.rt.status()["lease"] == "fresh"
    assert said(session) == [(m.Unfollow, channel(town, ALICE))]
    session.said.clear()
    device.clock.advance(us=day_us)  # half of the device's: it is renewed, and so is the purpose's
    session.settle()
    assert said(session) == [(m.Follow, channel(town, ALICE))]
    assert device.status("profile:country", user="alice") is er.Status.PRESENT
    session.close()
    device.close()
    town.close()
