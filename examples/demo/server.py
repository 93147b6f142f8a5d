"""The shop's sync server: the real one in a process of its own, and the public API as a publisher uses it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import time
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from sysconfig import get_path
from typing import Any

from aiohttp import ClientSession, ClientTimeout

EDGE_SYNC = str(Path(get_path("scripts")) / "edge-sync")
START_S = 20.0
STOP_S = 10.0
REQUEST_S = 30.0


class ServerFailed(Exception):
    """The server's process did not start; its log says why."""


class ApiRefused(Exception):
    """The API said no; the problem document is in the message."""


@contextlib.asynccontextmanager
async def running(folder: Path, catalog: Path, port: int) -> AsyncIterator[ShopServer]:
    """Start `edge-sync serve` on data in `folder`; stop it at the end. Port 0 is any free one."""
    folder.mkdir(parents=True)
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(EDGE_SYNC, "serve", "--data", str(folder), "--port", str(port), "--catalog", str(catalog)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            url = await _address(folder, process)
            headers = {"Authorization": f"Bearer {(folder / 'api.token').read_text().strip()}"}
            async with ClientSession(url, headers=headers, timeout=ClientTimeout(total=REQUEST_S)) as http:
                yield ShopServer(url, folder, http)
        finally:
            await _stop(process)


async def _address(folder: Path, process: Process) -> str:
    """Wait until the server says where it listens."""
    said = folder / "server.json"
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            while process.returncode is None:
                if said.exists():
                    return str(json.loads(said.read_text())["url"])
                await asyncio.sleep(0.02)
    log = (folder / "server.log").read_text(errors="replace")
    raise ServerFailed(f"the server did not start; {folder / 'server.log'} says:\n{log}")


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def end_leftover(folder: Path) -> None:
    """End the server that an earlier, killed demo left behind on `folder`, and wait until it has ended."""
    try:
        pid = int(json.loads((folder / "server.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return
    end = time.monotonic() + STOP_S
    while _serves(pid, folder) and time.monotonic() < end:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)


def _serves(pid: int, folder: Path) -> bool:
    """Whether this very process (and not a later one with its number) serves `folder`. Needs /proc."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"edge-sync" in command and str(folder).encode() in command


class ShopServer:
    """The API as the shop's own programs use it, with the bearer token."""

    def __init__(self, url: str, folder: Path, http: ClientSession) -> None:
        self.url, self.folder, self._http = url, folder, http

    async def enrolment_token(self) -> str:
        """A one-time token for one kiosk."""
        return str((await self._ask("POST", "/v1/device-tokens"))["token"])

    async def public_key(self) -> bytes:
        """The key that this server signs with; asked once, before anything happens, as a device pins it."""
        text = str((await self._ask("GET", "/v1/consent-ledger/head"))["public_key"])
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    async def publish(self, view: str, rows: list[dict[str, Any]]) -> None:
        """Publish rows of a view; raises `ApiRefused` if one of them does not stand."""
        reply = await self._ask("POST", "/v1/features", {"view": view, "rows": rows})
        if reply["refused"]:
            raise ApiRefused(f"{view}: {reply['refused'][0]}")

    async def revoke(self, subject: str, purposes: list[str]) -> str:
        """Withdraw consent; returns the revocation's id."""
        body = {"subject": subject, "purposes": purposes}
        made = await self._ask("POST", "/v1/consent-revocations", body, key=str(uuid.uuid4()))
        return str(made["id"])

    async def revocation(self, revocation_id: str) -> dict[str, Any]:
        """How far a revocation has come."""
        return await self._ask("GET", f"/v1/consent-revocations/{revocation_id}")

    async def completion(self, revocation_id: str) -> dict[str, Any]:
        """The signed completion with every device's signed receipt inside."""
        return await self._ask("GET", f"/v1/consent-revocations/{revocation_id}/receipt")

    async def open_round(self, metric: str, closes_in_s: float) -> str:
        """Ask all devices to report on a metric; returns the round's id."""
        body = {"closes_in_s": closes_in_s}
        return str((await self._ask("POST", f"/v1/aggregates/{metric}/rounds", body))["round"])

    async def close_round(self, metric: str, round_id: str) -> dict[str, Any]:
        """Close the round and return its release."""
        return await self._ask("POST", f"/v1/aggregates/{metric}/rounds/{round_id}/close")

    async def _ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None
    ) -> dict[str, Any]:
        headers = None if key is None else {"Idempotency-Key": key}
        sent = {} if body is None else body
        async with self._http.request(method, path, json=sent, headers=headers) as reply:
            answer: dict[str, Any] = await reply.json(content_type=None)
        if reply.status >= 400:
            raise ApiRefused(f"{method} {path}: {answer}")
        return answer
