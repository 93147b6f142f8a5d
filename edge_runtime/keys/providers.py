"""Where the root slot rests. A provider keeps opaque bytes and says how well it keeps them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal, Protocol

from edge_runtime.cache import failure
from edge_runtime.errors import KeyMissing, StorageError
from edge_runtime.keys import files

Assurance = Literal["memory", "file", "passphrase", "os_keychain", "tpm"]


class KeyProvider(Protocol):
    """Keeps one root slot. `assurance` goes into receipts: it is stated, never implied."""

    @property
    def assurance(self) -> Assurance:
        """How strong "the old root is gone" is here."""
        ...

    def exists(self) -> bool:
        """Whether a slot is kept."""
        ...

    def load(self) -> bytes:
        """The slot; raises `KeyMissing` when there is none."""
        ...

    def create(self, slot: bytes) -> bool:
        """Keep a first slot; False, changing nothing, when there is one already."""
        ...

    def store(self, slot: bytes) -> None:
        """Replace the slot, whole or not at all, durable when this returns."""
        ...


class KeyFile:
    """A root slot in a file of mode 0600. Assurance `file`: remnants on the disk are not excluded.

    The file is made by `Runtime.open`, and only when neither it nor the database exists.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"

    @property
    def assurance(self) -> Assurance:
        """`file`."""
        return "file"

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._path.exists()

    def load(self) -> bytes:
        """The slot; refuses a file that others than its owner can read (`StorageError`)."""
        try:
            if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                raise StorageError("the key file can be read by others: expected mode 0600; nothing opened")
            return self._path.read_bytes()
        except FileNotFoundError:
            raise KeyMissing("the key file is not there; nothing was created") from None
        except OSError as error:
            raise failure.of_file(error, "key file") from None

    def create(self, slot: bytes) -> bool:
        """Make the file; False when it is there already."""
        try:
            files.create(self._path, slot)
        except FileExistsError:
            return False
        except OSError as error:
            raise failure.of_file(error, "key file") from None
        return True

    def store(self, slot: bytes) -> None:
        """Replace the file."""
        try:
            files.replace(self._path, slot)
        except OSError as error:
            raise failure.of_file(error, "key file") from None


class KeyMemory:
    """A root slot in memory: when the process ends, whatever it sealed is unreadable for good."""

    def __init__(self) -> None:
        self._slot: bytes | None = None

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
        return self._slot

    def create(self, slot: bytes) -> bool:
        """Keep a first slot; False when there is one already."""
        if self._slot is not None:
            return False
        self._slot = slot
        return True

    def store(self, slot: bytes) -> None:
        """Replace the slot."""
        self._slot = slot
