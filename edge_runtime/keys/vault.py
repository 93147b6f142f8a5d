"""Slot and keystore on disk: in which order they are read and written, so that a kill at any point is mended.

Opening takes two steps, because another process may hold the files: `Vault.open` reads the root slot only;
`read`, called once the database's lock is ours, reads the keystore's trunk. A change appends new nodes and a
new trunk to the keystore and makes them durable; then the slot is replaced by one that points to them. So a
kill leaves the slot before or the slot after, and each finds its own nodes whole: nothing they need is
overwritten in between. What a change replaced is overwritten once the next change is durable, and at once
when a key was destroyed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from edge_runtime.cache import failure
from edge_runtime.errors import EdgeError, KeyMissing, KeystoreMismatch, StorageError
from edge_runtime.keys import files, node, trunk
from edge_runtime.keys.entry import Entry
from edge_runtime.keys.entry import decode as decode_entry
from edge_runtime.keys.node import mismatch
from edge_runtime.keys.nodefile import HEADER_BYTES, DiskNodes, MemoryNodes, NodeFile, generation_of
from edge_runtime.keys.providers import KeyMemory, KeyProvider
from edge_runtime.keys.secret import wipe
from edge_runtime.keys.slot import Root, Slot, decode
from edge_runtime.keys.tree import Extent, Tree
from edge_runtime.keys.trunk import TreeRoot, Trunk

Step = Callable[[str], None]

_CONTEXT = b"EDGEKEYS2"


def no_step(_: str) -> None:
    """The hook that does nothing."""


class Vault:
    """The root slot behind its provider, and the keystore that it points into. Not thread-safe."""

    def __init__(
        self, provider: KeyProvider, path: Path | None, slot: Slot, *, discard: bool = False
    ) -> None:
        self.provider, self.slot = provider, slot
        self._path, self._discard = path, discard
        self.discarded = False
        """Whether a keystore was given up at this opening."""
        self._trunk: Trunk | None = None
        self._tree: Tree | None = None
        self._waste: list[Extent] = []
        """What the last change replaced."""

    # ---- opening ----------------------------------------------------------------------------------------

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
            if not discard:
                raise KeyMissing(
                    "a key without its database: the file is not there; nothing was created. Put it back, or "
                    "open with recover='discard' to begin anew under new keys"
                )
            slot = Slot.new(slot.counter + 1)  # nothing new is ever sealed under a key that outlived its file
            provider.store(slot.encode())
        return cls(provider, path, slot, discard=discard)

    def read(self) -> Trunk:
        """The trunk that the slot points to; see `Keyring.load`. Writes only to discard, or to finish a swap.

        Raises `KeystoreMismatch`, with nothing touched.
        """
        self.slot = decode(self.provider.load())
        try:
            return self._read()
        except KeystoreMismatch:
            self.close()
            if not self._discard:
                raise
            return self._discarded()

    def _read(self) -> Trunk:
        root = self.slot.root
        if root is None:
            self._trunk = Trunk.new()
            return self._trunk
        if self._path is not None:
            self._file(root)
        assert self._tree is not None, "a keystore in memory stays with its vault"
        self._trunk = self._open_trunk(self._tree.file, root)
        self._tree.root = self._trunk.root_of_tree
        return self._trunk

    def _file(self, root: Root) -> None:
        """Open the file of the slot's generation; a swap that was cut short is finished."""
        assert self._path is not None
        try:
            if generation_of(self._path) != self.slot.generation:
                fresh = next_path(self._path)
                if generation_of(fresh) != self.slot.generation:
                    there = self._path.exists()
                    raise mismatch("is an old copy, or another's" if there else "is missing")
                fresh.rename(self._path)
                files.sync_folder(self._path)
            opened = DiskNodes.open(self._path, root.offset + root.length)
        except OSError as error:
            raise failure.of_file(error, "keystore") from None
        self._tree = Tree(opened, None, self.context)

    def _open_trunk(self, file: NodeFile, root: Root) -> Trunk:
        plain = node.unseal(bytearray(root.key), file.read(root.offset, root.length), self.context)
        try:
            return trunk.decode(plain)
        finally:
            wipe(plain)

    def _discarded(self) -> Trunk:
        """Set the keystore aside and move to a new root, under which it will never open."""
        assert self._path is not None
        if self._path.exists():
            aside = self._path.with_name(f"{self._path.name}.aside-{secrets.token_hex(4)}")
            try:
                self._path.rename(aside)
                files.sync_folder(self._path)
            except OSError as error:
                raise failure.of_file(error, "keystore") from None
        self._tree, self.discarded = None, True
        self._store(msgspec.structs.replace(self.slot, root=None, counter=self.slot.counter + 1))
        self._trunk = Trunk.new()
        return self._trunk

    # ---- reading ----------------------------------------------------------------------------------------

    @property
    def context(self) -> bytes:
        """Bound into every node."""
        return _CONTEXT + self.slot.database_id

    @property
    def trunk(self) -> Trunk:
        """What stands beside the tree."""
        assert self._trunk is not None, "load() was not called"
        return self._trunk

    @property
    def tree(self) -> Tree:
        """The key tree; made with the first change."""
        if self._tree is None:
            self._tree = Tree(self._made_file(), None, self.context)
        return self._tree

    def _made_file(self) -> NodeFile:
        if self._path is None:
            return MemoryNodes()
        try:
            return DiskNodes.create(self._path, self.slot.generation)
        except OSError as error:
            raise failure.of_file(error, "keystore") from None

    def find(self, pseudonym: bytes) -> Entry | None:
        """What the tree holds of a subject, to be wiped by the caller.

        Raises `KeystoreMismatch` when a node on the way is damaged.
        """
        raw = None if self._tree is None else self._asked(self._tree, pseudonym)
        return None if raw is None else _opened(raw)

    def after(self, pseudonym: bytes | None) -> list[tuple[bytes, Entry]]:
        """Some entries after a pseudonym, in order; none at the end. None: from the start."""
        if self._tree is None:
            return []
        try:
            return [(id_, _opened(raw)) for id_, raw in self._tree.after(pseudonym).items()]
        except OSError as error:
            raise failure.of_file(error, "keystore") from None

    def read_anew(self, pseudonym: bytes) -> Entry | None:
        """As `find`, from the slot as its provider has it now, with nothing that memory holds."""
        slot = decode(self.provider.load())
        if slot.root is None or self._tree is None:
            return None
        file = self._tree.file
        trunk_now = self._open_trunk(file, slot.root)
        raw = self._asked(Tree(file, trunk_now.root_of_tree, self.context), pseudonym)
        return None if raw is None else _opened(raw)

    @staticmethod
    def _asked(tree: Tree, pseudonym: bytes) -> bytearray | None:
        try:
            return tree.find(pseudonym)
        except OSError as error:
            raise failure.of_file(error, "keystore") from None

    @property
    def waste_bytes(self) -> int:
        """How much of the file no living root reaches."""
        return 0 if self._tree is None else self._tree.file.end - HEADER_BYTES - self.trunk.live_bytes

    # ---- changing ---------------------------------------------------------------------------------------

    def commit(
        self,
        after: Trunk,
        entries: Mapping[bytes, Entry],
        step: Step = no_step,
        *,
        turn: bool = False,
    ) -> Trunk:
        """Take in `entries` (an empty one is dropped) and the trunk's new facts; durable when it returns.

        Points for `step`: `keystore`, `slot_new`.

        Args:
            turn: a key is destroyed: the counter grows, and what only older roots reach is overwritten.

        Raises `StorageError`, `StorageFull`: what stood before stands, unless the slot was replaced already;
        then this vault reads from it.
        """
        tree, end = self.tree, self.tree.file.end
        raw = {id_: None if entry.empty else entry.encode() for id_, entry in entries.items()}
        try:
            change = tree.changed(raw)
            live = self.trunk.live_bytes + change.grown_bytes
            made = msgspec.structs.replace(after, tree=TreeRoot.of(change.root), live_bytes=live)
            root = self.append_trunk(tree.file, made)
            tree.file.sync()
            step("keystore")
            replaced = [*change.replaced, *self._old_trunk()]
            self._store(msgspec.structs.replace(self.slot, root=root, counter=self.slot.counter + turn))
            step("slot_new")
        except OSError as error:
            self._stand_again(end)
            raise failure.of_file(error, "keystore") from None
        except EdgeError:
            self._stand_again(end)
            raise
        finally:
            for part in raw.values():
                if part is not None:
                    wipe(part)
        tree.adopt(change)
        self._trunk = made
        self._overwrite(self._waste)
        self._waste = replaced
        if turn:
            self._overwrite(replaced)
        return made

    def store(self, **fields: object) -> None:
        """Replace fields of the slot."""
        self._store(msgspec.structs.replace(self.slot, **fields))

    def swap(self, tree: Tree, root: Root, made: Trunk, *, turn: bool) -> None:
        """A copy of everything is complete and durable in `next_path`: move over to it.

        Args:
            turn: the copy is under new keys throughout: the counter grows.
        """
        assert self._path is not None
        counter = self.slot.counter + turn
        self.store(root=root, generation=self.slot.generation + 1, counter=counter)
        old, self._tree, self._trunk, self._waste = self.tree, tree, made, []
        old.wipe()
        old.file.close()
        try:
            next_path(self._path).rename(self._path)
            files.sync_folder(self._path)
        except OSError as error:  # the slot names the next file: opening finishes what is left
            raise failure.of_file(error, "keystore") from None

    def append_trunk(self, file: NodeFile, made: Trunk) -> Root:
        """Append a trunk to `file`; returns the root that opens it."""
        plain = made.encode()
        key, sealed = node.seal(plain, self.context)
        wipe(plain)
        return Root(bytes(key), file.append(sealed), len(sealed))

    def _old_trunk(self) -> list[Extent]:
        root = self.slot.root
        return [] if root is None else [Extent(root.offset, root.length)]

    def _overwrite(self, extents: list[Extent]) -> None:
        """Best effort: nothing depends on it."""
        try:
            for extent in extents:
                self.tree.file.zero(*extent)
        except OSError:
            return

    def _stand_again(self, end: int) -> None:
        """Something failed: work out from the slot where we stand."""
        try:
            slot = decode(self.provider.load())
        except StorageError:
            slot = self.slot
        if slot == self.slot:
            self.tree.file.forget(end)
            return
        self.slot = slot
        if slot.root is not None:
            self._trunk = self._open_trunk(self.tree.file, slot.root)
            self.tree.wipe()
            self.tree.root = self._trunk.root_of_tree

    def _store(self, slot: Slot) -> None:
        self.provider.store(slot.encode())
        self.slot = slot

    def close(self) -> None:
        """Overwrite opened nodes and let the file go."""
        if self._tree is not None and self._path is not None:
            self._tree.wipe()
            self._tree.file.close()
            self._tree = None

    @property
    def path(self) -> Path | None:
        """The keystore's file; None in memory."""
        return self._path


def next_path(path: Path) -> Path:
    """The file that a compaction makes."""
    return path.with_name(path.name + ".next")


def _opened(raw: bytearray) -> Entry:
    try:
        return decode_entry(raw)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, ValueError, IndexError):
        raise mismatch("was written by another release") from None
    finally:
        wipe(raw)


def _refuse_half(database_exists: bool, keystore: Path) -> None:
    if database_exists:
        raise KeyMissing("a database without its key: nothing was created")
    if keystore.exists():
        raise KeyMissing(
            "a keystore without key and database: nothing was created; put them back, or remove the keystore "
            "to begin anew"
        )
