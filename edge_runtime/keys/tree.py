"""The key tree: entries by 16-byte id, fan-out 64, copy on write.

An id is a subject's keyed pseudonym, so ids are spread evenly and the tree needs no balancing: six bits of
the id choose the child at each level, and a leaf with more than 64 entries is divided. A change writes new
versions of the leaf and of every branch above it, each under a fresh key. What the older versions held is
reachable only through the older root.

A tree does not know its root's owner (`keys/vault.py`), and changes nothing that rests: `changed` appends new
nodes to the file and returns the reference to the new root.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from edge_runtime.keys import node
from edge_runtime.keys.node import DEPTH_LIMIT, FANOUT, Entries, Ref
from edge_runtime.keys.nodefile import NodeFile
from edge_runtime.keys.secret import wipe

BRANCHES_HELD: Final = 256
"""Most opened branches in memory (2.8 kB each); the least recently used is wiped."""


class Extent(NamedTuple):
    """A stretch of the file."""

    offset: int
    length: int


class Change(NamedTuple):
    """What `Tree.changed` did: the new root, and the nodes that it no longer needs."""

    root: Ref | None
    replaced: list[Extent]
    grown_bytes: int
    """How much longer the living nodes are than they were."""


class Tree:
    """The tree below `root` in one file. Not thread-safe.

    Args:
        context: authenticated with every node.
    """

    def __init__(self, file: NodeFile, root: Ref | None, context: bytes) -> None:
        self.file, self.root, self._context = file, root, context
        self._branches: OrderedDict[int, bytearray] = OrderedDict()
        self._replaced: list[Extent] = []
        self._grown_bytes = 0

    # ---- reading ----------------------------------------------------------------------------------------

    def find(self, id: bytes) -> bytearray | None:
        """The entry of `id`, to be wiped by the caller; None when there is none.

        Raises `KeystoreMismatch` when a node on the way does not open.
        """
        ref, depth = self.root, 0
        while ref is not None and not ref.leaf:
            ref, depth = node.child(self._branch(ref), node.slot_of(id, depth)), depth + 1
        if ref is None:
            return None
        plain = self._open(ref)
        try:
            return node.find_in_leaf(plain, id)
        finally:
            wipe(plain)

    def after(self, id: bytes | None) -> dict[bytes, bytearray]:
        """The entries after `id` in the first leaf that has any; empty at the end. None: from the start."""
        return {} if self.root is None else self._after(self.root, 0, id)

    def _after(self, ref: Ref, depth: int, id: bytes | None) -> dict[bytes, bytearray]:
        if ref.leaf:
            return {found: raw for found, raw in self._leaf(ref).items() if id is None or found > id}
        first = 0 if id is None else node.slot_of(id, depth)
        for slot, below in node.children(bytearray(self._branch(ref))):
            if slot >= first:
                found = self._after(below, depth + 1, id if slot == first else None)
                if found:
                    return found
        return {}

    def length(self) -> int:
        """How long all nodes are together; opens every branch, and no leaf."""
        return 0 if self.root is None else self._length(self.root)

    def _length(self, ref: Ref) -> int:
        if ref.leaf:
            return ref.length
        branch = bytearray(self._branch(ref))
        return ref.length + sum(self._length(below) for _, below in node.children(branch))

    # ---- changing ---------------------------------------------------------------------------------------

    def changed(self, entries: Entries) -> Change:
        """Append what differs when `entries` (id -> entry, None to drop it) are taken in.

        The tree goes on reading from its root as it was; whoever made the new root durable calls `adopt`.
        """
        self._replaced, self._grown_bytes = [], 0
        root = self._changed(self.root, 0, entries)
        return Change(root, self._replaced, self._grown_bytes)

    def adopt(self, change: Change) -> None:
        """The new root is durable: read from it; what only the older one needed leaves memory."""
        self.root = change.root
        for extent in change.replaced:
            branch = self._branches.pop(extent.offset, None)
            if branch is not None:
                wipe(branch)

    def _changed(self, ref: Ref | None, depth: int, entries: Entries) -> Ref | None:
        if ref is not None:
            self._replaced.append(Extent(ref.offset, ref.length))
            self._grown_bytes -= ref.length
        if ref is None or ref.leaf:
            held = {} if ref is None else self._leaf(ref)
            merged: Entries = {**held, **entries}
            made = self._stored({id_: raw for id_, raw in merged.items() if raw is not None}, depth)
            for raw in held.values():
                wipe(raw)
            return made
        branch = bytearray(self._branch(ref))
        for slot, part in node.by_slot(entries, depth).items():
            node.put_child(branch, slot, self._changed(node.child(branch, slot), depth + 1, part))
        return self._append(branch, leaf=False) if any(branch) else None

    def _stored(self, entries: dict[bytes, bytearray], depth: int) -> Ref | None:
        if not entries:
            return None
        if len(entries) <= FANOUT or depth == DEPTH_LIMIT:
            return self._append(node.pack_leaf(entries), leaf=True)
        branch = node.new_branch()
        for slot, part in node.by_slot(entries, depth).items():
            below = {id_: raw for id_, raw in part.items() if raw is not None}
            node.put_child(branch, slot, self._stored(below, depth + 1))
        return self._append(branch, leaf=False)

    def _append(self, plain: bytearray, *, leaf: bool) -> Ref:
        key, sealed = node.seal(plain, self._context)
        wipe(plain)
        self._grown_bytes += len(sealed)
        return Ref(key, self.file.append(sealed), len(sealed), leaf)

    # ---- opening nodes ----------------------------------------------------------------------------------

    def branch(self, ref: Ref) -> bytearray:
        """An opened branch, for whoever copies the tree; it is the tree's own and not to be changed."""
        return self._branch(ref)

    def _branch(self, ref: Ref) -> bytearray:
        held = self._branches.get(ref.offset)
        if held is not None:
            self._branches.move_to_end(ref.offset)
            return held
        plain = self._branches[ref.offset] = self._open(ref)
        if len(self._branches) > BRANCHES_HELD:
            wipe(self._branches.popitem(last=False)[1])
        return plain

    def _leaf(self, ref: Ref) -> dict[bytes, bytearray]:
        plain = self._open(ref)
        try:
            return node.unpack_leaf(plain)
        finally:
            wipe(plain)

    def _open(self, ref: Ref) -> bytearray:
        return node.unseal(ref.key, self.file.read(ref.offset, ref.length), self._context)

    def wipe(self) -> None:
        """Overwrite every opened branch."""
        for branch in self._branches.values():
            wipe(branch)
        self._branches.clear()
