"""Global Privacy Control at the server: heeded where it speaks, evidence everywhere."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.catalog.privacy import put_in_force
from sync_server.consent import ledger
from tests.support.broken_catalog import changed, put
from tests.support.shop_server import Answer, ShopServer
from tests.support.town import ALICE, Kiosk, P, Session, Town

TARGETING = Catalog.from_dict(changed(put("purposes/personalization/uses", ["targeting"])))
USES_NONE = Catalog.from_dict(changed(lambda table: None))


def leaves(town: Town) -> list[ledger.Leaf]:
    with town.store.read() as tx:
        steps = [tx.evidence(seq) for seq in range(1, tx.lane_head() + 1)]
    return [msgspec.msgpack.decode(step.leaf, type=ledger.Leaf) for step in steps if step is not None]


def in_force(town: Town, catalog: Catalog) -> None:
    with town.store.write("registry") as tx:
        put_in_force(tx, catalog, 1)


@pytest.fixture
def session(town: Town, tmp_path: Path) -> Session:
    made = Session(Kiosk(town, tmp_path / "kiosk", catalog=USES_NONE))
    made.settle()
    return made


def test_a_signal_from_a_device_stands_in_the_leaf(town: Town, session: Session) -> None:
    """As evidence, where the purpose does nothing that it speaks of."""
    in_force(town, USES_NONE)
    session.kiosk.consents.give(ALICE, [P], notice="2026-11", gpc=True)
    session.settle()
    assert [(leaf.state, leaf.signals) for leaf in leaves(town)] == [("given", ("gpc",))]
    assert session.kiosk.consents.permission(ALICE, P).allowed


def test_a_device_that_does_not_know_what_the_purpose_does_is_put_right(town: Town, session: Session) -> None:
    """Its catalog is older: it says `given`, the ledger records a refusal, and the device erases."""
    in_force(town, TARGETING)
    session.kiosk.consents.give(ALICE, [P], notice="2026-11", gpc=True)
    session.settle()
    assert [(leaf.state, leaf.signals) for leaf in leaves(town)] == [("refused", ("gpc",))]
    assert session.kiosk.keyring.key(ALICE, P) is None
    assert session.kiosk.consents.state(ALICE, P) == "refused"


def test_a_signal_that_nobody_knows_is_refused_and_nothing_is_recorded(town: Town, session: Session) -> None:
    decision = m.Decision(bytes(16), town.pseudonym(ALICE), P, "given", "n", 0, 0, ("dnt",))
    session.answer([codec.encode(m.Decisions(decisions=[decision]))])
    session.settle()
    assert leaves(town) == []
    assert [r.code for r in session.heard_of(m.Refusal) if isinstance(r, m.Refusal)] == ["malformed"]


# ---- over HTTP -------------------------------------------------------------------------------------------

USES = (
    put("purposes/personalization/uses", ["targeting"]),
    put("purposes/partners", {"legal_basis": "legitimate_interest", "retention": "1d", "uses": ["share"]}),
    put("purposes/partners/terminal_access", "strictly_necessary"),
)


@pytest.fixture
async def using(shop: ShopServer) -> ShopServer:
    """The shop, where one purpose targets under consent, one shares under another basis, one does neither."""
    table = changed(put("catalog/version", 5))
    for change in USES:
        change(table)
    assert (await shop.call("PUT", "/v1/catalogs/shop/5?activate=true", table)).status == 201
    return shop


async def test_a_given_with_the_header_is_recorded_as_refused_and_the_reply_says_so(
    using: ShopServer,
) -> None:
    """Where the purpose targets; where it does not, the signal is only kept."""
    reply = await give(using, "personalization", "1")
    assert (reply.status, reply.body["state"], reply.body["gpc_conflict"]) == (201, "refused", True)
    assert (reply.body["signals"], reply.body["state_now"]["state"]) == (["gpc"], "refused")
    reply = await give(using, "measurement", "1")
    assert (reply.body["state"], reply.body["gpc_conflict"], reply.body["signals"]) == (
        "given",
        False,
        ["gpc"],
    )


@pytest.mark.parametrize("value", ["0", "true", "1, 1", "01", "1;q=1", '"1"', "", "?1"])
async def test_no_other_value_of_the_header_means_anything(using: ShopServer, value: str) -> None:
    """The specification knows `1` alone."""
    reply = await give(using, "personalization", value)
    assert (reply.body["state"], reply.body["signals"]) == ("given", [])


async def test_the_same_key_with_the_header_is_another_request(using: ShopServer) -> None:
    """A signal must not be lost in a repeat of a request that did not carry it."""
    key = {"Idempotency-Key": "one"}
    assert (await give(using, "personalization", None, **key)).body["state"] == "given"
    assert (await give(using, "personalization", "1", **key)).body["code"] == "idempotency_reuse"


async def test_opting_out_denies_what_sells_shares_or_targets_and_once(using: ShopServer) -> None:
    """Under consent a refusal, under another basis an objection; asked again nothing is denied anew."""
    await give(using, "personalization", None)
    await give(using, "measurement", None)
    body = {"subject": "alice"}
    reply = await using.call("POST", "/v1/opt-outs", body)
    assert reply.status == 200
    denied = {record["purpose"]: record["state"] for record in reply.body["denied"]}
    assert denied == {"personalization": "refused", "partners": "objected"}
    assert all(record["signals"] == ["gpc"] for record in reply.body["denied"])
    assert len((await using.call("GET", "/v1/consent-revocations")).body["revocations"]) == 2
    again = await using.call("POST", "/v1/opt-outs", body)
    assert (again.body["denied"], again.body["opted_out"]) == ([], ["partners", "personalization"])
    states = (await using.call("GET", "/v1/consents?subject=alice")).body["states"]
    assert states["measurement"]["state"] == "given"


async def test_an_opt_out_that_is_no_such_request_changes_nothing(using: ShopServer) -> None:
    for body, status in (({}, 422), ({"subject": "x" * 600}, 422), ({"subject": "alice", "more": 1}, 422)):
        assert (await using.call("POST", "/v1/opt-outs", body)).status == status
    with using.store.read() as tx:
        assert tx.lane_head() == 0


async def give(shop: ShopServer, purpose: str, gpc: str | None, **headers: str) -> Answer:
    body = {"subject": "alice", "purpose": purpose, "notice": "2026-11"}
    sent = headers if gpc is None else {**headers, "Sec-GPC": gpc}
    return await shop.call("POST", "/v1/consents", body, headers=sent)
