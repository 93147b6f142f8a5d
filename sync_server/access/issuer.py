"""The file that names an OpenID Connect issuer, and what its people may do here."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from sync_server.access.caller import Rate
from sync_server.api.route import Scope

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one value of the claim lets people do."""

    scopes: tuple[Scope, ...]
    teams: tuple[Word, ...] | None = None
    """Owners of the views that `publish` is for; left out: any."""


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens are good here, for whom they must be made, and what they let people do."""

    issuer: Word
    """As tokens say it in `iss`, letter by letter."""
    audience: Word
    """One that tokens must name in `aud`: this server, as the issuer knows it."""
    jwks: Word
    """Where its public keys are: an https URL (http on this machine), or a file beside this one."""
    grants: dict[Word, Grant]
    """Value of the claim -> what it lets people do."""
    claim: Word = "groups"
    """The claim that holds a word, words separated by spaces, or a list of words."""
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    per_s: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """Requests a second of one person; left out: the server's setting. So with `burst`."""
    burst: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def rate(self, per_s: int, burst: int) -> Rate:
        """How much one person may ask; `per_s` and `burst` where nothing is said."""
        return Rate(self.per_s or per_s, self.burst or burst)


ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures with a public key; a shared secret or none at all is no proof of an issuer."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where the issuer's keys are: one of both."""

    url: str | None
    file: Path | None


def load_issuer(path: Path) -> tuple[Issuer, KeySource]:
    """Read the file; raises ValueError that says where it is wrong."""
    try:
        found = msgspec.convert(tomllib.loads(path.read_text()), Issuer)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from None
    foreign = sorted(set(found.algorithms) - ALGORITHMS)
    if foreign or not found.algorithms:
        raise ValueError(f"{path.name}: expected algorithms of {', '.join(sorted(ALGORITHMS))}")
    return found, _source(found.jwks, path)


def _source(jwks: str, path: Path) -> KeySource:
    if "://" not in jwks:
        return KeySource(None, path.parent / jwks)
    parts = urlsplit(jwks)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"{path.name}: expected an https URL in jwks: whoever is in between could lend keys")
    return KeySource(jwks, None)
