"""An aggregate round through the whole device session: real consent, real store, every frame encoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import messages as m
from tests.support.stands import PEOPLE, Stand, close_round, draw, open_round, settle
from tests.support.town import Town


@pytest.fixture
def stands(town: Town, tmp_path: Path) -> Iterator[list[Stand]]:
    made = [Stand(town, tmp_path / f"kiosk{i}", i) for i in range(2)]
    yield made
    for stand in made:
        stand.close()


def test_a_round_reaches_live_devices_and_counts_each_subject_once(town: Town, stands: list[Stand]) -> None:
    """Four people, one of them on both kiosks: four answers, all acknowledged, one release."""
    for subject in PEOPLE[:3]:
        stands[0].give(subject)
    for subject in PEOPLE[2:]:
        stands[1].give(subject)
    settle(stands)
    round_id = open_round(town)
    settle(stands)
    assert [stand.reporter.counts["sent"] for stand in stands] == [3, 1]
    assert all(stand.reporter.pending() == [] for stand in stands)
    assert all(stand.session.device.caught_up for stand in stands)
    release = close_round(town, round_id)
    assert (release.status, release.n) == ("released", 4)


def test_what_a_spent_byte_budget_held_back_goes_when_there_is_room(town: Town, stands: list[Stand]) -> None:
    """An offer that comes while nothing of a round may leave is answered in the tick after."""
    for subject in PEOPLE[:3]:
        stands[0].give(subject)
    settle(stands)
    memory, session = stands[0].kiosk.memory, stands[0].session
    memory.lean = True
    open_round(town)
    settle(stands)
    assert session.heard_of(m.RoundOffer)
    assert not [said for said in session.said if isinstance(said, m.TicketRequest | m.Report)]
    memory.lean = False
    settle(stands)
    assert stands[0].reporter.counts["sent"] == 3


def test_a_round_open_before_the_device_connects_is_answered_after_its_lease(
    town: Town, stands: list[Stand]
) -> None:
    """The offer comes while consented features are locked; the lease makes the device ask."""
    one = stands[0]
    for subject in PEOPLE[:3]:
        one.give(subject)
    one.session.settle()
    one.session.close()
    one.kiosk.close()
    round_id = open_round(town)
    stands[0] = one = Stand(town, one.kiosk.folder, 9)  # cold start: locked until the server answered
    assert not one.kiosk.consents.permission(PEOPLE[0], "measurement").allowed
    one.session.settle()
    assert one.reporter.counts["sent"] == 3
    assert close_round(town, round_id).n == 3


def test_answers_stored_before_the_line_dropped_go_out_unchanged(town: Town, stands: list[Stand]) -> None:
    """Tickets came, the line drops before a report leaves: the next session sends the stored answers."""
    one = stands[0]
    for subject in PEOPLE[:3]:
        one.give(subject)
    one.session.settle()
    round_id = open_round(town)
    drawn = draw(town, one)
    assert len(drawn) == 3
    one.session.close()
    one.connect().settle()
    sent = [message for message in one.session.said if isinstance(message, m.Report)]
    assert [sealed for r in sent for sealed in r.sealed] == [sealed for r in drawn for sealed in r.sealed]
    assert one.reporter.pending() == []
    assert close_round(town, round_id).n == 3


def test_law_2_a_withdrawal_on_the_way_keeps_the_answer_out_and_the_receipt_counts_it(
    town: Town, stands: list[Stand]
) -> None:
    """Drawn and stored, then withdrawn on the kiosk: never sent, and the receipt counts it."""
    one = stands[0]
    for subject in PEOPLE[:3]:
        one.give(subject)
    one.session.settle()
    round_id = open_round(town)
    assert len(draw(town, one)) == 3
    receipt = one.kiosk.consents.withdraw(PEOPLE[0], ["measurement"])
    assert receipt.receipt.rows_deleted["outbox"] == 1
    one.session.close()
    one.connect().settle()
    release = close_round(town, round_id)
    assert (release.status, release.n) == ("withheld", None)
    with town.store.read() as reading:
        row = reading.aggregates.round(round_id)
    assert row is not None
    assert row.subjects == 2
