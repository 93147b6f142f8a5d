"""The lease: for how long consented features may be used without hearing from the server.

It counts on a clock that runs in suspend and cannot be set, from the moment its request was sent. It does
not outlive a boot or this process, unless the operator chose `cold_start = "lease"`: then uptime and wall
time both consume it, and status and receipts say so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.catalog.model import Purpose
from edge_runtime.clock import Clock
from edge_runtime.consent.witness import SignedHead, Witness
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Lease

CEILING_US: Final = 30 * 86_400_000_000
"""No lease lasts longer on this device, whatever was signed."""
NO_END_US: Final = 1 << 62
"""What `allows_us` says where there is no lease to end."""
REQUESTS_KEPT: Final = 8
"""Requests without an answer that are remembered; the oldest is forgotten when there are more."""

_STORED: Final = "lease"

State = Literal["standalone", "fresh", "locked"]
ColdStart = Literal["server", "lease"]


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    """A lease that outlives the process (`cold_start = "lease"`)."""

    duration_us: int
    sent_wall_us: int
    consumed_us: int
    seen_wall_us: int
    limits: dict[str, int] = {}


class _Request(NamedTuple):
    """A lease that was asked for, and how things stood then."""

    sent_boot_us: int
    sent_wall_us: int
    position: int
    """Newest lane position applied."""
    ledger: SignedHead | None
    """The head from which the answer's has to go on."""


