"""Compaction: the living nodes move to a fresh file, one child of the root at a time, while changes go on.

Leaves are copied as they are sealed; branches hold the places of their children and are sealed anew. A
rotation is the same with every node under a new key. The slot then names the fresh file: a kill before leaves
a file that the next opening removes, a kill after one that it puts in its place.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edge_runtime.cache import failure
from edge_runtime.errors import EdgeError
from edge_runtime.keys import node
from edge_runtime.keys.node import FANOUT, Ref
from edge_runtime.keys.nodefile import DiskNodes
from edge_runtime.keys.secret import wipe
from edge_runtime.keys.tree import Tree
from edge_runtime.keys.trunk import TreeRoot
from edge_runtime.keys.vault import Step, Vault, next_path, no_step

WASTE_BYTES: Final = 1 << 20
"""Least waste that is worth a compaction."""


def worth_it(vault: Vault, times: int = 1) -> bool:
    """Whether there is so many times more waste in the file than what is alive, and enough of it."""
    return vault.path is not None and vault.waste_bytes > times * max(WASTE_BYTES, vault.trunk.live_bytes)


class Compaction:
    """One move. The keyring's lock guards every call; between two steps the tree may change.

    Args:
        reseal: rotate: every node gets a new key, and the counter grows.

    Raises `StorageFull`, `StorageError` from any call, with the keystore as it was.
    """

    def __init__(self, vault: Vault, *, reseal: bool = False, step: Step = no_step) -> None:
        assert vault.path is not None
        self._vault, self._reseal, self._step = vault, reseal, step
        self._path = next_path(vault.path)
        self._todo = list(range(FANOUT))
        self._copied: dict[int, tuple[int, Ref]] = {}
        """Slot of the root -> (where its child was when it was copied, the copy)."""
        try:
            self._file = DiskNodes.create(self._path, vault.slot.generation + 1)
        except OSError as error:
            raise failure.of_file(error, "keystore") from None

    def advance(self) -> bool:
        """Copy the next child of the root; True once everything stands in the fresh file and counts.

        Points for `step`: `copied` (after each), `complete`, `swapped`.
        """
        try:
            root = self._vault.tree.root
            while self._todo and root is not None and not root.leaf:
                slot = self._todo.pop()
                ref = node.child(self._vault.tree.branch(root), slot)
                if ref is not None:
                    self._copied[slot] = (ref.offset, self._copy(ref))
                    self._file.sync()
                    self._step("copied")
                    return False
            self._finish()
        except OSError as error:
            self.give_up()
            raise failure.of_file(error, "keystore") from None
        except EdgeError:
            self.give_up()
            raise
        return True

    def run(self) -> None:
        """Everything at once."""
        while not self.advance():
            pass

    def give_up(self) -> None:
        """Remove the fresh file; nothing has changed."""
        self._file.close()
        self._path.unlink(missing_ok=True)
        self._todo.clear()

    def _finish(self) -> None:
        vault = self._vault
        root = self._root()
        live = _length(self._file, vault, root)
        made = msgspec.structs.replace(vault.trunk, tree=TreeRoot.of(root), live_bytes=live)
        place = vault.append_trunk(self._file, made)
        self._file.sync()
        self._step("complete")
        vault.swap(Tree(self._file, root, vault.context), place, made, turn=self._reseal)
        self._step("swapped")

    def _root(self) -> Ref | None:
        """The root's copy; children that changed since they were copied are copied again."""
        root, tree = self._vault.tree.root, self._vault.tree
        if root is None or root.leaf:
            return None if root is None else self._copy(root)
        branch = node.new_branch()
        for slot, ref in node.children(bytearray(tree.branch(root))):
            offset, copy = self._copied.pop(slot, (None, None))
            fresh = copy if copy is not None and offset == ref.offset else self._copy(ref)
            node.put_child(branch, slot, fresh)
        return self._sealed(branch, leaf=False)

    def _copy(self, ref: Ref) -> Ref:
        tree = self._vault.tree
        if not ref.leaf:
            branch = bytearray(tree.branch(ref))
            for slot, below in node.children(branch):
                node.put_child(branch, slot, self._copy(below))
            return self._sealed(branch, leaf=False)
        sealed = tree.file.read(ref.offset, ref.length)
        plain = node.unseal(ref.key, sealed, self._vault.context)  # also shows a damaged one before it moves
        if self._reseal:
            return self._sealed(plain, leaf=True)
        wipe(plain)
        return Ref(ref.key, self._file.append(sealed), ref.length, True)

    def _sealed(self, plain: bytearray, *, leaf: bool) -> Ref:
        key, sealed = node.seal(plain, self._vault.context)
        wipe(plain)
        return Ref(key, self._file.append(sealed), len(sealed), leaf)


def _length(file: DiskNodes, vault: Vault, root: Ref | None) -> int:
    """How long the nodes below `root` are."""
    file.sync()
    return Tree(file, root, vault.context).length()
