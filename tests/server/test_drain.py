"""A node that stops: it is not ready first, tells its sessions one after another, and takes nobody in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from edge_runtime.wire import messages as m
from sync_server.api import rooms
from sync_server.settings import MINUTE_US, SECOND_US, Settings
from sync_server.sync.admission import Claim, Turned
from sync_server.sync.drain import drain
from sync_server.sync.parting import longest_s
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer
from tests.support.town import Town


async def test_readiness_fails_before_the_first_session_is_told(tmp_path: Path) -> None:
    """A load balancer sends nobody more; the sessions that are here go on for the notice."""
    async with ShopServer(tmp_path / "data", ManualClock(), drain_notice_us=60 * SECOND_US) as shop:
        assert (await shop.call("GET", "/readyz")).status == 200
        socket = await shop.client.ws_connect("/v1/sync")
        assert (await socket.receive()).type.name == "BINARY"
        draining = asyncio.ensure_future(shop.app[rooms.SYNC_DOOR].drain())
        await asyncio.sleep(0)
        ready = await shop.call("GET", "/readyz")
        assert (ready.status, ready.body["code"]) == (503, "stopping")
        assert (await shop.call("GET", "/healthz")).status == 200
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=0.05)
        refused = await shop.client.get(
            "/v1/sync",
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
            | {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="},
        )
        assert refused.status == 503
        assert int(refused.headers["Retry-After"]) >= 1
        draining.cancel()
        await socket.close()


async def test_sessions_are_told_one_after_another_and_when_to_come_back(tmp_path: Path) -> None:
    """Spread over the drain time; the waits spread over what taking them in again needs."""
    town = Town(tmp_path / "town", settings=_quick)
    admission, count = town.node.admission, 40
    loop = asyncio.get_running_loop()
    told: list[tuple[float, int]] = []
    for _ in range(count):
        visit = admission.knock(0, 0.0)
        admission.judge(visit, Claim(snapshot=False, behind=False), town.clock.now_us(), 0.0)

        def note(refusal: m.Refusal) -> None:
            assert refusal.code == "going_away"
            told.append((loop.time(), refusal.retry_after_us))

        visit.part = note
    began_s = loop.time()
    await drain(town.node)
    assert len(told) == count
    assert 0.18 <= loop.time() - began_s <= 2
    gaps = [b - a for (a, _), (b, _) in pairwise(told)]
    assert sum(gap > 0 for gap in gaps) == count - 1
    window_us = count * SECOND_US // 100
    waits = [wait for _, wait in told]
    assert max(waits) < window_us
    assert len(set(waits)) > count // 2
    with pytest.raises(Turned):
        admission.knock(0, 0.0)
    town.close()


def _quick(settings: Settings) -> Settings:
    return replace(settings, drain_us=200_000, resume_admissions_per_s=100, admissions_burst=100)


async def test_a_node_without_sessions_stops_at_once(tmp_path: Path) -> None:
    """Nobody waits for nobody."""
    town = Town(tmp_path / "town")
    async with asyncio.timeout(1):
        await drain(town.node)
    town.close()


def test_ages_are_spread_by_a_fifth_to_both_sides(tmp_path: Path) -> None:
    """Sessions that began together after a restart do not end together."""
    town = Town(tmp_path / "town")
    ages = [longest_s(town.node) for _ in range(500)]
    usual_s = town.settings.session_age_us / SECOND_US
    assert usual_s * 0.8 <= min(ages) < usual_s * 0.85
    assert usual_s * 1.15 < max(ages) <= usual_s * 1.2
    assert town.settings.session_age_us > 30 * MINUTE_US
    town.close()
