"""Upkeep of the journal under one key: events that were kept long enough go, the oldest first.

Only those go that stored states cover. What only the journal holds is stored first, as a commit would, so the
events of subjects who never come back are not kept for longer than those of others.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from edge_runtime.cache.aging import UNKNOWN_DAY, Terms
from edge_runtime.cache.hands import Hands, Steps
from edge_runtime.cache.records import JournalSpan
from edge_runtime.cache.stored_state import COVERED, open_covered, seal_covered
from edge_runtime.keys.keyring import DataKey

COMMITS_TO_SETTLE: Final = 64
Day = Generator[int, None, int | None]
"""Units whose outcome is the newest day that they saw; None where there was none."""


class EventSweep:
    """The journal of one runtime."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    def of(self, key: DataKey, terms: Terms, now_us: int) -> Day:
        """Drop what is older than `keep_events`."""
        keep_from, span = terms.keep_from(now_us), self._span(key)
        yield 1
        if _before(span.oldest_covered_day, keep_from):
            yield from self._drop(key, keep_from)
        if _before(span.oldest_bare_day, keep_from):
            yield from self._settle(key, terms)
            yield from self._drop(key, keep_from)
        return span.newest_day

    def covered(self, key: DataKey) -> int:
        """The newest row that stored states cover."""
        with self._hands.database.read() as tx:
            return open_covered(key, tx.state(key.handle, COVERED))

    def _span(self, key: DataKey) -> JournalSpan:
        with self._hands.database.read() as tx:
            return tx.journal_span(key.handle, open_covered(key, tx.state(key.handle, COVERED)))

    def _drop(self, key: DataKey, keep_from: int) -> Steps:
        hands, dropped, limit = self._hands, 0, 0
        while dropped == limit:
            limit = hands.pace.rows
            with hands.database.write("sweep") as tx:
                if not key.alive:
                    return
                covered = open_covered(key, tx.state(key.handle, COVERED))
                dropped = tx.drop_some_events(key.handle, covered, keep_from, limit)
            hands.swept.events_dropped += dropped
            yield dropped

    def _settle(self, key: DataKey, terms: Terms) -> Steps:
        """Have everything stored that only the journal holds, and say so."""
        hands, states = self._hands, self._hands.states
        with hands.lock:
            if not key.alive:
                return
            states.settle(key, terms.keep_events_us)
        for _ in range(COMMITS_TO_SETTLE):
            hands.commit.flush()
            yield 1
            with hands.lock:
                if states.settled(key.handle):
                    break
        if self._span(key).oldest_bare_day is not None:
            self._cover(key)
            yield 1

    def _cover(self, key: DataKey) -> None:
        """Say that stored states cover the journal, where every state is stored and none took the rest."""
        hands = self._hands
        with hands.commit.still():
            if not hands.states.settled(key.handle) or not key.alive:
                return
            with hands.database.write("sweep") as tx:
                newest_n = tx.newest_event(key.handle)
                tx.put_state(key.handle, COVERED, UNKNOWN_DAY, seal_covered(key, newest_n))


def _before(day: int | None, other: int) -> bool:
    return day is not None and day < other
