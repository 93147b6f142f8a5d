"""Withdraw, then give again, without contact: on the device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consent_room import M, P, Room, die_at, killed

GRANT, DENIED = 10, 15


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path) as opened:
        yield opened.enrol().answered().given(GRANT)


def toggled(room: Room, text: str = "collected-since") -> tuple[bytes, bytes]:
    """Withdrawn and given again; returns the ids of both."""
    denied = room.consents.withdraw("alice", [P]).receipt.decisions[0]
    given = room.consents.give("alice", [P], notice="v2").decisions[0]
    room.plant(text)
    return denied, given


def test_a_give_names_the_denial_of_its_own_that_it_follows(room: Room) -> None:
    denied, given = toggled(room)
    told = {d.id: d for d in room.decisions()}
    assert (told[denied].after, told[given].after) == (None, denied)
    assert [d.id for d in room.decisions()] == [denied, given], "in their order"
    again, last = toggled(room)
    told = {d.id: d for d in room.decisions()}
    assert (told[again].after, told[last].after) == (denied, again)


def test_law_6_what_was_collected_since_survives_when_the_ledger_takes_the_give(room: Room) -> None:
    """The lane brings our own withdrawal first: nothing is used from then until the ledger has the give."""
    denied, given = toggled(room)
    assert room.allowed()
    (receipt,) = room.consents.apply_lane(
        [room.entry(DENIED, "withdrawn", denial=DENIED, decision=denied)], 15
    )
    assert (receipt.receipt.kind, receipt.receipt.denials) == ("erased", [DENIED])
    assert not room.allowed()
    assert room.consents.state("alice", P) == "withdrawn"
    room.consents.recorded(denied, DENIED, "recorded", 0)
    assert not room.allowed()
    room.consents.recorded(given, 16, "recorded", 16)
    assert room.allowed()
    assert room.key().grant == 16
    room.consents.apply_lane([room.entry(16, "given", grant=16, denial=DENIED, decision=denied)], 16)
    assert room.allowed()
    assert room.found() == ["collected-since"] * 3


def test_the_lane_may_bring_both_at_once_and_the_acknowledgements_later(room: Room) -> None:
    denied, given = toggled(room)
    room.consents.apply_lane([room.entry(16, "given", grant=16, denial=DENIED, decision=denied)], 16)
    assert not room.allowed(), "by whose decision it stands is not known yet"
    room.consents.recorded(denied, DENIED, "recorded", 0)
    room.consents.recorded(given, 16, "recorded", 16)
    assert room.allowed()
    assert room.found() == ["collected-since"] * 3


def test_law_2_somebody_elses_denial_ends_it_at_once(room: Room) -> None:
    """The same shape of entry, another author: the key goes when it is received."""
    denied, given = toggled(room)
    (receipt,) = room.consents.apply_lane([room.entry(17, "revoked", denial=17)], 17)
    assert (receipt.receipt.kind, receipt.receipt.denials) == ("erased", [17])
    assert room.rows() == 0
    room.consents.recorded(denied, DENIED, "recorded", 0)
    room.consents.recorded(given, 16, "superseded", 0)
    assert not room.allowed()


@pytest.mark.parametrize("state", ["withdrawn", "given"])
def test_law_2_our_denial_said_once_more_by_another_device_ends_what_we_gave(room: Room, state: str) -> None:
    """Whoever replays our withdrawal in its own name makes a denial of its own, newer than our give.

    The lane brings only that one, under the id that we know, and perhaps a consent given elsewhere after it.
    """
    denied, given = toggled(room)
    seq, grant = (17, 0) if state == "withdrawn" else (18, 18)
    room.consents.apply_lane([room.entry(seq, state, grant=grant, denial=17, decision=denied)], seq)
    assert not room.allowed()
    room.consents.recorded(denied, DENIED, "recorded", 0)
    room.consents.recorded(given, 16, "recorded", 16)
    assert not room.allowed()
    assert room.keyring.key("user:alice", P) is None
    assert room.rows() == 0
    last = [receipt for receipt in room.receipts() if 17 in receipt.denials][-1]
    assert (last.kind, last.keys_destroyed) == ("erased", 1)


def test_law_2_a_superseded_give_is_erased_though_it_followed_our_own(room: Room) -> None:
    denied, given = toggled(room)
    room.consents.apply_lane([room.entry(DENIED, "withdrawn", denial=DENIED, decision=denied)], 15)
    room.consents.recorded(denied, DENIED, "recorded", 0)
    room.consents.recorded(given, 16, "superseded", 0)
    assert not room.allowed()
    assert room.rows() == 0
    assert room.keyring.key("user:alice", P) is None


def test_the_lane_may_stand_between_two_withdrawals_of_ours(room: Room) -> None:
    """Only the first is recorded yet: the key that follows the second waits, and is not lost."""
    first, _ = toggled(room, "between")
    second, last = toggled(room, "after-both")
    room.consents.apply_lane([room.entry(DENIED, "withdrawn", denial=DENIED, decision=first)], 15)
    assert not room.allowed()
    for n, decision in enumerate([first, second]):
        room.consents.recorded(decision, DENIED + 2 * n, "recorded", 0)
    room.consents.recorded(last, 18, "recorded", 18)
    assert room.found() == ["after-both"] * 3
    assert room.allowed()


def test_law_2_an_older_copy_of_everything_does_not_know_the_denial(tmp_path: Path) -> None:
    """Put back to before the withdrawal: the lane's word ends the key, though the id was its own."""
    today, yesterday = tmp_path / "today", tmp_path / "yesterday"
    today.mkdir()
    with Room(today) as room:
        room.enrol().answered()
        room.given(GRANT)
        room.plant("from-yesterday")
    shutil.copytree(today, yesterday)
    with Room(today) as room:
        denied, _ = toggled(room)
    with Room(yesterday) as room:
        room.answered()
        room.consents.apply_lane([room.entry(DENIED, "withdrawn", denial=DENIED, decision=denied)], 15)
        assert not room.allowed()
        assert room.rows() == 0


