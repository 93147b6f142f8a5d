"""People with tokens of an OpenID Connect issuer: a real one over HTTP, and what attackers try."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sync_server.access.people import in_time
from sync_server.api.rooms import ACCESS
from sync_server.errors import Problem
from tests.support.clock import ManualClock
from tests.support.issuer import Issuer, packed
from tests.support.shop_server import ShopServer

NOW_S = 1_700_000_000
FOREIGN = generate_private_key(65_537, 2_048)


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


def test_times_are_judged_to_the_microsecond() -> None:
    claims = {"exp": 20.5, "nbf": 10, "iat": 11}
    assert [in_time(claims, now_us, 0) for now_us in (10_999_999, 11_000_000)] == [False, True]
    assert [in_time(claims, now_us, 0) for now_us in (20_499_999, 20_500_000)] == [True, False]
    assert not in_time({"exp": float("nan"), "nbf": 0}, 1, 0)
