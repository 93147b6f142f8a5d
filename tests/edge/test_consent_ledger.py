"""The ledger's word is enforced before anything else, and our own decisions reach it once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consent_room import M, P, Room


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path) as opened:
        yield opened.enrol().answered()


def give(room: Room, *, grant: int | None = None, base: int | None = None) -> bytes:
    """Alice gives here; with `grant` the ledger has numbered it already. Returns the decision id."""
    if base is not None:
        room.consents.apply_lane([], base)
    decision = room.consents.give("alice", [P], notice="v1").decisions[0]
    if grant is not None:
        room.consents.recorded(decision, grant, "recorded", grant)
    return decision


def test_a_give_waits_for_the_ledger_with_the_base_it_had_seen(room: Room) -> None:
    give(room, base=7)
    (decision,) = room.decisions()
    assert (decision.state, decision.base, decision.notice) == ("given", 7, "v1")
    assert decision.subject == room.keyring.pseudonym("user:alice")
    assert room.key().grant == 0
    assert room.allowed()
    room.consents.recorded(decision.id, 9, "recorded", 9)
    assert room.key().grant == 9
    assert room.decisions() == []
    room.consents.recorded(decision.id, 9, "recorded", 9)


def test_law_2_a_denial_newer_than_the_grant_erases(room: Room) -> None:
    give(room, grant=10)
    room.plant("to-be-revoked")
    (receipt,) = room.consents.apply_lane([room.entry(12, "revoked", denial=12)], 12)
    assert (receipt.receipt.kind, receipt.receipt.denials) == ("erased", [12])
    assert receipt.receipt.rows_deleted["journal"] == 1
    assert receipt.receipt.cold_start == "server"
    assert receipt.verify() == receipt.receipt
    assert room.receipts() == [receipt.receipt]
    assert room.consents.state("alice", P) == "revoked"
    assert not room.allowed()
    assert room.rows() == 0
    assert room.position() == 12


def test_law_2_a_denial_newer_than_an_unnumbered_give_erases(room: Room) -> None:
    give(room, base=10)
    room.plant("to-be-revoked")
    (receipt,) = room.consents.apply_lane([room.entry(11, "withdrawn", denial=11)], 11)
    assert receipt.receipt.kind == "erased"
    assert room.rows() == 0


def test_a_denial_that_the_give_had_seen_does_not_end_it(room: Room) -> None:
    room.consents.apply_lane([room.entry(8, "withdrawn", denial=8)], 8)
    give(room)
    assert room.allowed()
    room.consents.apply_lane([room.entry(12, "given", grant=12, denial=8)], 12)
    assert room.allowed()
    assert room.key().grant == 0, "the number comes with the acknowledgement"
    room.consents.apply_lane([room.entry(9, "withdrawn", denial=9)], 9)
    assert room.allowed(), "an entry from before our position says nothing new"


def test_law_2_a_numbered_grant_newer_than_the_denial_stays(room: Room) -> None:
    give(room, grant=20)
    room.consents.apply_lane([room.entry(21, "given", grant=20, denial=15)], 21)
    assert room.allowed()


def test_law_2_a_superseded_give_is_erased_and_its_denial_answered_as_erased(room: Room) -> None:
    decision = give(room, base=5)
    room.plant("collected-offline")
    room.consents.recorded(decision, 9, "superseded", 0)
    assert not room.allowed()
    assert room.rows() == 0
    assert room.decisions() == []
    (receipt,) = room.consents.apply_lane([room.entry(7, "withdrawn", denial=7)], 7)
    assert (receipt.receipt.kind, receipt.receipt.denials) == ("erased", [7])


def test_every_denial_in_the_lane_is_answered_also_by_held_none(room: Room) -> None:
    entries = [
        room.entry(3, "withdrawn", denial=3, subject="bob"),
        room.entry(4, "given", grant=4, subject="eve"),
        room.entry(5, "given", grant=5, denial=2, subject="old"),
        room.entry(6, "refused", denial=6, subject="bob", purpose=M),
    ]
    receipts = [r.receipt for r in room.consents.apply_lane(entries, 6)]
    assert [(r.kind, r.denials, r.purposes) for r in receipts] == [
        ("held_none", [3], [P]),
        ("held_none", [2], [P]),
        ("held_none", [6], [M]),
    ]
    assert room.receipts() == receipts
    assert room.consents.apply_lane(entries, 6) == []


def test_of_several_entries_for_one_pair_the_newest_counts(room: Room) -> None:
    give(room, grant=2)
    entries = [room.entry(4, "withdrawn", denial=4), room.entry(5, "given", grant=5, denial=4)]
    (receipt,) = room.consents.apply_lane(entries, 5)
    assert (receipt.receipt.kind, receipt.receipt.denials) == ("erased", [4])
    assert room.consents.state("alice", P) != "given"


def test_our_own_withdrawal_is_sent_numbered_and_answered_once(room: Room) -> None:
    give(room, grant=10)
    room.plant("to-be-withdrawn")
    receipt = room.consents.withdraw("alice", [P]).receipt
    (decision,) = room.decisions()
    assert decision.state == "withdrawn"
    assert (receipt.decisions, receipt.denials, receipt.kind) == ([decision.id], [], "erased")
    assert room.receipts() == []
    room.consents.recorded(decision.id, 15, "recorded", 0)
    (queued,) = room.receipts()
    assert (queued.decisions, queued.denials, queued.kind) == ([decision.id], [15], "erased")
    assert queued.rows_deleted["journal"] == 1
    room.consents.apply_lane([room.entry(15, "withdrawn", denial=15)], 15)
    assert room.receipts() == [queued], "the lane brings the same denial: one answer"
    assert room.decisions() == []


def test_the_lane_may_bring_our_withdrawal_before_its_acknowledgement(room: Room) -> None:
    give(room, grant=10)
    room.consents.withdraw("alice", [P])
    (decision,) = room.decisions()
    (receipt,) = room.consents.apply_lane([room.entry(15, "withdrawn", denial=15)], 15)
    assert (receipt.receipt.kind, receipt.receipt.decisions) == ("erased", [decision.id])
    room.consents.recorded(decision.id, 15, "recorded", 0)
    assert [r.id for r in room.receipts()] == [receipt.receipt.id]


def test_a_give_while_the_ledger_has_a_live_grant_adopts_its_number(room: Room) -> None:
    room.consents.apply_lane([room.entry(4, "given", grant=4)], 4)
    assert room.consents.state("alice", P) == "unknown", "given elsewhere: no key was made here"
    assert room.consents.give("alice", [P], notice="v1").grants == (4,)


def test_law_2_a_grant_from_before_our_own_withdrawal_is_not_adopted(room: Room) -> None:
    room.consents.apply_lane([room.entry(4, "given", grant=4)], 4)
    room.consents.give("alice", [P], notice="v1")
    room.consents.withdraw("alice", [P])
    assert room.consents.give("alice", [P], notice="v1").grants == (0,)


def test_law_2_a_give_before_the_ledger_knows_our_withdrawal_falls_with_it(room: Room) -> None:
    give(room, grant=10)
    room.consents.withdraw("alice", [P])
    give(room)
    room.plant("collected-too-early")
    room.consents.apply_lane([room.entry(15, "withdrawn", denial=15)], 15)
    assert not room.allowed()
    assert room.rows() == 0


def test_law_1_restricted_is_kept_and_not_used(room: Room) -> None:
    give(room, grant=10)
    room.plant("kept-under-restriction")
    room.consents.apply_lane([room.entry(12, "restricted", grant=10)], 12)
    assert room.consents.permission("user:alice", P) == (False, "restricted")
    assert room.consents.state("alice", P) == "restricted"
    assert room.rows() == 3
    room.consents.give("alice", [P], notice="v2")
    assert not room.allowed(), "a subject's consent does not lift a restriction"
    room.consents.apply_lane([room.entry(13, "given", grant=10)], 13)
    assert room.found() == ["kept-under-restriction"] * 3
    assert room.allowed()


def test_law_2_a_restriction_does_not_hide_a_withdrawal_before_it(room: Room) -> None:
    """Withdrawn, given and restricted elsewhere before this device heard: the old key goes."""
    give(room, grant=10)
    room.plant("from-before-the-withdrawal")
    room.consents.apply_lane([room.entry(14, "restricted", grant=13, denial=12)], 14)
    assert not room.allowed()
    assert room.rows() == 0


def test_law_1_a_restriction_outlives_a_restart(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        give(room, grant=10)
        room.consents.apply_lane([room.entry(12, "restricted", grant=10)], 12)
    with Room(tmp_path) as room:
        room.answered()
        assert room.consents.permission("user:alice", P) == (False, "restricted")


def test_law_1_an_expired_consent_denies_until_given_again(room: Room) -> None:
    give(room, grant=10)
    room.consents.apply_lane([room.entry(12, "expired")], 12)
    assert not room.allowed()
    room.consents.give("alice", [P], notice="v2")
    assert room.allowed()


def test_law_1_an_objection_ends_a_purpose_under_another_basis(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol()
        assert room.allowed(purpose="orders"), "what does not rest on consent needs no lease"
        room.consents.key("user:alice", "orders")
        room.plant("ordered", purpose="orders")
        objection = room.entry(5, "objected", denial=5, purpose="orders")
        (receipt,) = room.consents.apply_lane([objection], 5)
        assert receipt.receipt.kind == "erased"
        assert room.rows() == 0
        assert not room.allowed(purpose="orders")
        other = room.entry(6, "objected", denial=6, purpose="orders", subject="bob")
        room.consents.apply_lane([other], 6)
        assert room.consents.permission("user:bob", "orders") == (False, "objected")
    with Room(tmp_path) as room:
        assert room.consents.permission("user:bob", "orders") == (False, "objected")
        assert room.consents.key("user:bob", "orders") is None
        room.consents.apply_lane([room.entry(7, "given", grant=7, purpose="orders", subject="bob")], 7)
        assert room.allowed("bob", "orders")


def test_law_2_yesterdays_database_does_not_forget_a_denial_nor_its_receipt(tmp_path: Path) -> None:
    yesterday = tmp_path / "yesterday"
    today = tmp_path / "today"
    today.mkdir()
    with Room(today) as room:
        room.enrol().answered()
        give(room, grant=10)
        room.plant("yesterday-alice")
    shutil.copytree(today, yesterday)
    with Room(today) as room:
        room.consents.withdraw("alice", [P])
        (sent,) = room.decisions()
    for name in ("cache.db",):
        shutil.copy(yesterday / name, today / name)
    with Room(today) as room:
        room.answered()
        assert room.consents.state("alice", P) == "withdrawn"
        assert room.rows() == 0
        assert room.decisions() == [sent], "what was not sent is queued again"
        room.consents.recorded(sent.id, 15, "recorded", 0)
        (receipt,) = room.receipts()
        assert (receipt.kind, receipt.denials, receipt.canary_unreadable) == ("erased", [15], True)
    shutil.copy(yesterday / "cache.db", today / "cache.db")
    with Room(today) as room:
        assert [r.denials for r in room.receipts()] == [[15]], "the receipt is queued again as well"
        assert room.decisions() == []


def test_an_unsent_give_is_queued_again_when_the_database_forgot_it(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
    old = (tmp_path / "cache.db").read_bytes()
    with Room(tmp_path) as room:
        decision = give(room)
    (tmp_path / "cache.db").write_bytes(old)
    with Room(tmp_path) as room:
        assert [d.id for d in room.decisions()] == [decision]


def test_enrolling_elsewhere_voids_what_the_earlier_authority_said(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
        room.consents.withdraw("alice")
        room.enrol()
        assert room.consents.state("alice", P) == "unknown"
        room.consents.apply_lane([room.entry(3, "withdrawn", denial=3)], 3)
        assert room.consents.state("alice", P) == "withdrawn"
    with Room(tmp_path) as room:
        assert room.position() == 3
        assert room.consents.state("alice", P) == "withdrawn"
