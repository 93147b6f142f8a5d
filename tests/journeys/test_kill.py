"""kill -9 on a kiosk, 50 times at random points: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import multiprocessing
import random
from multiprocessing.connection import Connection
from pathlib import Path

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US, shop_catalog

USERS = 5
KILLS = 50
SEED = 20261122
REFS = ["views", "views_5m", "spend_7d", "last_items", "pace", "depth", "by_item", "idle"]


def event_number(n: int) -> dict[str, object]:
    """The n-th event of the stream; a few share a timestamp, some arrive out of order."""
    jitter = (n * 7919) % 5
    return {
        "type": "view",
        "user": f"u{n % USERS}",
        "item": f"item-{(n * 31) % 17}",
        "price": (n % 13) + 0.1,
        "category": "ab"[n % 2],
        "at": BASE_US / 1e6 + n - jitter,
        "id": f"e{n}",
    }


def now_of(n: int) -> int:
    return BASE_US + n * 1_000_000


def open_kiosk(folder: Path, clock: ManualClock) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db", catalog=shop_catalog(), key=er.KeyFile(folder / "device.key"), clock=clock
    )


def survived(rt: er.Runtime) -> int:
    """How many events of the stream the reopened kiosk knows."""
    counts = [rt.read("activity:views", user=f"u{u}").value for u in range(USERS)]
    return sum(count for count in counts if isinstance(count, int))


def kiosk(folder: Path, pipe: Connection) -> None:
    """Reopen, say what survived, go on tracking from there; acknowledge after each flush."""
    clock = ManualClock(BASE_US)
    rt = open_kiosk(folder, clock)
    for u in range(USERS):
        if rt.consent.state(f"u{u}", "personalization") != "given":
            rt.consent.give(f"u{u}", ["personalization"], notice="2026-11")
    clock.set_wall(now_of(100_000))
    n = survived(rt)
    pipe.send(("survived", n))
    while True:
        clock.set_wall(now_of(n))
        event = event_number(n)
        assert rt.track(str(event.pop("type")), **event) is er.ACCEPTED
        n += 1
        if n % 7 == 0:
            rt.flush()
            pipe.send(("acknowledged", n))


def test_law_6_fifty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    context = multiprocessing.get_context("fork")
    acknowledged = 0
    for _ in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=kiosk, args=(tmp_path, theirs))
        process.start()
        theirs.close()
        kind, count = ours.recv()
        assert kind == "survived"
        assert count >= acknowledged, f"seed {SEED}: {acknowledged} acknowledged, {count} survived"
        for _ in range(rng.randrange(0, 12)):
            acknowledged = ours.recv()[1]
        process.kill()
        while True:
            try:
                acknowledged = max(acknowledged, ours.recv()[1])
            except EOFError:
                break
        process.join()
    final_equals_replay(tmp_path, acknowledged)


def final_equals_replay(folder: Path, acknowledged: int) -> None:
    clock = ManualClock(now_of(100_000))
    with open_kiosk(folder, clock) as rt:
        total = survived(rt)
        assert total >= acknowledged
        clock.set_wall(now_of(total))
        at = now_of(total) / 1e6
        table = er.replay(
            shop_catalog(),
            [event_number(n) for n in range(total)],
            points=[{"user": f"u{u}", "at": at} for u in range(USERS)],
            refs=[f"activity:{name}" for name in REFS],
        )
        for name in REFS:
            live = [rt.read(f"activity:{name}", user=f"u{u}", at=at).value for u in range(USERS)]
            assert live == table.column(f"activity:{name}"), (name, SEED)
