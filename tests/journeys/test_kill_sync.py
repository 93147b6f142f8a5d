"""kill -9 on server, device or both, in the middle of a snapshot or a delta stream: all is equal afterwards.

Two real processes and nothing simulated: `edge-sync serve`, and a runtime with its cache on disk.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.served import Served
from tests.support.shop_server import CATALOG

SEED = 20261130
ITEMS = 600

_DEVICE = """
import json, sys
import edge_runtime as er
from edge_runtime.sync.settings import SyncSettings

folder, url, token, catalog, items = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
key = er.KeyFile(f"{folder}/device.key")
rt = er.Runtime.open(f"{folder}/cache.db", catalog=er.Catalog.load(catalog), key=key)
if token:
    print(json.dumps({"enrolled": rt.enrol(url, token)}), flush=True)
sync = rt.sync_in_background(settings=SyncSettings(backoff_first_us=50_000, backoff_most_us=300_000))
sync.link.on_applied = lambda delta, applied: print(json.dumps({"at": delta.upto}), flush=True)
for line in sys.stdin:
    sync.wait_caught_up(60)
    found = [rt.read("item_stats:popularity", item=f"{n}").value for n in range(items)]
    print(json.dumps({"state": sync.state, "found": found}), flush=True)
"""


class Device:
    """A runtime in a process of its own."""

    def __init__(self, folder: Path, server: Served) -> None:
        folder.mkdir()
        self._folder, self._server = folder, server
        self.id = ""
        token = server.client.call("POST", "/v1/device-tokens", {})["token"]
        self.start(token)
        self.id = self.said()["enrolled"]

    def start(self, token: str = "") -> None:
        arguments = [str(self._folder), self._server.url, token, str(CATALOG), str(ITEMS)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DEVICE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the device ended with {self.process.wait()}"
        found: dict[str, Any] = json.loads(line)
        return found

    def settled(self) -> dict[str, Any]:
        """Wait until it is caught up; what it then reads."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        while "found" not in (said := self.said()):
            pass
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def publish(server: Served, values: dict[int, float], turn: int) -> None:
    """Values of just now, each turn's newer than those before."""
    at = time.time() - 1_000 + turn
    rows = [
        {"entity": f"item:{n}", "event_time": at, "values": {"popularity": value}}
        for n, value in values.items()
    ]
    reply = server.client.call("POST", "/v1/features", {"view": "item_stats", "rows": rows})
    assert reply["refused"] == []


@pytest.mark.parametrize("kills", [9])
def test_law_6_whoever_is_killed_in_mid_stream_both_are_equal_afterwards(tmp_path: Path, kills: int) -> None:
    """Every value is the published one, the device calls itself fresh, the server knows of no difference."""
    rng = random.Random(SEED)
    print("seed", SEED)
    with Served(tmp_path / "server", frame_rows=10) as server:
        truth = dict.fromkeys(range(ITEMS), 0.25)
        publish(server, truth, 1)
        device, died_early = Device(tmp_path / "device", server), 0
        try:
            for turn in range(kills):
                for _ in range(rng.randrange(1, 25)):
                    last = device.said()["at"]
                died_early += last < ITEMS or turn > 0
                victims = rng.choice(["server", "device", "both"])
                if victims != "device":
                    server.end(signal.SIGKILL)
                if victims != "server":
                    device.kill()
                if victims != "device":
                    server.start()
                changed = {n: rng.randrange(100) / 100 for n in rng.sample(range(ITEMS), 300)}
                publish(server, changed, turn + 2)
                truth |= changed
                if victims != "server":
                    device.start()
            said = device.settled()
            assert said["state"] == "fresh"
            assert said["found"] == pytest.approx([truth[n] for n in range(ITEMS)], abs=1e-6)
            shown = server.client.call("GET", f"/v1/devices/{device.id}")
            channel = shown["session"]["channels"]["all"]
            assert (channel["behind"], channel["mismatches"], shown["findings"]) == (0, 0, [])
            assert channel["compared_at"] == channel["head"] == ITEMS + kills * 300
            assert died_early > 0
        finally:
            device.kill()
