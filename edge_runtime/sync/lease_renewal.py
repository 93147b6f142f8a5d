"""When one session asks for another lease. Whether a lease stands is judged in the consent room."""

from __future__ import annotations

from collections.abc import Callable

from edge_runtime.consent.lease import Leases
from edge_runtime.consent.witness import REFUSED
from edge_runtime.errors import SyncError
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure


class LeaseLost(SyncError):
    """The boot clock went back under a live session: a fresh one must answer a fresh nonce."""


class LeaseRenewal:
    """The lease requests of one session; all times are boot time.

    Args:
        lane_position: newest lane position that is enforced here.
        chance: returns n unpredictable bytes, for ids of requests.
    """

    def __init__(
        self,
        leases: Leases,
        lane_position: Callable[[], int],
        settings: SyncSettings,
        chance: Callable[[int], bytes],
    ) -> None:
        self._leases, self._lane_position, self._settings = leases, lane_position, settings
        self._chance = chance
        self._asked: bytes | None = None
        """Id of the request that has no answer yet."""
        self._sent_us = 0
        self._renew_us = 0
        """When the next request is due."""
        self._refused = False
        """Whether the server's last word on a lease was no."""

    @property
    def settled(self) -> bool:
        """Whether a lease runs and no request is under way."""
        return self._asked is None and not self._refused and self._leases.state != "locked"

    def check(self) -> None:
        """Raise `LeaseLost` when only a fresh session can unlock consented features again."""
        if self._leases.lost:
            raise LeaseLost("the boot clock went back: the server must answer anew")

    def due(self, boot_us: int) -> list[m.Message]:
        """The request to send now, if it is time for one."""
        waiting = self._asked is not None and boot_us - self._sent_us < self._settings.resend_us
        if waiting or boot_us < self._due_us():
            return []
        self._asked, self._sent_us = self._chance(16), boot_us
        ledger = self._leases.begin_request(self._asked, boot_us)
        upto, how = self._lane_position(), self._leases.cold_start
        return [m.LeaseRequest(id=self._asked, upto=upto, ledger=ledger, cold_start=how)]

    def _due_us(self) -> int:
        """Half the shortest lease of a purpose after the last was asked for; soon when it is over before."""
        if self._refused or self._leases.state != "locked":
            return self._renew_us
        return min(self._renew_us, self._sent_us + self._settings.tick_us)

    def granted(self, lease: m.Lease, boot_us: int) -> list[m.Message]:
        """An answer to one of our requests, under the pinned key, or `WireFailure`: see `Leases.granted`.

        A lease with a ledger that is not the one we know is refused: the session goes on without it, for
        denials must still come, and another is asked for later.
        """
        try:
            self._leases.granted(lease)
        except WireFailure as failure:
            if failure.code not in REFUSED:
                raise
            refusal = m.Refusal(code=failure.code, about=lease.id.hex())
            self.refused(refusal, boot_us)
            return [refusal]
        if lease.id == self._asked:
            self._asked, self._refused = None, False
            shortest_us = min([lease.duration_us, *lease.limits.values()])  # no purpose locks while connected
            self._renew_us = self._sent_us + max(shortest_us // 2, self._settings.tick_us)
        return []

    def refused(self, refusal: m.Refusal, boot_us: int) -> bool:
        """Whether a refusal is about the request under way, which is then asked again later."""
        if self._asked is None or refusal.about != self._asked.hex():
            return False
        self._asked, self._refused = None, True
        self._renew_us = boot_us + max(refusal.retry_after_us, self._settings.tick_us)
        return True
