"""How long from the call of a revocation until every device enforces it, while snapshots stream to all?

2,000 simulated devices (production codec and conversation, signatures and digests checked, live leases) all
follow a channel from nothing at once: more than 100 MB in all. Meanwhile subjects are revoked by the API, one
after another. *Enforced* is when the server has taken a device's acknowledgement of the lane, *erased* when
it has taken its signed receipt: both as the server notes them for each target. Beside them real runtimes run
in processes of their own; *unreadable* is when a read of the subject says REVOKED there, asked over and over.

Everything shares this machine, devices as well as the server: `devices_share` is their part of the work. A
stalled reader is not among them; its bound is printed.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.crowd import SPAWN, CrowdProcess, raise_file_limit
from bench.measure import table
from bench.revoke_lines import KioskLine, runtimes
from bench.served import AT_ONCE, Served, cpu_s
from edge_runtime.wire.codec import FRAME_LIMIT_BYTES
from sync_server.settings import Settings

DEVICES, RUNTIMES, PROCESSES, REVOCATIONS, SEED = 2_000, 20, 4, 3, 20269
ROWS, NOTE_BYTES = 600, 120
EVERY_S, GOAL_MS = 2.0, 250
LINK_BITS_PER_S: Final = 1_000_000
"""Of the slow link for which the stalled reader's bound is told."""


def run(devices: int = DEVICES, real: int = RUNTIMES, revocations: int = REVOCATIONS) -> dict[str, object]:
    """Measure, print the table; returns the numbers."""
    raise_file_limit()
    subjects = [f"user-{n}" for n in range(revocations)]
    settings = {name: value for name, value in AT_ONCE.items() if not name.startswith("snapshots")}
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Served(folder / "server", devices, settings) as server:
            server.publish(list(rows()))
            with _real(server, folder, real, subjects) as pipes, _crowd(server) as crowd:
                seen = _revoked(server, crowd, pipes, subjects)
    print(_report(seen))
    return seen


def main() -> None:
    """Print the table and the JSON line."""
    print(json.dumps(run()))


def rows() -> Iterator[dict[str, object]]:
    """Rows of which a snapshot fills a frame also when packed."""
    chance = random.Random(SEED)
    for n in range(ROWS):
        note = base64.b64encode(chance.randbytes(NOTE_BYTES)).decode()
        yield {"entity": f"item:{n}", "event_time": 1_700_000_000, "values": {"orders": n, "notes": note}}


@contextmanager
def _crowd(server: Served) -> Iterator[CrowdProcess]:
    with CrowdProcess(server.host, server.port, KioskLine, server.devices, 300) as crowd:
        yield crowd


@contextmanager
def _real(server: Served, folder: Path, count: int, subjects: Sequence[str]) -> Iterator[list[Any]]:
    """Pipes to the processes of `count` real runtimes, all ready."""
    tokens = [server.call("POST", "/v1/device-tokens", {})["token"] for _ in range(count)]
    pipes, processes = [], []
    try:
        for start in range(0, count, -(-count // PROCESSES)):
            near, far = SPAWN.Pipe()
            some = tokens[start : start + -(-count // PROCESSES)]
            told = (far, str(folder), server.url, some, subjects)
            processes.append(SPAWN.Process(target=runtimes, args=told, daemon=True))
            processes[-1].start()
            far.close()
            pipes.append(near)
        for pipe in pipes:
            _expect(pipe, "ready")
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _expect(pipe: Any, word: str | None) -> Any:
    if not pipe.poll(120):
        raise TimeoutError("the runtimes say nothing")
    said = pipe.recv()
    assert word is None or said == word
    return said


def _revoked(
    server: Served, crowd: CrowdProcess, pipes: Sequence[Any], subjects: Sequence[str]
) -> dict[str, object]:
    unreadable: list[float] = []
    calls: list[tuple[str, float]] = []
    during = 0
    worked = server.cpu_s(), cpu_s(crowd.pid)
    crowd.begin(0)
    for subject in subjects:
        for pipe in pipes:
            pipe.send(subject)
        for pipe in pipes:
            _expect(pipe, "watching")
        called_s = time.time()
        body = {"subject": subject, "purposes": "*"}
        made = server.call("POST", "/v1/consent-revocations", body, key=subject)
        calls.append((made["id"], called_s))
        during += not crowd.done
        for pipe in pipes:
            unreadable += [(at - called_s) * 1e3 for at in _expect(pipe, None)]
        time.sleep(max(0.0, called_s + EVERY_S - time.time()))
    began_s = time.monotonic()
    crowd.times()
    waited_s = time.monotonic() - began_s
    served, played = server.cpu_s() - worked[0], cpu_s(crowd.pid) - worked[1]
    enforced, erased = [], []
    for revocation, called_s in calls:
        for target in _targets(server, revocation):
            enforced.append(target["acknowledged_at"] / 1e3 - called_s * 1e3)
            erased.append(target["erased_at"] / 1e3 - called_s * 1e3)
    return {
        "devices": len(server.devices),
        "p50_ms": round(median(enforced), 1),
        "p99_ms": _p99(enforced),
        "real_runtimes": len(unreadable) // len(subjects),
        "unreadable_p99_ms": _p99(unreadable),
        "erased_p99_ms": _p99(erased),
        "snapshot_mb_streaming": round(crowd.received_bytes / 1e6, 1),
        "revocations_while_streaming": during,
        "worst_ms": round(max(enforced), 1),
        "streamed_on_s": round(waited_s, 1),
        "devices_share": round(played / (served + played), 2),
    }


def _targets(server: Served, revocation: str) -> list[dict[str, Any]]:
    """Every target of a revocation, all of them done."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = _pages(server, f"/v1/consent-revocations/{revocation}/targets")
        if all(target["acknowledged_at"] and target["erased_at"] for target in found):
            return found
        time.sleep(0.2)
    raise TimeoutError("not everybody answered a revocation within a minute")


def _pages(server: Served, path: str) -> list[dict[str, Any]]:
    found, after = list[dict[str, Any]](), ""
    while True:
        page = server.call("GET", f"{path}?after={after}")
        found += page["targets"]
        if page["next"] is None:
            return found
        after = page["next"]


def _p99(times: Sequence[float]) -> float:
    return round(quantiles(times, n=100)[-1], 1) if len(times) > 1 else round(times[0], 1)


def _report(seen: dict[str, object]) -> str:
    settings = Settings(data_dir=Path())
    ahead = 2 * settings.send_buffer_bytes + FRAME_LIMIT_BYTES  # the kernel doubles what it is asked for
    return "\n".join(
        [
            table([("what", "value"), *((name, f"{value}") for name, value in seen.items())]),
            f"enforced by 99 of 100 devices within {seen['p99_ms']} ms (goal {GOAL_MS})",
            f"a stalled reader: at most {ahead // 1024} KiB were handed to its socket before a denial, which"
            f" on a link of {LINK_BITS_PER_S / 1e6:g} Mbit/s is {ahead * 8 / LINK_BITS_PER_S:.2f} s",
        ]
    )


if __name__ == "__main__":
    main()
