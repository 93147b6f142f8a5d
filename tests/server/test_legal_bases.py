"""Every legal basis of law 1 on the server: publish, sync and report, each against DESIGN's own words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal, ticket
from edge_runtime.wire.failure import WireFailure
from sync_server.api import rooms
from sync_server.consent.decisions import API, Proposal
from sync_server.sync import channels
from tests.support.broken_catalog import changed, put
from tests.support.clock import ManualClock
from tests.support.legal_bases import CASES, Case, allowed, catalog
from tests.support.shop_server import FakeDevice, ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town

CATALOG = catalog()


@pytest.fixture
async def bases(tmp_path: Path) -> AsyncIterator[ShopServer]:
    """A server at which every subject has reached its state, after a consent."""
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(CATALOG.to_dict()))
    async with ShopServer(tmp_path / "data", ManualClock(), catalog=path) as shop:
        for case in CASES:
            reach(shop, case)
        yield shop


def reach(shop: ShopServer, case: Case) -> None:
    said = {"unknown": (), "given": ("given",), "refused": ("refused",)}.get(
        case.state, ("given", case.state)
    )
    for state in said:
        with shop.store.write("decide") as tx:
            pair = (pseudonym(shop, case), case.purpose)
            shop.office.decide(tx, Proposal(*pair, state, "n", tx.lane_head(), shop.clock.now_us(), API))


def pseudonym(shop: ShopServer, case: Case) -> bytes:
    return shop.authority.pseudonym(case.subject)


async def test_law_1_every_basis_and_state_is_published_only_with_a_live_grant(
    bases: ShopServer,
) -> None:
    """DESIGN, section 8: every personal row carries its grant, also under another basis than consent."""
    with bases.store.read() as tx:
        head = tx.lane_head()
    for case in CASES:
        row = {"entity": case.subject, "event_time": 1, "values": {"x": "a"}}
        reply = await bases.publish(f"pushed_{case.purpose}", [row], as_of=head)
        may = allowed(case) and case.state == "given"
        assert (reply.status, reply.body["accepted"]) == (200, int(may)), case
        assert [r["code"] for r in reply.body["refused"]] == ([] if may else ["no_permission"]), case


async def test_law_1_every_basis_and_state_is_followed_only_with_a_live_grant(
    bases: ShopServer,
) -> None:
    """Without one the channel does not open; with one it asks for a ticket."""
    device = await FakeDevice(bases, 1).enrol()
    with bases.store.read() as tx:
        row = tx.device(device.device_id)
    assert row is not None
    for case in CASES:
        channel = seal.personal_channel(pseudonym(bases, case), case.purpose)
        with pytest.raises(WireFailure) as refused:
            channels.admit(bases.store, bases.authority.public_key, row, channel, None, bases.clock.now_us())
        may = allowed(case) and case.state == "given"
        assert refused.value.code == ("channel_forbidden" if may else "no_permission"), case


async def test_law_1_every_legal_basis_and_state_reports_exactly_when_allowed(bases: ShopServer) -> None:
    """A ticket: under consent for who gave it, under another basis for who is not against."""
    rounds, device = bases.app[rooms.ROUNDS], await FakeDevice(bases, 1).enrol()
    with bases.store.write("tickets") as tx:
        row = tx.device(device.device_id)
        assert row is not None
        for purpose in CATALOG.purposes:
            cases = [case for case in CASES if case.purpose == purpose]
            opened, _ = rounds.open(tx, CATALOG.model, f"metric_{purpose}", 3_600_000_000)
            asked = [pseudonym(bases, case) for case in cases]
            tickets = rounds.issue_tickets(tx, row, m.TicketRequest(round_id=opened.id, subjects=asked))
            granted = {ticket.subject for ticket in tickets.granted}
            assert granted == {pseudonym(bases, case) for case in cases if allowed(case)}, purpose


# ---- rows under another basis than consent, end to end ---------------------------------------------------

PURPOSE = f"purposes/{P}"
SILENT = ("contract", "strictly_necessary")


@pytest.mark.parametrize("collected_before", [False, True])
def test_law_1_rows_under_a_contract_reach_a_device_once_the_decision_stands(
    town: Town, tmp_path: Path, collected_before: bool
) -> None:
    """Also one that collected under the declared basis before, with a key that had no number yet."""
    kiosk = Kiosk(town, tmp_path / "kiosk", catalog=under(*SILENT))
    if collected_before:
        key = kiosk.consents.key(ALICE, P)
        assert key is not None
        assert key.grant == 0
    town.decide(ALICE, "given")
    session = Session(kiosk)
    session.settle()
    admit(kiosk)
    town.put_profile(ALICE)
    session.settle()
    key = kiosk.keyring.key(ALICE, P)
    assert key is not None
    assert key.grant == 1
    assert kiosk.sealed_rows(ALICE) == 2  # the row, and where the channel stands
    town.decide(ALICE, "objected")
    session.settle()
    assert kiosk.keyring.key(ALICE, P) is None
    assert not kiosk.consents.permission(ALICE, P).allowed


def admit(kiosk: Kiosk) -> None:
    """As the app does with a ticket of its backend."""
    town, channel = kiosk.town, kiosk.personal_channel(ALICE)
    expires_us = town.clock.now_us() + 60_000_000
    word = ticket.issue(town.authority.signing, kiosk.device_id, town.pseudonym(ALICE), [P], expires_us)
    kiosk.consents.admit(ALICE, [P], word)
    kiosk.memory.tickets[channel] = word


def under(basis: str, access: str) -> Catalog:
    """The shop with its purpose on another basis."""
    changes = (put(f"{PURPOSE}/legal_basis", basis), put(f"{PURPOSE}/terminal_access", access))
    table = changed(lambda table: None)
    for change in changes:
        change(table)
    return Catalog.from_dict(table)
