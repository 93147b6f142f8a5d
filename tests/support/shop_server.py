"""A real server on a temporary directory under a manual clock, and devices that speak for themselves."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from yarl import URL

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.receipt import Receipt, receipt_bytes
from sync_server.api import rooms
from sync_server.api.connection import Runner
from sync_server.app import build_app
from sync_server.consent import receipts
from sync_server.devices.enrolment import decode, encode
from sync_server.settings import Settings
from sync_server.store.records import ColdStart
from sync_server.sync import leases
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.promised import promises_of

CATALOG = Path(__file__).resolve().parents[2] / "examples" / "catalogs" / "shop.toml"


@dataclass
class Answer:
    """A reply, decoded."""

    status: int
    body: Any
    headers: Mapping[str, str]


class _Socket(TestServer):
    """A socket with the connections that `serve` has."""

    def __init__(self, app: web.Application, settings: Settings) -> None:
        super().__init__(app)
        self._settings = settings

    async def _make_runner(self, **more: Any) -> web.AppRunner:
        return Runner.of(self.app, self._settings, **more)


class ShopServer:
    """The app, its rooms, and a client with the bearer token."""

    def __init__(self, data_dir: Path, clock: ManualClock, **limits: Any) -> None:
        self.clock = clock
        self.settings = Settings(data_dir=data_dir, **{"catalog": CATALOG, **limits})
        self.app = build_app(self.settings, clock, CountingEntropy())
        self.store, self.office = self.app[rooms.STORE], self.app[rooms.OFFICE]
        self.authority = self.app[rooms.AUTHORITY]
        self._keys = itertools.count(1)
        self.client: TestClient[Any, Any] = TestClient(_Socket(self.app, self.settings))
        self.broken_promises: list[str] = []
        """In what replies were not as the OpenAPI document says; none when the server is closed."""
        self.app.on_response_prepare.append(self._check_promise)

    @property
    def app_catalog_version(self) -> int:
        """Version of the catalog in force."""
        return self.app[rooms.REGISTRY].active.version

    async def __aenter__(self) -> ShopServer:
        await self.client.start_server()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.client.close()
        assert kind is not None or not self.broken_promises, self.broken_promises

    @property
    def token(self) -> str:
        """The API's token."""
        return self.app[rooms.API_TOKEN]

    @property
    def document(self) -> Mapping[str, Any]:
        """The OpenAPI document."""
        return promises_of(self.app).document

    async def _check_promise(self, request: web.Request, reply: web.StreamResponse) -> None:
        self.broken_promises += promises_of(self.app).faults(request, reply)

    async def call(
        self,
        method: str,
        path: str | URL,
        body: object = None,
        *,
        data: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """One request; `token` "" is the right one, None is none."""
        wanted = dict(headers or {})
        if token is not None:
            wanted.setdefault("Authorization", f"Bearer {token or self.app[rooms.API_TOKEN]}")
        json = body if data is None else None
        reply = await self.client.request(method, path, json=json, data=data, headers=wanted)
        text = await reply.read()
        decoded = await reply.json(content_type=None) if "json" in reply.content_type else text
        return Answer(reply.status, decoded, dict(reply.headers))

    async def give(self, subject: str, purpose: str = "personalization", **more: object) -> Answer:
        """Record a consent."""
        return await self.call(
            "POST", "/v1/consents", {"subject": subject, "purpose": purpose, "notice": "2026-11", **more}
        )

    async def revoke(self, subject: str, purposes: object = "*", **headers: str) -> Answer:
        """Withdraw; under a key of its own unless told one."""
        body = {"subject": subject, "purposes": purposes}
        headers.setdefault("Idempotency-Key", f"revoke-{next(self._keys)}")
        return await self.call("POST", "/v1/consent-revocations", body, headers=headers)

    async def publish(self, view: str, rows: Sequence[object], **more: object) -> Answer:
        """Publish rows."""
        return await self.call("POST", "/v1/features", {"view": view, "rows": rows, **more})

    def pseudonym(self, subject: str) -> bytes:
        """How the server names a subject."""
        return self.authority.pseudonym(f"user:{subject}")


class FakeDevice:
    """A device's keys and words, without a cache behind them."""

    def __init__(self, server: ShopServer, seed: int) -> None:
        self.server = server
        self.key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"device%d" % seed).digest())
        self.public_key = seal.public_bytes(self.key)
        self.device_id = ""
        self._ids = (
            hashlib.blake2b(b"%d:%d" % (seed, n), digest_size=16).digest() for n in itertools.count()
        )

    async def enrol(self) -> FakeDevice:
        """Through the API, as a device does."""
        token = (await self.server.call("POST", "/v1/device-tokens", {})).body["token"]
        reply = await self.offer(token)
        assert reply.status == 201, reply.body
        self.device_id = reply.body["device_id"]
        assert decode(reply.body["server_key"]) == self.server.authority.public_key
        return self

    async def offer(self, token: str) -> Answer:
        """Post the enrolment of this key with `token`."""
        proof = seal.sign(self.key, seal.ENROL, seal.enrol_bytes(token, self.public_key))
        body = {"token": token, "public_key": encode(self.public_key), "proof": encode(proof)}
        return await self.server.call("POST", "/v1/devices", body, token=None)

    def acknowledge(self) -> None:
        """Enforced up to the lane's head."""
        with self.server.store.write("ack") as tx:
            tx.ack_lane(self.device_id, tx.lane_head(), self.server.clock.now_us())

    def lease(self, cold_start: ColdStart = "server") -> bool:
        """Acknowledge, and ask for a lease."""
        self.acknowledge()
        with self.server.store.read() as tx:
            request = m.LeaseRequest(id=bytes(16), upto=tx.lane_head(), cold_start=cold_start)
        answer = leases.renew(self.server.app[rooms.NODE], self.device_id, request).answer
        return isinstance(answer, m.Lease)

    def receipt(
        self,
        subject: bytes,
        purposes: Sequence[str],
        denials: Sequence[int],
        *,
        kind: Literal["erased", "held_none"] = "erased",
        canary: bool | None = True,
    ) -> tuple[bytes, bytes]:
        """A signed receipt: body and signature."""
        body = receipt_bytes(
            Receipt(
                v=1,
                id=next(self._ids),
                kind=kind,
                device_id=self.device_id,
                subject=subject,
                purposes=list(purposes),
                denials=list(denials),
                decisions=[],
                keys_destroyed=1,
                rows_deleted={"journal": 3},
                counter_before=4,
                counter_after=5,
                canary_unreadable=canary,
                assurance="file",
                cold_start="server",
                at_us=self.server.clock.now_us(),
            )
        )
        return body, seal.sign(self.key, seal.RECEIPT, body)

    def hand_in(self, body: bytes, signature: bytes) -> receipts.Accepted:
        """Give a receipt to the server."""
        with self.server.store.write("receipt") as tx:
            device = tx.device(self.device_id)
            assert device is not None
            now_us = self.server.clock.now_us()
            accepted = receipts.accept(tx, device, body, signature, now_us=now_us)
            receipts.conclude(tx, accepted.revocations, now_us)
            return accepted

    def answer(self, revocation: Mapping[str, Any], subject: bytes, **more: Any) -> None:
        """Acknowledge and answer every denial of a revocation."""
        self.acknowledge()
        purposes = [d["purpose"] for d in revocation["denials"]]
        denials = [d["seq"] for d in revocation["denials"]]
        self.hand_in(*self.receipt(subject, purposes, denials, **more))
