"""kill -9 around a delivery: every event arrives, under the id it has always had."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sync_server.client import Client, Unreachable
from tests.support.served import Served, free_port

LIMITS: dict[str, Any] = {
    "deliver_to": ["loopback"],
    "events_look_us": 20_000,
    "delivery_retry_us": 50_000,
    "delivery_retry_longest_us": 100_000,
}
LIFE = {f"revocation-{kind}" for kind in ("accepted", "enforced", "erased", "completed")}


class Hook(ThreadingHTTPServer):
    """Takes events; `kill`, when set, is a process that dies before its delivery is answered."""

    def __init__(self, port: int) -> None:
        self.heard: queue.Queue[tuple[str, str]] = queue.Queue()
        self.kill: int | None = None
        super().__init__(("127.0.0.1", port), Take)


class Take(BaseHTTPRequestHandler):
    """Remembers (id, kind) of each event."""

    server: Hook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        victim, self.server.kill = self.server.kill, None
        if victim is not None:
            os.kill(victim, signal.SIGKILL)
        self.server.heard.put((body["id"], body["type"].rpartition(":")[2]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


@contextmanager
def hook(port: int) -> Iterator[Hook]:
    server = Hook(port)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def revoke(client: Client) -> str:
    body = {"subject": "alice", "purposes": ["personalization"]}
    made = client.call("POST", "/v1/consent-revocations", body, headers={"Idempotency-Key": "k"})
    return str(made["id"])


def life(server: Hook, expected: set[str]) -> dict[str, set[str]]:
    """kind -> ids under which it was heard, once every expected kind was."""
    heard: dict[str, set[str]] = {}
    while not expected <= set(heard):
        name, kind = server.heard.get(timeout=30)
        heard.setdefault(kind, set()).add(name)
    return heard


def test_law_6_events_survive_kill_9_before_their_delivery_and_before_its_mark(tmp_path: Path) -> None:
    """The server is killed by its own receiver, which has the first event and has not said so; the others are
    committed and nobody has them. Started again, it tells all of them, the first under the same id."""
    with hook(free_port()) as server, Served(tmp_path / "data", **LIMITS) as served:
        url = f"http://127.0.0.1:{server.server_port}/"
        served.client.call("POST", "/v1/webhooks", {"url": url, "events": [*LIFE]})
        server.kill = served.process.pid
        with suppress(Unreachable, ConnectionError, OSError):
            revoke(served.client)
        first = server.heard.get(timeout=30)
        served.end(signal.SIGKILL)
        assert server.heard.empty()
        served.start()
        assert server.heard.get(timeout=30) == first
        revocation = first[0].removesuffix(".accepted")
        expected = LIFE - {"revocation-accepted"}
        told = {kind: {f"{revocation}.{kind.removeprefix('revocation-')}"} for kind in expected}
        assert life(server, expected) == told
        while served.client.call("GET", "/v1/events")["events"]:
            pass
        assert server.heard.empty()
