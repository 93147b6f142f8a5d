"""People with tokens of an OpenID Connect issuer: a real one over HTTP, and what attackers try."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync_server.access.issuer import load_issuer
from sync_server.access.people import in_time
from sync_server.api.rooms import ACCESS
from sync_server.errors import Problem
from sync_server.settings import HOUR_US, MINUTE_US
from tests.support.api_tokens import make_token
from tests.support.clock import ManualClock
from tests.support.issuer import Issuer, make_keys, packed
from tests.support.shop_server import ShopServer

NOW_S = 1_700_000_000
FOREIGN = generate_private_key(65_537, 2_048)


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return make_keys()


@pytest.fixture
async def issuer(keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    async with Issuer(keys) as made:
        yield made


@pytest.fixture
async def shop(issuer: Issuer, tmp_path: Path) -> AsyncIterator[ShopServer]:
    limits = {
        "oidc": issuer.write(tmp_path),
        "refusal_burst": 10_000,
        "oidc_token_bytes": 7_000,
    }
    async with ShopServer(tmp_path / "data", ManualClock(), **limits) as server:
        yield server


async def status(shop: ShopServer, token: str) -> int:
    """200: let in with scope consent. 401: not a good token. 403: good, and not for this."""
    return (await shop.call("GET", "/v1/consents?subject=alice", token=token)).status


@pytest.mark.parametrize("kid", ["rsa", "ed", "ec"])
async def test_a_person_is_let_in_by_every_allowed_algorithm(
    shop: ShopServer, issuer: Issuer, kid: str
) -> None:
    assert await status(shop, issuer.token(issuer.claims(NOW_S), kid)) == 200


async def test_scopes_and_teams_come_from_the_claim(shop: ShopServer, issuer: Issuer) -> None:
    """Of all words together; a word without teams lifts the others' bounds; unknown words mean nothing."""

    async def found(groups: object) -> tuple[int, int, int, int]:
        token = issuer.token(issuer.claims(NOW_S, groups=groups))
        rows: list[object] = []
        asked = (
            await shop.call("GET", "/v1/consents?subject=alice", token=token),
            await shop.call("GET", "/v1/devices", token=token),
            await shop.call("POST", "/v1/features", {"view": "item_stats", "rows": rows}, token=token),
            await shop.call("GET", "/v1/features/profile/~x", token=token),
        )
        consent, devices, search, crm = (answer.status for answer in asked)
        return consent, devices, search, crm

    assert await found(["privacy"]) == (200, 403, 403, 403)
    assert await found("privacy devices") == (200, 200, 403, 403)
    assert await found(["search"]) == (403, 403, 200, 403)
    assert await found(["search", "crm"]) == (403, 403, 200, 404)
    assert await found(["search", "anything"]) == (403, 403, 200, 404)
    for nothing in ([], ["root"], [7, None, {"privacy": 1}], {"privacy": True}, 7, None):
        assert await found(nothing) == (403, 403, 403, 403)


