"""kill -9 in the middle of decisions, flushes and closings: what was said done is done, nothing is half."""

from __future__ import annotations

import multiprocessing
import random
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.forensics import plaintext_hits
from tests.support.shop import BASE_US, shop_catalog

P = "personalization"
SEED = 20261122
REFS = ["views", "views_5m", "spend_7d", "last_items", "pace", "depth", "by_item", "idle"]
ALICE, GUEST = "customer-alice", "customer-guest"
SETTINGS = er.Settings(snapshot_every_events=5, commit_interval_us=3_600_000_000)


def open_kiosk(folder: Path) -> er.Runtime:
    clock = ManualClock(BASE_US + 3_600_000_000)
    key = er.KeyFile(folder / "device.key")
    return er.Runtime.open(
        folder / "cache.db", catalog=shop_catalog(), key=key, clock=clock, settings=SETTINGS
    )


def event_number(n: int) -> dict[str, object]:
    at = BASE_US / 1e6 + n / 64
    return {"user": ALICE, "item": f"item-{n % 5}", "price": n + 0.1, "at": at, "id": f"e{n}"}


def kiosk(folder: Path, pipe: Connection, kind: str) -> None:
    """Do one kind of thing again and again; say each time before and after."""
    rt = open_kiosk(folder)
    if rt.consent.state(ALICE, P) != "given":
        rt.consent.give(ALICE, [P], notice="n")
    n = rt.read("activity:views", user=ALICE).value
    assert isinstance(n, int)
    pipe.send(("begin", n, ""))
    while True:
        for _ in range(3):
            assert rt.track("view", **event_number(n)) is er.ACCEPTED
            n += 1
        match kind:
            case "flush":
                rt.flush()
            case "close":
                rt.close()
                rt = open_kiosk(folder)
            case _:
                rt.flush()
        state = ""
        if kind == "decide":
            pipe.send(("deciding", n, ""))
            if rt.consent.state(GUEST, P) == "given":
                rt.consent.withdraw(GUEST)
            else:
                rt.consent.give(GUEST, [P], notice="n")
                rt.track("view", user=GUEST, item="secret-item")
                rt.flush()
            state = rt.consent.state(GUEST, P)
        pipe.send(("done", n, state))


@pytest.mark.parametrize("kind", ["flush", "close", "decide"])
def test_law_6_a_kill_in_the_middle_leaves_before_or_after(tmp_path: Path, kind: str) -> None:
    rng = random.Random(f"{SEED}{kind}")
    context = multiprocessing.get_context("fork")
    acknowledged, state = 0, ""
    for _ in range(12):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=kiosk, args=(tmp_path, theirs, kind))
        process.start()
        theirs.close()
        word, began, _ = ours.recv()
        assert word == "begin"
        assert began >= acknowledged, (SEED, kind)
        killer = threading.Timer(rng.random() * 0.15, process.kill)
        killer.start()
        open_question = False
        while True:
            try:
                word, n, said = ours.recv()
            except EOFError:
                break
            acknowledged = max(acknowledged, n)
            open_question = word == "deciding"
            state = said or state
        process.join()
        killer.join()
        with open_kiosk(tmp_path) as rt:
            check(rt, acknowledged)
            if state and not open_question:
                assert rt.consent.state(GUEST, P) == state
            found = rt.read("activity:views", user=GUEST)
            state = rt.consent.state(GUEST, P)  # what a kill in the middle of a decision left
            given = state == "given"
            assert found.status is (er.Status.PRESENT if given else er.Status.REVOKED)
    assert acknowledged > 0
    assert plaintext_hits(tmp_path, [ALICE, GUEST, "secret-item"]) == {}


def check(rt: er.Runtime, acknowledged: int) -> None:
    """Features are those of a replay of what survived, and that is all that was acknowledged or more."""
    total = rt.read("activity:views", user=ALICE).value
    assert isinstance(total, int)
    assert total >= acknowledged
    table = er.replay(
        shop_catalog(),
        [{"type": "view", **event_number(n)} for n in range(total)],
        points=[{"user": ALICE, "at": BASE_US / 1e6 + 3_600}],
        refs=[f"activity:{name}" for name in REFS],
    )
    for name in REFS:
        live = rt.read(f"activity:{name}", user=ALICE, at=BASE_US / 1e6 + 3_600).value
        assert [live] == table.column(f"activity:{name}"), (name, SEED)
