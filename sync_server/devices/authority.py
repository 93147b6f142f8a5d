"""The server's own keys, in one file that never leaves it: the signing key and the tenant's two keys."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.fingerprint import fingerprint
from edge_runtime.wire.messages import Bytes16, Bytes32, Restore, Signature, Succession
from edge_runtime.wire.printing import prints_only
from sync_server.devices.entropy import Entropy
from sync_server.errors import KeysMissing
from sync_server.store.lasting import sync_folder, write_private

SUCCESSIONS: Final = 64
"""Most earlier keys that a device may still trust; a Welcome names no more."""

RESTORES: Final = 64
"""Most restores that a Welcome names; earlier ones are forgotten."""


@prints_only("public_key")
class Earlier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signing key of before: its public half, and its word for the one that came after it."""

    public_key: Bytes32
    signature: Signature
    """Over `seal.succession_bytes`. Its seed is nowhere any more."""


@prints_only()
class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signing_seed: Bytes32
    pseudonym_key: Bytes32
    digest_key: Bytes32
    tag_key: Bytes32
    incarnation: Bytes16
    earlier: tuple[Earlier, ...] = ()
    """In order; the last one named the present key."""
    restores: tuple[Restore, ...] = ()
    """In order; the last one began the present incarnation."""


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
    earlier: tuple[Earlier, ...] = ()
    """Signing keys of before, in order."""
    restores: tuple[Restore, ...] = ()
    """From which backups this server was restored, in order: the last one began its incarnation."""

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that devices pin at enrolment."""
        return seal.public_bytes(self.signing)

    @property
    def chain(self) -> list[tuple[bytes, bytes]]:
        """(key, its word for the next) of every signing key of before, from the first on."""
        return [(one.public_key, one.signature) for one in self.earlier]

    @property
    def root(self) -> str:
        """The fingerprint of the first key: what a person pins once."""
        return fingerprint(self.earlier[0].public_key if self.earlier else self.public_key)

    def succession(self, pinned: bytes) -> list[Succession]:
        """From the key that a device trusts to the present one; empty when they are the same.

        Raises `WireFailure("bad_signature")` for a key that was never ours, or is forgotten.
        """
        keys = [one.public_key for one in self.earlier] + [self.public_key]
        if pinned not in keys:
            raise WireFailure("bad_signature", "the device trusts a key that leads to none of ours")
        at = keys.index(pinned)
        after = zip(keys[at + 1 :], self.earlier[at:], strict=True)
        return [Succession(key, before.signature) for key, before in after]

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


def rotate_key(path: Path, entropy: Entropy) -> bytes:
    """Give the server a new signing key, named by the old one, and return its public half.

    The old seed is gone when this returns; a server that runs signs with it until its next start. Killed
    anywhere, the file holds the old key or the new one.

    Raises `KeysMissing`: no key file, or not one of ours; nothing was changed.
    """
    if not path.exists():
        raise KeysMissing("expected server.key, found none; nothing was changed")
    file = _read(path)
    old, seed = _authority(file), entropy(32)
    key = seal.public_bytes(Ed25519PrivateKey.from_private_bytes(seed))
    word = seal.sign(old.signing, seal.SUCCESSION, seal.succession_bytes(old.public_key, key))
    earlier = (*file.earlier, Earlier(old.public_key, word))[-SUCCESSIONS:]
    beside = path.with_suffix(".next")
    beside.unlink(missing_ok=True)
    made = msgspec.structs.replace(file, signing_seed=seed, earlier=earlier)
    write_private(beside, msgspec.json.encode(made))
    beside.replace(path)
    sync_folder(path.parent)
    return key


def write_restored(source: Path, target: Path, restore: Restore) -> None:
    """Write the key file of a new incarnation: the same keys, and one restore more. `source` stays.

    Raises `KeysMissing` for a file that is not one of ours, FileExistsError; nothing was made.
    """
    file = _read(source)
    made = msgspec.structs.replace(
        file, incarnation=restore.incarnation, restores=(*file.restores, restore)[-RESTORES:]
    )
    write_private(target, msgspec.json.encode(made))


def load_token(path: Path, entropy: Entropy) -> str:
    """The API's bearer token, made when there is none; raises `KeysMissing` for a file that is not one."""
    if not path.exists():
        write_private(path, base64.urlsafe_b64encode(entropy(32)).rstrip(b"=") + b"\n")
    token = path.read_text(errors="replace").strip()
    if len(token) < 20 or not token.isascii():
        raise KeysMissing("api.token holds no token of at least 20 characters; nothing was opened")
    return token


def _read(path: Path) -> _KeyFile:
    if path.stat().st_mode & 0o077:
        raise KeysMissing("server.key may be read by others: chmod 600 it; nothing was opened")
    try:
        return msgspec.json.decode(path.read_bytes(), type=_KeyFile)
    except msgspec.DecodeError:
        raise KeysMissing("server.key is not a key file of this server; nothing was opened") from None


def _authority(file: _KeyFile) -> Authority:
    signing = Ed25519PrivateKey.from_private_bytes(file.signing_seed)
    tenant = (file.pseudonym_key, file.digest_key, file.tag_key, file.incarnation)
    return Authority(signing, *tenant, file.earlier, file.restores)
