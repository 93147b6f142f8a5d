"""API tokens: told once, kept as a hash, rotated with grace, ended at once."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sync_server.access import tokens
from sync_server.access.tokens import TokenBook
from sync_server.api.rooms import ACCESS
from sync_server.settings import DAY_US, HOUR_US, Settings
from sync_server.store.access import ApiToken
from sync_server.store.sqlite import SqliteStore
from tests.support.api_tokens import Made, make_token
from tests.support.clock import ManualClock
from tests.support.entropy import CountingEntropy
from tests.support.shop_server import Answer, ShopServer


async def good(shop: ShopServer, text: str) -> bool:
    """Whether a token of scope device-admin is let in; no other answer than yes and no is expected."""
    answer = await shop.call("GET", "/v1/devices", token=text)
    assert answer.status in (200, 401)
    return answer.status == 200


async def rotate(shop: ShopServer, token: Made, **body: object) -> Answer:
    return await shop.call("POST", f"/v1/tokens/{token.id}/rotate", body)


async def test_a_token_is_told_once_and_says_what_it_is_for(shop: ShopServer) -> None:
    made = await make_token(shop, ["device-admin", "publish", "publish"], teams=["search"], per_s=5)
    assert made.text.startswith(f"es_{made.id}_")
    assert len(made.text) == len(f"es_{made.id}_") + 43  # 256 bits
    told = (await shop.call("GET", f"/v1/tokens/{made.id}")).body
    assert told == {
        "id": made.id,
        "name": "of a test",
        "scopes": ["device-admin", "publish"],
        "teams": ["search"],
        "destinations": None,
        "per_s": 5,
        "burst": None,
        "created_at": shop.clock.now_us(),
        "created_by": "bootstrap",
        "expires_at": None,
        "revoked_at": None,
        "used_at": None,
        "secrets": 1,
    }
    listed = (await shop.call("GET", "/v1/tokens")).body
    assert listed == {"tokens": [told], "after": None}
    assert await good(shop, made.text)


async def test_a_token_ends_at_its_time_and_not_before(shop: ShopServer) -> None:
    made = await make_token(shop, ["device-admin"], ttl_s=60)
    shop.clock.advance(us=60_000_000 - 1)
    assert await good(shop, made.text)
    shop.clock.advance(us=1)
    assert not await good(shop, made.text)


async def test_a_revoked_token_is_refused_from_the_reply_on_and_revoking_again_is_the_same(
    shop: ShopServer,
) -> None:
    made, other = await make_token(shop, ["device-admin"]), await make_token(shop, ["device-admin"])
    first = await shop.call("DELETE", f"/v1/tokens/{made.id}")
    assert (first.status, first.body["revoked_at"]) == (200, shop.clock.now_us())
    assert not await good(shop, made.text)
    shop.clock.advance(seconds=9)
    again = await shop.call("DELETE", f"/v1/tokens/{made.id}")
    assert (again.status, again.body) == (200, first.body)
    assert await good(shop, other.text)
    assert (await rotate(shop, made)).body["code"] == "token_ended"
    assert not await good(shop, made.text)


async def test_after_a_rotation_both_secrets_are_good_until_grace_ends(shop: ShopServer) -> None:
    old = await make_token(shop, ["device-admin"])
    answer = await rotate(shop, old, grace_s=3_600)
    new = answer.body["token"]
    assert (answer.body["id"], new.startswith(f"es_{old.id}_")) == (old.id, True)
    assert answer.body["earlier_until"] == shop.clock.now_us() + HOUR_US
    shop.clock.advance(us=HOUR_US - 1)
    assert [await good(shop, text) for text in (old.text, new)] == [True, True]
    shop.clock.advance(us=1)
    assert [await good(shop, text) for text in (old.text, new)] == [False, True]


async def test_the_default_grace_is_a_setting_and_none_ends_every_earlier_secret(shop: ShopServer) -> None:
    """Somebody saw the secret: `grace_s: 0`, and neither it nor those before it open anything."""
    token = await make_token(shop, ["device-admin"])
    second = (await rotate(shop, token)).body
    assert second["earlier_until"] == shop.clock.now_us() + shop.settings.token_grace_us
    shop.clock.advance(seconds=1)
    assert (await shop.call("GET", f"/v1/tokens/{token.id}")).body["secrets"] == 2
    third = (await rotate(shop, token, grace_s=0)).body
    texts = (token.text, second["token"], third["token"])
    assert [await good(shop, text) for text in texts] == [False, False, True]
    too_long = shop.settings.token_grace_longest_us // 1_000_000 + 1
    assert (await rotate(shop, token, grace_s=too_long)).status == 422
    assert (await rotate(shop, token, grace_s=-1)).status == 422
    assert await good(shop, third["token"])


async def test_rotating_often_keeps_a_bounded_number_of_secrets(shop: ShopServer) -> None:
    token = await make_token(shop, ["device-admin"])
    texts = [token.text]
    for _ in range(11):
        shop.clock.advance(seconds=1)
        texts.append((await rotate(shop, token)).body["token"])
    assert [await good(shop, text) for text in texts] == [False] * 4 + [True] * 8


async def test_a_longer_grace_later_gives_no_earlier_secret_more_time(shop: ShopServer) -> None:
    token = await make_token(shop, ["device-admin"])
    await rotate(shop, token, grace_s=10)
    await rotate(shop, token, grace_s=86_400)
    shop.clock.advance(seconds=10)
    assert not await good(shop, token.text)


async def test_an_expired_token_cannot_be_rotated_into_life(shop: ShopServer) -> None:
    token = await make_token(shop, ["device-admin"], ttl_s=1)
    shop.clock.advance(seconds=1)
    answer = await rotate(shop, token)
    assert (answer.status, answer.body["code"]) == (409, "token_ended")


async def test_nobody_makes_or_learns_a_token_that_may_more_than_their_own(shop: ShopServer) -> None:
    operator = await make_token(shop, ["operator", "publish"], teams=["search"])
    strong = await make_token(shop, ["consent"])
    wide = await make_token(shop, ["publish"])
    for scopes, teams in ((["consent"], ["search"]), (["publish"], None), (["publish"], ["search", "crm"])):
        body = {"name": "x", "scopes": scopes, "teams": teams}
        answer = await shop.call("POST", "/v1/tokens", body, token=operator.text)
        assert (answer.status, answer.body["code"]) == (403, "beyond_own")
    for token in (strong, wide):
        answer = await shop.call("POST", f"/v1/tokens/{token.id}/rotate", {}, token=operator.text)
        assert (answer.status, answer.body["code"]) == (403, "beyond_own")
    made = await make_token(shop, ["publish"], teams=["search"], token=operator.text)
    told = (await shop.call("GET", f"/v1/tokens/{made.id}")).body
    assert told["created_by"] == f"token:{operator.id}"
    assert len((await shop.call("GET", "/v1/tokens")).body["tokens"]) == 4


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "scopes": []},
        {"name": "", "scopes": ["publish"]},
        {"name": "x" * 201, "scopes": ["publish"]},
        {"name": "x", "scopes": ["root"]},
        {"name": "x", "scopes": "publish"},
        {"name": "x", "scopes": ["publish"], "teams": []},
        {"name": "x", "scopes": ["publish"], "ttl_s": 0},
        {"name": "x", "scopes": ["publish"], "per_s": 0},
        {"name": "x", "scopes": ["publish"], "burst": 1.5},
        {"name": "x", "scopes": ["publish"], "secret": "mine"},
    ],
)
async def test_law_12_a_wrong_request_for_a_token_makes_none(shop: ShopServer, body: object) -> None:
    answer = await shop.call("POST", "/v1/tokens", body)
    assert (answer.status, answer.body["code"]) == (422, "invalid_request")
    assert (await shop.call("GET", "/v1/tokens")).body["tokens"] == []


async def test_an_unknown_token_is_not_found(shop: ShopServer) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        for name in ("tok-aaaaaaaaaaaaaaaa", "x", "user:alice"):
            answer = await shop.call(method, f"/v1/tokens/{name}{path}", None if method == "GET" else {})
            assert (answer.status, answer.body["code"]) == (404, "not_found")


async def test_law_11_there_are_only_so_many_tokens(tmp_path: Path) -> None:
    async with ShopServer(tmp_path, ManualClock(), api_tokens=2) as shop:
        for _ in range(2):
            await make_token(shop, ["publish"])
        answer = await shop.call("POST", "/v1/tokens", {"name": "x", "scopes": ["publish"]})
        assert (answer.status, answer.body["code"]) == (409, "too_many_tokens")


async def test_last_use_is_written_coarsely_and_not_at_each_request(shop: ShopServer) -> None:
    token = await make_token(shop, ["device-admin"])
    access = shop.app[ACCESS]

    async def used() -> int | None:
        access.step(shop.clock.now_us())
        found = (await shop.call("GET", f"/v1/tokens/{token.id}")).body["used_at"]
        assert found is None or isinstance(found, int)
        return found

    assert await used() is None
    assert await good(shop, token.text)
    first = shop.clock.now_us()
    assert await used() == first
    writes = shop.store.transactions()["token_uses"]
    for _ in range(5):
        shop.clock.advance(us=HOUR_US // 5 - 1)
        assert await good(shop, token.text)
        assert await used() == first
    assert shop.store.transactions()["token_uses"] == writes
    shop.clock.advance(us=5)
    assert await good(shop, token.text)
    assert await used() == first + HOUR_US
    assert not await good(shop, token.text[:-2])


async def test_tokens_that_ended_are_forgotten_after_a_while(shop: ShopServer) -> None:
    ended, kept = await make_token(shop, ["publish"]), await make_token(shop, ["publish"])
    expired = await make_token(shop, ["publish"], ttl_s=1)
    await shop.call("DELETE", f"/v1/tokens/{ended.id}")
    shop.clock.advance(us=shop.settings.token_kept_us + 2_000_000)
    before = shop.clock.now_us() - shop.settings.token_kept_us
    with shop.store.write("t") as tx:
        assert tx.access.drop_tokens_ended(before) == 2
        assert [token.id for token in tx.access.tokens("", 9)] == [kept.id]
        assert tx.access.secrets(expired.id) == []


@pytest.fixture
async def told_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[ShopServer, list[str]]]:
    """A server, and the secrets that must be in no file of its and in no log when it has closed."""
    caplog.set_level(logging.DEBUG)
    secrets: list[str] = []
    async with ShopServer(tmp_path / "data", ManualClock()) as shop:
        yield shop, secrets
    assert len(secrets) > 3
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert {"server.db", "api.token"} <= {file.name for file in files}
    for secret in secrets:
        bare = secret.split("_", 2)[2]
        for file in files:
            assert bare.encode() not in file.read_bytes(), file.name
        assert bare not in caplog.text


async def test_a_secret_is_in_no_file_and_no_log(told_nowhere: tuple[ShopServer, list[str]]) -> None:
    """Made, rotated, used, used wrongly, revoked; also where the write-ahead log still holds every page."""
    shop, secrets = told_nowhere
    token = await make_token(shop, ["device-admin"])
    secrets.append(token.text)
    for _ in range(3):
        secrets.append((await rotate(shop, token)).body["token"])
    for text in secrets:
        assert await good(shop, text)
        assert not await good(shop, text + "x")
        assert (await shop.call("GET", "/v1/audit", token=text)).status == 403
    kept = Path(shop.settings.data_dir, "server.db-wal").read_bytes()
    assert all(text.split("_", 2)[2].encode() not in kept for text in secrets)
    assert token.id.encode() in kept
    await shop.call("DELETE", f"/v1/tokens/{token.id}")
    text = json.dumps((await shop.call("GET", "/v1/tokens")).body)
    assert all(secret.split("_", 2)[2] not in text for secret in secrets)


def test_a_token_made_by_another_process_is_good_here_after_a_step(tmp_path: Path) -> None:
    """And one revoked there is good no more: the book hears of changes from the store alone."""
    names = (tmp_path / "server.db", tmp_path / "keys.db")
    stores = [SqliteStore(*names, digest_key=b"d" * 32, entropy=CountingEntropy()) for _ in range(2)]
    here, there = (TokenBook(store, Settings(tmp_path)) for store in stores)
    secret = tokens.new_secret(tokens.new_id(CountingEntropy()), CountingEntropy())
    with stores[1].write("t") as tx:
        made = ApiToken(
            secret.id, "x", ("publish",), None, None, None, None, 1, "bootstrap", None, None, None
        )
        tokens.create(tx, made, secret)
    there.refresh()
    assert there.check(secret.text, 5) is not None
    assert here.check(secret.text, 5) is None
    here.step(5)
    assert here.check(secret.text, 5) is not None
    with stores[1].write("t") as tx:
        tokens.revoke(tx, secret.id, 6)
    here.step(DAY_US)
    assert here.check(secret.text, 7) is None
    for store in stores:
        store.close()
