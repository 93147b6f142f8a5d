"""Which of PyPI `keyring`'s backends may keep a slot, what each deserves to be called, and how it is written.

A closed list: a backend that is not in it is refused, and nothing takes its place. `keyring` itself falls
back, to a chain of whatever is installed, plain text included; here the backend that would be written to is
looked at, and used directly.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast

from edge_runtime.errors import MissingExtra, StorageError
from edge_runtime.keys import files
from edge_runtime.keys.providers import Assurance

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

Write = Callable[["KeyringBackend", str, str, str], None]
"""(backend, service, account, text): keep `text` there, whole or not at all."""


class Keychain(NamedTuple):
    """A backend and what is known of it."""

    backend: KeyringBackend
    assurance: Assurance
    write: Write


def keychain() -> Keychain:
    """The backend that `keyring` would write to.

    Raises `MissingExtra` without `keyring`; `StorageError` when there is no keychain, or one not in the list.
    """
    try:
        import keyring
        from keyring.backends.chainer import ChainerBackend
    except ImportError:
        raise MissingExtra("keyring", "keyring") from None
    unusable: tuple[type[Exception], ...] = (*failures(), ImportError, AttributeError, configparser.Error)
    try:
        chosen = keyring.get_keyring()
        chain = list(ChainerBackend.backends) if _name(chosen) == _CHAIN else None
    except unusable as error:
        raise _none(f"keyring's backend cannot be had ({type(error).__name__})") from None
    if chain is None:
        return _taken(chosen, _TAKEN)
    # nobody chose a chain: only a keychain may stand at its head, a file there would be a silent fallback
    return _taken(chain[0], _KEYCHAINS)


def failures() -> tuple[type[Exception], ...]:
    """What a backend raises when it cannot do what it was asked, `keyring`'s own errors among them.

    Backends let through what lies below them: D-Bus, files, an entry that does not parse.
    """
    from keyring.errors import KeyringError

    known: list[type[Exception]] = [KeyringError, OSError, RuntimeError, ValueError]
    known += [AssertionError, EOFError, LookupError]  # keyrings.alt: a damaged entry, no terminal to ask on
    if "secretstorage" in sys.modules:
        from jeepney import DBusErrorResponse
        from secretstorage.exceptions import SecretStorageException

        known += [SecretStorageException, DBusErrorResponse]
    return tuple(known)


def _write(backend: KeyringBackend, service: str, account: str, text: str) -> None:
    backend.set_password(service, account, text)


def _write_secret_service(backend: KeyringBackend, service: str, account: str, text: str) -> None:
    """gnome-keyring makes its new file durable, but not that it stands in the old one's place."""
    backend.set_password(service, account, text)
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    with contextlib.suppress(OSError):  # another Secret Service keeps its files elsewhere
        files.sync_folder(Path(data) / "keyrings" / "login.keyring")


class _FileBacked(Protocol):
    file_path: str


def _write_file(backend: KeyringBackend, service: str, account: str, text: str) -> None:
    """The backend rewrites its file in place, and a kill would cost all of it: let it write to a copy."""
    path = Path(cast(_FileBacked, backend).file_path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".scratch")
    scratch.unlink(missing_ok=True)
    try:
        if path.exists():
            files.create(scratch, path.read_bytes())
        writer = backend.with_properties(file_path=str(scratch))
        writer.set_password(service, account, text)
        files.replace(path, scratch.read_bytes())
    finally:
        scratch.unlink(missing_ok=True)
    # what it asked its user for need not be asked again
    vars(backend).update((name, value) for name, value in vars(writer).items() if name != "file_path")


_CHAIN: Final = "keyring.backends.chainer.ChainerBackend"
_KEYCHAINS: Final[dict[str, tuple[Assurance, Write]]] = {
    "keyring.backends.SecretService.Keyring": ("os_keychain", _write_secret_service),
    "keyring.backends.libsecret.Keyring": ("os_keychain", _write_secret_service),
    "keyring.backends.kwallet.DBusKeyring": ("os_keychain", _write),
    "keyring.backends.macOS.Keyring": ("os_keychain", _write),
}
_TAKEN: Final = {
    **_KEYCHAINS,
    # no keychain but a file on the same disk, under a cipher that is not authenticated and a weak PBKDF2
    "keyrings.alt.file.EncryptedKeyring": ("file", _write_file),
}


def _taken(backend: KeyringBackend, known: dict[str, tuple[Assurance, Write]]) -> Keychain:
    entry = known.get(_name(backend))
    if entry is None:
        raise _none(f"expected a keychain of the operating system, got {_name(backend)}, which is refused")
    return Keychain(backend, *entry)


def _none(what: str) -> StorageError:
    return StorageError(
        f"{what}: start and unlock the system's keychain (on Linux a Secret Service on the session bus), or "
        "keep the key with KeyPassphrase or KeyFile; nothing was changed"
    )


def _name(backend: KeyringBackend) -> str:
    kind = type(backend)
    return f"{kind.__module__}.{kind.__qualname__}"
