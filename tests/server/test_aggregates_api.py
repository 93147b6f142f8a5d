from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from sync_server.api.rooms import API_TOKEN, HINTS, REGISTRY
from sync_server.app import build_app
from sync_server.settings import Settings
from tests.support.aggregate_ends import metric_catalog
from tests.support.clock import ManualClock

ROUNDS = "/v1/aggregates/countries_0/rounds"


class Door:
    """The aggregates doors of a real app, as an API caller sees them."""

    def __init__(self, client: TestClient[Any, Any], clock: ManualClock, token: str) -> None:
        self.client, self.clock = client, clock
        self.auth = {"Authorization": f"Bearer {token}"}

    async def ask(self, verb: str, path: str, body: object = None) -> tuple[int, Any]:
        async with self.client.request(verb, path, json=body, headers=self.auth) as reply:
            return reply.status, await reply.json(content_type=None)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    clock = ManualClock()
    app = build_app(Settings(data_dir=tmp_path), clock)
    app[REGISTRY].register(metric_catalog(), clock.now_us())
    async with TestClient(TestServer(app)) as client:
        yield Door(client, clock, app[API_TOKEN])


async def test_opening_a_round_is_idempotent_and_tells_the_devices(door: Door) -> None:
    """201 then 200 with the same round; sessions hear that rounds moved."""
    ear = door.client.app[HINTS].subscribe()
    status, made = await door.ask("POST", ROUNDS, {"closes_in_s": 60})
    assert (status, made["state"], made["epsilon"]) == (201, "open", "1")
    assert made["closes_at_us"] == door.clock.now_us() + 60_000_000
    assert made["categories"] == ["UK", "DE", "FR", "other"]
    assert ear.rounds
    assert await door.ask("POST", ROUNDS, {"closes_in_s": 9}) == (200, made)


async def test_closing_releases_and_the_release_is_listed(door: Door) -> None:
    """Nobody answered: withheld, no number; listed under all, its metric and its round."""
    _, made = await door.ask("POST", ROUNDS, {"closes_in_s": 60})
    path = f"{ROUNDS}/{made['round']}"
    assert (await door.ask("GET", path))[1]["release"] is None
    status, release = await door.ask("POST", f"{path}/close")
    assert (status, release["status"], release["n"], release["estimate"]) == (200, "withheld", None, None)
    assert (await door.ask("POST", f"{path}/close"))[1] == release
    assert (await door.ask("GET", "/v1/aggregates/releases"))[1] == {"releases": [release], "next": None}
    assert (await door.ask("GET", "/v1/aggregates/countries_0/releases"))[1] == {
        "releases": [release],
        "next": None,
    }
    assert (await door.ask("GET", "/v1/aggregates/other/releases"))[1] == {"releases": [], "next": None}
    seen = (await door.ask("GET", path))[1]
    assert (seen["state"], seen["release"]) == ("closed", release)


async def test_a_round_past_its_time_is_released_when_somebody_looks(door: Door) -> None:
    """Time passes; the list of releases holds it."""
    await door.ask("POST", ROUNDS, {"closes_in_s": 60})
    door.clock.advance(seconds=61)
    assert len((await door.ask("GET", "/v1/aggregates/releases"))[1]["releases"]) == 1


@pytest.mark.parametrize(
    ("verb", "path", "body", "status", "code"),
    [
        ("POST", "/v1/aggregates/nothing/rounds", {"closes_in_s": 60}, 404, "unknown_metric"),
        ("POST", ROUNDS, {}, 422, "invalid_request"),
        ("POST", ROUNDS, {"closes_in_s": 0}, 422, "invalid_request"),
        ("POST", ROUNDS, {"closes_in_s": "60"}, 422, "invalid_request"),
        ("POST", ROUNDS, {"closes_in_s": 60, "epsilon": 9}, 422, "invalid_request"),
        ("POST", ROUNDS, {"closes_in_s": 2_592_001}, 422, "invalid_request"),
        ("POST", ROUNDS + "/00/close", None, 404, "not_found"),
        ("POST", ROUNDS + f"/{'0' * 32}/close", None, 404, "not_found"),
        ("GET", ROUNDS + f"/{'Z' * 32}", None, 404, "not_found"),
    ],
)
async def test_bad_requests_are_named_and_open_nothing(
    door: Door, verb: str, path: str, body: object, status: int, code: str
) -> None:
    """Each its own problem document; no round, no release."""
    got, problem = await door.ask(verb, path, body)
    assert (got, problem["code"]) == (status, code)
    door.clock.advance(seconds=10_000_000)
    assert (await door.ask("GET", "/v1/aggregates/releases"))[1] == {"releases": [], "next": None}


async def test_the_doors_ask_for_the_token(door: Door) -> None:
    """Without it a round is neither opened, closed nor read."""
    door.auth = {}
    for verb, path in (("POST", ROUNDS), ("GET", "/v1/aggregates/releases")):
        assert (await door.ask(verb, path, {"closes_in_s": 60}))[0] == 401
