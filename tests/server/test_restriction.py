"""Art. 18: a restriction stops every use and erases nothing; only a later `given` ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.consent.decisions import judge
from sync_server.store.records import DecisionState
from sync_server.sync import channels
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town


async def test_a_restriction_keeps_rows_keys_and_grant_and_asks_nobody_to_erase(shop: ShopServer) -> None:
    """No denial, no revocation, no target; publishing meanwhile is refused; a new give goes on as before."""
    device = await FakeDevice(shop, 1).enrol()
    assert device.lease()
    await shop.give("alice")
    row = {"entity": "user:alice", "event_time": 1, "values": {"country": "DE"}}
    assert (await shop.publish("profile", [row], as_of=1)).body["accepted"] == 1
    reply = await shop.give("alice", state="restricted")
    assert reply.body["state_now"] == {"state": "restricted", "grant": 1, "denial": 0}
    newer = await shop.publish("profile", [{**row, "event_time": 2}], as_of=2)
    assert [r["code"] for r in newer.body["refused"]] == ["no_permission"]
    assert (await shop.call("GET", "/v1/consent-revocations")).body["revocations"] == []
    channel = seal.personal_channel(shop.pseudonym("alice"), "personalization")
    with shop.store.read() as tx:
        assert len(tx.channel_rows(channel, 0, 9)) == 1
    assert (await shop.give("alice")).body["state_now"] == {"state": "given", "grant": 1, "denial": 0}
    assert (await shop.publish("profile", [{**row, "event_time": 2}], as_of=3)).body["accepted"] == 1


def test_law_2_a_give_that_had_not_seen_the_restriction_does_not_end_it() -> None:
    """Its base lies before; one that had seen it does. A denial ends the grant whatever its base."""
    restricted = judge(DecisionState("given", 3, 1, 3), "restricted", base=3, seq=5).now
    assert restricted == DecisionState("restricted", 3, 1, 5)
    assert judge(restricted, "given", base=4, seq=6).outcome == "superseded"
    assert judge(restricted, "given", base=5, seq=6).now == DecisionState("given", 3, 1, 6)
    assert judge(restricted, "withdrawn", base=99, seq=6).now == DecisionState("withdrawn", 0, 6, 6)


def test_law_1_a_restricted_channel_rests_and_goes_on_after_a_new_give(town: Town, tmp_path: Path) -> None:
    """A session that follows it is sent nothing more; nobody may begin to; the device keeps what it has."""
    kiosk = Kiosk(town, tmp_path / "kiosk")
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    town.put_profile(ALICE)
    session.settle()
    held = kiosk.sealed_rows(ALICE)
    assert held
    town.decide(ALICE, "restricted")
    town.put_profile(ALICE, country="FR")
    deltas = len(session.heard_of(m.Delta))
    session.settle()
    assert (len(session.heard_of(m.Delta)), kiosk.sealed_rows(ALICE)) == (deltas, held)
    assert kiosk.consents.permission(ALICE, P) == (False, "restricted")
    with town.store.read() as tx:
        device = tx.device(kiosk.device_id)
    assert device is not None
    with pytest.raises(WireFailure, match="no_permission"):
        channels.admit(town.store, b"", device, kiosk.personal_channel(ALICE), None, 0)
    town.decide(ALICE, "given")
    session.settle()
    assert len(session.heard_of(m.Delta)) == deltas + 1
    kiosk.close()
