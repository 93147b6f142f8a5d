"""Each table keeps what its transaction promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import ChannelState, Placed
from edge_runtime.wire.messages import LaneEntry, Row

A, B = b"a" * 16, b"b" * 16


@pytest.fixture
def database() -> Iterator[Database]:
    opened = Database.open(":memory:", bytes(32))
    yield opened
    opened.close()


def row(seq: int, entity: str = "item:x", created_us: int = 5) -> Row:
    return Row(seq, entity, "stats", 1, 4, created_us, 0, False, b"\x80")


def test_journal_numbers_are_never_used_twice(database: Database) -> None:
    with database.write("w") as tx:
        assert tx.append_events([]) == 0
        assert tx.append_events([(A, 1, b"1"), (B, 1, b"2"), (A, 2, b"3")]) == 1
        assert tx.events(A) == [(1, b"1"), (3, b"3")]
        assert not tx.events_dropped(A)
        assert tx.drop_events(A, 3, keep_from_day=2) == 1
        assert tx.events_dropped(A)
        assert tx.newest_event(A) == 3
        assert tx.drop_events(A, 9) == 1
        assert tx.newest_event(A) == 0
        assert tx.drop_events(B, 0) == 0
        assert not tx.events_dropped(B)
        assert tx.append_events([(A, 3, b"4")]) == 4


def test_forgetting_a_handle_takes_every_row_and_no_other(database: Database) -> None:
    with database.write("w") as tx:
        for handle in (A, B):
            tx.append_events([(handle, 7, b"e")])
            tx.put_state(handle, A, 3, b"s")
            tx.put_personal_row(handle, A, 9, b"r")
        assert tx.newest_day(A) == 9
        assert tx.handles() == {A, B}
        assert tx.forget(A) == {"journal": 1, "state": 1, "personal": 1, "answer": 0}
        assert tx.handles() == {B}
        assert tx.newest_day(A) is None
        assert tx.forget_unknown({A}) == {"journal": 1, "state": 1, "personal": 1, "answer": 0}
        assert tx.handles() == set()


def test_states_and_personal_rows_replace_their_slot(database: Database) -> None:
    with database.write("w") as tx:
        tx.put_state(A, A, 1, b"1")
        tx.put_state(A, A, 2, b"2")
        tx.put_personal_row(A, A, 1, b"1")
        tx.put_personal_row(A, A, 2, b"2")
        assert tx.state(A, A) == b"2"
        assert tx.state(A, B) is None
        assert tx.personal_row(A, A) == b"2"
        assert tx.personal_rows(A) == [(A, b"2")]
        assert tx.delete_personal_row(A, A)
        assert not tx.delete_personal_row(A, A)


def test_rows_give_back_the_hash_they_replace(database: Database) -> None:
    with database.write("w") as tx:
        assert tx.put_row("all", row(1), A, 1) == Placed(True, None)
        assert tx.put_row("all", row(2), B, 1) == Placed(True, A)
        assert tx.put_row("segment:gold", row(9, created_us=1), A, 1) == Placed(True, None)
        assert tx.row("item:x", "stats", 1) == row(2)
        assert list(tx.rows_of_view("stats", 1)) == [row(2), row(9, created_us=1)]
        assert list(tx.rows_in_channel("all")) == [(row(2), B)]
        assert tx.delete_row("all", "item:x", "stats", 1) == B
        assert tx.delete_row("all", "item:x", "stats", 1) is None
        assert tx.row("item:x", "stats", 1) == row(9, created_us=1)
        assert tx.row("item:y", "stats", 1) is None


def test_dropping_a_channel_takes_its_rows_and_cursor(database: Database) -> None:
    with database.write("w") as tx:
        tx.put_row("all", row(1), A, 1)
        tx.set_channel("all", 1, 2**128 - 1)
        assert tx.channel("all") == ChannelState(1, 2**128 - 1)
        assert tx.drop_channel("all") == 1
        assert tx.channels() == {}
        assert list(tx.rows()) == []


def test_an_older_lane_entry_never_replaces_a_newer(database: Database) -> None:
    with database.write("w") as tx:
        tx.put_lane([LaneEntry(5, A, "p", "withdrawn", 0, 5), LaneEntry(6, B, "p", "given", 6, 0)])
        tx.put_lane([LaneEntry(3, A, "p", "given", 3, 0)])
        assert tx.lane_entry(A, "p") == LaneEntry(5, A, "p", "withdrawn", 0, 5)
        assert {e.seq for e in tx.lane_in_state("p", ["withdrawn", "given"])} == {5, 6}
        assert tx.lane_position() == 0
        tx.set_lane_position(6)
        assert tx.lane_position() == 6


def test_the_outbox_keeps_its_order_and_each_id_once(database: Database) -> None:
    with database.write("w") as tx:
        tx.enqueue("decision", A, b"1")
        tx.enqueue("receipt", A, b"2")
        tx.enqueue("decision", B, b"3")
        tx.enqueue("decision", A, b"4")
        assert [(i.id, i.payload) for i in tx.outbox("decision")] == [(A, b"4"), (B, b"3")]
        assert len(tx.outbox()) == 3
        assert tx.outbox_item("decision", A) == b"4"
        assert tx.settle(A, "decision")
        assert not tx.settle(A, "decision")
        assert [i.kind for i in tx.outbox()] == ["receipt", "decision"]


def test_spent_budget_adds_up_and_survives_a_change_of_authority(database: Database) -> None:
    with database.write("w") as tx:
        tx.debit(A, 1, 5)
        tx.debit(A, 1, 7)
        tx.set_lane_position(3)
        tx.put_denial(A, b"d", open=True)
        tx.forget_authority()
        assert tx.spent(A, 1) == 12
        assert tx.spent(A, 2) == 0
        assert tx.lane_position() == 0
        assert tx.denials() == []
        assert tx.drop_budget_before(2) == 1


def test_meta_facts_are_replaced_and_dropped(database: Database) -> None:
    with database.write("w") as tx:
        tx.set_meta("k", b"1")
        tx.set_meta("k", b"2")
        assert tx.meta("k") == b"2"
        tx.drop_meta("k")
        assert tx.meta("k") is None
    assert database.writes == {"w": 1}


def test_law_4_answers_go_with_any_of_the_handles_that_seal_them(database: Database) -> None:
    """And an upkeep that ends one handle's values takes only what was drawn from them."""
    handles = [bytes([n]) * 16 for n in (1, 2, 3)]
    value, asked, outcome = handles
    for gone in handles:
        with database.write("test") as tx:
            tx.put_answer(value, bytes(16), asked, outcome, b"sealed")
            tx.put_answer(b"o" * 16, bytes(16), b"o" * 16, b"o" * 16, b"another's")
            assert tx.drop_answers(gone, of_its_values=True) == (gone == value)
            tx.put_answer(value, bytes(16), asked, outcome, b"sealed")
            assert tx.handles() == {*handles, b"o" * 16}
            assert tx.forget(gone)["answer"] == 1
            assert tx.answers(value, bytes(16)) is None
            assert tx.answers(b"o" * 16, bytes(16)) == b"another's"
            assert tx.forget_unknown(set())["answer"] == 1
