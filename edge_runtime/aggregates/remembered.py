"""Remembered answers: the same question of the same value gets the same answer.

An answer that is repeated says of the value nothing that it did not say before, so a value that stays the
same is told once however many rounds ask; a thousand fresh draws would average out to it. That it *is* the
same is told, so a repeated answer is charged like any other. Remembered are the newest inputs of each metric
and subject; an input that fell out is drawn anew when it comes back.

The answers rest under the keys of the value's purpose, the metric's and (of an experiment) the outcome's, one
inside the other: the end of any makes them unreadable, and the erasure deletes them in its transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import msgspec

from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.keyring import DataKey
from edge_runtime.wire.messages import Bytes16
from edge_runtime.wire.printing import prints_only

TABLE: Final = "answer"


class RememberedReads(Protocol):
    """What recalling needs of a transaction of the cache."""

    def answers(self, handle: bytes, slot: bytes) -> bytes | None:
        """What is remembered in a slot of a handle."""
        ...


class RememberedWrites(RememberedReads, Protocol):
    """What remembering needs of a transaction of the cache."""

    def put_answer(self, handle: bytes, slot: bytes, also: bytes, outcome: bytes, sealed: bytes) -> None:
        """Replace what is remembered in a slot of a handle."""
        ...


@prints_only("definition")
class Remembered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The answers of one subject to one question, the input that was asked for last at the end."""

    definition: Bytes16
    answers: list[tuple[int, bytes]]
    """(input, answer), each input once."""

    def answer(self, value: int) -> bytes | None:
        """What was answered for the input `value`; None when that is not remembered."""
        return dict(self.answers).get(value)

    def newest(self) -> bytes | None:
        """The answer given last, for any input; None for none."""
        return self.answers[-1][1] if self.answers else None

    def with_answer(self, value: int, answer: bytes, limit: int) -> Remembered:
        """With `value` asked for last; of more than `limit` inputs the longest unasked go."""
        others = [(known, said) for known, said in self.answers if known != value]
        kept = [*others, (value, answer)]
        return Remembered(self.definition, kept[max(len(kept) - limit, 0) :])


def recall(tx: RememberedReads, metric: str, definition: bytes, keys: Sequence[DataKey]) -> Remembered:
    """What is remembered for `metric` under `keys`; nothing under another definition: a new question.

    Args:
        definition: `mechanisms.same_answers` of the metric.
        keys: the metric's, an experiment's outcome's, that of the value's purpose; each purpose once.
    """
    slot = _slot(metric)
    sealed = tx.answers(keys[-1].handle, slot)
    with suppress(DatabaseUnreadable, msgspec.DecodeError):  # what cannot be read is drawn anew, and paid for
        if sealed is not None:
            for key in reversed(keys):
                sealed = key.open(TABLE, slot, sealed)
            found = msgspec.msgpack.decode(sealed, type=Remembered)
            if found.definition == definition:
                return found
    return Remembered(definition, [])


def remember(tx: RememberedWrites, metric: str, keys: Sequence[DataKey], known: Remembered) -> None:
    """Keep `known` in the place of what was remembered for `metric`, sealed under all `keys`."""
    slot, sealed = _slot(metric), msgspec.msgpack.encode(known)
    for key in keys:
        sealed = key.seal(TABLE, slot, sealed)
    first, middle, last = keys[0], keys[len(keys) // 2], keys[-1]
    tx.put_answer(last.handle, slot, first.handle, middle.handle, sealed)


def _slot(metric: str) -> bytes:
    return hashlib.blake2b(metric.encode(), digest_size=16, person=b"edge-answer").digest()
