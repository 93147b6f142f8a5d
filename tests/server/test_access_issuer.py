"""The keys of an OpenID Connect issuer: fetched seldom, bounded, and kept while it does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from sync_server.access.issuer import load_issuer
from sync_server.access.issuer_keys import IssuerKeys
from sync_server.api.rooms import ACCESS
from sync_server.settings import HOUR_US, MINUTE_US
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.issuer import Issuer, packed
from tests.support.shop_server import ShopServer

NOW_S = 1_700_000_000
FOREIGN = generate_private_key(65_537, 2_048)


@pytest.fixture
async def shop(issuer: Issuer, tmp_path: Path) -> AsyncIterator[ShopServer]:
    async with ShopServer(tmp_path / "data", ManualClock(), oidc=issuer.write(tmp_path)) as server:
        yield server


async def status(shop: ShopServer, token: str) -> int:
    """200: let in with scope consent. 401: not a good token."""
    return (await shop.call("GET", "/v1/consents?subject=alice", token=token)).status


def keys_of(shop: ShopServer) -> IssuerKeys:
    people = shop.app[ACCESS].door.people
    assert people is not None
    return people.keys


async def test_an_unknown_key_makes_the_issuer_be_asked_once_a_minute_at_most(
    shop: ShopServer, issuer: Issuer
) -> None:
    """A flood of made-up key ids costs nobody more than that; a new key is taken up all the same."""
    old = issuer.token(issuer.claims(NOW_S))
    assert await status(shop, old) == 200
    issuer.keys["new"] = FOREIGN
    issuer.published = [issuer.jwk("new"), issuer.jwk("ed")]
    new = issuer.token(issuer.claims(NOW_S), "new")
    for _ in range(20):
        assert await status(shop, new) == 401
    shop.clock.advance(us=MINUTE_US - 1)
    assert (await status(shop, new), issuer.asked) == (401, 1)
    shop.clock.advance(us=1)
    assert (await status(shop, new), issuer.asked) == (200, 2)
    assert (await status(shop, old), issuer.asked) == (401, 2)  # taken back by the issuer
    for number in range(20):
        made_up = jwt.encode(issuer.claims(NOW_S), FOREIGN, "RS256", {"kid": str(number)})
        assert (await status(shop, made_up), issuer.asked) == (401, 2)


async def test_while_the_issuer_is_down_its_keys_stay_good_and_api_tokens_always_are(
    shop: ShopServer, issuer: Issuer
) -> None:
    own = (await make_token(shop, ["consent"])).text
    token = issuer.token(issuer.claims(NOW_S, exp=NOW_S + 10 * 86_400))
    assert await status(shop, token) == 200
    await issuer.stop()
    for _ in range(5):
        shop.clock.advance(us=HOUR_US)
        assert await status(shop, token) == 200
        assert await status(shop, own) == 200
    unknown = jwt.encode(issuer.claims(NOW_S), FOREIGN, "RS256", {"kid": "unknown"})
    assert await status(shop, unknown) == 401


async def test_an_issuer_that_was_down_from_the_start_is_asked_again(
    shop: ShopServer, issuer: Issuer
) -> None:
    token = issuer.token(issuer.claims(NOW_S))
    issuer.reply = web.Response(status=503)
    assert await status(shop, token) == 401
    issuer.reply = None
    assert await status(shop, token) == 401
    shop.clock.advance(us=MINUTE_US)
    assert await status(shop, token) == 200


async def test_keys_grown_old_are_fetched_anew_and_nobody_waits_for_it(
    shop: ShopServer, issuer: Issuer
) -> None:
    token = issuer.token(issuer.claims(NOW_S, exp=NOW_S + 86_400))
    assert (await status(shop, token), issuer.asked) == (200, 1)
    shop.clock.advance(us=HOUR_US - 1)
    assert (await status(shop, token), issuer.asked) == (200, 1)
    shop.clock.advance(us=1)
    issuer.silent = asyncio.Event()
    assert await status(shop, token) == 200
    issuer.silent.set()
    await keys_of(shop).settled()
    assert issuer.asked == 2


async def test_requests_at_once_make_one_asking(shop: ShopServer, issuer: Issuer) -> None:
    token = issuer.token(issuer.claims(NOW_S))
    assert await asyncio.gather(*(status(shop, token) for _ in range(20))) == [200] * 20
    assert issuer.asked == 1


async def test_an_issuer_that_never_answers_holds_a_request_no_longer_than_the_timeout(
    tmp_path: Path, issuer: Issuer
) -> None:
    """And holds up no API token meanwhile."""
    limits = {"oidc": issuer.write(tmp_path), "oidc_timeout_us": 50_000}
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as shop:
        own = (await make_token(shop, ["consent"])).text
        issuer.silent = asyncio.Event()
        waiting = asyncio.create_task(status(shop, issuer.token(issuer.claims(NOW_S))))
        assert await status(shop, own) == 200
        assert await waiting == 401
        issuer.silent.set()


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (200, b""),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"keys": {}}'),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "RSA", "kid": "rsa"}]}'),
        (200, b'{"keys": [[1]]}'),
        (200, b"[" * 100_000),
        (302, b""),
        (404, b"{}"),
        (500, b""),
    ],
)
async def test_an_answer_that_is_no_set_of_keys_leaves_those_of_before(
    shop: ShopServer, issuer: Issuer, code: int, body: bytes
) -> None:
    token = issuer.token(issuer.claims(NOW_S, exp=NOW_S + 86_400))
    assert await status(shop, token) == 200
    issuer.reply = web.Response(status=code, body=body)
    shop.clock.advance(us=HOUR_US)
    assert await status(shop, token) == 200
    await keys_of(shop).settled()
    assert (issuer.asked, len(keys_of(shop))) == (2, 3)
    assert await status(shop, token) == 200


@pytest.mark.parametrize("more", [b"{}," * 64, b" " * 300_000])
async def test_law_11_more_keys_or_bytes_than_there_may_be_are_not_taken(
    shop: ShopServer, issuer: Issuer, more: bytes
) -> None:
    """Also when good keys are among them."""
    keys = json.dumps(issuer.published).encode()[1:]
    issuer.reply = web.Response(body=b'{"keys": [' + more + keys + b"}")
    assert await status(shop, issuer.token(issuer.claims(NOW_S))) == 401
    assert issuer.asked == 1


async def test_another_key_under_the_same_id_ends_what_the_first_had_signed(
    shop: ShopServer, issuer: Issuer
) -> None:
    """A token that was found good is remembered for its key, not for the key's name."""
    old = issuer.token(issuer.claims(NOW_S, exp=NOW_S + 86_400))
    assert await status(shop, old) == 200
    issuer.keys["rsa"] = FOREIGN
    issuer.published = [issuer.jwk("rsa")]
    shop.clock.advance(us=HOUR_US)
    assert await status(shop, old) == 200  # nobody waits for the issuer
    await keys_of(shop).settled()
    assert await status(shop, old) == 401
    assert await status(shop, issuer.token(issuer.claims(NOW_S, exp=NOW_S + 86_400))) == 200


