"""Many threads on one runtime in live sync: nothing hangs, nothing raises, and a withdrawal holds at once."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from pathlib import Path

import edge_runtime as er
from edge_runtime.sync.settings import SyncSettings
from tests.support.clock import ManualClock
from tests.support.forensics import plaintext_hits
from tests.support.shop_server import CATALOG, ShopServer

P = "personalization"
USERS = [f"customer-{n}-of-many" for n in range(6)]
ROUNDS = 20
PATIENCE_S = 40
SEED = 20261122


class Crowd:
    """Threads that act on one runtime until the last is done; the first error ends all."""

    def __init__(self, rt: er.Runtime) -> None:
        self.rt = rt
        self.errors: list[BaseException] = []
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, name: str, act: Callable[[random.Random], None], rounds: int | None = None) -> None:
        def body() -> None:
            rng, done = random.Random(f"{SEED}{name}"), 0
            try:
                while not self.over.is_set() and (rounds is None or done < rounds):
                    act(rng)
                    done += 1
            except BaseException as error:  # noqa: BLE001 - handed to the test, which raises it
                self.errors.append(error)
                self.over.set()

        thread = threading.Thread(target=body, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, names: set[str]) -> None:
        """Wait for the threads of these names, then stop the others."""
        for thread in self._threads:
            if thread.name in names:
                thread.join(PATIENCE_S)
                assert not thread.is_alive() or self.errors, f"{thread.name} hangs"
        self.over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), f"{thread.name} hangs"
        if self.errors:
            raise self.errors[0]


def open_kiosk(folder: Path) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=er.Catalog.load(CATALOG),
        key=er.KeyFile(folder / "device.key"),
        clock=ManualClock(),
        settings=er.Settings(snapshot_every_events=8, live_states=4, pending_events=32, commit_interval_us=1),
    )


def decide(rt: er.Runtime, user: str) -> None:
    """Give, use, withdraw, look: the one who decides about `user` knows what must be true."""
    rt.consent.give(user, [P], notice="2026-11")
    rt.track("view", user=user, item="i1", price=1.0)
    rt.consent.withdraw(user, [P])
    assert rt.read("activity:views_5m", user=user).status is er.Status.REVOKED
    assert rt.vector("ranker", user=user, item="i1", request={"ctx:hour": 1}).status[0] == er.Status.REVOKED
    assert rt.track("view", user=user, item="i1") is er.NO_CONSENT


def crowd_on(rt: er.Runtime) -> Crowd:
    crowd = Crowd(rt)

    def tracks(rng: random.Random) -> None:
        rt.track("view", user=rng.choice(USERS), item=f"i{rng.randrange(9)}", price=rng.random())

    def bulk(rng: random.Random) -> None:
        rt.track_many([{"type": "buy", "user": u, "item": "x", "price": 1.0} for u in USERS])

    def reads(rng: random.Random) -> None:
        user = rng.choice(USERS)
        rt.read("activity:last_items", user=user)
        rt.vector("ranker", user=user, item="i1", request={"ctx:hour": 1})
        rt.matrix("ranker", user=user, item=["i1", "i2"], request={"ctx:hour": 1})
        rt.consent.state(user, P)
        rt.consent.records(user)
        rt.status()

    def leaves(rng: random.Random) -> None:
        rt.leave(rng.choice(USERS))
        rt.flush()

    for name, act in [("tracks", tracks), ("bulk", bulk), ("reads", reads), ("leaves", leaves)]:
        crowd.start(name, act)
    for user in USERS[:3]:
        crowd.start(user, lambda rng, user=user: decide(rt, user), ROUNDS)  # type: ignore[misc]
    return crowd


def test_law_2_no_thread_reads_after_another_saw_its_withdrawal_return(tmp_path: Path) -> None:
    with open_kiosk(tmp_path) as rt:
        for user in USERS[3:]:
            rt.consent.give(user, [P], notice="2026-11")
        crowd_on(rt).wait(set(USERS[:3]))
        for user in USERS[3:]:
            rt.consent.withdraw(user)
    with open_kiosk(tmp_path) as rt:
        for user in USERS:
            assert rt.read("activity:views_5m", user=user).status is er.Status.REVOKED
    assert plaintext_hits(tmp_path, USERS) == {}


async def test_law_2_a_crowd_in_live_sync_while_revocations_arrive(tmp_path: Path) -> None:
    """The server withdraws again and again what the kiosk gives; both sides end with the same word."""
    clock = ManualClock()
    kiosk = tmp_path / "kiosk"
    kiosk.mkdir()
    async with ShopServer(tmp_path / "server", clock) as server:
        token = (await server.call("POST", "/v1/device-tokens", {})).body["token"]
        with open_kiosk(kiosk) as rt:
            await asyncio.to_thread(rt.enrol, str(server.client.make_url("")), token)
            settings = SyncSettings(backoff_first_us=1_000, tick_us=20_000)
            background = await asyncio.to_thread(rt.sync_in_background, settings=settings)
            await asyncio.to_thread(background.wait_caught_up, PATIENCE_S)
            crowd = crowd_on(rt)
            waiting = asyncio.ensure_future(asyncio.to_thread(crowd.wait, set(USERS[:3])))
            for n in range(10_000):
                if waiting.done():
                    break
                user = USERS[n % len(USERS)]
                assert (await server.revoke(user, [P])).status == 202
                await asyncio.to_thread(rt.consent.give, USERS[3 + n % 3], [P], notice="2026-11")
                await server.publish("item_stats", [{"item": "i1", "values": {"popularity": 0.5}}])
            await waiting
            for user in USERS:
                assert (await server.revoke(user, [P])).status == 202
            await asyncio.to_thread(background.wait_caught_up, PATIENCE_S)
            assert background.link.trouble is None
            for user in USERS:
                assert rt.read("activity:views_5m", user=user).status is er.Status.REVOKED
            await asyncio.to_thread(rt.close)
