"""Where the root slot rests. A provider keeps opaque bytes and says how well it keeps them.

This file holds what every provider promises, and the two that need nothing else. Others: `KeyPassphrase`
(`passphrase.py`), `KeyKeyring` (`keychain.py`), a PKCS#11 token (`examples/pkcs11_key.py`). How to choose
one, and what each assurance claims: `docs/keys.md`.
"""

from __future__ import annotations

import os
from typing import Literal, Protocol

from edge_runtime.errors import KeyMissing
from edge_runtime.keys.secret import wipe
from edge_runtime.keys.slotfile import SlotFile

Assurance = Literal["memory", "file", "passphrase", "os_keychain", "tpm"]
"""What can be said of a slot that was replaced; `docs/keys.md` says what each claims and what it does not."""


class KeyProvider(Protocol):
    """Keeps one root slot: some 300 opaque bytes, replaced whenever a consent is given or withdrawn.

    Write your own for a place that none of ours knows. The cache relies on these promises:

    - **Whole.** `load` gives exactly what `create` or `store` last kept: never a part, never a mixture,
      also when the process was killed, the disk ran full or the power went inside `store`. After a `store`
      that did not return, it gives the slot before or the slot after.
    - **Durable.** When `create` or `store` returns, what it kept survives a power cut. The keystore
      overwrites what only the former slot could open as soon as `store` returned.
    - **Made once.** Of many processes that call `create` at once, one gets True, and its slot is the one
      kept.
    - **The old one goes.** What `store` replaced is put out of reach as far as `assurance` claims. An
      erasure is no stronger than this.
    - **Refused, not changed.** Whatever cannot be done raises a `StorageError` (or one below it) and
      changes nothing. No slot, passphrase or PIN stands in a message, a `repr` or a log.

    `store` is called by one process at a time (the one that has the database open), `exists`, `load` and
    `create` by any. A provider need not be thread-safe.

    A provider may say `tpm` only if all of this holds: the slot, or the key that opens it, never leaves
    hardware except to whoever proved the right to it; replacing destroys the old one *inside* that
    hardware, or bars it there (a sealed file needs a monotonic counter of the hardware in its policy, else
    an old copy of the file opens again); and none of it rests on what is stored on a disk. A software token
    is `file`.
    """

    @property
    def assurance(self) -> Assurance:
        """How strong "the old slot is gone" is here. It goes into receipts: it is stated, never implied."""
        ...

    def exists(self) -> bool:
        """Whether a slot is kept; `StorageError` when that cannot be told: not knowing is not False."""
        ...

    def load(self) -> bytes:
        """The slot.

        Raises `KeyMissing` when there is none, `KeyMismatch` when the secret that was given (a passphrase, a
        PIN) is not the right one, `KeyUnreadable` when what is kept there is damaged or no slot.
        """
        ...

    def create(self, slot: bytes) -> bool:
        """Keep a first slot, durable when this returns; False, changing nothing, when there is one."""
        ...

    def store(self, slot: bytes) -> None:
        """Keep `slot` in place of what was there, whole or not at all, durable when this returns."""
        ...


class KeyFile:
    """A root slot in a file of mode 0600. Assurance `file`: remnants on the disk are not excluded.

    The file is made by `Runtime.open`, and only when neither it nor the database exists.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = SlotFile(path, "key file")

    def __repr__(self) -> str:
        return f"KeyFile({str(self._file)!r})"

    @property
    def assurance(self) -> Assurance:
        """`file`."""
        return "file"

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._file.exists()

    def load(self) -> bytes:
        """The slot; refuses a file that others than its owner can read (`StorageError`)."""
        return self._file.read()

    def create(self, slot: bytes) -> bool:
        """Make the file; False when it is there already."""
        return self._file.create(slot)

    def store(self, slot: bytes) -> None:
        """Replace the file; what it held is overwritten where it stood, as far as the file system does so."""
        self._file.replace(slot)


class KeyMemory:
    """A root slot in memory: when the process ends, whatever it sealed is unreadable for good."""

    def __init__(self) -> None:
        self._slot: bytearray | None = None

    def __repr__(self) -> str:
        return "KeyMemory()"

    @property
    def assurance(self) -> Assurance:
        """`memory`."""
        return "memory"

    def exists(self) -> bool:
        """Whether a slot is kept."""
        return self._slot is not None

    def load(self) -> bytes:
        """The slot; raises `KeyMissing` when there is none."""
        if self._slot is None:
            raise KeyMissing("the key was in memory and is gone; nothing was created")
        return bytes(self._slot)

    def create(self, slot: bytes) -> bool:
        """Keep a first slot; False when there is one already."""
        if self._slot is not None:
            return False
        self._slot = bytearray(slot)
        return True

    def store(self, slot: bytes) -> None:
        """Replace the slot, overwriting the old one where it stood."""
        old, self._slot = self._slot, bytearray(slot)
        if old is not None:
            wipe(old)
