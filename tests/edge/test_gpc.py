"""Global Privacy Control on the device: an opt-out of sale, sharing and targeting; of the rest, evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.wire.messages import Decision
from tests.support.consent_room import Room

CONSENT = {"legal_basis": "consent", "retention": "30d"}
SILENT = {"legal_basis": "legitimate_interest", "terminal_access": "strictly_necessary", "retention": "30d"}
CATALOG = Catalog.from_dict(
    {
        "catalog": {"name": "shop", "version": 1},
        "purposes": {
            "plain": CONSENT,
            "ads": {**CONSENT, "uses": ["targeting", "sale"]},
            "partners": {**SILENT, "uses": ["share"]},
            "delivery": SILENT,
        },
        "entities": {"user": {"personal": True}},
    }
)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with Room(tmp_path, catalog=CATALOG) as opened:
        yield opened


def told(room: Room) -> list[tuple[str, str, tuple[str, ...]]]:
    """What waits for the server: (purpose, state, signals)."""
    with room.database.read() as tx:
        waiting = [msgspec.msgpack.decode(item.payload, type=Decision) for item in tx.outbox("decision")]
    return [(d.purpose, d.state, d.signals) for d in waiting]


def states(room: Room, subject: str = "alice") -> dict[str, str]:
    return {name: room.consents.state(subject, name) for name in CATALOG.purposes}


def test_a_given_against_the_signal_is_a_refusal_and_the_record_says_so(room: Room) -> None:
    """Of what sells, shares or targets; the rest is given, with the signal as evidence."""
    room.enrol().answered()
    record = room.consents.give("alice", ["plain", "ads"], notice="n", gpc=True)
    assert (record.purposes, record.state, record.conflicts) == (("plain",), "given", ("ads",))
    assert not room.allowed(purpose="ads")
    assert room.allowed(purpose="plain")
    assert told(room) == [("ads", "refused", ("gpc",)), ("plain", "given", ("gpc",))]


def test_a_record_of_nothing_but_conflicts_is_a_refusal(room: Room) -> None:
    record = room.consents.give("alice", ["ads"], notice="n", gpc=True)
    assert (record.purposes, record.state, record.conflicts) == (("ads",), "refused", ("ads",))


def test_without_the_signal_nothing_is_refused_and_nothing_is_said_of_it(room: Room) -> None:
    room.enrol().answered()
    record = room.consents.give("alice", ["plain", "ads"], notice="n")
    assert record.conflicts == ()
    assert room.allowed(purpose="ads")
    assert {signals for _, _, signals in told(room)} == {()}


def test_the_signal_ends_what_was_given_before_it(room: Room) -> None:
    """A renewal under the signal is no renewal: the key goes."""
    room.consents.give("alice", ["ads"], notice="n")
    key = room.consents.key("user:alice", "ads")
    assert key is not None
    room.consents.give("alice", ["ads"], notice="n", gpc=True)
    assert not key.alive
    assert room.consents.state("alice", "ads") == "refused"


def test_opting_out_denies_all_that_uses_and_nothing_else(room: Room) -> None:
    """What asks is refused, what does not is objected to; other purposes stay."""
    room.enrol().answered()
    room.consents.give("alice", ["plain", "ads"], notice="n")
    assert room.consents.key("user:alice", "partners") is not None
    receipt = room.consents.opt_out("alice")
    assert receipt is not None
    assert states(room) == {
        "plain": "given",
        "ads": "refused",
        "partners": "objected",
        "delivery": "unknown",
    }
    assert [t for t in told(room) if t[2]] == [
        ("ads", "refused", ("gpc",)),
        ("partners", "objected", ("gpc",)),
    ]


def test_opting_out_again_denies_nothing_anew(room: Room) -> None:
    """Also after a withdrawal by hand: what is denied stays denied as it is."""
    room.enrol().answered()
    room.consents.give("alice", ["ads"], notice="n")
    room.consents.withdraw("alice", ["ads"])
    assert room.consents.opt_out("alice") is not None  # partners
    before = told(room)
    assert room.consents.opt_out("alice") is None
    assert told(room) == before
    assert room.consents.state("alice", "ads") == "withdrawn"


def test_the_signal_survives_a_crash_between_key_and_outbox(tmp_path: Path) -> None:
    """What is queued again says what was said."""
    with Room(tmp_path, catalog=CATALOG) as room:
        room.enrol().answered()
        room.consents.give("alice", ["plain"], notice="n", gpc=True)
        with room.database.write("lose") as tx:
            for item in tx.outbox("decision"):
                tx.settle(item.id, "decision")
        key = room.consents.key("user:alice", "plain")
        assert key is not None
        room.keyring.renew(key, "n", 0, bytes(16), pending=True, signals=("gpc",))
    with Room(tmp_path, catalog=CATALOG) as room:
        assert set(told(room)) == {("plain", "given", ("gpc",))}
