"""Which offers a device believes: signed by the pinned server, about its own question, open by its clock."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.aggregates.budget import ROUND_LIMIT_US
from edge_runtime.aggregates.rounds_in_hand import ROUNDS
from edge_runtime.wire import seal
from edge_runtime.wire.messages import RoundOffer
from tests.support.aggregate_ends import HOUR_US, SIGNING, Kiosk, grant, metric_catalog, opened, signed_offer

NEXT = Ed25519PrivateKey.from_private_bytes(b"n" * 32)
"""The server's key after a succession."""


def signed_by(key: Ed25519PrivateKey, offer: RoundOffer) -> RoundOffer:
    signature = seal.sign(key, seal.OFFER, seal.offer_bytes(offer))
    return msgspec.structs.replace(offer, signature=signature)


def disbelieved(kiosk: Kiosk, offer: RoundOffer) -> dict[str, int]:
    """What is counted after an offer that is answered by nobody."""
    assert kiosk.reporter.on_offer(offer) is None
    assert kiosk.reporter.on_tickets(grant(offer, [kiosk.keyring.pseudonym("user:u0")])) == []
    assert kiosk.spent() == 0
    return dict(kiosk.reporter.counts)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("round_id", b"x" * 16),
        ("metric", "counted"),
        ("definition", b"x" * 16),
        ("closes_at_us", 1_700_000_000_000_000 + 2 * HOUR_US),
        ("collector", b"x" * 32),
        ("signature", b"x" * 64),
    ],
)
def test_an_offer_changed_on_the_way_is_not_believed_and_that_is_counted(field: str, value: object) -> None:
    """Above all the collector: nobody in between puts a key of his own there."""
    kiosk = Kiosk(1)
    offer = msgspec.structs.replace(kiosk.offer(), **{field: value})
    assert disbelieved(kiosk, offer) == {"bad_signature": 1}


def test_an_offer_of_another_server_is_not_believed() -> None:
    kiosk = Kiosk(1)
    assert disbelieved(kiosk, signed_by(NEXT, kiosk.offer())) == {"bad_signature": 1}


def test_an_unknown_metric_another_definition_and_a_round_that_is_over_are_counted_apart() -> None:
    """Signed as it should be; each counted once, however often it is offered."""
    kiosk, newer = Kiosk(1), metric_catalog(epsilon=2.0, version=2)
    offer = kiosk.offer()
    stranger = signed_offer(msgspec.structs.replace(offer, metric="x", round_id=b"1" * 16))
    over = kiosk.offer(3, closes_in_us=0)
    far = kiosk.offer(4, closes_in_us=ROUND_LIMIT_US + 1)
    kiosk.restart(newer)
    for _ in range(3):
        for each in (offer, stranger, over, far):
            found = disbelieved(kiosk, each)
    assert found == {"metric_changed": 3, "unknown_metric": 1}
    again = Kiosk(1)
    assert disbelieved(again, over) == {"round_closed": 1}
    assert disbelieved(again, far) == {"round_closed": 2}


def test_counts_outlive_a_restart() -> None:
    kiosk = Kiosk(1)
    disbelieved(kiosk, signed_by(NEXT, kiosk.offer()))
    kiosk.restart()
    assert kiosk.reporter.counts == {"bad_signature": 1}


def test_a_succession_while_a_round_is_open_ends_what_the_old_key_says_and_nothing_else() -> None:
    """Tickets under way are still answered; offers count only under the new key, the same round too."""
    kiosk = Kiosk(2)
    offer = kiosk.offer()
    request = kiosk.reporter.on_offer(offer)
    assert request is not None
    (first,) = kiosk.reporter.on_tickets(grant(offer, request.subjects[:1]))
    kiosk.keyring.trust(seal.public_bytes(NEXT))
    assert kiosk.reporter.on_offer(offer) is None
    assert kiosk.reporter.counts["bad_signature"] == 1
    again = kiosk.reporter.on_offer(signed_by(NEXT, offer))
    assert again is not None
    assert again.subjects == request.subjects[1:]
    reports = kiosk.reporter.on_tickets(grant(offer, again.subjects))
    assert [len(opened(report).tickets) for report in reports] == [1, 1]
    assert first in reports


def test_law_11_offers_without_end_push_out_the_oldest_and_count_no_more_than_they_are() -> None:
    kiosk = Kiosk(1)
    offers = [kiosk.offer(n + 1) for n in range(ROUNDS + 10)]
    for offer in offers:
        kiosk.reporter.on_offer(offer)
    assert len(kiosk.reporter.requests()) == ROUNDS
    bad = [signed_by(NEXT, kiosk.offer(1_000 + n)) for n in range(2 * ROUNDS)]
    for offer in bad:
        kiosk.reporter.on_offer(offer)
    assert len(kiosk.reporter._disbelieved) == ROUNDS
    assert SIGNING != NEXT


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_law_12_a_key_of_small_order_is_no_collector(key: bytes) -> None:
    """Nothing can be sealed to it: the offer is counted, nobody is asked for, and nothing is drawn."""
    kiosk = Kiosk(1)
    offer = signed_offer(msgspec.structs.replace(kiosk.offer(), collector=key))
    assert kiosk.reporter.on_offer(offer) is None
    assert kiosk.reporter.counts["bad_key"] == 1
    assert (kiosk.draws, kiosk.spent()) == (0, 0)


@pytest.mark.parametrize(("limit", "most"), [("WAITING_LIMIT", 3), ("MARKS_LIMIT", 4)])
def test_law_11_a_server_that_opens_rounds_without_end_fills_no_disk(
    monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    """Repeated answers are free: what bounds them is room, for reports that wait and for marks of rounds."""
    monkeypatch.setattr(f"edge_runtime.aggregates.report.{limit}", most)
    kiosk = Kiosk(1)
    given = [kiosk.answer(kiosk.offer(n)) for n in range(1, 30)]
    assert [bool(reports) for reports in given] == [True] * 3 + [False] * 26
    assert kiosk.reporter.counts["no_room"] == 26
    assert kiosk.reporter.on_tickets(grant(kiosk.offer(30), [kiosk.keyring.pseudonym("user:u0")])) == []
    assert kiosk.reporter.requests() == []
