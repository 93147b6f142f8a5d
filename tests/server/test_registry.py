"""Purposes and notices at the server: versions, what never changes, and the key that must have signed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.signed import sign
from edge_runtime.wire import seal
from sync_server import cli
from sync_server.consent import ledger
from sync_server.consent.signed_document import DocumentFailure, opened
from sync_server.errors import Problem
from tests.support.broken_catalog import Change, changed, drop, put
from tests.support.clock import ManualClock
from tests.support.shop_server import Answer, ShopServer

KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x07")
PUBLIC = seal.public_bytes(KEY)
HASH = "sha256:" + "ab" * 32
NOTICE = {"purposes": ["personalization"], "language": "en", "content_hash": HASH}
RECIPIENTS = "purposes/personalization/recipients"
LEASE = "purposes/personalization/lease"


def table(version: int, *changes: Change) -> dict[str, Any]:
    made = changed(put("catalog/version", version))
    for change in changes:
        change(made)
    return made


def signed(version: int, signed_us: int, *changes: Change) -> dict[str, Any]:
    return sign(Catalog.from_dict(table(version, *changes)), KEY, signed_us).to_dict()


async def activate(shop: ShopServer, document: dict[str, Any]) -> Answer:
    path = f"/v1/catalogs/shop/{document['catalog']['version']}?activate=true"
    return await shop.call("PUT", path, document)


async def statement(shop: ShopServer, path: str) -> dict[str, Any]:
    reply = await shop.call("GET", path, token=None)
    assert reply.status == 200, reply.body
    return opened(reply.body, seal.REGISTRY, shop.authority.public_key)


async def test_a_change_of_the_privacy_part_is_a_registry_version_and_one_of_features_is_none(
    shop: ShopServer,
) -> None:
    """Going back to a part that was in force before goes back to its version."""
    assert (await statement(shop, "/v1/purposes"))["registry"]["version"] == 1
    await activate(shop, table(4, put("views/profile/ttl", "1d")))
    assert (await statement(shop, "/v1/purposes"))["registry"]["version"] == 1
    await activate(shop, table(5, put(LEASE, "1h")))
    found = await statement(shop, "/v1/purposes")
    assert [v["version"] for v in found["versions"]] == [2, 1]
    assert (found["registry"]["version"], found["registry"]["signature"]) == (2, None)
    assert found["purposes"]["personalization"]["lease"] == "1h"
    await activate(shop, table(4, put("views/profile/ttl", "1d")))
    assert (await statement(shop, "/v1/purposes"))["registry"]["version"] == 1


async def test_a_purpose_is_told_through_its_versions_also_when_it_is_gone(shop: ShopServer) -> None:
    """And one that never was is 404."""
    await activate(shop, table(5, drop("purposes/measurement"), drop("metrics")))
    gone = await statement(shop, "/v1/purposes/measurement")
    assert (gone["in_force"], [v["registry"]["version"] for v in gone["versions"]]) == (False, [1])
    assert gone["versions"][0]["purpose"]["legal_basis_dpv"].endswith("gdpr#A6-1-a")
    assert (await shop.call("GET", "/v1/purposes/ads")).status == 404


@pytest.mark.parametrize("name", ['a"b', "a'b", "%00", "a%2Fb", "x" * 65, "$", '".x', "%F0%9F%98%80"])
async def test_a_name_that_no_purpose_can_have_is_not_found(shop: ShopServer, name: str) -> None:
    """Nothing of it gets to the store."""
    for path in (f"/v1/purposes/{name}", f"/v1/notices/{name}"):
        assert (await shop.call("GET", URL(path, encoded=True))).body["code"] == "not_found"


async def test_a_document_changed_on_the_way_does_not_hold(shop: ShopServer) -> None:
    """Nor under another key."""
    body = (await shop.call("GET", "/v1/purposes")).body
    body["statement"]["registry"]["version"] = 9
    with pytest.raises(DocumentFailure):
        opened(body, seal.REGISTRY, shop.authority.public_key)


async def test_a_notice_never_changes_and_stays_when_it_is_declared_no_more(shop: ShopServer) -> None:
    """409 for another text or other purposes, with nothing registered; another title is another title."""
    await activate(shop, table(5, put("notices/2026-11", NOTICE)))
    for change in (
        put("notices/2026-11", {**NOTICE, "content_hash": "sha256:" + "cd" * 32}),
        put("notices/2026-11", {**NOTICE, "purposes": ["personalization", "measurement"]}),
        put("notices/2026-11", {"purposes": ["personalization"]}),
    ):
        refused = await activate(shop, table(6, change))
        assert (refused.status, refused.body["code"]) == (409, "notice_conflict")
    assert (await shop.call("GET", "/v1/catalogs/shop/6")).status == 404
    assert (await activate(shop, table(6, put("notices/2026-11", {**NOTICE, "title": "New"})))).status == 201
    await activate(shop, table(7))
    notice = (await statement(shop, "/v1/notices/2026-11"))["notice"]
    assert (notice["declared"], notice["content_hash"]) == (False, HASH)
    assert [n["version"] for n in (await statement(shop, "/v1/notices"))["notices"]] == ["2026-11"]
    assert (await shop.call("GET", "/v1/notices/2026-12")).status == 404


async def test_a_leaf_binds_the_text_that_was_shown_and_the_registry_in_force(shop: ShopServer) -> None:
    """What the ledger hashes says it, so nobody can exchange the text later."""
    await activate(shop, table(5, put("notices/2026-11", NOTICE)))
    await shop.give("alice")
    with shop.store.read() as tx:
        step = tx.evidence(1)
    assert step is not None
    leaf = msgspec.msgpack.decode(step.leaf, type=ledger.Leaf)
    found = await statement(shop, "/v1/purposes")
    assert leaf.notice_hash.hex() == HASH.removeprefix("sha256:")
    assert leaf.registry.hex() == found["registry"]["fingerprint"]


async def test_the_processing_record_is_the_registry_and_what_is_configured(shop: ShopServer) -> None:
    """Art. 30: one activity a purpose, with the features that the catalog really has."""
    bare = (await shop.call("GET", "/v1/processing-record")).body
    assert (bare["controller"], bare["registry_version"]) == (None, 1)
    await activate(shop, table(5, put("controller", {"name": "Shop Ltd"}), put(RECIPIENTS, ["crm, eu"])))
    record = (await shop.call("GET", "/v1/processing-record")).body
    assert record["controller"] == {"name": "Shop Ltd", "contact": None, "dpo": None}
    first, second = record["activities"]
    assert (first["purpose"], first["retention"], first["lease"]) == ("personalization", "30d", "1d")
    assert (first["data_subjects"], first["recipients"]) == (["user"], ["crm, eu"])
    assert "profile@1:country" in first["features"]
    assert second["features"] == []
    assert any("no registry key is pinned" in measure for measure in record["security"])
    reply = await shop.call("GET", "/v1/processing-record", headers={"Accept": "text/csv"})
    lines = list(csv.DictReader(io.StringIO(reply.body.decode())))
    assert [line["purpose"] for line in lines] == ["personalization", "measurement"]
    assert lines[0]["recipients"] == "crm, eu"
    assert lines[0]["features"].split("; ") == first["features"]


# ---- the pinned key --------------------------------------------------------------------------------------


def server(folder: Path, catalog: dict[str, Any] | None, **more: Any) -> ShopServer:
    path = None
    if catalog is not None:
        path = folder / "catalog.json"
        path.write_text(json.dumps(catalog))
    return ShopServer(folder / "data", ManualClock(), catalog=path, **more)


async def test_with_a_pin_only_what_the_key_signed_is_registered(tmp_path: Path) -> None:
    """Unsigned or signed for another part: 422, and nothing is there."""
    async with server(tmp_path, signed(3, 5), registry_key=PUBLIC) as shop:
        refused = await activate(shop, table(4))
        assert (refused.status, refused.body["code"]) == (422, "registry_unsigned")
        forged = {**table(4, put(LEASE, "48h")), "signature": signed(3, 5)["signature"]}
        assert (await activate(shop, forged)).body["code"] == "registry_unsigned"
        assert (await shop.call("GET", "/v1/catalogs/shop/4")).status == 404
        assert (await activate(shop, signed(4, 6, put(LEASE, "48h")))).status == 201
        note = (await statement(shop, "/v1/purposes"))["registry"]
        assert note["signature"]["key"] == PUBLIC.hex()
        assert (await shop.call("GET", "/v1/catalogs")).body["registry"] == "pinned"


async def test_a_newer_signature_over_the_same_part_takes_the_place_of_the_older(shop: ShopServer) -> None:
    """The version stays what it was, and who holds the document gets the new one."""
    assert (await shop.call("GET", "/v1/catalogs")).body["registry"] == "unsigned"
    etag = (await shop.call("GET", "/v1/catalogs/shop/3")).headers["Etag"]
    for signed_us in (5, 7, 6):
        assert (await activate(shop, signed(3, signed_us))).status == 200
    again = await shop.call("GET", "/v1/catalogs/shop/3", headers={"If-None-Match": etag})
    assert (again.status, again.body["signature"]["signed_at"]) == (200, 7)
    assert (await statement(shop, "/v1/purposes"))["registry"]["signature"]["signed_at"] == 7
    assert (await shop.call("GET", "/v1/catalogs")).body["registry"] == "unpinned"


async def test_features_roll_back_without_the_key_and_privacy_does_not(tmp_path: Path) -> None:
    """An older part that protects less is refused and names the places; one that protects more may come."""
    async with server(tmp_path, signed(3, 5, put(LEASE, "48h")), registry_key=PUBLIC) as shop:
        assert (await activate(shop, signed(4, 6))).status == 201
        back = {**table(5, put("views/profile/ttl", "1d")), "signature": signed(4, 6)["signature"]}
        assert (await activate(shop, back)).status == 201
        refused = await activate(shop, signed(3, 5, put(LEASE, "48h")))
        assert (refused.status, refused.body["code"]) == (409, "registry_rollback")
        assert [f["place"] for f in refused.body["faults"]] == ["purposes.personalization.lease"]
        assert shop.app_catalog_version == 5
        assert (await activate(shop, signed(7, 5, put(LEASE, "48h")))).status == 409
        assert (await shop.call("GET", "/v1/catalogs/shop/7")).status == 404
        assert (await activate(shop, signed(6, 4, put(LEASE, "1h")))).status == 201


async def test_a_start_with_a_pin_refuses_a_catalog_in_force_that_is_not_signed(tmp_path: Path) -> None:
    """Until a signed one is given at the start."""
    async with server(tmp_path, table(3)):
        pass
    with pytest.raises(Problem, match="registry_unsigned"):
        server(tmp_path, None, registry_key=PUBLIC)
    async with server(tmp_path, signed(3, 5), registry_key=PUBLIC) as shop:
        assert shop.app_catalog_version == 3


def test_the_commands_make_a_key_and_sign_a_file_in_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice over: the second signature takes the first one's place, and what people wrote stays."""
    key, path = tmp_path / "privacy.key", tmp_path / "catalog.toml"
    path.write_text(Path("examples/catalogs/shop.toml").read_text())
    assert cli.main(["registry", "keygen", "--key", str(key), "--json"]) == 0
    public = bytes.fromhex(json.loads(capsys.readouterr().out)["public_key"])
    assert key.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    for _ in range(2):
        assert cli.main(["registry", "sign", str(path), "--key", str(key), "--json"]) == 0
        assert Catalog.load(path, registry_key=public) == Catalog.from_toml(text)
        assert path.read_text().startswith(text.rstrip("\n"))
        assert path.read_text().count("[signature]") == 1
    assert cli.main(["registry", "keygen", "--key", str(key)]) != 0
    key.chmod(0o644)
    assert cli.main(["registry", "sign", str(path), "--key", str(key)]) == 2


def test_serve_with_a_pin_says_why_it_does_not_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another key's catalog: refused, exit 1; no key at all: a usage error."""
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(signed(3, 5)))
    words = ["serve", "--data", str(tmp_path / "data"), "--port", "0", "--catalog", str(path)]
    assert cli.main([*words, "--registry-key", "ab" * 32]) == 1
    assert "registry_unsigned: signature: expected the pinned registry key's" in capsys.readouterr().err
    assert cli.main([*words, "--registry-key", "zz"]) == 2
    assert "64 hex digits" in capsys.readouterr().err
