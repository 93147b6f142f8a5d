"""Many simulated devices on real sockets: enrolled, connected at a rate, back by themselves after every end.

Times are seconds of the event loop's clock, which does not jump.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.conversation import State
from edge_runtime.wire.failure import WireFailure
from sync_server.devices.enrolment import decode, encode
from sync_server.load.device import Enrolled, Reader, SimDevice, Turnaway

ENROL_AT_ONCE = 16
BACKOFF_FIRST_S, BACKOFF_MOST_S = 1.0, 32.0
"""Full jitter between these, as real devices wait."""
SILENCE_S = 90.0
FRAME_BYTES = 64 * 1024
PROBE_ROWS = 64
"""A delta with more rows is no single change, and is not searched for probes."""


class ServerSaid(Exception):
    """The API refused what the fleet needs of it."""


@dataclass(slots=True)
class Seen:
    """What a fleet measured."""

    fresh_s: list[float] = field(default_factory=list)
    """From wanting a session to being fresh in it, each time."""
    latency_s: list[float] = field(default_factory=list)
    """From asking the server to publish to the row's arrival, each device and probe."""
    denial_s: list[float] = field(default_factory=list)
    """From asking the server to revoke a subject to its first denial, each device that was live then."""
    refused: Counter[str] = field(default_factory=Counter)
    """Sessions that the server refused or ended, by code."""
    broken: Counter[str] = field(default_factory=Counter)
    """Sessions that ended otherwise, by what happened."""
    faults: Counter[str] = field(default_factory=Counter)
    """Frames that broke a rule of the wire, by code. Anything here is a defect."""


class Member:
    """One device of a fleet and its connection."""

    def __init__(self, fleet: Fleet, device: SimDevice) -> None:
        self.fleet, self.device = fleet, device
        self.wanted_s: float | None = None
        """Since when it wants to be fresh; None: it is."""
        self._ws: aiohttp.ClientWebSocketResponse | None = None
        self._live_s: float | None = None
        """Since when its session is live; None: it is not."""
        self._denied: set[bytes] = set()
        """Subjects whose denial came."""
        device.on_delta, device.on_lane = self._delta, self._lane

    @property
    def fresh(self) -> bool:
        """Whether it has all that the server has, as far as it knows."""
        return self.device.fresh

    async def live(self) -> None:
        """Connect, and again after every end, until cancelled."""
        failures = 0
        while True:
            self.wanted_s = self.wanted_s or _now()
            began_s, retry_s = _now(), 0.0
            try:
                await self._session()
            except Turnaway as turned:
                self.fleet.seen.refused[turned.code] += 1
                retry_s = turned.retry_after_us / 1_000_000
            except WireFailure as failure:
                self.fleet.seen.faults[failure.code] += 1
            except aiohttp.WSServerHandshakeError as error:
                self.fleet.seen.refused[f"http {error.status}"] += 1
                after = "" if error.headers is None else error.headers.get("Retry-After", "")
                retry_s = float(after) if after.isdecimal() else 0.0
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.fleet.seen.broken[type(error).__name__] += 1
            finally:
                self.device.end()
                self.fleet.changed()
            failures = 1 if _now() - began_s > 60 else failures + 1
            most_s = min(self.fleet.backoff_most_s, BACKOFF_FIRST_S * 2 ** min(failures - 1, 10))
            self.wanted_s = self.wanted_s or _now()
            await asyncio.sleep(retry_s + self.fleet.rng.random() * most_s)

    def cut(self) -> None:
        """Drop the socket without a word."""
        raw = None if self._ws is None else self._ws.get_extra_info("socket")
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)

    async def _session(self) -> None:
        device, fleet = self.device, self.fleet
        device.begin()
        async with fleet.opening:
            ws = await asyncio.wait_for(
                fleet.http.ws_connect(f"{fleet.url}/v1/sync", max_msg_size=FRAME_BYTES + 1, compress=0), 15
            )
        try:
            self._ws = ws
            while True:
                message = await ws.receive(timeout=SILENCE_S)
                if message.type is not aiohttp.WSMsgType.BINARY:
                    raise aiohttp.ClientConnectionError("the server closed the session")
                for answer in device.hear(message.data):
                    await ws.send_bytes(answer)
                if self._live_s is None and device.state is State.LIVE:
                    self._live_s = _now()
                if self.wanted_s is not None and device.fresh:
                    fleet.seen.fresh_s.append(_now() - self.wanted_s)
                    self.wanted_s = None
                    fleet.changed()
        finally:
            self._ws = self._live_s = None
            await ws.close()

    def _delta(self, delta: m.Delta) -> None:
        asked = self.fleet.probes
        for row in delta.rows if asked and len(delta.rows) <= PROBE_ROWS else ():
            self._note(asked.get(row.event_time_us), self.fleet.seen.latency_s)

    def _lane(self, lane: m.Lane) -> None:
        asked = self.fleet.revocations
        for entry in lane.entries if asked else ():
            if entry.grant == 0 and entry.subject not in self._denied:
                self._note(asked.get(entry.subject), self.fleet.seen.denial_s)
                self._denied.add(entry.subject)

    def _note(self, asked_s: float | None, into: list[float]) -> None:
        """Count what was asked for while this session lived; what came before is of no interest."""
        if asked_s is not None and self._live_s is not None and self._live_s <= asked_s:
            into.append(_now() - asked_s)