class Leases:
    """Says whether consented features may be used now. Judged at the clock's now, never at a read's time.

    An enrolled runtime is locked after opening until `opened_by_server()` was called (a fresh nonce answered
    and the lane drained) and a lease granted; a standalone one has no lease and is never locked.
    """

    def __init__(
        self, clock: Clock, keyring: Keyring, database: Database, cold_start: ColdStart = "server"
    ) -> None:
        self._clock, self._keyring, self._database = clock, keyring, database
        self.cold_start: ColdStart = cold_start
        self.witness = Witness(clock, keyring, database)
        """Keeps the ledger's head; no lease stands without one that goes on from it."""
        self._requests: OrderedDict[bytes, _Request] = OrderedDict()
        self._opened = False
        self.ended = False
        """Whether the server shut this device out: nothing personal may be used, on whatever basis."""
        self.changes = 0
        """Counts what may have changed an answer besides the passing of time."""
        self._duration_us: int | None = None
        self._limits: Mapping[str, int] = {}
        """Purposes that the server leased for less than the whole duration."""
        self._sent_boot_us = self._sent_wall_us = 0
        self._seen_boot_us = clock.boot_us()
        self._why = "no contact with the server since opening"
        if cold_start == "lease":
            self._restore()

    # ---- asking and being granted -----------------------------------------------------------------------

    def begin_request(self, id: bytes, boot_us: int | None = None) -> int:
        """Remember that request `id` is being sent now: a lease counts from this moment.

        Returns the size of the ledger head from which the answer's has to go on; 0 without one.

        Args:
            boot_us: the boot clock's reading at the sending; now by default.
        """
        with self._database.read() as tx:
            position = tx.lane_position()
        sent_us = self._clock.boot_us() if boot_us is None else boot_us
        basis = self.witness.basis
        self._requests[id] = _Request(sent_us, self._clock.now_us(), position, basis)
        while len(self._requests) > REQUESTS_KEPT:
            self._requests.popitem(last=False)
        return 0 if basis is None else basis.head.size

    def granted(self, lease: Lease) -> None:
        """Take a lease that answers one of our requests; each answers once.

        Raises `WireFailure`, with the lease before it still in force: `bad_nonce` (no such request),
        `bad_signature`, `lane_behind` (it stands for less of the lane than we had applied when we asked),
        `ledger_forked` or `ledger_shorter` (see `Witness.take`).
        """
        request = self._requests.get(lease.id)
        if request is None:
            raise WireFailure("bad_nonce", "the lease answers no request of this device")
        identity = self._keyring.identity
        body = seal.lease_bytes(identity.device_id, lease)
        seal.verify(identity.server_key or b"", seal.LEASE, body, lease.signature)
        if lease.upto < request.position:
            raise WireFailure("lane_behind", f"expected a lease up to {request.position}, got {lease.upto}")
        del self._requests[lease.id]
        if request.ledger != self.witness.basis:
            return  # its proof goes on from a head that another answer has taken the place of
        self.witness.take(lease.ledger, lease.consistency, request.ledger, lease.upto)
        if self._duration_us is not None and request.sent_boot_us < self._sent_boot_us:
            return  # an answer that was overtaken by a newer one
        self._duration_us, self._limits = min(lease.duration_us, CEILING_US), lease.limits
        self.changes += 1
        self._sent_boot_us, self._sent_wall_us = request.sent_boot_us, request.sent_wall_us
        self.keep()

    def opened_by_server(self) -> None:
        """A server answered a fresh nonce and the lane was drained: a cold start is over."""
        self._opened = True
        self.changes += 1
        self._why = "no lease granted yet"

    def distrust(self, why: str) -> None:
        """Whatever was stored is not believed, now or after a restart: the server must speak first."""
        if self._keyring.enrolled:
            self._lose(f"{why}: closed until the server has answered")
            with self._database.write("lease") as tx:
                tx.drop_meta(_STORED)

    def end(self, *, ended: bool) -> None:
        """The server shut this device out, or it enrolled anew."""
        self.ended = ended
        self.changes += 1
        if ended:
            self.distrust("the device was revoked")

    @property
    def lost(self) -> bool:
        """Whether only a fresh session unlocks: no server has answered since opening, or since the boot clock
        went back. A lease that merely ended is renewed in the session that runs."""
        self._elapsed_us()
        return self._keyring.enrolled and not self._opened

    # ---- judging ----------------------------------------------------------------------------------------

    def live(self, purpose: Purpose) -> bool:
        """Whether consented features of a purpose may be used now."""
        if not self._keyring.enrolled:
            return True
        elapsed_us = self._elapsed_us()
        if elapsed_us is None or not self._opened or self._duration_us is None:
            return False
        return elapsed_us < self._granted_us(self._duration_us, purpose)

    def _granted_us(self, duration_us: int, purpose: Purpose) -> int:
        """The lease of one purpose: the shortest of what the server granted, said of it, and the catalog."""
        return min(duration_us, self._limits.get(purpose.name, duration_us), purpose.lease_us)

    def allows_us(self, purpose: Purpose) -> int:
        """How much of the lease may be consumed while `live(purpose)` stays true and nothing `changes`.

        Without a lease (standalone) there is no end to it.
        """
        if not self._keyring.enrolled:
            return NO_END_US
        return 0 if self._duration_us is None else self._granted_us(self._duration_us, purpose)

    def within(self, allowed_us: int) -> bool:
        """Whether less than `allowed_us` (see `allows_us`) is consumed; notes a clock that was set back."""
        if allowed_us == NO_END_US:
            return True
        elapsed_us = self._elapsed_us()
        return elapsed_us is not None and elapsed_us < allowed_us

    @property
    def state(self) -> State:
        """`standalone`, `fresh` (a lease runs) or `locked`."""
        if not self._keyring.enrolled:
            return "standalone"
        return "fresh" if self._opened and self.remaining_us() > 0 else "locked"

    def remaining_us(self) -> int:
        """What is left of the lease; 0 without one."""
        elapsed_us = self._elapsed_us()
        if elapsed_us is None or self._duration_us is None:
            return 0
        return max(self._duration_us - elapsed_us, 0)

    def reason(self) -> str:
        """Why consented features are locked, or that they are not."""
        match self.state:
            case "standalone":
                return "standalone: no lease"
            case _ if self.ended:
                return "the device was revoked"
            case "fresh":
                return "the purpose's lease has ended"
            case _:
                ended = self._duration_us is not None and self._opened
                forked = "; the server's ledger contradicts the head kept here" * bool(self.witness.conflict)
                return ("the lease has ended" if ended else self._why) + forked

    @property
    def authority(self) -> Literal["server", "lease", "standalone"]:
        """What a receipt says of cold starts here."""
        return self.cold_start if self._keyring.enrolled else "standalone"

    def _elapsed_us(self) -> int | None:
        """Consumed so far; None when there is no lease, or the boot clock went back (a restart, an image)."""
        seen_us = self._seen_boot_us  # before the clock: another thread may note a later reading in between
        boot_us = self._clock.boot_us()
        if boot_us < seen_us:
            self._lose("the boot clock went back: restarted or restored")
        self._seen_boot_us = boot_us
        if self._duration_us is None:
            return None
        elapsed_us = max(boot_us - self._sent_boot_us, 0)
        if self.cold_start == "lease":
            return max(elapsed_us, self._clock.now_us() - self._sent_wall_us)
        return elapsed_us

    def _lose(self, why: str) -> None:
        self._duration_us, self._opened, self._why = None, False, why
        self.changes += 1
        self._requests.clear()

    # ---- outliving the process --------------------------------------------------------------------------

    def keep(self) -> None:
        """Store how much is consumed (only with `cold_start = "lease"`); for now and then, and at close."""
        elapsed_us = self._elapsed_us()
        if self.cold_start != "lease" or elapsed_us is None or self._duration_us is None:
            return
        seen = (elapsed_us, self._clock.now_us())
        stored = _Stored(self._duration_us, self._sent_wall_us, *seen, dict(self._limits))
        with self._database.write("lease") as tx:
            tx.set_meta(_STORED, msgspec.msgpack.encode(stored))

    def _restore(self) -> None:
        with self._database.read() as tx:
            raw = tx.meta(_STORED)
        if raw is None:
            return
        stored = msgspec.msgpack.decode(raw, type=_Stored)
        now_us = self._clock.now_us()
        if now_us < stored.seen_wall_us:
            self._why = "the wall clock was set back since the lease was stored"
            return
        # wall time since it was last seen was consumed too, on top of what was known to be
        elapsed_us = stored.consumed_us + (now_us - stored.seen_wall_us)
        self._duration_us, self._limits, self._opened = stored.duration_us, stored.limits, True
        self._sent_boot_us = self._seen_boot_us - elapsed_us
        self._sent_wall_us = stored.sent_wall_us
