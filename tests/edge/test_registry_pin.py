"""A device that pinned the registry key opens with no other privacy part than one which that key signed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import edge_runtime as er
from edge_runtime.catalog.signed import sign
from edge_runtime.cli import main
from edge_runtime.errors import CatalogError
from edge_runtime.wire import seal
from sync_server.app import build_app
from sync_server.settings import Settings
from tests.edge.test_enrol import token
from tests.support.broken_catalog import Change, changed, put
from tests.support.clock import ManualClock

KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x07")
PUBLIC = seal.public_bytes(KEY)
LEASE = "purposes/personalization/lease"


def unsigned(*changes: Change) -> er.Catalog:
    table: dict[str, Any] = changed(lambda table: None)
    for change in changes:
        change(table)
    return er.Catalog.from_dict(table)


def signed(at_us: int, *changes: Change) -> er.Catalog:
    return sign(unsigned(*changes), KEY, at_us)


def open_with(folder: Path, catalog: er.Catalog) -> er.Runtime:
    key = er.KeyFile(folder / "device.key")
    return er.Runtime.open(folder / "cache.db", catalog=catalog, key=key, clock=ManualClock())


@pytest.fixture
async def pinning(tmp_path: Path) -> AsyncIterator[TestServer]:
    """A server that pins the key."""
    path = tmp_path / "catalog.json"
    path.write_text(json.dumps(signed(5).to_dict()))
    settings = Settings(data_dir=tmp_path / "server", catalog=path, registry_key=PUBLIC)
    running = TestServer(build_app(settings, ManualClock()))
    await running.start_server()
    yield running
    await running.close()


async def enrolled(tmp_path: Path, server: TestServer, catalog: er.Catalog) -> None:
    """As an app does it, from a thread of its own."""
    word = await token(server, tmp_path / "server")
    with open_with(tmp_path, catalog) as rt:
        await asyncio.to_thread(rt.enrol, str(server.make_url("")), word)


async def test_a_device_that_pinned_the_key_refuses_every_other_privacy_part(
    pinning: TestServer, tmp_path: Path
) -> None:
    """Unsigned, or weaker than what was signed; the same catalog opens, and its status says pinned."""
    await enrolled(tmp_path, pinning, signed(5))
    with pytest.raises(CatalogError, match="missing"):
        open_with(tmp_path, unsigned())
    forged = {**unsigned(put(LEASE, "48h")).to_dict(), "signature": signed(5).to_dict()["signature"]}
    with pytest.raises(CatalogError, match="another than was signed"):
        open_with(tmp_path, er.Catalog.from_dict(forged))
    with open_with(tmp_path, signed(5)) as rt:
        assert rt.status()["registry"] == "pinned"


async def test_features_roll_back_on_a_device_and_privacy_does_not(
    pinning: TestServer, tmp_path: Path
) -> None:
    """An older part that protects less is refused and names the place; one that protects more opens."""
    await enrolled(tmp_path, pinning, signed(5, put(LEASE, "48h")))
    open_with(tmp_path, signed(6)).close()
    other_features = {**unsigned(put("views/profile/ttl", "1d")).to_dict()}
    other_features["signature"] = signed(6).to_dict()["signature"]
    open_with(tmp_path, er.Catalog.from_dict(other_features)).close()
    with pytest.raises(CatalogError, match=r"purposes\.personalization\.lease"):
        open_with(tmp_path, signed(5, put(LEASE, "48h")))
    open_with(tmp_path, signed(4, put(LEASE, "1h"))).close()
    open_with(tmp_path, signed(6)).close()


async def test_a_runtime_whose_catalog_is_not_signed_does_not_enrol_where_a_key_is_pinned(
    pinning: TestServer, tmp_path: Path
) -> None:
    """It stays as it was, standalone."""
    with pytest.raises(CatalogError, match="missing"):
        await enrolled(tmp_path, pinning, unsigned())
    with open_with(tmp_path, unsigned()) as rt:
        assert (rt.status()["authority"], rt.status()["registry"]) == ("standalone", "unsigned")


def test_without_a_pin_nothing_is_asked_and_the_status_says_what_there_is(tmp_path: Path) -> None:
    """Signed by whomever, or by nobody."""
    with open_with(tmp_path, unsigned()) as rt:
        assert rt.status()["registry"] == "unsigned"
    with open_with(tmp_path, signed(5)) as rt:
        assert rt.status()["registry"] == "signed"


async def test_the_doctor_says_what_a_catalog_rests_on(
    pinning: TestServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fault where the pinned key did not sign it, and no word of praise where nobody asks."""

    def told(catalog: er.Catalog) -> tuple[int, dict[str, str], str | None]:
        path = tmp_path / "shown.json"
        path.write_text(json.dumps(catalog.to_dict()))
        words = ["doctor", str(tmp_path / "cache.db"), "--key-file", str(tmp_path / "device.key")]
        code = main([*words, "--catalog", str(path), "--json"])
        answer = json.loads(capsys.readouterr().out)
        (found,) = [check for check in answer["checks"] if check["name"] == "registry"]
        return code, found, answer["registry_key"]

    open_with(tmp_path, unsigned()).close()
    capsys.readouterr()
    code, found, key = told(unsigned())
    assert (code, found["found"], key) == (
        0,
        "unsigned; no registry key is pinned here, so nobody asks",
        None,
    )
    await enrolled(tmp_path, pinning, signed(5))
    capsys.readouterr()
    code, found, key = told(unsigned())
    assert (code, found["state"], key) == (1, "fault", PUBLIC.hex())
    code, found, _ = told(signed(5))
    assert (code, found["found"]) == (0, "signed by the pinned registry key")