@pytest.mark.parametrize("point", ["denied", "silenced", "keystore", "slot_new", "rows", "wal", "receipt"])
def test_law_6_a_kill_while_withdrawing_keeps_the_order_for_the_give(tmp_path: Path, point: str) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.given(GRANT)

    def withdraw() -> None:
        Room(tmp_path, step=die_at(point)).consents.withdraw("alice", [P])

    assert killed(withdraw)
    with Room(tmp_path) as room:
        room.answered()
        (denied,) = room.decisions()
        given = room.consents.give("alice", [P], notice="v2").decisions[0]
        room.plant("collected-since")
    with Room(tmp_path) as room:
        room.answered()
        assert [(d.id, d.after) for d in room.decisions()] == [(denied.id, None), (given, denied.id)]
        room.consents.apply_lane([room.entry(DENIED, "withdrawn", denial=DENIED, decision=denied.id)], 15)
    with Room(tmp_path) as room:
        room.answered()
        assert not room.allowed(), "it waits for the ledger's word, also after a restart"
        room.consents.recorded(denied.id, DENIED, "recorded", 0)
        room.consents.recorded(given, 16, "recorded", 16)
        assert room.allowed()
        assert room.found() == ["collected-since"] * 3


def test_an_older_database_queues_the_give_again_with_what_it_follows(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.given(GRANT)
    old = (tmp_path / "cache.db").read_bytes()
    with Room(tmp_path) as room:
        denied, given = toggled(room)
    (tmp_path / "cache.db").write_bytes(old)
    with Room(tmp_path) as room:
        assert [(d.id, d.after) for d in room.decisions()] == [(denied, None), (given, denied)]


def test_another_purposes_denial_is_not_named(room: Room) -> None:
    room.consents.withdraw("alice", [M])
    given = room.consents.give("alice", [P], notice="v2").decisions[0]
    assert {d.id: d.after for d in room.decisions()}[given] is None