async def test_keys_for_other_uses_are_not_used(shop: ShopServer, issuer: Issuer) -> None:
    """A shared secret, a key to encrypt with, a short one, a private one, one without an id."""
    short = generate_private_key(65_537, 1_024)
    issuer.keys |= {"short": short, "enc": FOREIGN, "nameless": FOREIGN, "private": FOREIGN}
    secret = {"kty": "oct", "kid": "secret", "alg": "HS256", "k": packed(b"k" * 32)}
    private = {**jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN, as_dict=True), "kid": "private"}
    issuer.published = [
        *(issuer.jwk("rsa"), issuer.jwk("short"), {**issuer.jwk("enc"), "use": "enc"}, secret, private),
        {name: value for name, value in issuer.jwk("nameless").items() if name != "kid"},
    ]
    assert await status(shop, issuer.token(issuer.claims(NOW_S))) == 200
    with pytest.warns(UserWarning, match="1024 bits"):
        weak = issuer.token(issuer.claims(NOW_S), "short")
    assert await status(shop, weak) == 401
    for kid in ("enc", "nameless", "private"):
        assert await status(shop, issuer.token(issuer.claims(NOW_S), kid)) == 401, kid
    shared = jwt.encode(issuer.claims(NOW_S), b"k" * 32, "HS256", {"kid": "secret"})
    assert await status(shop, shared) == 401
    assert len(keys_of(shop)) == 1


async def test_a_person_may_ask_so_much_whatever_tokens_they_hold(tmp_path: Path, issuer: Issuer) -> None:
    file = issuer.write(tmp_path, burst=2, per_s=1)
    async with ShopServer(tmp_path / "data", ManualClock(), oidc=file) as shop:
        tokens = [issuer.token(issuer.claims(NOW_S, jti=str(number))) for number in range(3)]
        assert [await status(shop, token) for token in tokens] == [200, 200, 429]
        other = issuer.token(issuer.claims(NOW_S, sub="person-8"))
        assert await status(shop, other) == 200


async def test_keys_may_be_in_a_file(tmp_path: Path, issuer: Issuer) -> None:
    (tmp_path / "keys.json").write_text(json.dumps({"keys": issuer.published}))
    file = issuer.write(tmp_path, jwks="keys.json")
    async with ShopServer(tmp_path / "data", ManualClock(), oidc=file) as shop:
        assert await status(shop, issuer.token(issuer.claims(NOW_S))) == 200
    assert issuer.asked == 0


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"jwks": "http://id.example/keys"}, "https"),
        ({"jwks": "ftp://id.example/keys"}, "https"),
        ({"algorithms": ["RS256", "HS256"]}, "algorithms"),
        ({"algorithms": ["none"]}, "algorithms"),
        ({"algorithms": []}, "algorithms"),
        ({"issuer": ""}, "issuer"),
        ({"audience": 7}, "audience"),
        ({"per_s": 0}, "per_s"),
        ({"secret": "x"}, "secret"),
    ],
)
async def test_law_12_a_file_that_names_no_issuer_is_refused_with_the_place(
    tmp_path: Path, issuer: Issuer, said: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValueError, match=fault) as raised:
        load_issuer(issuer.write(tmp_path, **said))
    assert "oidc.toml" in str(raised.value)
    for text in ("[", 'issuer = "x"', issuer.write(tmp_path).read_text().replace("consent", "root")):
        file = tmp_path / "other.toml"
        file.write_text(text)
        with pytest.raises(ValueError, match=r"other\.toml"):
            load_issuer(file)
