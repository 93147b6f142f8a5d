"""What becomes of a device that its server shut out: everything goes, once and for all.

The order is safe against a kill at any point: the fact is stored first; erasing and dropping are begun again
until they are done, at the next opening or at the next link; then the receipt of it is queued in the
transaction that says so. The identity stays, and with it the locked lease: a device that became its own
authority would give itself what it was denied. Enrolling anew ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.records import ON_DEMAND
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.words import GIVEN
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.vault import no_step
from edge_runtime.wire import codec
from edge_runtime.wire.messages import Decision, Name

_MARK: Final = "device.shut_out"
POINTS: Final = ("marked", "erased", "dropped")
"""Every point at which the `step` hook is called, in order."""

Standing = Literal["in", "wiping", "wiped"]


class _Mark(msgspec.Struct, frozen=True, array_like=True):
    """Which identity was shut out, so that another one is not, and whether everything is gone."""

    device_id: Name
    done: bool


class ShutOut:
    """The end of one enrolment. Thread-safe.

    Args:
        changed: called with (None, channel) of each channel that went, after its commit.
        step: called with each of `POINTS`; for tests that kill there.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        leases: Leases,
        changed: Callable[[Sequence[tuple[str | None, str]]], None] = lambda places: None,
        *,
        step: Callable[[str], None] = no_step,
    ) -> None:
        self._database, self._keyring = database, keyring
        self._consents, self._leases, self._changed, self._step = consents, leases, changed, step
        with database.read() as tx:
            raw = tx.meta(_MARK)
        self._mark = None if raw is None else msgspec.msgpack.decode(raw, type=_Mark)
        if self.standing != "in":
            leases.end(ended=True)

    @property
    def standing(self) -> Standing:
        """`in`: not shut out, as far as is known here. Asks no disk."""
        mark = self._mark
        if mark is None or mark.device_id != self._keyring.identity.device_id:
            return "in"
        return "wiped" if mark.done else "wiping"

    def carry_out(self) -> None:
        """The server said so, and it was proved: when this returns, nothing is held of anybody."""
        if self.standing == "in":
            mark = self._marked(done=False)
            with self._database.write("shut_out") as tx:
                tx.set_meta(_MARK, msgspec.msgpack.encode(mark))
            self._mark = mark
        self._step("marked")
        self.finish()

    def finish(self) -> None:
        """Do what a kill or a full disk left undone; nothing when there is nothing."""
        if self.standing != "wiping":
            return
        self._leases.end(ended=True)
        receipt = self._consents.erase_everything(shut_out=True)
        self._step("erased")
        mark = self._marked(done=True)
        with self._database.write("shut_out") as tx:
            names = [*tx.channels(), ON_DEMAND]
            tx.forget_channels()
            for item in tx.outbox("decision"):
                if msgspec.msgpack.decode(item.payload, type=Decision).state in GIVEN:
                    tx.settle(item.id, "decision")  # its key is gone: it must be asked again
            tx.enqueue("receipt", receipt.receipt.id, codec.encode(receipt.note()))
            tx.set_meta(_MARK, msgspec.msgpack.encode(mark))
        self._mark = mark
        self._step("dropped")
        self._changed([(None, name) for name in names])

    def ended(self) -> None:
        """The device enrolled anew: nobody takes the receipts of the identity before."""
        with self._database.write("shut_out") as tx:
            for item in tx.outbox("receipt"):
                tx.settle(item.id, "receipt")
            tx.drop_meta(_MARK)
        self._mark = None
        self._leases.end(ended=False)

    def _marked(self, *, done: bool) -> _Mark:
        return _Mark(self._keyring.identity.device_id, done)
