"""Readers that stop reading, on real sockets: what they hold of the server, and what a denial waits for."""

from __future__ import annotations

import asyncio
import fcntl
import random
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.load.device import SimDevice
from sync_server.load.fleet import Fleet
from sync_server.settings import Settings
from tests.support.raw_device import RawDevice
from tests.support.served import Served

SEED = 20261130
STALLED = 200
KIB, MIB = 1024, 1024 * 1024
CACHE = 4 * MIB
EACH = 96 * KIB
"""What a stalled reader may hold of the server's memory: one frame of 64 KiB, and the connection itself."""
SENDS = 16 * KIB
DEADLINE_S = 60


@pytest.fixture
def opened() -> Iterator[Callable[..., RawDevice]]:
    """Opens raw devices, and closes them whatever happens."""
    with ExitStack() as stack:

        def one(url: str, device: SimDevice, receive_bytes: int = 4_096) -> RawDevice:
            raw = RawDevice(url, device, receive_bytes)
            stack.callback(raw.close)
            return raw

        yield one


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    limits = {"fanout_cache_bytes": CACHE, "snapshots": STALLED + 50, "send_timeout_us": 8_000_000}
    limits["admissions_burst"] = STALLED + 50
    with Served(tmp_path, **limits, send_buffer_bytes=SENDS) as served:
        yield served


def fill(server: Served, megabytes: int) -> None:
    """Rows whose values do not shrink, so that a snapshot is as large on the wire."""
    rng, each = random.Random(SEED), 20 * KIB
    print("seed", SEED)
    for first in range(0, megabytes * MIB // each, 100):
        rows = [
            {
                "entity": f"item:{n}",
                "event_time": 1,
                "values": {"popularity": 0.5, "co_bought": {rng.randbytes(each // 2).hex(): 1.0}},
            }
            for n in range(first, first + 100)
        ]
        assert (
            server.client.call("POST", "/v1/features", {"view": "item_stats", "rows": rows})["refused"] == []
        )


async def enrolled(server: Served, count: int) -> list[SimDevice]:
    async with Fleet(server.url, server.client.token, random.Random(SEED)) as fleet:
        await fleet.enrol(count, whole=0)
        return [member.device for member in fleet.members]


def until(condition: Callable[[], bool]) -> None:
    """Wait for what the other process does."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def waiting_bytes(raw: RawDevice) -> int:
    """What lies in the kernel for this reader."""
    found = fcntl.ioctl(raw.socket, termios.FIONREAD, b"\0" * 4)
    return int(struct.unpack("i", found)[0])


def stuck(raw: RawDevice) -> Callable[[], bool]:
    """Whether nothing more has come for a while: the server cannot go on."""
    seen: list[int] = []

    def look() -> bool:
        seen.append(waiting_bytes(raw))
        return len(seen) > 20 and len(set(seen[-20:])) == 1 and seen[-1] > 0

    return look


def test_law_11_hundreds_of_stalled_readers_hold_one_frame_each_and_are_dropped(
    server: Served, opened: Callable[..., RawDevice]
) -> None:
    """Tens of MB wait for each of them; the others go on as if nothing were, and memory comes back."""
    fill(server, 24)
    good, *devices = asyncio.run(enrolled(server, 1 + STALLED))
    first = opened(server.url, good, receive_bytes=MIB)
    while not good.fresh:
        first.take()
    before = server.rss_bytes()
    for device in devices:
        opened(server.url, device).open()
    until(lambda: server.metrics("visits")["streaming"] > STALLED * 0.9)
    peak, took_s = 0, []
    for n in range(30):
        began = time.monotonic()
        server.publish(1, start=100_000 + n)
        while not isinstance(codec.decode(first.take()), m.Delta):
            pass
        took_s.append(time.monotonic() - began)
        peak = max(peak, server.rss_bytes())
    ceiling = before + STALLED * EACH + CACHE
    print(
        {"before": before, "peak": peak, "each_kib": (peak - before) / STALLED / KIB, "took_s": max(took_s)}
    )
    assert peak <= ceiling
    assert sorted(took_s)[len(took_s) // 2] < 0.5
    until(lambda: server.metrics("sessions")[""] == 1)
    assert server.metrics("visits")["streaming"] == 0
    assert server.rss_bytes() <= ceiling
    server.publish(1, start=200_000)
    while not good.fresh or good.cursors["all"] < 24 * MIB // (20 * KIB) + 31:
        first.take()


def test_law_2_before_a_denial_at_most_the_buffers_and_one_frame_are_ahead(
    server: Served, opened: Callable[..., RawDevice]
) -> None:
    """A slow link's bound is bytes queued ahead over link rate; here are the bytes."""
    fill(server, 4)
    (device,) = asyncio.run(enrolled(server, 1))
    said = {"subject": "alice", "purpose": "personalization", "notice": "2026-11"}
    server.client.call("POST", "/v1/consents", said)
    raw = opened(server.url, device)
    raw.open()
    while not isinstance(codec.decode(raw.take()), m.Delta):
        pass
    until(stuck(raw))
    server.client.call(
        "POST", "/v1/consent-revocations", {"subject": "alice"}, headers={"Idempotency-Key": "1"}
    )
    denials, before = device.denials, raw.got_bytes
    while device.denials == denials:
        raw.take()
    ahead = raw.got_bytes - before
    receive = raw.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    bound = receive + 2 * SENDS + codec.FRAME_LIMIT_BYTES + KIB
    print({"ahead": ahead, "bound": bound, "receive": receive})
    assert ahead <= bound
    assert Settings(Path("nowhere")).send_buffer_bytes == SENDS
