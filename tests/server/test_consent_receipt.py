"""A consent receipt proves itself, and says of the decision what the ledger says."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.catalog import dpv
from edge_runtime.wire import seal
from sync_server import cli
from sync_server.consent.consent_receipt import verify_receipt
from sync_server.consent.signed_document import DocumentFailure, signed
from tests.support.broken_catalog import changed, put
from tests.support.shop_server import ShopServer

HASH = "ab" * 32
NOTICE = {
    "purposes": ["personalization"],
    "language": "en",
    "content_hash": f"sha256:{HASH}",
    "url": "https://shop.example/privacy",
}
DECLARED = (
    put("catalog/version", 5),
    put("notices/2026-11", NOTICE),
    put(
        "controller",
        {
            "name": "Shop Ltd",
            "contact": "privacy@shop.example",
            "dpo": "dpo@shop.example",
            "address": "1 High Street, Dublin",
            "jurisdiction": "IE",
        },
    ),
    put("purposes/personalization/recipients", ["warehouse"]),
    put("purposes/personalization/data_categories", ["views"]),
    put("purposes/personalization/dpv", "https://w3id.org/dpv#Personalisation"),
)


@pytest.fixture
async def document(shop: ShopServer) -> Any:
    """The receipt of a consent that stands between others in the ledger."""
    table = changed(lambda table: None)
    for change in DECLARED:
        change(table)
    assert (await shop.call("PUT", "/v1/catalogs/shop/5?activate=true", table)).status == 201
    await shop.give("bob")
    made = await shop.give("alice")
    await shop.give("carol", state="refused")
    reply = await shop.call("GET", f"/v1/consents/{made.body['id']}/receipt")
    assert reply.status == 200, reply.body
    assert reply.body["statement"]["header"]["record_id"] == made.body["id"]
    return reply.body


async def test_it_has_the_sections_of_27560_and_says_what_was_declared(
    shop: ShopServer, document: Any
) -> None:
    """Header, processing, parties, events; terms of the DPV."""
    said = document["statement"]
    assert set(said) == {"v", "kind", "header", "processing", "parties", "events", "registry", "ledger"}
    assert said["header"]["schema_version"] == "ISO/IEC TS 27560:2023"
    assert said["processing"]["privacy_notice"]["content_hash"] == HASH
    assert said["processing"]["language"] == "en"
    (purpose,) = said["processing"]["purposes"]
    assert purpose["purpose_type"] == "https://w3id.org/dpv#Personalisation"
    assert purpose["lawful_basis"] == dpv.LEGAL_BASES["consent"]
    assert (purpose["recipient_third_parties"], purpose["retention_period"]) == (["warehouse"], "30d")
    assert dpv.right("A7-3") in purpose["privacy_rights"]
    assert [p["party_role"] for p in said["parties"]] == ["pii_controller", "dpo", "pii_principal"]
    (event,) = said["events"]
    assert (event["event_type"], event["event_state"]) == (
        "https://w3id.org/dpv#ExpressedConsent",
        "https://w3id.org/dpv#ConsentGiven",
    )
    assert event["entity_id"] == said["parties"][2]["party_id"] == said["header"]["pii_principal_id"]
    assert said["header"]["receipt_id"] == f"{said['header']['record_id']}.{said['ledger']['head']['size']}"
    assert purpose["pii_controllers"] == [said["parties"][0]["party_id"]]
    assert (purpose["jurisdiction"], said["parties"][0]["party_address"]) == ("IE", "1 High Street, Dublin")
    assert event["event_time"] == shop.clock.now_us()


async def test_it_verifies_with_the_pinned_key_and_nothing_else(shop: ShopServer, document: Any) -> None:
    """It proves whose decision it was, for what, and where it stands."""
    proved = verify_receipt(document, shop.authority.public_key)
    assert (proved.subject, proved.purpose) == (shop.pseudonym("alice"), "personalization")
    assert (proved.state, proved.seq) == ("given", 2)
    with pytest.raises(DocumentFailure):
        verify_receipt(document, bytes(31) + b"\x09")


LIES: dict[str, Callable[[Any], object]] = {
    "another word for the state": lambda s: s["events"][0].update(state="refused"),
    "another state": lambda s: s["events"][0].update(event_state="refused"),
    "another time": lambda s: s["events"][0].update(event_time=1),
    "a signal": lambda s: s["events"][0].update(signals=["gpc"]),
    "another purpose": lambda s: s["processing"]["purposes"][0].update(purpose="measurement"),
    "another text": lambda s: s["processing"]["privacy_notice"].update(content_hash="cd" * 32),
    "another notice": lambda s: s["processing"]["privacy_notice"].update(version="2026-12"),
    "another registry": lambda s: s["registry"].update(fingerprint="cd" * 32),
    "another subject": lambda s: s["header"].update(pii_principal_id=seal.subject_token(bytes(16))),
    "another place": lambda s: s["ledger"].update(seq=1),
    "no proof": lambda s: s["ledger"].update(inclusion=[]),
    "no event": lambda s: s.update(events=[]),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_the_ledger_does_not_say_is_noticed_though_it_is_signed(
    shop: ShopServer, document: Any, lie: str
) -> None:
    """A server cannot sign a receipt that its own ledger belies."""
    statement = copy.deepcopy(document["statement"])
    LIES[lie](statement)
    forged = signed(shop.authority.signing, seal.CONSENT_RECEIPT, statement)
    with pytest.raises(DocumentFailure):
        verify_receipt({"statement": statement, "signature": forged.signature}, shop.authority.public_key)
    with pytest.raises(DocumentFailure):
        verify_receipt({**document, "statement": statement}, shop.authority.public_key)


async def test_a_record_of_before_there_were_registry_versions_has_a_receipt_too(shop: ShopServer) -> None:
    """It says less, and verifies."""
    with shop.store.write("forget") as tx:
        tx.execute("DELETE FROM meta WHERE key = 'registry'")
    made = await shop.give("alice")
    reply = await shop.call("GET", f"/v1/consents/{made.body['id']}/receipt")
    assert (made.body["registry"], reply.body["statement"]["registry"]) == ("", None)
    assert verify_receipt(reply.body, shop.authority.public_key).state == "given"
    assert (await shop.call("GET", "/v1/consents/con-x/receipt")).status == 404


async def test_the_command_verifies_it_with_a_fingerprint_and_nothing_else(
    shop: ShopServer, document: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 and what is not proven; 1 for another root, or a receipt that lies."""
    file, root = tmp_path / "receipt.json", shop.authority.root
    file.write_text(json.dumps(document))
    assert cli.main(["consent", "verify", str(file), "--root", root]) == 0
    said = capsys.readouterr().out
    assert "given for personalization" in said
    assert "Not proven" in said
    assert cli.main(["consent", "verify", str(file), "--root", "sha256:" + "00" * 32]) == 1
    document["statement"]["events"][0]["event_state"] = "refused"
    file.write_text(json.dumps(document))
    assert cli.main(["consent", "verify", str(file), "--root", root]) == 1
