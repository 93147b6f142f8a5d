"""A report that waits to be sent, as it rests on disk: sealed under every permission that it hangs on.

The answer comes from a value of one purpose, and is reported for another. It is sealed under the data keys of
both, one inside the other, so the end of either makes it unreadable, in every copy of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.wire.messages import Bytes16, Micros, Name, Report
from edge_runtime.wire.printing import prints_only

TABLE: Final = "outbox"


@prints_only("metric", "closes_at_us")
class Unsent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One subject's report in one round, drawn and sealed once: it is resent as it is."""

    round_id: Bytes16
    metric: Name
    closes_at_us: Micros
    ticket: Bytes16
    sealed: bytes
    """To the collector: this device reads it no more."""

    def report(self) -> Report:
        """As it is sent: no subject."""
        return Report(round_id=self.round_id, sealed=[self.sealed])


class _Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    handles: list[Bytes16]
    whose: bytes
    """(pseudonym, purpose) of each key, sealed under the device's own: a report names nobody on the disk."""
    sealed: bytes


def seal_unsent(unsent: Unsent, keys: Sequence[DataKey], keyring: Keyring) -> bytes:
    """The outbox payload of `unsent`, sealed under all `keys`."""
    sealed = msgspec.msgpack.encode(unsent)
    for key in keys:
        sealed = key.seal(TABLE, unsent.ticket, sealed)
    pairs = [(keyring.pseudonym(key.subject), key.purpose) for key in keys]
    whose = keyring.device_key().seal(TABLE, unsent.ticket, msgspec.msgpack.encode(pairs))
    return msgspec.msgpack.encode(_Envelope([key.handle for key in keys], whose, sealed))


def keys_of(payload: bytes, ticket: bytes, keyring: Keyring) -> list[DataKey] | None:
    """The keys that seal an outbox payload, the metric's first; None when one of them was destroyed."""
    envelope = msgspec.msgpack.decode(payload, type=_Envelope)
    whose = keyring.device_key().open(TABLE, ticket, envelope.whose)
    pairs = msgspec.msgpack.decode(whose, type=list[tuple[bytes, str]])
    keys = [keyring.by_pseudonym(*pair) for pair in pairs]
    held = [key for key in keys if key is not None]
    return held if [key.handle for key in held] == envelope.handles else None


def open_unsent(payload: bytes, ticket: bytes, keys: Sequence[DataKey]) -> Unsent:
    """The report in `payload`, opened with what `keys_of` found."""
    sealed = msgspec.msgpack.decode(payload, type=_Envelope).sealed
    for key in reversed(keys):
        sealed = key.open(TABLE, ticket, sealed)
    return msgspec.msgpack.decode(sealed, type=Unsent)


def drop_unsent(tx: WriteTransaction, handles: Collection[bytes]) -> int:
    """Drop the reports that are sealed under a key with one of `handles`; returns how many.

    For the erasure, inside its own transaction, before the keys are destroyed or after. What was spent stays
    spent.
    """
    dropped = 0
    for item in tx.outbox("report"):
        envelope = msgspec.msgpack.decode(item.payload, type=_Envelope)
        if not set(envelope.handles).isdisjoint(handles):
            dropped += tx.settle(item.id, "report")
    return dropped


def drop_dead(tx: WriteTransaction, living: Collection[bytes]) -> int:
    """Drop the reports that are sealed under a key that is not among `living`; returns how many.

    For an opening that finishes an erasure which a kill cut short.
    """
    dropped = 0
    for item in tx.outbox("report"):
        envelope = msgspec.msgpack.decode(item.payload, type=_Envelope)
        if not set(envelope.handles) <= set(living):
            dropped += tx.settle(item.id, "report")
    return dropped
