"""Rows that are wanted and were not asked of the server yet, in the order in which they were wanted.

In memory alone: a restart forgets them, and whoever waits is told. Bounded: when it is full the oldest go,
and whoever waited for those is told too. What is wanted twice before it is asked for is asked for once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence

from edge_runtime.errors import EdgeError, RuntimeClosed, SyncError
from edge_runtime.sync.fetch import Fetch
from edge_runtime.sync.fetch_places import Place

Batch = dict[Place, list[Fetch]]
"""Rows of one view, about nobody or about one subject, with who waits for each."""
Pair = tuple[str | None, str | None]
"""(typed subject, purpose); (None, None) for rows about nobody."""


class FetchQueue:
    """The queue of one runtime, which outlives its sessions. Thread-safe.

    Args:
        limit: most entries, one for each row and each one who waits for it.
    """

    def __init__(self, limit: int = 4_096) -> None:
        self._limit, self._entries = limit, 0
        self._waiting: OrderedDict[Place, list[Fetch]] = OrderedDict()
        self._closed = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, places: Sequence[Place], fetch: Fetch) -> None:
        """Want these rows for `fetch`. What is full drops its oldest."""
        with self._lock:
            if not self._closed:
                for place in places:
                    self._waiting.setdefault(place, []).append(fetch)
                self._entries += len(places)
            dropped = self._drop()
        if self._closed:
            fail([{place: [fetch] for place in places}], RuntimeClosed("the runtime was closed"))
        fail(dropped, SyncError("dropped: too much was asked for since, and nothing could be sent"))

    def pairs(self) -> set[Pair]:
        """Whose rows are wanted."""
        with self._lock:
            return {(place.subject, place.purpose) for place in self._waiting}

    def take(self, ready: Collection[Pair], most: int) -> Batch:
        """The oldest rows of one view and pair, of the pairs that may be asked for; empty for none."""
        with self._lock:
            first = next((p for p in self._waiting if (p.subject, p.purpose) in ready), None)
            if first is None:
                return {}
            wanted = (first.view_key, first.subject, first.purpose)
            like = [p for p in self._waiting if (p.view_key, p.subject, p.purpose) == wanted]
            return {place: self._pop(place) for place in like[:most]}

    def give_back(self, batch: Batch) -> None:
        """What was taken was not answered: it comes first again, where there is room."""
        with self._lock:
            if not self._closed:
                for place, fetches in reversed(batch.items()):
                    self._waiting[place] = [*fetches, *self._waiting.get(place, ())]
                    self._waiting.move_to_end(place, last=False)
                    self._entries += len(fetches)
            dropped = self._drop()
        if self._closed:
            fail([batch], RuntimeClosed("the runtime was closed"))
        fail(dropped, SyncError("dropped: too much was asked for since, and nothing could be sent"))

    def refuse(self, pair: Pair, error: EdgeError) -> None:
        """Nothing of a pair can be asked for: whoever waits is told `error`."""
        self._remove(lambda place: (place.subject, place.purpose) == pair, error)

    def forget(self, subject: str, purposes: Collection[str], error: EdgeError) -> None:
        """A subject left or is erased under these purposes: nothing of them is wanted any more."""
        self._remove(lambda place: place.subject == subject and place.purpose in purposes, error)

    def close(self) -> None:
        """The runtime closes: nothing is wanted any more."""
        self._closed = True
        self._remove(lambda place: True, RuntimeClosed("the runtime was closed"))

    def _remove(self, which: Callable[[Place], bool], error: EdgeError) -> None:
        with self._lock:
            gone = {place: self._pop(place) for place in [*filter(which, self._waiting)]}
        fail([gone], error)

    def _pop(self, place: Place) -> list[Fetch]:
        fetches = self._waiting.pop(place)
        self._entries -= len(fetches)
        return fetches

    def _drop(self) -> list[Batch]:
        dropped: list[Batch] = []
        while self._entries > self._limit:
            oldest = next(iter(self._waiting))
            dropped.append({oldest: self._pop(oldest)})
        return dropped


def fail(batches: Iterable[Batch], error: EdgeError) -> None:
    """Tell everybody who waits for these rows that they will not come. Call it under no lock of ours."""
    for batch in batches:
        for fetches in batch.values():
            for fetch in fetches:
                fetch.failed(error)