async def test_a_person_is_known_by_a_keyed_hash_alone(
    shop: ShopServer, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The same person, the same hash; another person or server, another; and the name is nowhere."""
    for subject in ("person-7", "person-7", "person-8"):
        token = issuer.token(issuer.claims(NOW_S, sub=subject))
        for _ in range(2):
            assert await status(shop, token) == 200
    answer = await shop.call("GET", "/v1/audit")
    lines = [line for line in answer.body["entries"] if line["actor"].startswith("oidc:")]
    assert sorted(line["count"] for line in lines) == [2, 4]
    assert {line["name"] for line in lines} == {""}
    assert len({line["actor"] for line in lines}) == 2
    plain = hashlib.blake2b(b"person-7", digest_size=16).hexdigest()
    assert plain not in json.dumps(lines)
    shop.app[ACCESS].audit.flush()
    for file in shop.settings.data_dir.iterdir():
        assert b"person-7" not in file.read_bytes(), file.name
    assert "person-7" not in caplog.text


def bad_tokens(issuer: Issuer) -> dict[str, str]:
    """What attackers try -> their token."""
    good, claims = issuer.token(issuer.claims(NOW_S)), issuer.claims(NOW_S)
    header, payload, signature = good.split(".")
    public = issuer.keys["rsa"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def mac(key: bytes, **more: Any) -> str:
        head = packed({"alg": "HS256", "typ": "JWT", "kid": "rsa", **more})
        signed = f"{head}.{payload}".encode()
        return f"{head}.{payload}.{packed(hmac.new(key, signed, 'sha256').digest())}"

    foreign = {**issuer.jwk("rsa"), **jwt.algorithms.RSAAlgorithm.to_jwk(FOREIGN.public_key(), as_dict=True)}

    def forged(**head: Any) -> str:
        return jwt.encode(claims, FOREIGN, "RS256", {"kid": "rsa", **head})

    def said(**more: Any) -> str:
        return issuer.token(issuer.claims(NOW_S, **more))

    def raw(header: bytes | dict[str, Any], body: bytes | dict[str, Any] = claims) -> str:
        return f"{packed(header)}.{packed(body)}.{signature}"

    ours = {"alg": "RS256", "kid": "rsa"}
    return {
        "no algorithm": f"{packed({'alg': 'none', 'kid': 'rsa'})}.{payload}.",
        "no algorithm, another case": f"{packed({'alg': 'NonE', 'kid': 'rsa'})}.{payload}.{signature}",
        "the public key as a shared secret": mac(public),
        "its modulus as a shared secret": mac(issuer.jwk("rsa")["n"].encode()),
        "an empty shared secret": mac(b""),
        "a foreign key": forged(),
        "a foreign key in the header": forged(jwk=foreign),
        "a foreign key at an address in the header": forged(jku="http://127.0.0.1:1/keys"),
        "a foreign certificate": forged(x5u="http://127.0.0.1:1/x", x5c=["AAAA"]),
        "another key's signature": jwt.encode(claims, issuer.keys["ed"], "EdDSA", {"kid": "rsa"}),
        "another algorithm of the same key": jwt.encode(claims, issuer.keys["rsa"], "PS256", {"kid": "rsa"}),
        "an algorithm that is not allowed": jwt.encode(claims, issuer.keys["rsa"], "RS512", {"kid": "rsa"}),
        "a key id that is a path": forged(kid="../../../../etc/passwd"),
        "a key id that is an address": forged(kid="http://127.0.0.1:1/keys"),
        "a key id that is SQL": forged(kid="' OR 1=1 --"),
        "a key id that is no text": raw({"alg": "RS256", "kid": ["rsa"]}),
        "no key id": raw({"alg": "RS256"}),
        "an algorithm that is no text": raw({"alg": ["RS256"], "kid": "rsa"}),
        "a header that must be understood": issuer.token(claims, crit=["exp"], exp=1),
        "a detached payload": f"{packed({**ours, 'b64': False, 'crit': ['b64']})}..{signature}",
        "another payload": f"{header}.{packed({**claims, 'groups': ['devices']})}.{signature}",
        "a signature cut short": good[:-4],
        "no signature": f"{header}.{payload}.",
        "a longer signature": good + "AAAA",
        "four parts": good + ".x",
        "a header that is no JSON": raw(b"{"),
        "a header nested deep": raw(b"[" * 2_400 + b"]" * 2_400),
        "a payload nested deep": raw(ours, b'{"a":' * 700 + b"1" + b"}" * 700),
        "a header that is a list": raw(b'["RS256"]'),
        "no base64": "a+/=.b.c",
        "letters of no alphabet": "\u00e9.\u00e9.\u00e9",
        "a long one": said(padding="x" * 4_900),
        "for somebody else": said(aud="another"),
        "for nobody": said(aud=None),
        "for an empty list": said(aud=[]),
        "of another issuer": said(iss="https://id.example/"),
        "of no issuer": said(iss=None),
        "without a subject": said(sub=None),
        "with an empty subject": said(sub=""),
        "with a subject that is no text": said(sub=7),
        "with a subject that is no Unicode": said(sub="\ud800"),
        "beginning beyond all numbers": said(nbf=10**400),
        "expired": said(exp=NOW_S - 30),
        "without an end": said(exp=None),
        "with an end that is text": said(exp=str(NOW_S + 300)),
        "with an end that is true": said(exp=True),
        "with an end that is not finite": said(exp=float("inf")),
        "not yet good": said(nbf=NOW_S + 31),
        "made in the future": said(iat=NOW_S + 31),
        "with a beginning that is text": said(nbf="0"),
        "without a beginning": said(nbf=None, iat=None),
    }


async def test_what_attackers_try_is_refused_like_any_other_token_that_is_not_good(
    shop: ShopServer, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    """One by one; a good one is let in before and after, and nothing of it all is in a log."""
    good = issuer.token(issuer.claims(NOW_S))
    assert await status(shop, good) == 200
    bodies = set()
    tried = bad_tokens(issuer)
    for what, token in tried.items():
        answer = await shop.call(
            "GET", "/v1/consents?subject=alice", headers={"Authorization": f"Bearer {token}"}, token=None
        )
        assert answer.status == 401, what
        bodies.add(str(answer.body))
    assert len(bodies) == 1
    assert await status(shop, good) == 200
    assert issuer.asked == 1  # a minute has not passed: no key id made it ask again
    assert not any(token in caplog.text for token in tried.values() if len(token) > 8)


@pytest.mark.parametrize(
    "text", ["\udcff.b.c", "a.\udcff.c", "es_\udcff_x", "\udcff" * 30, "es_", "es__", "..", "."]
)
async def test_bytes_that_are_no_text_are_no_token(shop: ShopServer, text: str) -> None:
    """As a header brings them; the fault is the caller's and not ours."""
    with pytest.raises(Problem, match="unauthorized"):
        await shop.app[ACCESS].door.who(f"Bearer {text}", "192.0.2.7")


async def test_a_list_of_audiences_that_names_us_is_good(shop: ShopServer, issuer: Issuer) -> None:
    assert await status(shop, issuer.token(issuer.claims(NOW_S, aud=["other", "edge-sync"]))) == 200


async def test_the_issuers_clock_may_be_a_little_off(shop: ShopServer, issuer: Issuer) -> None:
    assert await status(shop, issuer.token(issuer.claims(NOW_S, nbf=NOW_S + 30, iat=NOW_S + 30))) == 200
    token = issuer.token(issuer.claims(NOW_S))
    shop.clock.advance(seconds=300 + 30, us=-1)
    assert await status(shop, token) == 200
    shop.clock.advance(us=1)
    assert await status(shop, token) == 401


async def test_without_an_issuer_no_such_token_is_good(tmp_path: Path, issuer: Issuer) -> None:
    async with ShopServer(tmp_path / "data", ManualClock()) as shop:
        assert await status(shop, issuer.token(issuer.claims(NOW_S))) == 401
        assert issuer.asked == 0


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
    people = shop.app[ACCESS].door.people
    assert people is not None
    issuer.silent.set()
    await people.keys.settled()
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
    people = shop.app[ACCESS].door.people
    assert people is not None
    await people.keys.settled()
    assert (issuer.asked, len(people.keys)) == (2, 3)
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
    people = shop.app[ACCESS].door.people
    assert people is not None
    await people.keys.settled()
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
    people = shop.app[ACCESS].door.people
    assert people is not None
    assert len(people.keys) == 1


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


def test_times_are_judged_to_the_microsecond() -> None:
    claims = {"exp": 20.5, "nbf": 10, "iat": 11}
    assert [in_time(claims, now_us, 0) for now_us in (10_999_999, 11_000_000)] == [False, True]
    assert [in_time(claims, now_us, 0) for now_us in (20_499_999, 20_500_000)] == [True, False]
    assert not in_time({"exp": float("nan"), "nbf": 0}, 1, 0)
