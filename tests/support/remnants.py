"""What somebody finds who has a root slot and a keystore: every node that it leads to, and every data key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge_runtime.keys import node, trunk
from edge_runtime.keys.entry import decode as decode_entry
from edge_runtime.keys.node import Ref
from edge_runtime.keys.slot import decode as decode_slot


class Found(NamedTuple):
    """A node: the key that opens it, and its sealed bytes."""

    key: bytes
    sealed: bytes


class Reach(NamedTuple):
    """All that a slot opens."""

    nodes: list[Found]
    secrets: dict[str, bytes]
    """`subject/purpose` -> data key."""

    @property
    def keys(self) -> set[bytes]:
        """Every key that can be tried."""
        return {found.key for found in self.nodes} | set(self.secrets.values())


def reach(slot_file: Path, keystore: Path) -> Reach:
    """Everything that the slot in `slot_file` opens in `keystore`."""
    slot, raw = decode_slot(slot_file.read_bytes()), keystore.read_bytes()
    assert slot.root is not None
    context = b"EDGEKEYS2" + slot.database_id
    root = slot.root
    sealed = raw[root.offset : root.offset + root.length]
    top = trunk.decode(node.unseal(bytearray(root.key), sealed, context))
    found = [Found(root.key, sealed)]
    secrets: dict[str, bytes] = {}
    for ref, plain in _below(top.root_of_tree, raw, context):
        found.append(Found(bytes(ref.key), raw[ref.offset : ref.offset + ref.length]))
        if ref.leaf:
            for entry in map(decode_entry, node.unpack_leaf(plain).values()):
                secrets |= {f"{entry.subject}/{p}": bytes(k.secret) for p, k in entry.keys.items()}
    return Reach(found, secrets)


def _below(ref: Ref | None, raw: bytes, context: bytes) -> Iterator[tuple[Ref, bytearray]]:
    if ref is None:
        return
    plain = node.unseal(ref.key, raw[ref.offset : ref.offset + ref.length], context)
    yield ref, plain
    if not ref.leaf:
        for _, child in node.children(plain):
            yield from _below(child, raw, context)


def opens(key: bytes, sealed: bytes, context: bytes) -> bool:
    """Whether a node opens under a key."""
    try:
        AESGCM(key).decrypt(bytes(12), sealed, context)
    except InvalidTag:
        return False
    return True