class Fleet:
    """The simulated devices of one process.

    Args:
        url: the server.
        token: its API token, for enrolling, probing and taking the devices out again.
        connecting: most sockets that open at once from here.
        backoff_most_s: longest jitter between two tries of one device.
    """

    def __init__(
        self,
        url: str,
        token: str,
        rng: random.Random,
        *,
        connecting: int = 200,
        leases: bool = False,
        backoff_most_s: float = BACKOFF_MOST_S,
    ) -> None:
        self.url, self.rng, self.seen = url.rstrip("/"), rng, Seen()
        self.members: list[Member] = []
        self.backoff_most_s = backoff_most_s
        self.opening = asyncio.Semaphore(connecting)
        self.changed: Callable[[], None] = lambda: None
        """Called when a device turns fresh or loses its session."""
        self.headers, self._leases, self._reader = {"Authorization": f"Bearer {token}"}, leases, Reader()
        self._tasks: list[asyncio.Task[None]] = []
        self.probes: dict[int, float] = {}
        """Event time of a probe row -> when its publishing was asked for."""
        self.revocations: dict[bytes, float] = {}
        """Pseudonym -> when its revocation was asked for."""

    async def __aenter__(self) -> Fleet:
        timeout = aiohttp.ClientTimeout(total=60)
        connector = aiohttp.TCPConnector(limit=0)
        self.http = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self.http.close()

    # ---- enrolling ---------------------------------------------------------------------------------------

    async def enrol(self, count: int, *, whole: int, channels: Iterable[str] | None = None) -> None:
        """Enrol `count` devices more; the first `whole` of all compare digests row by row.

        Raises `ServerSaid`.
        """
        gate, wanted = asyncio.Semaphore(ENROL_AT_ONCE), None if channels is None else list(channels)

        async def one() -> None:
            async with gate:
                enrolled = await self._enrol(wanted)
            device = SimDevice(
                enrolled,
                self._reader,
                self.rng.randbytes,
                leases=self._leases,
                whole=len(self.members) < whole,
            )
            self.members.append(Member(self, device))
            self.changed()

        await asyncio.gather(*(one() for _ in range(count)))

    async def _enrol(self, channels: list[str] | None) -> Enrolled:
        body: dict[str, object] = {} if channels is None else {"channels": channels}
        token = str((await self.call("POST", "/v1/device-tokens", body))["token"])
        key = Ed25519PrivateKey.from_private_bytes(self.rng.randbytes(32))
        public = seal.public_bytes(key)
        proof = seal.sign(key, seal.ENROL, seal.enrol_bytes(token, public))
        said = {"token": token, "public_key": encode(public), "proof": encode(proof)}
        reply = await self.call("POST", "/v1/devices", said)
        tenant, followed = reply["tenant"], tuple(c for c in reply["channels"] if "*" not in c)
        return Enrolled(
            reply["device_id"], key, decode(tenant["digest_key"]), decode(reply["server_key"]), followed
        )

    async def remove(self) -> None:
        """Shut every device of this fleet out at the server: nothing waits for them any more."""
        gate = asyncio.Semaphore(ENROL_AT_ONCE)

        async def one(member: Member) -> None:
            async with gate:
                await self.call("DELETE", f"/v1/devices/{member.device.enrolled.device_id}")
            self.changed()

        await asyncio.gather(*(one(member) for member in self.members))

    async def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """One call of the API, under an idempotency key if one is given; raises `ServerSaid`."""
        headers = {**self.headers, **({} if key is None else {"Idempotency-Key": key})}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as reply:
            found: dict[str, Any] = await reply.json(content_type=None)
        if reply.status >= HTTPStatus.BAD_REQUEST:
            raise ServerSaid(f"{method} {path}: {found.get('code')}: {found.get('title')}")
        return found

    # ---- running -----------------------------------------------------------------------------------------

    async def connect(self, per_s: float) -> None:
        """Let every device live, `per_s` more each second."""
        start_s = _now()
        for n, member in enumerate(self.members[len(self._tasks) :]):
            await asyncio.sleep(max(0.0, start_s + n / per_s - _now()))
            self._tasks.append(asyncio.create_task(member.live()))

    async def stop(self) -> None:
        """End every session."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    @property
    def fresh(self) -> int:
        """Devices that are fresh now."""
        return sum(member.fresh for member in self.members)

    async def all_fresh(self, within_s: float, poll_s: float = 0.05) -> bool:
        """Whether every device is fresh within so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.fresh < len(self.members):
                    await asyncio.sleep(poll_s)
                return True
        return False

    def asked(self, event_time_us: int) -> None:
        """A probe row with this event time is about to be published."""
        self.probes[event_time_us] = _now()

    def revoking(self, subject: bytes) -> None:
        """A revocation of this pseudonym is about to be asked for."""
        self.revocations[subject] = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
