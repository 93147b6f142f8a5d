"""So many requests for each token, so many refusals for each address; good tokens are let in all the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_server.access.buckets import Buckets
from sync_server.access.caller import Rate
from sync_server.access.doorkeeper import network
from sync_server.api.rooms import ACCESS
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.shop_server import ShopServer

SECOND_US = 1_000_000


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[ShopServer]:
    limits = {"token_requests_per_s": 2, "token_burst": 3, "refusals_per_s": 1, "refusal_burst": 4}
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as server:
        yield server


async def asked(shop: ShopServer, token: str | None, times: int) -> list[int]:
    return [(await shop.call("GET", "/v1/devices", token=token)).status for _ in range(times)]


async def test_a_token_may_ask_so_much_at_once_and_so_much_a_second(shop: ShopServer) -> None:
    token = (await make_token(shop, ["device-admin"])).text
    assert await asked(shop, token, 5) == [200, 200, 200, 429, 429]
    shop.clock.advance(us=SECOND_US // 2 - 1)
    assert await asked(shop, token, 1) == [429]
    shop.clock.advance(us=1)
    assert await asked(shop, token, 2) == [200, 429]
    shop.clock.advance(seconds=3_600)  # saved up is no more than the burst
    assert await asked(shop, token, 4) == [200, 200, 200, 429]


async def test_who_asks_too_much_is_told_when_to_come_again(shop: ShopServer) -> None:
    token = (await make_token(shop, ["device-admin"], per_s=1, burst=1)).text
    assert await asked(shop, token, 1) == [200]
    answer = await shop.call("GET", "/v1/devices", token=token)
    assert (answer.status, answer.body["code"]) == (429, "rate_limited")
    assert (answer.headers["Retry-After"], answer.body["retry_after_s"]) == ("1", 1)
    shop.clock.advance(seconds=int(answer.headers["Retry-After"]))
    assert await asked(shop, token, 1) == [200]


async def test_tokens_have_rates_of_their_own_and_the_first_one_has_none(shop: ShopServer) -> None:
    one, other = await make_token(shop, ["device-admin"]), await make_token(shop, ["device-admin"], burst=6)
    assert await asked(shop, one.text, 4) == [200, 200, 200, 429]
    assert await asked(shop, other.text, 7) == [200] * 6 + [429]
    assert await asked(shop, "", 50) == [200] * 50


async def test_a_rotated_token_has_one_rate_and_not_one_for_each_secret(shop: ShopServer) -> None:
    token = await make_token(shop, ["device-admin"])
    second = (await shop.call("POST", f"/v1/tokens/{token.id}/rotate", {})).body["token"]
    assert await asked(shop, token.text, 2) == [200, 200]
    assert await asked(shop, second, 2) == [200, 429]


async def test_what_is_refused_for_its_scope_counts_too(shop: ShopServer) -> None:
    token = (await make_token(shop, ["publish"])).text
    assert await asked(shop, token, 5) == [403, 403, 403, 429, 429]


async def test_an_address_that_guesses_is_put_off_and_others_behind_it_are_not(shop: ShopServer) -> None:
    """Four guesses, then only one a second is answered; a good token is let in from there all the while."""
    good = (await make_token(shop, ["device-admin"])).text
    assert await asked(shop, "guess", 6) == [401] * 4 + [429] * 2
    assert await asked(shop, None, 1) == [429]
    assert await asked(shop, good, 1) == [200]
    shop.clock.advance(seconds=1)
    assert await asked(shop, "guess", 2) == [401, 429]
    assert await asked(shop, good, 1) == [200]
    refused = shop.app[ACCESS].door.refused
    assert refused == {"unauthorized": 5, "rate_limited": 4}
    metrics = (await shop.call("GET", "/metrics")).body.decode()
    assert 'edge_sync_refused_calls_total{code="unauthorized"} 5' in metrics


def test_law_11_callers_remembered_are_bounded() -> None:
    """Who asked longest ago is forgotten, and begins full."""
    buckets, rate = Buckets(3), Rate(per_s=1, burst=1)
    for caller in "abc":
        assert buckets.take(caller, rate, 0) == 0
    assert buckets.take("a", rate, 0) > 0  # and so b asked longest ago
    assert buckets.take("d", rate, 0) == 0
    assert len(buckets) == 3
    assert buckets.take("a", rate, 0) > 0
    assert buckets.take("b", rate, 0) == 0
    for number in range(1_000):
        buckets.take(str(number), rate, 0)
    assert len(buckets) == 3


@given(
    st.integers(1, 50),
    st.integers(1, 20),
    st.lists(st.integers(-2 * SECOND_US, 2 * SECOND_US), max_size=60),
)
def test_no_bucket_ever_gives_more_than_burst_and_rate_allow(
    per_s: int, burst: int, steps: list[int]
) -> None:
    """Whatever the clock does: forward, still, or back. The wait that is told is enough, and not too long."""
    buckets, rate, now_us, forward_us, taken = Buckets(1), Rate(per_s, burst), 10**15, 0, 0
    for step_us in steps:
        now_us, forward_us = now_us + step_us, forward_us + max(step_us, 0)
        wait_us = buckets.take("a", rate, now_us)
        taken += wait_us == 0
        assert 0 <= wait_us <= SECOND_US
        assert taken <= burst + forward_us * per_s / SECOND_US
        if wait_us:
            assert buckets.take("a", rate, now_us + wait_us) == 0
            now_us, forward_us, taken = now_us + wait_us, forward_us + wait_us, taken + 1


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        (None, ""),
        ("unix:", ""),
    ],
)
def test_what_one_household_has_of_addresses_counts_as_one(address: str | None, wanted: str) -> None:
    assert network(address) == wanted
