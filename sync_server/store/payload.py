"""A row's payload at rest: as it is when it is about nobody, sealed under the subject's key otherwise."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import InvalidTag

from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import canonical
from sync_server.errors import StoreForeign
from sync_server.store.keys import KeyDatabase

NONCE_BYTES: Final = 12


def seal_payload(keys: KeyDatabase, row: Row, subject: bytes | None, purpose: str | None) -> bytes:
    """What to store of `row.values`. Bound to entity, view, version, subject, purpose and grant."""
    if subject is None or purpose is None or row.deleted:
        return row.values
    key, nonce = keys.make(subject, purpose, row.grant), keys.nonce()
    name = (row.entity, row.view, row.version, subject, purpose, row.grant)
    return nonce + key.encrypt(nonce, row.values, canonical(name))


def open_payload(keys: KeyDatabase, name: tuple[Any, ...], stored: bytes) -> bytes:
    """The values in what was stored under (entity, view, version, subject, purpose, grant).

    Raises `StoreForeign` when the key is gone, or is not the one that sealed it.
    """
    if name[3] is None or name[4] is None or not stored:
        return stored
    key = keys.find(*name[3:])
    if key is None:
        raise StoreForeign("a personal row has lost its key; the row was not opened")
    try:
        return key.decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], canonical(name))
    except InvalidTag:
        raise StoreForeign("a personal row does not open under its key; nothing was changed") from None
