"""Restriction (Art. 18) and objection (Art. 21) as decisions taken on the device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import MalformedRequest
from tests.support.consent_room import P, Room
from tests.support.town import ALICE, Kiosk, Session, Town

ORDERS = "orders"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path) as opened:
        opened.enrol().answered().given().plant("kept")
        yield opened


def test_law_1_a_restriction_taken_here_keeps_everything_and_lets_nobody_use_it(room: Room) -> None:
    record = room.consents.restrict("alice", [P])
    assert (record.state, record.grants) == ("restricted", (10,))
    assert room.consents.permission("user:alice", P) == (False, "restricted")
    assert room.consents.state("alice", P) == "restricted"
    assert room.found() == ["kept"] * 3
    (told,) = room.decisions()
    assert (told.id, told.state, told.purpose) == (record.decisions[0], "restricted", P)


def test_it_stands_from_the_acknowledgement_to_the_lane_and_until_a_consent_lifts_it(room: Room) -> None:
    (id_,) = room.consents.restrict("alice", [P]).decisions
    room.consents.apply_lane([room.entry(11, "given", grant=10)], 11)
    assert not room.allowed(), "what the lane says from before does not count"
    room.consents.recorded(id_, 14, "recorded", 10)
    assert not room.allowed()
    room.consents.apply_lane([room.entry(14, "restricted", grant=10)], 14)
    assert not room.allowed()
    again = room.consents.give("alice", [P], notice="v2").decisions[0]
    assert not room.allowed(), "the ledger has to lift it"
    room.consents.recorded(again, 15, "recorded", 10)
    room.consents.apply_lane([room.entry(15, "given", grant=10)], 15)
    assert room.allowed()
    assert room.found() == ["kept"] * 3


def test_a_consent_taken_after_it_without_contact_names_it(room: Room) -> None:
    (id_,) = room.consents.restrict("alice", [P]).decisions
    again = room.consents.give("alice", [P], notice="v2").decisions[0]
    assert {d.id: d.after for d in room.decisions()} == {id_: None, again: id_}
    assert not room.allowed()


@pytest.mark.parametrize("lost", ["nothing", "the database"])
def test_law_1_a_restriction_outlives_a_restart_and_an_older_database(tmp_path: Path, lost: str) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        room.given().plant("kept")
    old = (tmp_path / "cache.db").read_bytes()
    with Room(tmp_path) as room:
        (id_,) = room.consents.restrict("alice", [P]).decisions
    if lost == "the database":
        (tmp_path / "cache.db").write_bytes(old)
    with Room(tmp_path) as room:
        room.answered()
        assert room.consents.permission("user:alice", P) == (False, "restricted")
        assert [d.id for d in room.decisions()] == [id_], "and the ledger is told of it"
        assert room.found() == ["kept"] * 3


def test_a_restriction_that_the_renewal_had_not_seen_erases_nothing(room: Room) -> None:
    """Restricted elsewhere while a renewal was under way: superseded, and the grant lives on."""
    renewed = room.consents.give("alice", [P], notice="v2").decisions[0]
    room.consents.recorded(renewed, 13, "superseded", 10)
    assert room.found() == ["kept"] * 3
    room.consents.apply_lane([room.entry(12, "restricted", grant=10)], 13)
    assert room.consents.permission("user:alice", P) == (False, "restricted")


def test_a_restriction_of_what_is_not_held_lets_none_come(room: Room) -> None:
    room.consents.restrict("bob", [ORDERS])
    assert room.consents.permission("user:bob", ORDERS) == (False, "restricted")
    assert room.consents.key("user:bob", ORDERS) is None
    room.consents.apply_lane([room.entry(9, "given", grant=9, subject="bob", purpose=ORDERS)], 9)
    assert room.allowed("bob", ORDERS)


def test_alone_a_new_consent_lifts_it_at_once(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
        room.plant("kept")
        room.consents.restrict("alice", [P])
    with Room(tmp_path) as room:
        assert not room.allowed()
        room.consents.give("alice", [P], notice="v1")
        assert room.allowed()
    with Room(tmp_path) as room:
        assert room.allowed()
        assert room.found() == ["kept"] * 3


def test_law_1_an_objection_taken_here_erases_and_ends_a_purpose_that_needs_no_consent(room: Room) -> None:
    room.consents.key("user:alice", ORDERS)
    room.plant("ordered", purpose=ORDERS)
    receipt = room.consents.object("alice", [ORDERS]).receipt
    assert (receipt.kind, receipt.purposes) == ("erased", [ORDERS])
    assert room.consents.permission("user:alice", ORDERS) == (False, "objected")
    (told,) = [d for d in room.decisions() if d.purpose == ORDERS]
    assert told.state == "objected"
    with pytest.raises(MalformedRequest, match="withdrawn"):
        room.consents.object("alice", [P])
    room.consents.give("alice", [ORDERS], notice="v2")
    assert room.allowed(purpose=ORDERS), "a consent lifts it"


def test_over_a_session_the_ledger_takes_restriction_and_consent_in_their_order(
    town: Town, tmp_path: Path
) -> None:
    """Restricted and given again without contact: nothing is lost, and in the end it may be used."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    kiosk.give(ALICE)
    Session(kiosk).settle()
    kiosk.consents.restrict(ALICE, [P])
    assert not kiosk.consents.permission(ALICE, P).allowed
    kiosk.give(ALICE)
    assert not kiosk.consents.permission(ALICE, P).allowed
    Session(kiosk).settle()
    assert kiosk.consents.permission(ALICE, P).allowed
    with town.store.read() as tx:
        pseudonym = town.pseudonym(ALICE)
        steps = tx.history(pseudonym, P, 0, 10)
        assert [(s.state, s.outcome) for s in steps] == [
            ("given", "recorded"),
            ("restricted", "recorded"),
            ("given", "recorded"),
        ]
        assert {s.grant for s in steps} == {steps[0].seq}
    kiosk.close()
