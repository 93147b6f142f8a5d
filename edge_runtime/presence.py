"""Who is here: the subjects of whom this device read or heard something not long ago.

Whoever is not here needs no channel: a kiosk would else go on receiving what belongs to people who walked on.
Nothing is erased, and who is seen again is here again. In memory alone: after a start everybody is here, for
a device that serves one person must not wait for a read before it syncs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

SUBJECTS_LIMIT: Final = 20_000
_FOR_EVER_US: Final = 1 << 62
_NEVER_HERE_US: Final = -(1 << 62)


class Presence:
    """The subjects seen by one runtime. The runtime's lock guards every change; `here_until_us` needs none.

    Args:
        kinds: the personal entity types.
        timeout_us: who was not seen for longer is not here; 0 keeps everybody here until they leave.
        now_us: the start, by the clock that later times are told by.
        limit: most subjects of each type of which it is known; of others it is as if they had not been seen.
    """

    def __init__(
        self, kinds: Iterable[str], timeout_us: int, now_us: int, limit: int = SUBJECTS_LIMIT
    ) -> None:
        self._timeout_us, self._started_us, self._limit = timeout_us, now_us, limit
        self._seen: dict[str, dict[str, int]] = {kind: {} for kind in kinds}
        """Entity type -> bare id -> when seen, or minus the time at which the subject left."""
        self._each = tuple(self._seen.items())
        self.came = 0
        """Counts those who came, having been away, and those who left."""

    def note(self, entities: Mapping[str, object], now_us: int) -> None:
        """These entities, a bare id by type, were read or something happened to them."""
        for kind, seen in self._each:
            bare = entities.get(kind)
            if isinstance(bare, str):
                self._put(seen, bare, now_us)

    def left(self, subject: str, now_us: int) -> None:
        """A typed subject walked away: not here until seen again, or asked for consent anew."""
        kind, _, bare = subject.partition(":")
        if kind in self._seen:
            self._put(self._seen[kind], bare, -now_us)

    def forget(self, subject: str) -> None:
        """Nothing is known of a typed subject any more."""
        kind, _, bare = subject.partition(":")
        self._seen.get(kind, {}).pop(bare, None)

    def here_until_us(self, subject: str, asked_us: int) -> int:
        """Up to when a typed subject is here unless it is seen again; before all time for one who left.

        Args:
            asked_us: when its consent was given; giving it is being here.
        """
        kind, _, bare = subject.partition(":")
        seen_us = self._seen.get(kind, {}).get(bare, 0)
        if seen_us < 0:
            return _NEVER_HERE_US if asked_us <= -seen_us else self._until_us(asked_us)
        return self._until_us(max(seen_us, asked_us, self._started_us))

    def _until_us(self, newest_us: int) -> int:
        return newest_us + self._timeout_us if self._timeout_us else _FOR_EVER_US

    def _put(self, seen: dict[str, int], bare: str, at_us: int) -> None:
        before_us = seen.get(bare, self._started_us)
        if at_us < 0 or before_us < 0 or (self._timeout_us and at_us - before_us > self._timeout_us):
            self.came += 1
        seen[bare] = at_us
        if len(seen) > self._limit:
            del seen[next(iter(seen))]
