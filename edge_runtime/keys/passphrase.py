"""A root slot in a file that only a passphrase opens."""

from __future__ import annotations

import os
import unicodedata
import weakref
from typing import Final

from edge_runtime.errors import KeyMismatch, MalformedRequest, RuntimeClosed, StorageError
from edge_runtime.keys.providers import Assurance
from edge_runtime.keys.sealedslot import SALT_BYTES, Cost, DerivedKey, SealedSlot
from edge_runtime.keys.secret import wipe
from edge_runtime.keys.slotfile import SlotFile

MINIMUM_BYTES: Final = 12
"""A floor against accidents, not a measure of strength: who holds the file can guess on and on."""
MAXIMUM_BYTES: Final = 1_024


class KeyPassphrase:
    """A root slot in a file of mode 0600, sealed with AES-256-GCM under Argon2id of a passphrase.

    Assurance `passphrase`: remnants on the disk are not excluded, but each of them is sealed as well.

    Args:
        path: the file. It is made by `Runtime.open`, and only when neither it nor the database exists.
        passphrase: `MINIMUM_BYTES` to `MAXIMUM_BYTES` bytes; a `str` counts in UTF-8 after Unicode NFC (so
            that two keyboards that spell é differently agree; RFC 8265). It is let go of, and our copy of it
            overwritten, as soon as the file was opened or made with it.
        memory_kib, iterations, lanes: what a guess costs, for a file that is made here or sealed anew by
            `change_passphrase`; a file that exists names its own. Bounds: `edge_runtime.keys.sealedslot`.

    The derived key is held until `close` or the end of this object, so that replacing the slot costs no
    derivation; then it is overwritten. Close it after the runtime that uses it. Not thread-safe; one runtime
    calls it from under its own lock.

    Raises `MalformedRequest` for a passphrase or cost out of bounds.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        passphrase: str | bytes | bytearray | memoryview,
        *,
        memory_kib: int = 65_536,
        iterations: int = 3,
        lanes: int = 1,
    ) -> None:
        self._file = SlotFile(path, "sealed key file")
        self._cost = Cost(memory_kib, iterations, lanes)
        fault = self._cost.fault()
        if fault is not None:
            raise MalformedRequest("passphrase cost", fault, str(self._cost))
        self._held = _Held(_copied(passphrase))
        self._wiped = weakref.finalize(self, self._held.let_go)

    def __repr__(self) -> str:
        return f"KeyPassphrase({str(self._file)!r})"

    @property
    def assurance(self) -> Assurance:
        """`passphrase`."""
        return "passphrase"

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._file.exists()

    def load(self) -> bytes:
        """The slot.

        Raises `KeyMissing`, `KeyMismatch` (another passphrase), `KeyUnreadable` (damaged, foreign, or of a
        cost out of bounds), `StorageError` (others can read the file). The file is as it was.
        """
        held = self._open()
        sealed = SealedSlot.parse(self._file.read())
        key = held.key_for(sealed)
        slot = sealed.open(key)
        held.proven(key)
        return slot

    def create(self, slot: bytes) -> bool:
        """Make the file; False, changing nothing, when it is there already."""
        held = self._open()
        if self._file.exists():
            return False
        key = held.key or self._fresh_key(held)
        made = self._file.create(key.seal(slot))
        if made:
            held.proven(key)
        return made

    def store(self, slot: bytes) -> None:
        """Replace the file, under the same salt and a new nonce. What it held is overwritten where it stood.

        Raises `KeyMismatch`, changing nothing, when the file was meanwhile sealed under another passphrase.
        """
        held = self._open()
        if held.key is None and self._file.exists():
            self.load()  # what is there is replaced only by who could open it
        key = held.key or self._fresh_key(held)
        self._refuse_sealed_anew(key)
        self._file.replace(key.seal(slot))
        held.proven(key)

    def change_passphrase(self, passphrase: str | bytes | bytearray | memoryview) -> None:
        """Seal the slot anew under another passphrase, with a new salt and the cost given to this object.

        Killed anywhere, either the old or the new one opens the file. A copy of the older file that
        somebody kept is still opened by the old passphrase, and holds the slot of its day. No other process
        may have the runtime open meanwhile: its next `store` is refused.
        """
        fresh = _Held(_copied(passphrase))
        try:
            slot = self.load()
            key = self._fresh_key(fresh)
            self._file.replace(key.seal(slot))
        finally:
            fresh.let_go()
        self._held.proven(key)

    def close(self) -> None:
        """Overwrite key and passphrase. Later calls raise `RuntimeClosed`; closing twice is harmless."""
        self._wiped()

    def _open(self) -> _Held:
        if not self._wiped.alive:
            raise RuntimeClosed("the key was closed: expected an open one; nothing was touched")
        return self._held

    def _fresh_key(self, held: _Held) -> DerivedKey:
        return held.derived(os.urandom(SALT_BYTES), self._cost)

    def _refuse_sealed_anew(self, key: DerivedKey) -> None:
        try:
            sealed = SealedSlot.parse(self._file.read())
        except StorageError:
            return  # what was lost, damaged or opened to others meanwhile is mended by what is stored
        if not sealed.fits(key):
            raise KeyMismatch(_SEALED_ANEW)


_SEALED_ANEW: Final = (
    "the sealed key file was sealed anew since it was opened: open it again, with its passphrase; nothing "
    "was touched"
)


class _Held:
    """The secrets of one provider: the passphrase until it has proven itself, then the key."""

    def __init__(self, passphrase: bytearray) -> None:
        self.passphrase: bytearray | None = passphrase
        self.key: DerivedKey | None = None

    def derived(self, salt: bytes, cost: Cost) -> DerivedKey:
        """A key of the passphrase; raises `KeyMismatch` when that was let go of."""
        if self.passphrase is None:
            raise KeyMismatch(_SEALED_ANEW)
        return DerivedKey(self.passphrase, salt, cost)

    def key_for(self, sealed: SealedSlot) -> DerivedKey:
        """The key with the salt and cost of `sealed`, derived if need be."""
        if self.key is not None and sealed.fits(self.key):
            return self.key
        return self.derived(sealed.salt, sealed.cost)

    def proven(self, key: DerivedKey) -> None:
        """`key` opens the file: hold it, and nothing else."""
        self.let_go_of_passphrase()
        self.key = key

    def let_go_of_passphrase(self) -> None:
        """Overwrite it."""
        if self.passphrase is not None:
            wipe(self.passphrase)
            self.passphrase = None

    def let_go(self) -> None:
        """Overwrite everything."""
        self.let_go_of_passphrase()
        if self.key is not None:
            self.key.wipe()
            self.key = None


def _copied(passphrase: str | bytes | bytearray | memoryview) -> bytearray:
    try:
        match passphrase:
            case str():
                copy = bytearray(unicodedata.normalize("NFC", passphrase).encode())
            case _:
                copy = bytearray(memoryview(passphrase))
    except (UnicodeEncodeError, TypeError):
        raise MalformedRequest("passphrase", "text or bytes", "neither") from None
    if not MINIMUM_BYTES <= len(copy) <= MAXIMUM_BYTES:
        wipe(copy)
        expected = f"{MINIMUM_BYTES} to {MAXIMUM_BYTES} bytes"
        raise MalformedRequest("passphrase", expected, "none" if not copy else "fewer or more")
    return copy
