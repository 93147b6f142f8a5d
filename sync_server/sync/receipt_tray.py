"""Receipts of devices, taken in together: after a denial one comes from every device within a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from sync_server.clock import Clock
from sync_server.consent import receipts
from sync_server.store.protocol import Store, WriteTx

Answered = Callable[[m.Message], None]
"""Gets the answer to a receipt once its transaction is committed."""


@prints_only()
class _Brought(NamedTuple):
    device_id: str
    note: m.ReceiptNote
    about: bytes
    """The id that the receipt claims."""
    answered: Answered


class ReceiptTray:
    """What devices said to have erased, on its way to the store. Outside `gathered` it goes there at once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._gathering = False
        self._waiting: list[_Brought] = []

    def take(self, device_id: str, note: m.ReceiptNote, answered: Answered) -> None:
        """A known device brings a receipt; `answered` gets its acknowledgement or refusal.

        The same one again is acknowledged again. Raises `WireFailure` for what is no receipt at all.
        """
        self._waiting.append(_Brought(device_id, note, _claimed_id(note.receipt), answered))
        if not self._gathering:
            self._write()

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Take in what comes inside at the end of it, in one transaction.

        Raises `sqlite3.Error` there when the store does not take it: then none of it stands or is answered.
        """
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self._write()

    def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._store.write("receipt") as tx:
            answers = self._taken(tx, waiting)
        for brought, answer in zip(waiting, answers, strict=True):
            brought.answered(answer)

    def _taken(self, tx: WriteTx, waiting: list[_Brought]) -> list[m.Message]:
        """Each stands or is refused by its id, whatever becomes of the others."""
        now_us, moved, answers = self._clock.now_us(), set[str](), list[m.Message]()
        for brought in waiting:
            try:
                taken = _accepted(tx, brought, now_us)
            except WireFailure as failure:
                answers.append(m.Refusal(code=failure.code, about=brought.about.hex()))
            else:
                moved.update(taken.revocations)
                answers.append(m.ReceiptAck(id=taken.id))
        receipts.conclude(tx, moved, now_us)
        return answers


def _accepted(tx: WriteTx, brought: _Brought, now_us: int) -> receipts.Accepted:
    device = tx.device(brought.device_id)  # also one that was revoked: that is what it stays for
    if device is None:
        raise WireFailure("unknown_device", "no such device is enrolled")
    return receipts.accept(tx, device, brought.note.receipt, brought.note.signature, now_us=now_us)


def _claimed_id(body: bytes) -> bytes:
    """The id that an unverified receipt claims, to say which one is refused."""
    fields = codec.unpack(body, codec.FRAME_LIMIT_BYTES)
    id_ = fields.get("id") if isinstance(fields, dict) else None
    if not isinstance(id_, bytes) or len(id_) != 16:
        raise WireFailure("malformed", "expected an erasure receipt")
    return id_
