"""The server's own keys, in one file that never leaves it: the signing key and the tenant's two keys."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.messages import Bytes16, Bytes32
from edge_runtime.wire.printing import prints_only
from sync_server.devices.entropy import Entropy
from sync_server.errors import KeysMissing


@prints_only()
class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signing_seed: Bytes32
    pseudonym_key: Bytes32
    digest_key: Bytes32
    tag_key: Bytes32
    incarnation: Bytes16


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """What makes this server itself."""

    signing: Ed25519PrivateKey
    pseudonym_key: bytes
    """Names subjects on the wire; shared with every enrolled device."""
    digest_key: bytes
    """Keys row hashes; shared with every enrolled device."""
    tag_key: bytes
    """Blinds subjects in what outlives an erasure: budgets and round tags. Never leaves the server."""
    incarnation: bytes
    """16 bytes that change when the server is restored from a backup."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that devices pin at enrolment."""
        return seal.public_bytes(self.signing)

    def pseudonym(self, subject: str) -> bytes:
        """The pseudonym of typed id `subject`. From here on nobody sees the id itself."""
        return seal.pseudonym(self.pseudonym_key, subject)


def load_authority(path: Path, entropy: Entropy, *, store_exists: bool) -> Authority:
    """Open the key file, or make it where neither it nor a store exists.

    Raises:
        KeysMissing: a store without its key file, or a file that is not one of ours; nothing was created.
    """
    if path.exists():
        return _authority(_read(path))
    if store_exists:
        raise KeysMissing("expected server.key beside server.db, found none; nothing was created")
    made = _KeyFile(entropy(32), entropy(32), entropy(32), entropy(32), entropy(16))
    write_private(path, msgspec.json.encode(made))
    return _authority(made)


def load_token(path: Path, entropy: Entropy) -> str:
    """The API's bearer token, made when there is none; raises `KeysMissing` for a file that is not one."""
    if not path.exists():
        write_private(path, base64.urlsafe_b64encode(entropy(32)).rstrip(b"=") + b"\n")
    token = path.read_text(errors="replace").strip()
    if len(token) < 20 or not token.isascii():
        raise KeysMissing("api.token holds no token of at least 20 characters; nothing was opened")
    return token


def write_private(path: Path, content: bytes) -> None:
    """Create `path`, readable by its owner only, durable when this returns; raises FileExistsError."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> _KeyFile:
    if path.stat().st_mode & 0o077:
        raise KeysMissing("server.key may be read by others: chmod 600 it; nothing was opened")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_KeyFile)
    except msgspec.DecodeError:
        raise KeysMissing("server.key is not a key file of this server; nothing was opened") from None


def _authority(file: _KeyFile) -> Authority:
    signing = Ed25519PrivateKey.from_private_bytes(file.signing_seed)
    return Authority(signing, file.pseudonym_key, file.digest_key, file.tag_key, file.incarnation)
