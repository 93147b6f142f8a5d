"""Every place where a root slot can rest, as one kind of thing: opened anew, as another process would."""

from __future__ import annotations

import functools
import gc
import os
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import keyring.core
import pkcs11
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import SecretService as secret_service_backend
from keyrings.alt.file import EncryptedKeyring

import edge_runtime as er
from edge_runtime.errors import StorageError
from edge_runtime.keys.providers import Assurance, KeyProvider
from examples import pkcs11_key
from examples.pkcs11_key import TokenKey
from tests.support import secret_service, softhsm

PASSPHRASE = "a passphrase of the contract"
Hook = Callable[[], None]


class Place(NamedTuple):
    """One place that can keep many slots, each under a name."""

    open: Callable[[str], KeyProvider]
    """A new provider for the slot of that name, as another process would have."""
    assurance: Assurance
    secrets: tuple[str, ...] = ()
    """What opens it."""
    file: Callable[[str], Path] | None = None
    """The file that a slot rests in, where a replaced one is overwritten."""
    no_room: Callable[[], AbstractContextManager[None]] = nullcontext
    """Until its end nothing can be written, by whoever writes for this process."""
    steps: int = 2
    """At least so many points of `store` at which a kill may fall."""
    revived: Callable[[], bool] = lambda: False
    """Whether what keeps the slots had failed by itself; then it is there again, empty."""


NAMES = ("file", "passphrase", "memory", "encrypted_keyring", "secret_service", "pkcs11")


@contextmanager
def place(name: str, folder: Path) -> Iterator[Place]:
    """The place, started in `folder`; skips the test when what it needs is not installed."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            patch.delenv(variable, raising=False)
        yield _PLACES[name](folder, patch, stack)


def _file(folder: Path, _: pytest.MonkeyPatch, __: ExitStack) -> Place:
    def path(name: str) -> Path:
        return folder / name

    return Place(lambda name: er.KeyFile(path(name)), "file", file=path, no_room=no_room, steps=10)


def _passphrase(folder: Path, _: pytest.MonkeyPatch, __: ExitStack) -> Place:
    def path(name: str) -> Path:
        return folder / name

    def made(name: str) -> KeyProvider:
        return er.KeyPassphrase(path(name), PASSPHRASE, memory_kib=7_168, iterations=5)

    return Place(made, "passphrase", (PASSPHRASE,), file=path, no_room=no_room, steps=10)


def _memory(_: Path, __: pytest.MonkeyPatch, ___: ExitStack) -> Place:
    kept: dict[str, er.KeyMemory] = {}

    def made(name: str) -> KeyProvider:
        return kept.setdefault(name, er.KeyMemory())

    return Place(made, "memory")


def _encrypted_keyring(folder: Path, patch: pytest.MonkeyPatch, _: ExitStack) -> Place:
    patch.setattr("getpass.getpass", lambda *_: PASSPHRASE)

    def made(name: str) -> KeyProvider:
        return _in(patch, EncryptedKeyring(), name)

    def path(name: str) -> Path:
        return folder / ".local/share/python_keyring/crypted_pass.cfg"

    return Place(made, "file", (PASSPHRASE,), file=path, no_room=no_room, steps=10)


def _secret_service(folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> Place:
    if secret_service.MISSING:
        pytest.skip(f"a real Secret Service needs {' and '.join(secret_service.MISSING)}")
    service = stack.enter_context(secret_service.secret_service(folder))
    for variable, value in service.env.items():
        patch.setenv(variable, value)

    def made(name: str) -> KeyProvider:
        return _in(patch, secret_service_backend.Keyring(), name)

    stack.callback(let_go_of_connections)
    return Place(made, "os_keychain", no_room=service.no_room, revived=service.revived)


def _pkcs11(folder: Path, patch: pytest.MonkeyPatch, _: ExitStack) -> Place:
    if not softhsm.MODULES:
        pytest.skip("a PKCS#11 token in software needs softhsm2")
    patch.setenv("SOFTHSM2_CONF", str(softhsm.make_token(folder)))
    pkcs11.lib(str(softhsm.MODULES[0])).reinitialize()  # it reads its settings once

    def made(name: str) -> KeyProvider:
        module, token, pin = softhsm.MODULES[0], softhsm.TOKEN, softhsm.PIN
        return TokenKey(module, token, pin, label=name)

    return Place(made, "file", (softhsm.PIN,), steps=3)


def _in(patch: pytest.MonkeyPatch, backend: KeyringBackend, name: str) -> KeyProvider:
    """A provider over `backend`, chosen by name."""
    patch.setattr(keyring.core, "_keyring_backend", backend)
    provider = er.KeyKeyring(name)
    assert provider.assurance, "the backend is looked for at the first use"
    return provider


_PLACES: dict[str, Callable[[Path, pytest.MonkeyPatch, ExitStack], Place]] = {
    "file": _file,
    "passphrase": _passphrase,
    "memory": _memory,
    "encrypted_keyring": _encrypted_keyring,
    "secret_service": _secret_service,
    "pkcs11": _pkcs11,
}


def despite_aborts(test: Callable[..., None]) -> Callable[..., None]:
    """The test again, thrice at most, when it failed because what keeps the slots had aborted by itself."""

    @functools.wraps(test)
    def run(**fixtures: object) -> None:
        places = [value for value in fixtures.values() if isinstance(value, Place)]
        for _ in range(3):
            try:
                return test(**fixtures)
            except (StorageError, AssertionError):
                if not any(one.revived() for one in places):
                    raise
        return test(**fixtures)

    return run


def let_go_of_connections() -> None:
    """`keyring` leaves its connection open when the service refuses; Python would say so in a later test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@contextmanager
def no_room() -> Iterator[None]:
    """No file of this process may grow beyond a few bytes: the kernel refuses, in Python and below it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def hook_durable_calls(hook: Hook) -> None:
    """For good, in a process that is about to end: call `hook` before and after whatever changes a place."""
    for name in ("write", "pwrite", "ftruncate", "fsync", "link", "replace", "unlink"):
        setattr(os, name, _hooked(getattr(os, name), hook))
    for backend in (EncryptedKeyring, secret_service_backend.Keyring):
        setattr(backend, "set_password", _hooked(backend.set_password, hook))  # noqa: B010 (a method, to mypy)
    # around the token's own calls, which are not Python's to hook
    pkcs11_key._packed = _hooked(pkcs11_key._packed, hook)  # type: ignore[assignment]
    pkcs11_key._unpacked = _hooked(pkcs11_key._unpacked, hook)  # type: ignore[assignment]


def _hooked(real: Callable[..., object], hook: Hook) -> Callable[..., object]:
    def call(*given: object, **named: object) -> object:
        hook()
        found = real(*given, **named)
        hook()
        return found

    return call
