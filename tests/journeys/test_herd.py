"""A fleet that comes back at once: real server processes, killed and restarted, and simulated devices.

`EDGE_HERD` says how many devices (default 300, some 20 s); run by hand with 2000 and see the printed figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge_runtime.wire.conversation import State
from sync_server.devices.authority import load_authority
from sync_server.devices.entropy import system_entropy
from sync_server.load.command import make_room
from sync_server.load.figures import summary
from sync_server.load.fleet import BACKOFF_MOST_S, Fleet
from sync_server.settings import Settings
from tests.support.served import Served

DEVICES = int(os.environ.get("EDGE_HERD", "300"))
SEED = 20261130
WITHIN_S = 60.0
LIMITS = {"snapshots": 16, "admissions_burst": 50} if DEVICES < 1_000 else {}
"""So little that hundreds have to wait; thousands meet the defaults."""
SLOTS = LIMITS.get("snapshots", Settings(Path("nowhere")).snapshots)
P, SUBJECTS = "personalization", 60


@asynccontextmanager
async def herd(
    started: Served, *, rows: int, pad: int = 0, count: int = DEVICES, backoff_most_s: float = BACKOFF_MOST_S
) -> AsyncIterator[tuple[Served, Fleet]]:
    """A server with rows, and its devices enrolled and fresh."""
    make_room(count)
    print("seed", SEED)
    with started as server:
        server.publish(rows, pad=pad)
        for n in range(SUBJECTS):  # before anybody is here: each is a word to every device
            said = {"subject": f"subject{n}", "purpose": P, "notice": "2026-11"}
            server.client.call("POST", "/v1/consents", said)
        rng, token = random.Random(SEED), server.client.token
        async with Fleet(server.url, token, rng, leases=True, backoff_most_s=backoff_most_s) as fleet:
            await fleet.enrol(count, whole=count // 10)
            await fleet.connect(per_s=1_000)
            assert await fleet.all_fresh(WITHIN_S), (fleet.fresh, fleet.seen)
            yield server, fleet


class Revoker:
    """Consents given before, and revoked one after another while the herd comes."""

    def __init__(self, server: Served, fleet: Fleet) -> None:
        self._fleet = fleet
        self._names = [f"subject{n}" for n in range(SUBJECTS)]
        authority = load_authority(server.data / "server.key", system_entropy, store_exists=True)
        self._pseudonyms = {name: authority.pseudonym(f"user:{name}") for name in self._names}

    async def revoke(self, while_runs: asyncio.Task[float]) -> dict[str, float | int | None]:
        """Revoke one after another; milliseconds from asking to the denial on each device live then."""
        fleet, due, pause_s, loop = self._fleet, 0, 0.1, asyncio.get_running_loop()
        fleet.seen.denial_s.clear()
        while not while_runs.done() and self._names:
            name = self._names.pop()
            await asyncio.sleep(pause_s)
            began_s = loop.time()
            due += sum(member.device.state is State.LIVE for member in fleet.members)
            fleet.revoking(self._pseudonyms[name])
            await fleet.call("POST", "/v1/consent-revocations", {"subject": name}, key=name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while len(fleet.seen.denial_s) < due:
                        await asyncio.sleep(0.02)
            pause_s = max(0.1, 4 * (loop.time() - began_s))  # both sides share two cores with the herd
            due = len(fleet.seen.denial_s)  # a session that ended meanwhile hears it at its next
        return summary([s * 1_000 for s in fleet.seen.denial_s])


async def back(fleet: Fleet) -> float:
    """Seconds until every device is fresh again."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await fleet.all_fresh(WITHIN_S), (fleet.fresh, fleet.seen)
    return loop.time() - began_s


def clean(fleet: Fleet) -> None:
    """No rule was broken, and every digest that was compared is equal."""
    assert not fleet.seen.faults
    assert sum(member.device.mismatched for member in fleet.members) == 0


async def test_law_11_a_herd_after_kill_dash_nine_is_fresh_in_time_and_in_budget(tmp_path: Path) -> None:
    """Half of the devices lost their disks: snapshots keep to their slots, revocations get through."""
    async with herd(Served(tmp_path, **LIMITS), rows=1_500, pad=400) as (server, fleet):
        revoker = Revoker(server, fleet)
        calm = await revoker.revoke(asyncio.create_task(asyncio.sleep(2, 0.0)))
        fleet.seen.fresh_s.clear()
        await asyncio.to_thread(server.end, signal.SIGKILL)
        for member in fleet.members[::2]:
            member.device.forget()
        await asyncio.to_thread(server.start)
        coming = asyncio.create_task(back(fleet))
        herd_ms = await revoker.revoke(coming)
        took_s = await coming
        visits, refused = server.metrics("visits"), server.metrics("refused_total")
        figures = {"devices": DEVICES, "back_s": round(took_s, 2), "fresh_s": summary(fleet.seen.fresh_s)}
        ends = {"broken": dict(fleet.seen.broken), "said": dict(fleet.seen.refused)}
        told = {"visits": visits, "refused": refused, "rss": server.rss_bytes(), **ends}
        print(json.dumps({**figures, "calm_ms": calm, "herd_ms": herd_ms, **told}))
        assert 0 < visits["streaming_most"] <= SLOTS
        assert visits["streaming"] == visits["waiting"] == visits["guest"] == 0
        assert visits["in"] == len(fleet.members)
        clean(fleet)
        assert (herd_ms["p99"] or 1e9) < max(2_000, 4 * (calm["p99"] or 0))


async def test_law_10_a_herd_whose_sockets_were_cut_all_at_once_is_fresh_in_time(tmp_path: Path) -> None:
    """A proxy fell over: the server lives and sees every session end in the same moment; nothing is lost."""
    async with herd(Served(tmp_path, **LIMITS), rows=500) as (server, fleet):
        for member in fleet.members:
            member.cut()
        await asyncio.to_thread(server.publish, 500, start=400, popularity=0.25)
        took_s = await back(fleet)
        visits = server.metrics("visits")
        assert visits["in"] == len(fleet.members)
        assert visits["streaming_most"] <= SLOTS
        clean(fleet)
        print(json.dumps({"devices": DEVICES, "cut_back_s": round(took_s, 2)}))


@pytest.mark.parametrize("restarts", [3])
async def test_law_6_rolling_restarts_lose_nothing(tmp_path: Path, restarts: int) -> None:
    """SIGTERM three times while devices are connected: each is told to go and when to come back."""
    count = min(DEVICES, 150)
    stopping = Served(tmp_path, drain_us=1_000_000)
    async with herd(stopping, rows=300, count=count, backoff_most_s=2) as (server, fleet):
        for turn in range(restarts):
            await asyncio.to_thread(server.publish, 50, start=1_000 * turn)
            code = await asyncio.to_thread(server.end)
            assert code == 0
            assert fleet.seen.refused["going_away"] >= count * (turn + 1)
            await asyncio.to_thread(server.start)
            await back(fleet)
        await asyncio.to_thread(server.publish, 10, start=9_000)
        whole = [m.device for m in fleet.members if m.device.whole]
        async with asyncio.timeout(WITHIN_S):
            while {d.held("all") for d in whole} != {300 + 50 * (restarts - 1) + 10}:
                await asyncio.sleep(0.05)
        await back(fleet)
        clean(fleet)
        assert not set(fleet.seen.broken) - {"ClientConnectorError", "ClientConnectionError"}
