"""A device names the next key that it signs with; the one before is kept, for receipts that still wait."""

from __future__ import annotations

from edge_runtime.wire import messages as m
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from sync_server.sync.node import Node


def change_key(node: Node, device_id: str, change: m.KeyChange) -> m.KeyChanged | m.Refusal:
    """The answer to a key change, made after its commit. The same change again gives the same answer.

    Refused about the new key: as `bad_signature` when either signature does not verify, or the key is or was
    in use; as `overloaded` when the last change was a moment ago.
    """
    now_us, settings = node.clock.now_us(), node.settings
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
                last_us = tx.key_changed_us(device_id)
                wait_us = 0 if last_us is None else last_us + settings.key_change_us - now_us
                if 0 < wait_us <= settings.key_change_us:  # else the clock was set
                    return _refused("overloaded", change, wait_us)
                tx.change_key(device_id, change.public_key, now_us, settings.device_keys_kept)
    except WireFailure as failure:
        return _refused(failure.code, change)
    return m.KeyChanged(public_key=change.public_key)


def _refused(code: str, change: m.KeyChange, retry_after_us: int = 0) -> m.Refusal:
    return m.Refusal(code=code, about=change.public_key.hex(), retry_after_us=retry_after_us)
