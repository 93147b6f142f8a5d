"""Stored reports that wait to be sent: which are due, which keep waiting, and which are dead.

The outbox on disk is the truth. In memory is only when to look at which report again, so that a tick on which
nothing is due reads no disk.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from edge_runtime.aggregates.counts import count
from edge_runtime.aggregates.respondents import Consents
from edge_runtime.aggregates.rounds_in_hand import is_open
from edge_runtime.aggregates.unsent import Delay, Unsent, delay_of, drop_unsent, open_unsent
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.wire.messages import Report

LOOK_AGAIN_US: Final = 60_000_000
"""A report that is due and locked is looked at again after so long, or when somebody says so."""


class Waiting:
    """The reports in the outbox.

    A delay is counted in boot time, which nobody sets; wall time says only what is left of it after a
    restart, and whether the round is still open.
    """

    def __init__(
        self, catalog: Catalog, database: Database, keyring: Keyring, consents: Consents, clock: Clock
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._consents, self._clock = consents, clock
        self._due_us: dict[bytes, int] = {}
        """Id -> boot time from which it may go, in the order of the outbox."""
        self._stale = True
        """Whether the outbox may hold what is not in `_due_us`."""
        self._locked_us: dict[bytes, int] = {}
        """Id -> boot time at which to look again at one that was due and locked."""

    def came(self, stored: Iterable[tuple[bytes, Delay]]) -> None:
        """These reports were stored."""
        now_us, boot_us = self._clock.now_us(), self._clock.boot_us()
        self._due_us.update((id_, boot_us + delay.left_us(now_us)) for id_, delay in stored)

    def look_anew(self) -> None:
        """The outbox may hold other reports than those that we know of."""
        self._stale = True

    def unlocked(self) -> None:
        """Permissions may be back."""
        self._locked_us.clear()

    def due(self, most: int | None = None, in_flight: Collection[bytes] = ()) -> list[Report]:
        """Reports whose time has come and that may be sent now, the one due first at the head.

        What is dead is dropped and counted; what is locked waits.

        Args:
            most: at most so many; None for all.
            in_flight: ids of those that are under way already.
        """
        found, dead = list[Report](), list[bytes]()
        for id_ in self._look_at(in_flight):
            if most is not None and len(found) >= most:
                break
            opened = self._stored(id_)
            if opened is None:
                dead.append(id_)
            elif self._allowed(opened[1]):
                found.append(opened[0].report())
            else:
                self._locked_us[id_] = self._clock.boot_us() + LOOK_AGAIN_US
        self.settle(dead, "dropped")
        return found

    def _look_at(self, in_flight: Collection[bytes]) -> list[bytes]:
        boot_us, due_us = self._clock.boot_us(), self._known()
        ids = [
            id_
            for id_, at_us in due_us.items()
            if max(at_us, self._locked_us.get(id_, 0)) <= boot_us and id_ not in in_flight
        ]
        return sorted(ids, key=lambda id_: due_us[id_])

    def settle(self, ids: Collection[bytes], what: str) -> None:
        """These reports are done with; those that were there count as `what`."""
        for id_ in ids:
            self._due_us.pop(id_, None)
            self._locked_us.pop(id_, None)
        if ids:
            with self._database.write("settle_reports") as tx:
                count(tx, what, sum(tx.settle(id_, "report") for id_ in ids))

    def closed(self, round_id: bytes) -> None:
        """The round takes no more answers: drop what was not sent."""
        found = [(id_, self._stored(id_)) for id_ in self._known()]
        self.settle([id_ for id_, o in found if o is None or o[0].round_id == round_id], "dropped")

    def drop(self, handles: Collection[bytes]) -> int:
        """Drop what is sealed under a key of these handles; returns how many."""
        with self._database.write("drop_reports") as tx:
            return drop_unsent(tx, handles)

    def _known(self) -> dict[bytes, int]:
        if self._stale:
            now_us, boot_us, before = self._clock.now_us(), self._clock.boot_us(), self._due_us
            with self._database.read() as tx:
                items = tx.outbox("report")
            self._due_us = {
                item.id: before[item.id]
                if item.id in before
                else boot_us + delay_of(item.payload, item.id, self._keyring).left_us(now_us)
                for item in items
            }
            self._stale = False
        return self._due_us

    def _stored(self, id_: bytes) -> tuple[Unsent, list[DataKey]] | None:
        """A stored report and its keys; None when no key opens it, or its round or metric is no more."""
        with self._database.read() as tx:
            payload = tx.outbox_item("report", id_)
        opened = None if payload is None else open_unsent(payload, id_, self._keyring)
        if opened is None or opened[0].metric not in self._catalog.metrics:
            return None
        return opened if is_open(opened[0].closes_at_us, self._clock) else None

    def _allowed(self, keys: Collection[DataKey]) -> bool:
        """Law 1: every permission that it hangs on is live now."""
        return all(self._consents.permission(key.subject, key.purpose).allowed for key in keys)
