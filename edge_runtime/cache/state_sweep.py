"""Upkeep of stored session states under one key: a state goes once retention has ended all that was in it.

It goes from the disk and from memory in one moment, so neither brings it back when a clock is set back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from edge_runtime.cache.aging import UNKNOWN_DAY, Terms
from edge_runtime.cache.event_sweep import Day
from edge_runtime.cache.hands import Hands
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.stored_state import ADDED, COVERED, StoredState, day_of, open_state, seal_stored
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.errors import DatabaseUnreadable, StateUnreadable
from edge_runtime.keys.keyring import DataKey

FACTS: Final = (COVERED, ADDED)
"""Slots that hold no state."""


class StateSweep:
    """The stored states of one runtime."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def of(self, key: DataKey, terms: Terms, now_us: int) -> Day:
        """Let go of the states whose day is over."""
        hands, gone_before = self._hands, terms.gone_before(now_us)
        after, newest = b"", None
        while True:
            limit = hands.pace.rows
            with hands.database.read() as tx:
                part = tx.state_days(key.handle, after, limit)
            days = {slot: day for slot, day in part if slot not in FACTS}
            unknown = [slot for slot, day in days.items() if day == UNKNOWN_DAY]
            if unknown:
                days |= self._stamp(key, unknown, now_us)
            over = [slot for slot, day in days.items() if UNKNOWN_DAY < day < gone_before]
            if over:
                self._end(key, terms, over, now_us)
            newest = max([day for day in (newest, *days.values()) if day is not None], default=None)
            yield len(part)
            if len(part) < limit:
                return newest
            after = part[-1][0]

    def _stamp(self, key: DataKey, slots: Sequence[bytes], now_us: int) -> dict[bytes, int]:
        """Find the days of states that an earlier release stored without."""
        stamped = {}
        with self._hands.database.write("sweep") as tx:
            for slot in slots:
                sealed = tx.state(key.handle, slot)
                if sealed is not None and tx.state_day(key.handle, slot) == UNKNOWN_DAY:
                    stamped[slot] = self._day_of(_opened(key, slot, sealed), now_us)
                    tx.stamp_state(key.handle, slot, stamped[slot])
        return stamped

    def _day_of(self, stored: StoredState | None, now_us: int) -> int:
        """Of one that does not open, or that no view uses, time begins now."""
        plan = None if stored is None else self._hands.plan.views.get(stored.view)
        if stored is None or plan is None:
            return now_us // DAY_US
        try:
            return day_of(plan.carry(stored.dump).state, stored.since, now_us)
        except StateUnreadable:
            return now_us // DAY_US

    def _end(self, key: DataKey, terms: Terms, slots: Sequence[bytes], now_us: int) -> None:
        """Let these go, unless something newer came for one in the meantime."""
        hands, gone_before, gone = self._hands, terms.gone_before(now_us), list[bytes]()
        with hands.commit.still():
            with hands.database.write("sweep") as tx:
                for slot in slots if key.alive else ():
                    day = tx.state_day(key.handle, slot)
                    newer = hands.states.newer_in_memory(key.handle, slot)
                    if day is not None and day < gone_before and not newer:
                        self._end_one(tx, key, terms, slot, now_us)
                        gone.append(slot)
            in_memory = hands.states.end(key.handle, gone)
        hands.swept.states_ended += len(gone)
        if in_memory:
            hands.memory.forget_held()

    def _end_one(self, tx: WriteTransaction, key: DataKey, terms: Terms, slot: bytes, now_us: int) -> None:
        """Delete a state; an empty one that says since when it is known stays while that may still show."""
        sealed = tx.state(key.handle, slot)
        stored = None if sealed is None else _opened(key, slot, sealed)
        plan = None if stored is None else self._hands.plan.views.get(stored.view)
        if stored is None or plan is None or terms.silenced(stored.since, now_us):
            tx.drop_state(key.handle, slot)
            return
        empty = plan.new_state()
        emptied = msgspec.structs.replace(stored, dump=plan.dump(empty))
        tx.put_state(key.handle, slot, day_of(empty, stored.since, now_us), seal_stored(key, slot, emptied))


def _opened(key: DataKey, slot: bytes, sealed: bytes) -> StoredState | None:
    """The state in a row; None where it is damaged: whoever uses it makes it anew."""
    try:
        return open_state(key, slot, sealed)
    except (DatabaseUnreadable, StateUnreadable, msgspec.DecodeError):
        return None
