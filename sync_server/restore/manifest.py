"""What a backup is of, signed by the server: it may be restored from nothing else. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Annotated, BinaryIO, Final, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.errors import NotRestored

NAME: Final = "manifest.json"
DATABASE: Final = "server.db"
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One backup of `server.db`; its file stands beside it."""

    v: Literal[1] = 1
    incarnation: bytes
    """Of the server that was backed up."""
    time_us: _Count
    """When the copy was begun, by the server's clock."""
    size: _Count
    """Steps of its ledger."""
    root: bytes
    """Root of its ledger at that size."""
    schema: _Count
    catalog: str
    lease_us: _Count
    """Longest lease that the server granted."""
    file_bytes: _Count
    file_hash: bytes
    """BLAKE2b-256 of the database file."""
    signature: bytes = b""


def signed(key: Ed25519PrivateKey, manifest: Manifest) -> Manifest:
    """The manifest with its signature over everything else."""
    return msgspec.structs.replace(manifest, signature=seal.sign(key, seal.BACKUP, _body(manifest)))


def written(manifest: Manifest) -> bytes:
    """As JSON; bytes are base64."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def verified(raw: bytes, keys: Collection[bytes]) -> Manifest:
    """The manifest in `raw`, signed by one of `keys`; raises `NotRestored`."""
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError:
        raise NotRestored("manifest.json is no manifest of a backup; nothing was restored") from None
    for key in keys:
        try:
            seal.verify(key, seal.BACKUP, _body(manifest), manifest.signature)
        except WireFailure:
            continue
        return manifest
    raise NotRestored("the manifest is not signed by this server's key; nothing was restored")


def hash_of(file: BinaryIO) -> bytes:
    """BLAKE2b-256 of all that is in an open file."""
    found = hashlib.blake2b(digest_size=32)
    while block := file.read(1 << 20):
        found.update(block)
    return found.digest()


def _body(manifest: Manifest) -> bytes:
    return seal.canonical(msgspec.structs.replace(manifest, signature=b""))
