"""The last words of a device that its server shut out: what proves that everything is gone is handed in."""

from __future__ import annotations

from edge_runtime.consent.shut_out import ShutOut
from edge_runtime.errors import SyncRefused
from edge_runtime.sync.outbox import Outbox
from edge_runtime.wire import messages as m
from edge_runtime.wire.refusal import CODES, id_of


def device_revoked() -> SyncRefused:
    """What the app hears of a device that is shut out."""
    return SyncRefused("device_revoked", CODES["device_revoked"].text)


class Leaving:
    """The way out, which may take more than one session."""

    def __init__(self, shut_out: ShutOut, outbox: Outbox) -> None:
        self._shut_out, self._outbox = shut_out, outbox

    @property
    def over(self) -> bool:
        """Whether the server shut this device out, everything is gone, and that was told."""
        self._shut_out.finish()
        return self._shut_out.standing == "wiped" and not self._outbox.receipts_wait

    def carry_out(self) -> None:
        """The server ended this device, and it was proved: everything goes."""
        self._shut_out.carry_out()

    def words(self, boot_us: int) -> list[m.Message]:
        """The receipts to hand in now; `SyncRefused("device_revoked")` once each is acknowledged."""
        if not self._outbox.receipts_wait:
            raise device_revoked()
        return self._outbox.receipts_due(boot_us)

    def refused(self, about: str) -> None:
        """The server ends the session over `about`: if it is a receipt, it never will be taken."""
        receipt = id_of(about)
        if receipt is not None and self._shut_out.standing != "in":
            self._outbox.receipt_acked(receipt)
