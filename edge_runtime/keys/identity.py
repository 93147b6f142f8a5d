"""Who this device is: alone, or enrolled at a server."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from edge_runtime.wire.messages import Bytes32, Name
from edge_runtime.wire.printing import prints_only

STANDALONE: Final = "standalone"


@prints_only("device_id")
class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device's name, its own signing key, and what it learned when it enrolled. Rests in the keystore."""

    device_id: Name
    """`standalone` before enrolment."""
    signing_seed: Bytes32
    """Seed of the Ed25519 key that signs hellos and receipts."""
    next_seed: Bytes32 | None = None
    """Seed of the key to come, which the server may have already or not; None: no change is going on."""
    pseudonym_key: Bytes32
    """Names subjects on the wire: the tenant's after enrolment, one of its own before."""
    digest_key: Bytes32 | None = None
    """The tenant's key for channel digests; None before enrolment."""
    server_key: Bytes32 | None = None
    """The server's Ed25519 public key, pinned at enrolment; None before."""
    registry_key: Bytes32 | None = None
    """The key that signs privacy parts, pinned at enrolment; None: nothing is asked of a catalog."""
    server_url: str | None = None
    patterns: tuple[str, ...] = ()
    """Channel patterns that the enrolment allows."""

    @classmethod
    def standalone(cls) -> Identity:
        """A runtime that is its own authority."""
        token = secrets.token_bytes
        return cls(device_id=STANDALONE, signing_seed=token(32), pseudonym_key=token(32))

    @property
    def enrolled(self) -> bool:
        """Whether a server is the authority."""
        return self.server_key is not None
