"""A device names the next key that it signs with; the one before is kept, for receipts that still wait."""

from __future__ import annotations

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.sync.node import Node


def change_key(node: Node, device_id: str, change: m.KeyChange) -> m.KeyChanged | m.Refusal:
    """The answer to a key change, made after its commit. The same change again gives the same answer.

    Refused as `bad_signature`, about the new key: either signature does not verify, or the key is or was
    another's.
    """
    try:
        with node.store.write("key_change") as tx:
            device = tx.device(device_id)
            assert device is not None
            if device.public_key != change.public_key:
                body = seal.key_change_bytes(device_id, device.public_key, change.public_key)
                seal.verify(device.public_key, seal.KEY_CHANGE, body, change.signature)
                seal.verify(change.public_key, seal.KEY_CHANGE, body, change.new_signature)
                if tx.key_was_used(change.public_key):
                    raise WireFailure("bad_signature", "the key is or was in use")
                tx.change_key(device_id, change.public_key, node.clock.now_us())
    except WireFailure as failure:
        return m.Refusal(code=failure.code, about=change.public_key.hex())
    return m.KeyChanged(public_key=change.public_key)
