"""What logs say of requests and faults: routes, types and places; never whom they are about."""

from __future__ import annotations

import logging
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sync_server.api.fault import told
from sync_server.app import build_app
from sync_server.settings import Settings
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import CATALOG, ShopServer


async def test_a_runner_that_logs_access_logs_routes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As `web.run_app(build_app(...))` would, with aiohttp's defaults."""
    app = build_app(Settings(data_dir=tmp_path, catalog=CATALOG), ManualClock(), CountingEntropy())
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        with caplog.at_level(logging.DEBUG):
            async with aiohttp.ClientSession() as http:
                for path in (
                    "/v1/consents?subject=alice",
                    "/v1/devices/alice",
                    "/alice",
                    "/healthz",
                    "/healthz?alice",
                ):
                    await http.get(url + path, headers={"Referer": "https://alice", "User-Agent": "alice"})
    finally:
        await runner.cleanup()
    lines = [record.getMessage() for record in caplog.records if record.name == "aiohttp.access"]
    assert [line.split()[:3] for line in lines] == [
        ["GET", "/v1/consents", "401"],
        ["GET", "/v1/devices/{id}", "401"],
        ["GET", "-", "404"],
        ["GET", "/healthz", "200"],
        ["GET", "/healthz", "400"],
    ]
    assert "alice" not in caplog.text


async def test_a_runner_without_an_access_log_stays_without(
    shop: ShopServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await shop.call("GET", "/healthz")
    assert not [record for record in caplog.records if record.name == "aiohttp.access"]


def test_a_fault_is_told_by_types_and_places_from_the_first_cause_on() -> None:
    def fails() -> None:
        raise KeyError("user:alice")

    def fails_again() -> None:
        try:
            fails()
        except KeyError as error:
            raise ValueError("about user:alice") from error

    with pytest.raises(ValueError, match="about") as caught:
        fails_again()
    said = told(caught.value)
    assert said.index("in fails\n") < said.index("KeyError\nthen") < said.index("ValueError")
    assert "alice" not in said
