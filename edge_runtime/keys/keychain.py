"""A root slot in the operating system's keychain, through PyPI `keyring`."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.cache import failure
from edge_runtime.errors import KeyMissing, KeyUnreadable, MalformedRequest, StorageError
from edge_runtime.keys import files
from edge_runtime.keys.keychains import Keychain, failures, keychain
from edge_runtime.keys.providers import Assurance


class KeyKeyring:
    """A root slot as base64 text in the keychain that `keyring` is set to (extra `keyring`).

    Assurance `os_keychain` in Secret Service, KWallet and macOS' Keychain; `file` in `keyrings.alt`'s
    EncryptedKeyring, which must have been chosen by name. Any other backend is refused, and nothing ever
    takes the place of one that is missing (`StorageError`).

    Args:
        service, account: the entry's name. One for each database: a second would find the first one's key.

    The backend is looked for at the first use, and stays. A locked keychain may ask the user. Not
    thread-safe; one runtime calls it from under its own lock.

    Raises `MalformedRequest` for an empty name.
    """

    def __init__(self, service: str, account: str = "edge-runtime") -> None:
        if not service or not account:
            raise MalformedRequest("keychain entry", "a service and an account", "an empty name")
        self._service, self._account = service, account
        self._keychain: Keychain | None = None

    def __repr__(self) -> str:
        return f"KeyKeyring({self._service!r}, {self._account!r})"

    @property
    def assurance(self) -> Assurance:
        """`os_keychain`, or `file` where the backend is a file."""
        return self._chosen().assurance

    def exists(self) -> bool:
        """Whether the entry is there; `StorageError` when the keychain is missing or locked."""
        return self._text() is not None

    def load(self) -> bytes:
        """The slot.

        Raises `KeyMissing`, `KeyUnreadable` (not what we wrote), `StorageError` (no keychain, or locked),
        `MissingExtra`.
        """
        text = self._text()
        if text is None:
            raise KeyMissing("the keychain holds no such key; nothing was created")
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise KeyUnreadable("the keychain's entry is not one of ours; nothing was touched") from None

    def create(self, slot: bytes) -> bool:
        """Make the entry; False, changing nothing, when it is there. No keychain does that in one step."""
        chosen = self._chosen()
        with _turn():
            if self._read(chosen) is not None:
                return False
            self._write(chosen, slot)
            return True

    def store(self, slot: bytes) -> None:
        """Replace the entry, and read it back: `StorageError` when the keychain holds anything else."""
        chosen = self._chosen()
        with _turn():
            self._write(chosen, slot)

    def _text(self) -> str | None:
        chosen = self._chosen()
        with _turn():
            return self._read(chosen)

    def _read(self, chosen: Keychain) -> str | None:
        return chosen.backend.get_password(self._service, self._account)

    def _write(self, chosen: Keychain, slot: bytes) -> None:
        text = base64.b64encode(slot).decode()
        chosen.write(chosen.backend, self._service, self._account, text)
        if self._read(chosen) != text:
            raise StorageError("the keychain took the key and gave back another: expected what was written")

    def _chosen(self) -> Keychain:
        if self._keychain is None:
            self._keychain = keychain()
        return self._keychain


@contextmanager
def _turn() -> Iterator[None]:
    """One of a user's processes at a time, by a lock on the home folder: a keychain may write its file in
    place, or lose an entry for a moment while it replaces it."""
    with _answered(), files.locked(Path.home()):
        yield


@contextmanager
def _answered() -> Iterator[None]:
    """A backend's failures become ours. Only their class is told: what they say may hold anything."""
    from keyring.errors import KeyringLocked

    try:
        yield
    except KeyringLocked:
        raise StorageError("the keychain is locked: unlock it and try again; nothing changed") from None
    except failures() as error:
        if isinstance(error, OSError) and failure.is_full(error):
            raise failure.of_file(error, "keychain") from None
        raise StorageError(
            f"the keychain failed ({type(error).__name__}); it holds what it held, or the key whole"
        ) from None
