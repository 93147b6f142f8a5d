"""Becoming a device: a token once, a proof of the key, and nothing half done."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from edge_runtime.consent.opening import open_cache
from edge_runtime.errors import MalformedRequest, SyncError, SyncRefused
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyFile
from edge_runtime.sync import enrol as enrolment
from edge_runtime.sync.enrol import enrol
from edge_runtime.wire import seal
from sync_server.app import build_app
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.consent_room import Room

NO_LOCK = contextlib.nullcontext()


@asynccontextmanager
async def server(folder: Path, clock: ManualClock) -> AsyncIterator[TestServer]:
    running = TestServer(build_app(Settings(data_dir=folder), clock))
    await running.start_server()
    try:
        yield running
    finally:
        await running.close()


async def token(running: TestServer, folder: Path, ttl_s: int = 60) -> str:
    bearer = {"Authorization": f"Bearer {(folder / 'api.token').read_text().strip()}"}
    async with (
        ClientSession() as http,
        http.post(running.make_url("/v1/device-tokens"), json={"ttl_s": ttl_s}, headers=bearer) as reply,
    ):
        assert reply.status == 201
        return str((await reply.json())["token"])


def keyring(folder: Path) -> Keyring:
    folder.mkdir(exist_ok=True)
    opened, database = open_cache(str(folder / "cache.db"), KeyFile(folder / "device.key"))
    database.close()
    return opened


async def test_a_token_makes_a_device_once(tmp_path: Path) -> None:
    """The identity names the server's key and the tenant's keys; the same token again is refused."""
    clock, data = ManualClock(), tmp_path / "server"
    async with server(data, clock) as running:
        url, word = str(running.make_url("")), await token(running, data)
        first, second = keyring(tmp_path / "a"), keyring(tmp_path / "b")
        device_id = await enrol(first, url, word, lock=NO_LOCK)
        assert first.identity.device_id == device_id
        assert first.identity.enrolled
        assert first.identity.patterns == ("all",)
        assert first.identity.server_url == url.rstrip("/")
        with pytest.raises(SyncRefused, match="token_used"):
            await enrol(second, url, word, lock=NO_LOCK)
        assert not second.identity.enrolled


async def test_law_12_a_token_that_is_unknown_or_expired_changes_nothing(tmp_path: Path) -> None:
    """Each has its own code; the runtime stays standalone."""
    clock, data = ManualClock(), tmp_path / "server"
    async with server(data, clock) as running:
        url, mine = str(running.make_url("")), keyring(tmp_path / "a")
        before = mine.identity
        with pytest.raises(SyncRefused, match="token_unknown"):
            await enrol(mine, url, "nobody-issued-this", lock=NO_LOCK)
        old = await token(running, data, ttl_s=1)
        clock.advance(seconds=2)
        with pytest.raises(SyncRefused, match="token_expired"):
            await enrol(mine, url, old, lock=NO_LOCK)
        assert mine.identity == before


async def test_law_12_a_proof_by_another_key_leaves_the_token_good(tmp_path: Path) -> None:
    """Whoever saw the token on its way cannot use it up without holding the key he shows."""
    data = tmp_path / "server"
    async with server(data, ManualClock()) as running:
        url, word, mine = running.make_url(""), await token(running, data), keyring(tmp_path / "a")
        body = enrolment.request_body(mine.signing_key(), word)
        forged = {
            **body,
            "public_key": enrolment.request_body(keyring(tmp_path / "b").signing_key(), word)["public_key"],
        }
        async with ClientSession() as http, http.post(url / "v1/devices", json=forged) as reply:
            assert reply.status == 403
        await enrol(mine, str(url), word, lock=NO_LOCK)


async def test_nobody_there_is_a_sync_error(tmp_path: Path) -> None:
    """No answer, and no url at all."""
    mine = keyring(tmp_path)
    for url in ("http://127.0.0.1:9", "not a url"):
        with pytest.raises(SyncError, match="nothing changed"):
            await enrol(mine, url, "t", lock=NO_LOCK)
    assert not mine.identity.enrolled


async def test_a_device_that_holds_personal_data_does_not_change_hands(tmp_path: Path) -> None:
    """Its rows and receipts would name nobody: withdraw first. Nothing was sent."""
    room = Room(tmp_path)
    room.consents.give("alice", ["personalization"], notice="n")
    with pytest.raises(MalformedRequest, match="personal data"):
        await enrol(room.keyring, "http://127.0.0.1:9", "t", lock=NO_LOCK)
    room.database.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (201, b'{"device_id": "d"}'),
        (201, b'{"device_id": "", "tenant": {"pseudonym_key": "", "digest_key": ""}, "server_key": ""}'),
        (200, b"\xff"),
        (404, b"not json"),
        (500, b'{"code": "<script>"}'),
        (302, b""),
    ],
)
def test_law_12_a_reply_that_is_no_enrolment_is_a_sync_error(status: int, body: bytes) -> None:
    """Whatever answers on that port, the device keeps its identity; unknown codes are not believed."""
    with pytest.raises(SyncError) as caught:
        enrolment.read_reply(status, body)
    assert not isinstance(caught.value, SyncRefused)
    assert "script" not in str(caught.value)


def test_the_proof_covers_token_and_key(tmp_path: Path) -> None:
    """Another token or key under the same proof does not verify."""
    mine = keyring(tmp_path)
    public_key = seal.public_bytes(mine.signing_key())
    proof = seal.sign(mine.signing_key(), seal.ENROL, seal.enrol_bytes("t", public_key))
    seal.verify(public_key, seal.ENROL, seal.enrol_bytes("t", public_key), proof)
    assert (
        enrolment.request_body(mine.signing_key(), "t")["proof"]
        != enrolment.request_body(mine.signing_key(), "u")["proof"]
    )
