"""Slot and keystore on disk: in which order they are read and written, so that a kill at any point is mended.

Opening takes two steps, because another process may hold the files: `Vault.open` reads the root slot only;
`read`, called once the database's lock is ours, reads the keystore. Written is the keystore, then the slot
that names its revision; a kill in between leaves a keystore that is newer than its slot says, which is
believed. An older one is not.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_runtime.cache import failure
from edge_runtime.errors import KeyMissing, KeystoreMismatch
from edge_runtime.keys import files
from edge_runtime.keys.datakey import device_record
from edge_runtime.keys.keystore import Keystore, mismatch, open_sealed, seal
from edge_runtime.keys.providers import KeyMemory, KeyProvider
from edge_runtime.keys.slot import Slot, decode

Step = Callable[[str], None]


def no_step(_: str) -> None:
    """The hook that does nothing."""


class Vault:
    """The root slot behind its provider and the sealed keystore file it names."""

    def __init__(
        self, provider: KeyProvider, path: Path | None, slot: Slot, *, discard: bool = False
    ) -> None:
        self.provider, self.slot = provider, slot
        self._path, self._discard = path, discard

    @classmethod
    def open(cls, provider: KeyProvider, path: Path | None, database_exists: bool, *, discard: bool) -> Vault:
        """Read the slot, or make the first one; see `Keyring.open`."""
        if path is None:
            vault = cls(KeyMemory(), None, Slot.new())
            vault._store(vault.slot)
            return vault
        if not provider.exists():
            _refuse_half(database_exists, path)
            made = Slot.new()
            if provider.create(made.encode()):
                return cls(provider, path, made)
        slot = decode(provider.load())
        if not database_exists and not slot.fresh:
            raise KeyMissing("a key without its database: the file is not there; nothing was created")
        return cls(provider, path, slot, discard=discard)

    @property
    def unresolved(self) -> bool:
        """Whether a first creation or a change of root was cut short: write, and it is finished."""
        return self.slot.fresh or self.slot.old_root is not None

    def read(self) -> Keystore:
        """The keystore that the slot names; see `Keyring.load`. Writes only to discard."""
        self.slot = decode(self.provider.load())
        try:
            return self._read()
        except KeystoreMismatch:
            if not self._discard:
                raise
            return self._discarded()

    def begin_turn(self) -> None:
        """First step of a change of root: the slot holds both."""
        both = msgspec.structs.replace(self.slot, root=secrets.token_bytes(32), old_root=self.slot.root)
        self._store(both)

    def write(self, keystore: Keystore, step: Step = no_step) -> Keystore:
        """Write the keystore, then the slot; a second root in the slot ends here. Returns what stands now."""
        body = msgspec.structs.replace(keystore, revision=max(keystore.revision, self.slot.revision) + 1)
        if self._path is not None:
            try:
                files.replace(self._path, seal(self.slot, body))
            except OSError as error:
                raise failure.of_file(error, "keystore") from None
        step("keystore")
        turned = self.slot.old_root is not None
        after = msgspec.structs.replace(
            self.slot,
            old_root=None,
            counter=self.slot.counter + turned,
            revision=body.revision,
            fresh=False,
        )
        self._store(after)
        step("slot_new")
        return body

    def _read(self) -> Keystore:
        raw = self._load()
        if raw is None and self.slot.fresh:
            return Keystore.empty(device_record(), self.slot.revision)
        if raw is None:
            raise mismatch("is missing")
        return open_sealed(self.slot, raw)

    def _load(self) -> bytes | None:
        if self._path is None:
            return None
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failure.of_file(error, "keystore") from None

    def _discarded(self) -> Keystore:
        """Set the keystore aside and move to a new root, under which it will never open."""
        assert self._path is not None
        if self._path.exists():
            aside = self._path.with_name(f"{self._path.name}.aside-{secrets.token_hex(4)}")
            try:
                self._path.rename(aside)
                files.sync_folder(self._path)
            except OSError as error:
                raise failure.of_file(error, "keystore") from None
        root, counter = secrets.token_bytes(32), self.slot.counter + 1
        self._store(msgspec.structs.replace(self.slot, root=root, old_root=None, counter=counter, fresh=True))
        return Keystore.empty(device_record(), self.slot.revision)

    def _store(self, slot: Slot) -> None:
        self.provider.store(slot.encode())
        self.slot = slot


def _refuse_half(database_exists: bool, keystore: Path) -> None:
    if database_exists:
        raise KeyMissing("a database without its key: nothing was created")
    if keystore.exists():
        raise KeyMissing(
            "a keystore without key and database: nothing was created; put them back, or remove the keystore "
            "to begin anew"
        )
