"""No permission, no use: what a subject said decides, and saying it badly changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.errors import DatabaseUnreadable, MalformedRequest
from tests.support.consent_room import M, P, Room
from tests.support.forensics import plaintext_hits

NOTICED = Catalog.from_dict(
    {
        "catalog": {"name": "shop", "version": 1},
        "purposes": {
            "personalization": {"title": "p", "legal_basis": "consent", "retention": "30d"},
            "measurement": {"title": "m", "legal_basis": "consent", "retention": "30d"},
        },
        "notices": {"2026-11": {"purposes": ["personalization"], "language": "en"}},
        "entities": {"user": {"personal": True}},
    }
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path) as opened:
        yield opened


def test_law_1_unknown_means_no(room: Room) -> None:
    assert room.consents.permission("user:alice", P) == (False, "unknown")
    assert room.consents.state("alice", P) == "unknown"
    assert room.consents.key("user:alice", P) is None
    assert room.consents.records("alice") == []


def test_law_1_given_allows_that_purpose_of_that_subject_only(room: Room) -> None:
    record = room.consents.give("alice", [P], notice="2026-11")
    assert (record.subject, record.purposes, record.state) == ("user:alice", (P,), "given")
    assert record.grants[0] > 0, "a standalone runtime numbers grants itself"
    assert room.allowed()
    assert not room.allowed(purpose=M)
    assert not room.allowed("bob")
    assert room.consents.state("user:alice", P) == "given"
    assert room.consents.key("user:alice", P) is room.key()
    assert room.consents.records("alice")[0].notice == "2026-11"


def test_law_1_a_purpose_that_no_catalog_declares_is_never_allowed(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", ["measurement", "guest"], notice="v1")
        room.consents.give("alice", ["hints"], notice="v1")
    with Room(tmp_path, catalog=NOTICED) as room:
        assert not room.allowed(purpose="hints")
        assert room.consents.state("alice", "hints") == "given", "what is held can be asked for and withdrawn"
        assert room.consents.withdraw("alice", ["hints"]).receipt.kind == "erased"
        with pytest.raises(MalformedRequest):
            room.consents.state("alice", "hints")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.give("alice", [P], notice=""),
        lambda c: c.give("alice", [P], notice="  "),
        lambda c: c.give("alice", [P], notice=None),
        lambda c: c.give("alice", [P], notice="x" * 600),
        lambda c: c.give("alice", [P], notice="\ud800"),
        lambda c: c.give("alice", [], notice="v1"),
        lambda c: c.give("alice", P, notice="v1"),
        lambda c: c.give("alice", None, notice="v1"),
        lambda c: c.give("alice", ["nonsense"], notice="v1"),
        lambda c: c.give("alice", [P, 7], notice="v1"),
        lambda c: c.give("", [P], notice="v1"),
        lambda c: c.give("x" * 600, [P], notice="v1"),
        lambda c: c.give("\ud800", [P], notice="v1"),
        lambda c: c.give(7, [P], notice="v1"),
        lambda c: c.give("alice", [P], notice="v1", at=datetime(2023, 1, 1)),
        lambda c: c.give("alice", [P], notice="v1", at=float("nan")),
        lambda c: c.give("alice", [P], notice="v1", at=float("inf")),
        lambda c: c.give("alice", [P], notice="v1", at=-1),
        lambda c: c.give("alice", [P], notice="v1", at=5e9),
        lambda c: c.give("alice", [P], notice="v1", at=True),
        lambda c: c.give("alice", [P], notice="v1", at="today"),
        lambda c: c.refuse("alice", [P], notice=""),
        lambda c: c.withdraw("alice", []),
        lambda c: c.withdraw("alice", ["nonsense"]),
        lambda c: c.state("alice", "nonsense"),
    ],
)
def test_law_12_a_malformed_decision_changes_nothing(room: Room, call: object) -> None:
    assert callable(call)
    with pytest.raises(MalformedRequest):
        call(room.consents)
    assert list(room.keyring.every_key()) == []
    assert list(room.keyring.denials()) == []


def test_a_refusals_message_names_no_subject(room: Room) -> None:
    with pytest.raises(MalformedRequest) as failure:
        room.consents.give("alice-secret-id", ["nonsense"], notice="v1")
    assert "alice" not in str(failure.value)


def test_a_declared_notice_must_be_named_and_cover_the_purposes(tmp_path: Path) -> None:
    with Room(tmp_path, catalog=NOTICED) as room:
        for purposes, notice in (([P], "2025-01"), ([M], "2026-11"), ([P, M], "2026-11")):
            with pytest.raises(MalformedRequest, match="notice"):
                room.consents.give("alice", purposes, notice=notice)
        assert list(room.keyring.every_key()) == []
        room.consents.give("alice", [P], notice="2026-11")


def test_a_decision_keeps_the_time_it_was_taken(room: Room) -> None:
    at = datetime(2023, 11, 14, 12, 0, 0, 250_000, tzinfo=UTC)
    assert room.consents.give("alice", [P], notice="v1", at=at).at_us == int(at.timestamp() * 1_000_000)
    assert room.consents.give("bob", [P], notice="v1", at=1.5).at_us == 1_500_000
    assert room.consents.give("eve", [P], notice="v1").at_us == room.clock.now_us()


def test_giving_again_renews_and_keeps_grant_and_data(room: Room) -> None:
    first = room.consents.give("alice", [P], notice="v1")
    room.plant("kept-through-renewal")
    again = room.consents.give("alice", [P], notice="v2")
    assert again.grants == first.grants
    assert room.found() == ["kept-through-renewal"] * 3
    assert room.consents.records("alice")[0].notice == "v2"


def test_law_2_giving_after_a_withdrawal_is_a_new_key_and_a_new_grant(room: Room) -> None:
    first = room.consents.give("alice", [P], notice="v1")
    old = room.plant("before-withdrawal")
    sealed = old.seal("x", b"", b"y")
    room.consents.withdraw("alice", [P])
    assert not old.alive
    assert room.consents.permission("user:alice", P) == (False, "withdrawn")
    again = room.consents.give("alice", [P], notice="v2")
    assert again.grants > first.grants
    assert room.key().handle != old.handle
    assert room.found() == []
    with pytest.raises(DatabaseUnreadable):
        room.key().open("x", b"", sealed)


def test_refusing_denies_and_erases_what_was_held(room: Room) -> None:
    room.consents.give("alice", [P], notice="v1")
    room.plant("before-refusal")
    record = room.consents.refuse("alice", [P], notice="v2")
    assert (record.state, record.notice) == ("refused", "v2")
    assert room.consents.state("alice", P) == "refused"
    assert not room.allowed()
    assert room.rows() == 0


def test_law_1_another_legal_basis_allows_by_declaration_and_makes_its_key_at_first_use(room: Room) -> None:
    assert room.consents.permission("user:alice", "orders") == (True, "contract")
    assert list(room.keyring.every_key()) == []
    key = room.consents.key("user:alice", "orders")
    assert key is not None
    assert key is room.consents.key("user:alice", "orders")
    assert key.grant == 0


def test_law_1_storing_on_a_terminal_needs_consent_under_any_basis(room: Room) -> None:
    assert not room.allowed(purpose="hints")
    assert room.consents.key("user:alice", "hints") is None
    room.consents.give("alice", ["hints"], notice="v1")
    assert room.allowed(purpose="hints")


def test_a_withdrawal_under_another_basis_stands_until_somebody_gives(room: Room) -> None:
    room.consents.key("user:alice", "orders")
    room.consents.withdraw("alice", ["orders"])
    assert not room.allowed(purpose="orders")
    assert room.consents.key("user:alice", "orders") is None
    room.consents.give("alice", ["orders"], notice="v1")
    assert room.allowed(purpose="orders")


def test_law_5_a_session_purpose_never_rests_on_disk(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("guest-0815", ["guest"], notice="v1")
        assert room.allowed("guest-0815", "guest")
        assert not room.key("guest-0815", "guest").resting
        secret = bytes(room.key("guest-0815", "guest").secret_copy())
        room.consents.give("alice", [P], notice="v1")  # rewrites the keystore
        assert plaintext_hits(tmp_path, ["guest-0815", secret]) == {}
    with Room(tmp_path) as room:
        assert room.consents.state("guest-0815", "guest") == "unknown"
        assert not room.allowed("guest-0815", "guest")
        assert room.allowed()


def test_leaving_ends_what_was_kept_for_the_session_only(room: Room) -> None:
    room.consents.give("alice", ["guest", P], notice="v1")
    room.consents.leave("alice")
    assert not room.allowed(purpose="guest")
    assert room.consents.state("alice", "guest") == "unknown"
    assert room.allowed()
    assert room.forgotten == [("user:alice", ("guest",))]
    room.consents.give("alice", ["guest"], notice="v1")
    assert room.allowed(purpose="guest")


def test_law_2_a_session_purpose_can_be_withdrawn_too(room: Room) -> None:
    room.consents.give("alice", ["guest"], notice="v1")
    counter = room.keyring.counter
    receipt = room.consents.withdraw("alice", ["guest"]).receipt
    assert (receipt.kind, receipt.keys_destroyed) == ("erased", 1)
    assert room.keyring.counter == counter, "no root changes for what never rested"
    assert not room.allowed(purpose="guest")


def test_a_denial_outlives_a_restart(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
        room.consents.withdraw("alice")
    with Room(tmp_path) as room:
        assert room.consents.state("alice", P) == "withdrawn"
        assert room.consents.permission("user:alice", P) == (False, "withdrawn")


def test_saying_the_same_denial_again_adds_nothing(room: Room) -> None:
    room.consents.give("alice", [P], notice="v1")
    first = room.consents.withdraw("alice", [P])
    again = room.consents.withdraw("alice", [P])
    assert again.body == first.body
    assert len(list(room.keyring.denials())) == 1


def test_decisions_from_many_threads_end_in_one_key_or_none(room: Room) -> None:
    def work() -> None:
        for _ in range(8):
            room.consents.give("alice", [P], notice="v1")
            room.consents.permission("user:alice", P)
            room.consents.withdraw("alice", [P])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert room.consents.state("alice", P) == "withdrawn"
    assert list(room.keyring.every_key()) == []
