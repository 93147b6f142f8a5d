"""The grace: how long after the end of its lease a device keeps the server's rows under consent.

The end of a lease locks them at once; a device that comes back within the grace need not fetch them anew.
After it they go. Consents, keys and what was collected here stay: only retention and erasure end those.
"""

from __future__ import annotations

from typing import Final

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.clock import Clock
from edge_runtime.consent.lease import Leases

STORED: Final = "lease.locked"
STORE_EVERY_US: Final = 600_000_000
"""How much may be forgotten by a crash: the grace is longer by that."""


class _Stored(msgspec.Struct, frozen=True, array_like=True):
    locked_us: int
    seen_wall_us: int


class Grace:
    """Counts how long this device has been locked. One thread at a time: the sweeper's.

    While the runtime is open the boot clock counts, so that nobody lengthens or shortens it by setting a
    clock. In between only the wall clock can tell; one that was set back counts nothing.
    """

    def __init__(self, leases: Leases, database: Database, clock: Clock, grace_us: int) -> None:
        self._leases, self._database, self._clock, self._grace_us = leases, database, clock, grace_us
        self._seen_boot_us = clock.boot_us()
        with database.read() as tx:
            raw = tx.meta(STORED)
        self._locked_us = self._stored_us = 0
        self._stands = self._was_locked = raw is not None
        if raw is not None:
            stored = msgspec.msgpack.decode(raw, type=_Stored)
            self._stored_us = stored.locked_us
            self._locked_us = stored.locked_us + max(clock.now_us() - stored.seen_wall_us, 0)

    def look(self) -> None:
        """Count on, and store it now and then."""
        boot_us = self._clock.boot_us()
        passed_us, self._seen_boot_us = max(boot_us - self._seen_boot_us, 0), boot_us
        if self._leases.state != "locked":
            self._forget()
            return
        if self._was_locked:  # else it was locked some time in between
            self._locked_us += passed_us
        self._was_locked = True
        if not self._stands or self._locked_us - self._stored_us >= STORE_EVERY_US:
            self._store()

    @property
    def over(self) -> bool:
        """Whether the device has been locked for as long as the grace, and is."""
        return self._leases.state == "locked" and self._locked_us >= self._grace_us

    def _forget(self) -> None:
        self._locked_us, self._stored_us, self._was_locked = 0, 0, False
        if self._stands:
            with self._database.write("grace") as tx:
                tx.drop_meta(STORED)
            self._stands = False

    def _store(self) -> None:
        stored = _Stored(self._locked_us, self._clock.now_us())
        with self._database.write("grace") as tx:
            tx.set_meta(STORED, msgspec.msgpack.encode(stored))
        self._stored_us, self._stands = self._locked_us, True
