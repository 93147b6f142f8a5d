"""A change of the key that this device signs with, safe at any kill.

Both keys rest in the keystore until the server is known to have the next one: by its word (KeyChanged), or by
a Welcome to a Hello that the next key signed. When a Hello was refused as `bad_signature` meanwhile, the next
session tries the other key.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure


class Remembers(Protocol):
    """What is remembered from one session to the next."""

    signs_with_next: bool


class KeyChanges:
    """The device's signing key in one session."""

    def __init__(self, keyring: Keyring, memory: Remembers) -> None:
        self._keyring, self._memory = keyring, memory
        self._told = False
        self.asked = False
        """Whether the server owes an answer to a change."""
        self._next: Ed25519PrivateKey | None = None
        """The key that signed this session's Hello, if that was the next one."""

    def key(self) -> Ed25519PrivateKey:
        """What to sign the Hello with."""
        self._next = self._keyring.next_signing_key() if self._memory.signs_with_next else None
        return self._keyring.signing_key() if self._next is None else self._next

    def welcomed(self) -> None:
        """The server proved that it took our Hello: the key that signed it stands."""
        self._memory.signs_with_next = False
        if self._next is not None:
            self._keyring.end_key_change()

    def refused(self, refusal: m.Refusal) -> bool:
        """Whether a refusal is about a change, which is then told again in the next session.

        One that ends an opening may be anybody's, unsigned: it only makes us try the other key.
        """
        key = self._keyring.next_signing_key()
        if key is None:
            return False
        if not refusal.about and refusal.code == "bad_signature":
            self._memory.signs_with_next = not self._memory.signs_with_next
        about_it = refusal.about == seal.public_bytes(key).hex()
        self.asked &= not about_it
        return about_it

    def due(self) -> list[m.KeyChange]:
        """The word to the server, once a session for each key."""
        key = self._keyring.next_signing_key()
        if key is None or self._told:
            return []
        self._told = self.asked = True
        old = self._keyring.signing_key()
        before, after = seal.public_bytes(old), seal.public_bytes(key)
        body = seal.key_change_bytes(self._keyring.identity.device_id, before, after)
        signatures = seal.sign(old, seal.KEY_CHANGE, body), seal.sign(key, seal.KEY_CHANGE, body)
        return [m.KeyChange(public_key=after, signature=signatures[0], new_signature=signatures[1])]

    def changed(self, said: m.KeyChanged) -> None:
        """The server has the next key. Raises `WireFailure("malformed")` for any other."""
        key = self._keyring.next_signing_key()
        if key is None or seal.public_bytes(key) != said.public_key:
            raise WireFailure("malformed", "expected the key that this device named")
        self._told = self.asked = False
        self._keyring.end_key_change()
