"""A real server process for benches: devices enrolled beforehand, and the words that benches say to it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.crowd import raise_file_limit
from bench.crowd_lines import DeviceTold
from edge_runtime.wire import seal
from sync_server.clock import SystemClock
from sync_server.devices.authority import load_authority
from sync_server.devices.enrolment import device_id_of
from sync_server.devices.entropy import system_entropy
from sync_server.settings import Settings
from sync_server.store.sqlite import SqliteStore

CATALOG = """
[catalog]
name = "bench"
version = 1
[purposes.personalization]
legal_basis = "consent"
lease = "24h"
retention = "30d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
[views.item_stats]
entity = "item"
source = "server"
ttl = 0
owner = "bench"
[views.item_stats.features]
orders = { dtype = "int64" }
pieces = { dtype = "int64" }
revenue = { dtype = "float64" }
price = { dtype = "float64" }
price_low = { dtype = "float64" }
price_high = { dtype = "float64" }
country = { dtype = "string" }
notes = { dtype = "string" }
[views.profile]
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "bench"
[views.profile.features]
country = { dtype = "string" }
[views.activity]
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "bench"
[views.activity.features]
views_5m = { op = "count", event = "view", window = "5m" }
"""
AT_ONCE: Mapping[str, int] = {
    "openings": 20_000,
    "snapshot_admissions_per_s": 20_000,
    "resume_admissions_per_s": 20_000,
    "admissions_burst": 20_000,
    "snapshots": 20_000,
    "snapshots_waiting": 20_000,
}
"""Admission lets all in at once: how fast a fleet comes in is another question."""


class Served:
    """`edge-sync serve` as a process on a fresh data directory.

    Args:
        devices: how many are enrolled, each to follow `all`.
        settings: other than the defaults.
        catalog: what it serves.
    """

    def __init__(
        self, folder: Path, devices: int, settings: Mapping[str, int] = AT_ONCE, catalog: str = CATALOG
    ) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "catalog.toml").write_text(catalog)
        self.devices = _enrolled(Settings(data_dir=folder), devices)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.served", str(folder), json.dumps(dict(settings))],
            env=environment,
        )
        self.host, self.port = "127.0.0.1", self._listening()
        self._token = (folder / "api.token").read_text().strip()
        self._http = http.client.HTTPConnection(self.host, self.port, timeout=60)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the server."""
        return self._process.pid

    def call(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        """The decoded reply, under an idempotency key if one is given; raises `AssertionError` for a no."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        self._http.request(method, path, None if body is None else json.dumps(body), headers)
        reply = self._http.getresponse()
        raw = reply.read()
        assert reply.status < 300, raw.decode()
        return json.loads(raw)

    def publish(self, rows: Sequence[Mapping[str, object]], view: str = "item_stats") -> None:
        """Publish rows; every one must be accepted."""
        told = self.call("POST", "/v1/features", {"view": view, "rows": rows})
        assert not told["refused"], told["refused"][:1]

    def rss_kib(self) -> int:
        """Memory that the server holds now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024

    def cpu_s(self) -> float:
        """What it has worked so far."""
        return cpu_s(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait()

    def _listening(self) -> int:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                return int(json.loads((self.folder / "server.json").read_text())["url"].rpartition(":")[2])
            except (OSError, ValueError):
                if self._process.poll() is not None:
                    raise RuntimeError("the server ended before it listened") from None
                time.sleep(0.02)
        raise TimeoutError("the server does not listen")


def cpu_s(pid: int) -> float:
    """What all threads of a process have worked so far."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def _enrolled(settings: Settings, count: int) -> list[DeviceTold]:
    """Devices put into the store before the server opens it, as enrolling does."""
    authority = load_authority(settings.key_file, system_entropy, store_exists=False)
    store = SqliteStore(
        settings.database,
        settings.key_database,
        digest_key=authority.digest_key,
        entropy=system_entropy,
        partitions=settings.partitions,
    )
    told, now_us = [], SystemClock().now_us()
    with store.write("enrol") as tx:
        for _ in range(count):
            seed = os.urandom(32)
            public_key = seal.public_bytes(Ed25519PrivateKey.from_private_bytes(seed))
            tx.add_device(device_id_of(public_key), public_key, ("all",), now_us)
            keys = authority.digest_key, authority.public_key
            told.append(DeviceTold(device_id_of(public_key), seed, *keys, ("all",)))
    store.close()
    return told


def main(arguments: list[str]) -> None:
    """Serve until killed: `python -m bench.served FOLDER SETTINGS`, settings as a JSON object."""
    import asyncio

    from sync_server.server import serve

    raise_file_limit()
    folder = Path(arguments[0])
    settings = Settings(data_dir=folder, port=0, catalog=folder / "catalog.toml", **json.loads(arguments[1]))
    asyncio.run(serve(settings, announce=lambda url: None))


if __name__ == "__main__":
    main(sys.argv[1:])
