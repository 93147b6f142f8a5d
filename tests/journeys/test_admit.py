"""A consent given elsewhere is taken up on a kiosk with a ticket, and ends there like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import edge_runtime as er
from tests.journeys.test_withdrawal import ALICE, Kiosk, P, synced
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(tmp_path: Path, clock: ManualClock) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "server", clock) as made:
        yield made


async def ticket_for(server: ShopServer, rt: er.Runtime, subject: str, purpose: str = P) -> str:
    devices = (await server.call("GET", "/v1/devices")).body["devices"]
    wanted = {"subject": f"user:{subject}", "purposes": [purpose], "ttl_s": 600}
    made = await server.call("POST", f"/v1/devices/{devices[0]['device_id']}/tickets", wanted)
    return str(made.body["ticket"])


async def with_profile(server: ShopServer) -> None:
    """Alice consented on the web site; her profile was computed after that."""
    assert (await server.give(f"user:{ALICE}")).status == 201
    head = (await server.call("GET", "/v1/consent-ledger/head")).body["size"]
    now_s = server.clock.now_us() // 1_000_000
    row = {"entity": f"user:{ALICE}", "event_time": now_s, "values": {"country": "DE"}}
    answer = await server.publish("profile", [row], as_of=head)
    assert answer.body["accepted"] == 1


async def test_law_2_admitted_with_a_ticket_and_gone_with_the_withdrawal(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    await kiosk.enrol(server)
    await with_profile(server)
    with kiosk.opened() as rt:
        async with synced(rt) as link:
            assert rt.read("profile:country", user=ALICE).status is er.Status.REVOKED
            record = rt.admit(ALICE, [P], await ticket_for(server, rt, ALICE))
            assert record.state == rt.consent.state(ALICE, P) == "given"
            await asyncio.wait_for(link.caught_up(), 20)
            found = rt.read("profile:country", user=ALICE)
            assert (found.value, found.status) == ("DE", er.Status.PRESENT)
            assert rt.track("view", user=ALICE, item="x") is er.ACCEPTED
    assert (await server.revoke(ALICE, [P])).status == 202
    with kiosk.opened() as rt:
        async with synced(rt):
            assert rt.read("profile:country", user=ALICE).status is er.Status.REVOKED
            assert rt.read("activity:views_5m", user=ALICE).status is er.Status.REVOKED
            with pytest.raises(er.MalformedRequest, match="consent"):
                rt.admit(ALICE, [P], await ticket_for(server, rt, ALICE))


async def test_law_1_a_ticket_alone_or_for_another_opens_nothing(
    server: ShopServer, tmp_path: Path, clock: ManualClock
) -> None:
    kiosk = Kiosk(tmp_path / "kiosk", clock)
    with kiosk.opened() as rt, pytest.raises(er.NotEnrolled):
        rt.admit(ALICE, [P], "AAAA")
    await kiosk.enrol(server)
    await with_profile(server)
    with kiosk.opened() as rt:
        async with synced(rt):
            for wrong in ("", "!!", "AAAA", await ticket_for(server, rt, "bob")):
                with pytest.raises((er.SyncRefused, er.MalformedRequest)):
                    rt.admit(ALICE, [P], wrong)
            with pytest.raises(er.MalformedRequest, match="consent"):  # bob never consented
                rt.admit("bob", [P], await ticket_for(server, rt, "bob"))
            with pytest.raises(er.SyncRefused, match="ticket_invalid"):
                rt.admit(ALICE, ["measurement"], await ticket_for(server, rt, ALICE))
            assert rt.consent.state(ALICE, P) == "unknown"
            assert rt.read("profile:country", user=ALICE).status is er.Status.REVOKED
