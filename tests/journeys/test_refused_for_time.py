"""A refusal for time tells the server's clock, signed; a time that nobody signed is not believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire import ticket as tickets
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES, TIMED
from tests.support.clock import ManualClock
from tests.support.town import ALICE, Kiosk, P, Session, Town

MINUTE_US = 60_000_000


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", clock=ManualClock(0))
    yield made
    made.close()


def admitted(town: Town, kiosk: Kiosk) -> str:
    """Alice consented elsewhere and is taken up here with a ticket that has run out; her channel."""
    town.decide(ALICE, "given")
    session = Session(kiosk)
    session.settle()
    session.close()
    subject = town.pseudonym(ALICE)
    ticket = tickets.issue(
        town.authority.signing, kiosk.device_id, subject, [P], town.clock.now_us() - MINUTE_US
    )
    kiosk.consents.admit(ALICE, [P], ticket)
    channel = kiosk.personal_channel(ALICE)
    kiosk.memory.tickets[channel] = ticket
    return channel


def test_an_expired_ticket_is_refused_with_the_server_s_time(town: Town, kiosk: Kiosk) -> None:
    """On a device whose clock is at 1970: it learns what time it is, from nobody but the server."""
    channel = admitted(town, kiosk)
    session = Session(kiosk)
    session.settle()
    refused = kiosk.memory.refusals[channel]
    assert (refused.code, refused.server_time_us) == ("ticket_expired", town.clock.now_us())
    assert kiosk.clock.now_us() < MINUTE_US
    assert session.device.refused == {channel: "ticket_expired"}
    session.close()


def test_law_12_a_time_that_is_not_signed_or_signed_for_another_is_not_believed(
    town: Town, kiosk: Kiosk
) -> None:
    """Without a signature: the code counts, the time does not. With a wrong one: the session ends."""
    channel = admitted(town, kiosk)
    session = Session(kiosk)
    session.settle()
    refusals = [heard for heard in session.heard if isinstance(heard, m.Refusal)]
    honest = refusals[-1]
    assert honest.code == "ticket_expired"
    replace = msgspec.structs.replace
    session.device.hear(codec.encode(replace(honest, signature=b"")), 0)
    for bent in (
        replace(honest, server_time_us=honest.server_time_us + 1),
        replace(honest, code="ticket_invalid"),
        replace(honest, about="all"),
        replace(honest, signature=bytes(64)),
        replace(honest, signature=b"short"),
    ):
        with pytest.raises(WireFailure, match="bad_signature"):
            session.device.hear(codec.encode(bent), 0)
    session.close()
    kiosk.clock.advance(seconds=1)
    fresh = Session(kiosk)
    fresh.open()
    with pytest.raises(WireFailure, match="bad_signature"):  # yesterday's
        fresh.device.hear(codec.encode(honest), 0)
    fresh.device._channels.matches[channel] = False
    fresh.device.hear(codec.encode(replace(honest, signature=b"")), 0)
    assert kiosk.memory.refusals[channel].server_time_us is None
    fresh.close()


def test_only_refusals_for_time_tell_it(town: Town, kiosk: Kiosk) -> None:
    """Signing costs, and a time that nobody needs is not told."""
    assert set(CODES) >= TIMED
    session = Session(kiosk)
    session.settle()
    session.server.hear(codec.encode(m.Follow(channel="secret", cursor=0)))
    answer = codec.decode(session.next() or b"")
    assert answer == m.Refusal(code="channel_forbidden", about="secret")
    session.close()
