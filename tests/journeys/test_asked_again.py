"""What the server refused in a session that goes on, and when it is asked for again."""

from __future__ import annotations

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from tests.support.town import ALICE, BOB, Kiosk, Session, Town

HOUR_S = 3_600


def test_a_lease_that_is_refused_is_asked_for_again_when_the_server_said(town: Town, kiosk: Kiosk) -> None:
    """While the last word was no, nothing is caught up, although the lease before it runs."""
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    kiosk.clock.advance(seconds=12 * HOUR_S + 1)
    half_us = kiosk.clock.boot_us()
    (asked,) = [codec.decode(frame) for frame in session.device.tick(half_us)]
    assert isinstance(asked, m.LeaseRequest)
    no = m.Refusal(code="overloaded", about=asked.id.hex(), retry_after_us=7_000_000)
    assert session.device.hear(codec.encode(no), half_us) == []
    meanwhile = (kiosk.leases.state, session.device.caught_up)
    assert meanwhile == ("fresh", False)
    assert session.device.tick(half_us + 6_999_999) == []
    kiosk.clock.advance(seconds=7)
    session.settle()
    assert session.device.caught_up
    session.close()


def test_a_forbidden_personal_channel_is_asked_for_again_after_a_decision(town: Town, kiosk: Kiosk) -> None:
    """Not before: what the ledger took since may have opened it."""
    kiosk.give(ALICE)
    session, channel = Session(kiosk), kiosk.personal_channel(ALICE)
    session.settle()
    no = m.Refusal(code="channel_forbidden", about=channel)
    session.device.hear(codec.encode(no), kiosk.clock.boot_us())
    session.said.clear()
    session.settle()
    assert session.device.refused == {channel: "channel_forbidden"}
    assert not [said for said in session.said if isinstance(said, m.Follow)]
    kiosk.give(BOB)
    session.settle()
    followed = {said.channel for said in session.said if isinstance(said, m.Follow)}
    assert followed == {channel, kiosk.personal_channel(BOB)}
    assert session.device.refused == {}
    session.close()
