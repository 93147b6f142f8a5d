"""A report that waits to be sent, as it rests on disk: sealed under every permission that it hangs on.

An answer comes from a value of one purpose and is reported for another; a kiosk's own sum covers many
subjects. The report is sealed under the data keys of all of them together (`keys/joint.py`), so the end of
any one makes it unreadable, in every copy of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from edge_runtime.aggregates.counts import count
from edge_runtime.cache.records import OutboxItem
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.joint import Joint, open_jointly, seal_jointly
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.wire.messages import Bytes16, Micros, Name, Report
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.sealed_report import report_id

TABLE: Final = "outbox"


@prints_only("metric", "closes_at_us")
class Unsent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One report in one round, drawn and sealed once: it is resent as it is."""

    round_id: Bytes16
    metric: Name
    closes_at_us: Micros
    sealed: bytes
    """To the collector: this device reads it no more."""

    @property
    def id(self) -> bytes:
        """Its place in the outbox, and how its acknowledgement names it."""
        return report_id(self.sealed)

    def report(self) -> Report:
        """As it is sent: no subject."""
        return Report(round_id=self.round_id, sealed=[self.sealed])


class Delay(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """When a report may go, so that the time of its sending says little of the time of its drawing."""

    drawn_us: Micros
    due_us: Micros

    def left_us(self, now_us: int) -> int:
        """How long it still waits. A clock that stands before the drawing was set back: no longer."""
        return self.due_us - now_us if self.drawn_us <= now_us < self.due_us else 0


@prints_only("delay")
class _About(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Sealed under the device's own key: a report names nobody on the disk."""

    delay: Delay
    whose: list[tuple[bytes, str]]
    """(pseudonym, purpose) of each key."""


class _Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    handles: list[Bytes16]
    about: bytes
    joint: Joint


def seal_unsent(unsent: Unsent, delay: Delay, keys: Sequence[DataKey], keyring: Keyring) -> bytes:
    """The outbox payload of `unsent`, sealed under all `keys`."""
    joint = seal_jointly(keys, TABLE, unsent.id, msgspec.msgpack.encode(unsent))
    about = _About(delay, [(keyring.pseudonym(key.subject), key.purpose) for key in keys])
    sealed = keyring.device_key().seal(TABLE, unsent.id, msgspec.msgpack.encode(about))
    return msgspec.msgpack.encode(_Envelope([key.handle for key in keys], sealed, joint))


def delay_of(payload: bytes, id: bytes, keyring: Keyring) -> Delay:
    """When the report in `payload` may go; at once for one that does not open, so that it is looked at."""
    about = _about(_envelope(payload), id, keyring)
    return Delay(0, 0) if about is None else about.delay


def open_unsent(payload: bytes, id: bytes, keyring: Keyring) -> tuple[Unsent, list[DataKey]] | None:
    """The report in `payload` and the keys it hangs on; None when one is no more, or it is damaged."""
    envelope = _envelope(payload)
    about = _about(envelope, id, keyring)
    if envelope is None or about is None:
        return None
    found = [keyring.by_pseudonym(*pair) for pair in about.whose]
    keys = [key for key in found if key is not None]
    if [key.handle for key in keys] != envelope.handles:
        return None
    try:
        body = open_jointly(keys, TABLE, id, envelope.joint)
        return msgspec.msgpack.decode(body, type=Unsent), keys
    except (DatabaseUnreadable, msgspec.MsgspecError):
        return None


def drop_unsent(tx: WriteTransaction, handles: Collection[bytes]) -> int:
    """Drop the reports that hang on a key with one of `handles`; returns how many, and counts them.

    For the erasure, inside its own transaction, before the keys are destroyed or after. What was spent stays
    spent, also by the other subjects that a kiosk's sum covers: they were drawn for, and are not again.
    """
    found = [item for handle in handles for item in tx.outbox_holding("report", handle)]
    return _drop(tx, found, lambda held: not held.isdisjoint(handles))


def drop_dead(tx: WriteTransaction, living: Collection[bytes]) -> int:
    """Drop the reports that hang on a key that is not among `living`; returns how many, and counts them.

    For an opening that finishes an erasure which a kill cut short.
    """
    return _drop(tx, tx.outbox("report"), lambda held: not held <= set(living))


def _drop(tx: WriteTransaction, items: Iterable[OutboxItem], doomed: Callable[[set[bytes]], bool]) -> int:
    dropped = 0
    for item in items:
        envelope = _envelope(item.payload)
        if envelope is None or doomed(set(envelope.handles)):  # what cannot be read is never sent either
            dropped += tx.settle(item.id, "report")
    count(tx, "dropped", dropped)
    return dropped


def _envelope(payload: bytes) -> _Envelope | None:
    try:
        return msgspec.msgpack.decode(payload, type=_Envelope)
    except msgspec.MsgspecError:  # damaged, or of another version
        return None


def _about(envelope: _Envelope | None, id: bytes, keyring: Keyring) -> _About | None:
    if envelope is None:
        return None
    try:
        about = keyring.device_key().open(TABLE, id, envelope.about)
        return msgspec.msgpack.decode(about, type=_About)
    except (DatabaseUnreadable, msgspec.MsgspecError):
        return None
