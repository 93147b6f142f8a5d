"""Upkeep of what rests under keys: one key after the other, in units of a few rows.

Wherever it stops, all that is read is true. When retention is over for all of a key's days, what is left
goes: first where its channel stands (a row that is missing then was not received yet), then its rows. Consent
and key stay, so a subject who comes back begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_runtime.cache.aging import Terms
from edge_runtime.cache.event_sweep import EventSweep
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.sealed_row_sweep import SealedRowSweep
from edge_runtime.cache.state_sweep import StateSweep
from edge_runtime.cache.stored_state import ADDED, COVERED, open_added
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import RuntimeClosed, StorageError, StorageFull
from edge_runtime.keys.keyring import DataKey
from edge_runtime.sync.personal_rows import stand_slot


class SubjectSweep:
    """Everything that rests under keys in one runtime.

    Args:
        terms: of every purpose that may rest on disk, by name; one that the catalog no longer has is not
            judged.
        about_nobody: the terms of the device's own key.
        lapsed: whether a purpose's server rows go, for want of a lease since long.
    """

    def __init__(
        self,
        hands: Hands,
        terms: Mapping[str, Terms],
        about_nobody: Terms,
        lapsed: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._hands, self._terms, self._about_nobody = hands, terms, about_nobody
        self._lapsed = lapsed
        self.events, self.states, self.rows = EventSweep(hands), StateSweep(hands), SealedRowSweep(hands)
        self.trouble: StorageError | None = None
        """Why a key was left as it was in the last walk; the others were not held up by it."""

    def terms_of(self, key: DataKey) -> Terms | None:
        """The terms that a key's rows rest under; None where they are not known, or nothing rests."""
        if not key.resting:
            return None
        return self._terms.get(key.purpose) if key.subject else self._about_nobody

    def walk(self) -> Steps:
        """Judge what rests under every key; what could not be is noted as `trouble`. Raises as `each`."""
        self.trouble = None
        yield from self.each(self._under)

    def each(self, steps_of: Callable[[DataKey, Terms], Steps]) -> Steps:
        """The units of every key whose terms are known, one key after the other.

        Raises `StorageFull`; any other failure is noted as `trouble`, and the next key has its turn.
        """
        for key in self._hands.every_key():
            terms = self.terms_of(key)
            if terms is None:
                continue
            try:
                yield from steps_of(key, terms)
            except StorageFull:
                raise
            except StorageError as error:
                self.trouble = error
            except RuntimeClosed:
                if self._hands.database.closed:
                    raise
                # the key was destroyed meanwhile: the erasure sees to what is left

    def _under(self, key: DataKey, terms: Terms) -> Steps:
        now_us = self._hands.clock.now_us()
        in_journal = yield from self.events.of(key, terms, now_us)
        in_states = yield from self.states.of(key, terms, now_us)
        if key.subject and self._lapsed(key.purpose):
            yield from self._drop_rows(key, terms)
        in_rows = yield from self.rows.of(key, terms, now_us)
        seen = [day for day in (in_journal, in_states, in_rows) if day is not None]
        # without any event, the decision is the last that was heard of the subject
        heard = max(seen, default=key.facts.at_us // DAY_US)
        if heard < terms.gone_before(now_us) and self._left(key):
            yield from self._end(key, terms, now_us)

    def _drop_rows(self, key: DataKey, terms: Terms) -> Steps:
        """Delete the server's rows: where their channel stands first, so that they are not received yet."""
        with self._hands.database.write("sweep") as tx:
            if not key.alive or tx.personal_part(key.handle, b"", 1) == []:
                return
            tx.delete_personal_row(key.handle, stand_slot(key))
        yield from self.rows.end(key, terms)

    def _left(self, key: DataKey) -> bool:
        with self._hands.database.read() as tx:
            return tx.holds(key.handle)

    def _end(self, key: DataKey, terms: Terms, now_us: int) -> Steps:
        """Delete all that is left, unless something came in the meantime."""
        hands, handle = self._hands, key.handle
        with hands.commit.still():
            newest = hands.states.newest_day(handle)
            heard = newest is not None and newest >= terms.gone_before(now_us)
            if heard or hands.commit.waits([handle]) or not key.alive:
                return
            with hands.database.write("sweep") as tx:
                if tx.newest_event(handle) or tx.state_days(handle, ADDED, 1):
                    return
                self._drop_facts(tx, key, terms, now_us)
                rows = self.rows.delete_some(tx, key)
                left = len(rows) == hands.pace.rows
        yield self.rows.told_deleted(key, terms, rows)
        if left:
            yield from self.rows.end(key, terms)
        hands.swept.handles_ended += not self._left(key)

    def _drop_facts(self, tx: WriteTransaction, key: DataKey, terms: Terms, now_us: int) -> None:
        handle = key.handle
        tx.delete_personal_row(handle, stand_slot(key))
        tx.drop_state(handle, COVERED)
        tx.drop_trimmed(handle)
        tx.drop_answers(handle, of_its_values=True)
        added = open_added(key, tx.state(handle, ADDED))
        if all(terms.silenced(since, now_us) for since in added.values()):
            tx.drop_state(handle, ADDED)
