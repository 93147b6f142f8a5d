"""What reads keep in memory, as upkeep sees it: each call takes the runtime's lock for a short time."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from edge_runtime.serving.cache_source import CacheSource
from edge_runtime.serving.reader import Reader


class Remembered:
    """Decoded rows and held rows of one runtime. Thread-safe.

    Args:
        lock: the runtime's lock.
    """

    def __init__(self, source: CacheSource, reader: Reader, lock: threading.RLock) -> None:
        self._source, self._reader, self._lock = source, reader, lock

    def changed(self, places: Iterable[tuple[str | None, str]]) -> None:
        """Rows at these (view key, typed entity) went, or are others: decode again at the next read."""
        with self._lock:
            self._source.changed(places)

    def forget_held(self) -> None:
        """Somebody's states or rows ended: no number made of them stays."""
        with self._lock:
            self._reader.forget()

    def note_use(self, wanted: bool) -> set[tuple[str, str, int]]:
        """(entity, view, version) of rows about nobody that were read since the last call.

        Args:
            wanted: whether to go on noting them.
        """
        with self._lock:
            self._source.noting = wanted
            return self._source.used()

    def begin_day(self) -> None:
        """Forget all decoded rows, so that the first use of each on a new day is noted."""
        with self._lock:
            self._source.changed([(None, "")])
