"""Each page of a snapshot is made once, however many read it, at whatever speeds, in little memory."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from sync_server.load.device import Enrolled, Reader, SimDevice
from sync_server.sync.pages import Pages
from sync_server.sync.stream import DeviceSession
from tests.support.town import Town

SEED = 20261130
CACHE = 64 * 1024


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(
        tmp_path / "town",
        settings=lambda s: replace(
            s, frame_rows=10, fanout_cache_bytes=CACHE, snapshots=16, admissions_burst=1_000
        ),
    )
    yield made
    made.close()


class Reading:
    """A device that starts from nothing and takes a frame when the test says so."""

    def __init__(self, town: Town, reader: Reader, rng: random.Random) -> None:
        key = Ed25519PrivateKey.from_private_bytes(rng.randbytes(32))
        device_id = town.enrol(seal.public_bytes(key))
        enrolled = Enrolled(device_id, key, town.authority.digest_key, town.authority.public_key, ("all",))
        self.device = SimDevice(enrolled, reader, rng.randbytes)
        self.subscription = town.node.hints.subscribe()
        self.server = DeviceSession(town.node, self.subscription)
        self.device.begin()

    def step(self) -> bool:
        if self.subscription.wake.is_set():
            self.subscription.wake.clear()
            self.server.look()
        frame = self.server.next()
        if frame is not None:
            for answer in self.device.hear(frame):
                self.server.hear(answer)
        return frame is not None


def publish(town: Town, rng: random.Random, count: int, start: int = 0) -> None:
    """Rows that zlib cannot shrink."""
    with town.store.write("publish") as tx:
        for n in range(start, start + count):
            tx.put_row("all", town.item_row(n, values={"co_bought": {rng.randbytes(300).hex(): 1.0}}))


def test_many_snapshots_at_their_own_speeds_read_each_page_once(town: Town) -> None:
    """200 devices from nothing, each at its own pace, a cache of a few pages, a head that moves meanwhile."""
    rng = random.Random(SEED)
    publish(town, rng, 1_000)
    readings = [Reading(town, reader, rng) for reader in [Reader()] for _ in range(200)]
    fanout, moves, steps = town.node.fanout, 0, 0
    waiting = list(readings)
    while waiting:
        chosen = rng.choice(waiting[: rng.randrange(1, len(waiting) + 1)])
        for _ in range(rng.choice([1, 1, 5, 40])):
            if not chosen.step():
                break
        waiting = [r for r in waiting if not r.device.fresh] if steps % 50 == 0 else waiting
        steps += 1
        assert fanout._pages.memory_bytes <= CACHE
        if steps % 400 == 0 and moves < 5:
            publish(town, rng, 3, start=2_000 + 10 * moves)
            moves += 1
        assert steps < 500_000
    for reading in readings:
        while reading.step():
            pass
    assert moves == 5
    pages = 1_000 // 10
    assert {r.device.digests["all"] for r in readings} == {town.head()[1]}
    assert fanout.built <= pages + 40 * moves, "the end is made anew for who stood elsewhere when it moved"
    assert fanout._pages.from_file > 100 * pages
    assert town.node.admission.most_slots == 16


def test_law_11_both_limits_hold_and_what_is_lost_is_only_made_again(tmp_path: Path) -> None:
    """Against a plain dictionary: what comes back is what was put, or nothing."""
    for seed in range(SEED, SEED + 20):
        rng, truth = random.Random(seed), dict[int, bytes]()
        pages: Pages[int] = Pages(1_000, 3_000, tmp_path)
        for _ in range(500):
            place = rng.randrange(30)
            if rng.random() < 0.5:
                truth[place] = rng.randbytes(rng.randrange(1, 400))
                pages.put(place, truth[place])
            elif rng.random() < 0.1:
                pages.drop(place)
                truth.pop(place, None)
            else:
                assert pages.get(place) in (None, truth.get(place)), seed
            assert pages.memory_bytes <= 1_000
            assert pages.memory_bytes == sum(len(f) for f in pages._memory.values())
            assert pages.file_bytes <= 3_000
        assert pages.from_file > 0
        pages.close()
    assert list(tmp_path.iterdir()) == [], "the file has no name"


def test_a_damaged_or_full_file_costs_only_a_second_making(tmp_path: Path) -> None:
    """Bytes that changed are not sent; a folder that takes no file keeps nothing."""
    pages: Pages[str] = Pages(10, 1_000, tmp_path)
    pages.put("a", b"x" * 10)
    pages.put("b", b"y" * 10)
    assert pages.get("a") == b"x" * 10
    assert pages._file is not None
    os.pwrite(pages._file, b"!", 3)
    assert pages.get("a") is None
    assert pages.get("b") == b"y" * 10
    nowhere: Pages[str] = Pages(10, 1_000, tmp_path / "missing")
    nowhere.put("a", b"x" * 10)
    nowhere.put("b", b"y" * 10)
    assert (nowhere.get("a"), nowhere.get("b")) == (None, b"y" * 10)
    pages.close()
