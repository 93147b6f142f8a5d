"""The collector's key, in a file of its own: what aggregate reports are sealed to."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from sync_server.devices.entropy import Entropy
from sync_server.errors import KeysMissing
from sync_server.store.lasting import write_private


def load_collector(path: Path, entropy: Entropy) -> X25519PrivateKey:
    """Open the key file, or make it: reports sealed to another key before are then refused, and counted so.

    Raises `KeysMissing` for a file that is not one of ours; it is untouched.
    """
    if not path.exists():
        write_private(path, entropy(32).hex().encode() + b"\n")
    try:
        return X25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except ValueError:
        raise KeysMissing(f"{path.name}: expected 64 hex digits; it is untouched") from None
