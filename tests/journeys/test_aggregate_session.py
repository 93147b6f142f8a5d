"""An aggregate round through the whole device session: real consent, real store, every frame encoded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.aggregates.report import Reporter
from edge_runtime.wire import messages as m
from sync_server.aggregates.release import Release
from tests.support.aggregate_ends import HOUR_US, PURPOSES, Value, metric_catalog
from tests.support.town import Kiosk, Session, Town

CATALOG = metric_catalog(minimum=3)
METRIC = "countries_0"
PEOPLE = [f"user:p{i}" for i in range(4)]


class Stand:
    """A kiosk with an aggregates room, and the session it is in."""

    def __init__(self, town: Town, folder: Path, seed: int) -> None:
        self.kiosk = Kiosk(town, folder, catalog=CATALOG)
        self._bits = random.Random(seed).randrange
        self.session = self.connect()

    def connect(self) -> Session:
        """A new session with a reporter that has just started, as after a restart of the app."""
        k = self.kiosk
        self.reporter = Reporter(
            k.catalog, k.database, k.keyring, k.consents, lambda *_: Value("DE"), k.clock, self._bits, 0
        )
        self.session = Session(k, self.reporter)
        return self.session

    def give(self, subject: str) -> None:
        for purpose in PURPOSES:
            self.kiosk.give(subject, purpose)

    def close(self) -> None:
        self.session.close()
        self.kiosk.close()


@pytest.fixture
def stands(town: Town, tmp_path: Path) -> Iterator[list[Stand]]:
    made = [Stand(town, tmp_path / f"kiosk{i}", i) for i in range(2)]
    yield made
    for stand in made:
        stand.close()


def open_round(town: Town) -> bytes:
    with town.store.write("open") as tx:
        row, _ = town.rounds.open(tx, CATALOG.model, METRIC, HOUR_US)
    town.node.hints.rounds_moved()
    return row.id


def close_round(town: Town, round_id: bytes) -> Release:
    return town.collector.close_at_once(round_id)


def settle(stands: list[Stand]) -> None:
    for stand in stands:
        stand.session.settle()


def draw(town: Town, stand: Stand) -> list[m.Report]:
    """Offer, request, tickets and stored answers, of which none leaves: the line drops right then."""
    with town.store.read() as tx:
        (offer,) = town.rounds.offers(tx)
    request = stand.reporter.on_offer(offer)
    assert request is not None
    with town.store.write("tickets") as writing:
        device = writing.device(stand.kiosk.device_id)
        assert device is not None
        tickets = town.rounds.issue_tickets(writing, device, request)
    return stand.reporter.on_tickets(tickets)


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
    assert sent[:3] == drawn
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
