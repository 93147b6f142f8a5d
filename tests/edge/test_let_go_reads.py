"""A row whose values were let go says so: expired after its ttl, not synced before, never not found."""

from __future__ import annotations

import edge_runtime as er
from edge_runtime.cache.records import RowPlace
from edge_runtime.sync import personal_rows
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token
from tests.support.clock import ManualClock
from tests.support.held_shop import DAY_US, Shop, shop
from tests.support.shop import BASE_US

PACKED = {"popularity": 0.75, "pairs": {"a": 1.0}}
STUB = "NOT_SYNCED: there was no place for it when it came; it comes again with its channel"
REASON = "NOT_SYNCED: let go to keep the size budget"


def let_go(place: Shop) -> None:
    """As the sweeper will do it: every row that can be."""
    rt = place.rt
    with rt._database.write("test") as tx:
        tx.let_go_rows(RowPlace(f"item:{item}", "stock", 1, "all") for item in "ab")
        key = rt._keyring.key("user:alice", "ads")
        if key is not None:
            slot = personal_rows.row_slot(
                key, "profile@1", subject_token(rt._keyring.pseudonym("user:alice"))
            )
            sealed = tx.personal_row(key.handle, slot)
            assert sealed is not None
            gone = personal_rows.let_go(key, slot, sealed)
            assert gone is not None
            tx.put_personal_row(key.handle, slot, BASE_US // DAY_US, gone)
    rt._source.changed([("stock@1", "item:a")])
    rt._source.changed([("profile@1", "user:alice")])


def test_law_7_a_row_that_was_let_go_is_not_synced_until_its_ttl_then_expired() -> None:
    """A row about nobody (ttl 1 h): the moment of its ttl is the same as for a row that is held."""
    clock = ManualClock(BASE_US)
    with shop(clock) as place:
        place.put("stock", "item:a", PACKED)
        assert place.rt.read("stock:popularity", item="a").status is er.Status.PRESENT
        let_go(place)
        found = place.rt.read("stock:pairs", item="a")
        assert (found.value, found.status, found.reason) == (None, er.Status.NOT_SYNCED, REASON)
        assert (found.event_time, found.created) == (BASE_US, BASE_US)
        with_default = place.rt.read("stock:popularity", item="a")
        assert (with_default.value, with_default.status) == (0.5, er.Status.DEFAULTED)
        assert with_default.reason == REASON
        clock.advance(seconds=3600)
        assert place.rt.read("stock:pairs", item="a").status is er.Status.NOT_SYNCED
        clock.advance(us=1)
        assert place.rt.read("stock:pairs", item="a").status is er.Status.EXPIRED
        assert place.rt.read("stock:pairs", item="b").status is er.Status.NOT_FOUND
        with place.rt._database.write("test") as tx:  # a stub of the gate
            tx.put_row("all", Row(1, "item:b", "stock", 1, BASE_US, BASE_US, 0, False, b""), bytes(16), 1)
        place.rt._source.changed([("stock@1", "item:b")])
        let_go(place)
        found = place.rt.read("stock:pairs", item="b")
        assert (found.status, found.reason) == (er.Status.NOT_SYNCED, STUB)


def test_law_7_a_subjects_row_that_was_let_go_says_the_same() -> None:
    """The profile (ttl 2 h) under its seal."""
    clock = ManualClock(BASE_US)
    with shop(clock) as place:
        place.rt.consent.give("alice", ["ads"], notice="n")
        place.put_profile("alice", {"age": 40.0, "country": "UK"})
        assert place.rt.read("profile:age", user="alice").value == 40.0
        let_go(place)
        found = place.rt.read("profile:age", user="alice")
        assert (found.value, found.status, found.reason) == (None, er.Status.NOT_SYNCED, REASON)
        clock.advance(seconds=7200, us=1)
        assert place.rt.read("profile:age", user="alice").status is er.Status.EXPIRED
        place.put_profile("alice", {"age": 41.0, "country": "UK"})
        assert place.rt.read("profile:age", user="alice").value == 41.0


def test_vectors_and_matrices_say_it_too_and_a_held_row_expires_on_time() -> None:
    """Held or read anew, one candidate or many."""
    clock = ManualClock(BASE_US)
    with shop(clock) as place:
        place.rt.consent.give("alice", ["ads"], notice="n")
        place.put("stock", "item:a", PACKED)
        place.put_profile("alice", {"age": 40.0, "country": "UK"})
        let_go(place)
        ids = {"user": "alice", "item": "a"}
        for seconds, status in (
            (0, er.Status.NOT_SYNCED),
            (7199, er.Status.NOT_SYNCED),
            (2, er.Status.EXPIRED),
        ):
            clock.advance(seconds=seconds)
            vector = place.rt.vector("all", **ids, request={"ctx:hour": 1})
            matrix = place.rt.matrix("all", user="alice", item=["a"], request={"ctx:hour": 1})
            age = vector.names.index("profile:age")
            assert vector.status[age] == matrix.status[0][age] == status
            slow = place.slowly("all", ids, {"ctx:hour": 1})
            assert (vector.values.tobytes(), vector.status.tolist(), list(vector.reason)) == slow
            assert matrix.reason[0] == vector.reason
