"""`edge-sync serve` as a process of its own on a fixed port, to be killed and started again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from sync_server.client import Client
from tests.support.shop_server import CATALOG

_SERVE = """
import asyncio, json, sys
from dataclasses import replace
from pathlib import Path
from sync_server.server import serve
from sync_server.settings import Settings
from tests.support.fleet import SharedClock
data, port, catalog, limits = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
clock = SharedClock(Path(sys.argv[5])) if sys.argv[5:] else None
settings = replace(Settings(data_dir=data, port=port, catalog=catalog), **limits)
asyncio.run(serve(settings, lambda url: print(url, flush=True), clock))
"""


def free_port() -> int:
    """A port that nobody listens at just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A server on `data`; `limits` are Settings by name, `clock` the file of a `fleet.SharedClock`."""

    def __init__(self, data: Path, clock: Path | None = None, /, **limits: Any) -> None:
        self.data, self.port, self._limits = data, free_port(), limits
        self._clock = [] if clock is None else [str(clock)]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        """Start it, again, and wait until it listens."""
        arguments = [str(self.data), str(self.port), str(CATALOG), json.dumps(self._limits), *self._clock]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == self.url
        self.client = Client.of(self.data, None)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate(timeout=60)

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its end; returns its exit code."""
        self.process.send_signal(how)
        self.process.communicate(timeout=60)
        return self.process.returncode

    def rss_bytes(self) -> int:
        """Resident memory of the process now."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def metrics(self, name: str) -> dict[str, float]:
        """Samples of `edge_sync_<name>` by their label ("" without one)."""
        import urllib.request

        request = urllib.request.Request(f"{self.url}/metrics")
        request.add_header("Authorization", f"Bearer {self.client.token}")
        with urllib.request.urlopen(request, timeout=30) as reply:
            lines = reply.read().decode().splitlines()
        found = {}
        for line in lines:
            head, _, value = line.rpartition(" ")
            if head == f"edge_sync_{name}" or head.startswith(f"edge_sync_{name}{{"):
                found[head.partition('="')[2].rstrip('"}')] = float(value)
        return found

    def publish(self, count: int, *, start: int = 0, pad: int = 0, popularity: float = 0.5) -> None:
        """Item rows into `all`, each some `pad` bytes large."""
        for first in range(start, start + count, 2_000):
            rows = [
                {
                    "entity": f"item:{n}",
                    "event_time": 1 + n,
                    "values": {"popularity": popularity, "co_bought": {"x" * pad: 1.0} if pad else {}},
                }
                for n in range(first, min(first + 2_000, start + count))
            ]
            reply = self.client.call("POST", "/v1/features", {"view": "item_stats", "rows": rows})
            assert reply["refused"] == []
