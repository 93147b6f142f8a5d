"""An OpenID Connect issuer: real keys, and a real HTTP server that hands out their public halves."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import jwt
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa

ISSUER = "https://id.example"
AUDIENCE = "edge-sync"


def make_keys() -> dict[str, Any]:
    """One private key of each kind, by id."""
    return {
        "rsa": generate_rsa(65_537, 2_048),
        "ed": Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"issuer").digest()),
        "ec": generate_private_key(SECP256R1()),
    }


class Issuer:
    """Signs tokens; `url` is where its keys are. What it answers can be changed while it runs."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self.keys = dict(keys)
        self.published: list[dict[str, Any]] = [self.jwk(kid) for kid in self.keys]
        self.asked = 0
        self.reply: web.Response | None = None
        """In place of the keys."""
        self.silent: asyncio.Event | None = None
        """When set, nothing is answered until it is."""
        app = web.Application()
        app.router.add_get("/keys", self._answer)
        app.router.add_get("/elsewhere", self._answer)
        self._server = TestServer(app)

    async def __aenter__(self) -> Issuer:
        await self._server.start_server()
        self.url = str(self._server.make_url("/keys"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Answer no more."""
        await self._server.close()

    def jwk(self, kid: str) -> dict[str, Any]:
        """The public half of a key, as it is published."""
        key = self.keys[kid]
        if isinstance(key, RSAPrivateKey):
            found = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        elif isinstance(key, Ed25519PrivateKey):
            found = jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {**found, "kid": kid, "use": "sig"}

    def claims(self, now_s: int, **more: Any) -> dict[str, Any]:
        """Those of a good token; None leaves one out."""
        made = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "person-7",
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + 300,
            "groups": ["privacy"],
        }
        return {name: value for name, value in {**made, **more}.items() if value is not None}

    def token(self, claims: dict[str, Any], kid: str = "rsa", **header: Any) -> str:
        """A token signed by one of the keys."""
        algorithm = {"rsa": "RS256", "ed": "EdDSA", "ec": "ES256"}.get(kid, "RS256")
        return jwt.encode(claims, self.keys[kid], algorithm, {"kid": kid, **header})

    def write(self, folder: Path, **more: object) -> Path:
        """The file that names this issuer to a server."""
        words = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": self.url, **more}
        lines = [f"{name} = {json.dumps(value)}" for name, value in words.items()]
        file = folder / "oidc.toml"
        file.write_text("\n".join(lines) + GRANTS)
        return file

    async def _answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.silent is not None:
            await self.silent.wait()
        if self.reply is not None:
            body = self.reply.body
            headers = {"Location": "/elsewhere"} if self.reply.status == 302 else {}
            return web.Response(status=self.reply.status, body=body, headers=headers)
        return web.json_response({"keys": self.published})


GRANTS = """
[grants.privacy]
scopes = ["consent"]
[grants.devices]
scopes = ["device-admin"]
[grants.search]
scopes = ["publish"]
teams = ["search"]
[grants.crm]
scopes = ["publish"]
teams = ["crm"]
[grants.anything]
scopes = ["publish"]
"""


def packed(document: object) -> str:
    """One part of a token made by hand."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
