"""The outbox: decisions first, in order, in batches, until acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m
from tests.support.town import Kiosk, Session, Town

SETTINGS = SyncSettings(batch=4, resend_us=1_000)


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", settings=SETTINGS)
    yield made
    made.close()


def ids(messages: list[m.Message]) -> list[bytes]:
    return [d.id for message in messages if isinstance(message, m.Decisions) for d in message.decisions]


def test_decisions_go_in_order_in_batches_and_again_when_nobody_answers(kiosk: Kiosk) -> None:
    """Four at a time, oldest first; unanswered for too long, the same four again."""
    records = [kiosk.consents.give(f"u{n}", ["personalization"], notice="2026-11") for n in range(10)]
    given = [record.decisions[0] for record in records]
    first = ids(kiosk.outbox.due(0))
    assert first == given[:4]
    assert kiosk.outbox.due(999) == []
    assert ids(kiosk.outbox.due(1_000)) == first


def test_law_11_a_long_queue_is_emptied_in_batches(town: Town, kiosk: Kiosk) -> None:
    """Forty decisions: the next batch goes when most of the last one is answered."""
    for n in range(40):
        kiosk.give(f"user:u{n}")
    session = Session(kiosk)
    session.settle()
    sizes = [len(said.decisions) for said in session.said if isinstance(said, m.Decisions)]
    assert max(sizes) == 4
    assert sum(sizes) == 40
    assert kiosk.outbox.empty
    assert town.lane_head() == 40


def test_what_was_refused_waits_for_the_next_session_and_holds_up_nothing(kiosk: Kiosk) -> None:
    """A refused item is passed over; a new session tries it again."""
    records = [kiosk.consents.give(f"u{n}", ["personalization"], notice="2026-11") for n in range(6)]
    given = [record.decisions[0] for record in records]
    sent = ids(kiosk.outbox.due(0))
    for id_ in sent:
        kiosk.outbox.refused(id_.hex(), "overloaded")
    assert ids(kiosk.outbox.due(1)) == given[4:]
    assert not kiosk.outbox.empty
    kiosk.outbox.forget_flights()
    assert ids(kiosk.outbox.due(2)) == given[:4]


def test_an_acknowledged_receipt_is_not_sent_again(town: Town, kiosk: Kiosk) -> None:
    """A revocation from the lane: one receipt, one acknowledgement, nothing left."""
    session = Session(kiosk)
    session.settle()
    town.decide("user:alice", "withdrawn")
    session.settle()
    session.settle()
    assert len([said for said in session.said if isinstance(said, m.ReceiptNote)]) == 1
    assert kiosk.outbox.empty
