"""When to try again: full jitter, never sooner than the server asked, never in a tight loop. Pure."""

from __future__ import annotations

from collections import deque

from edge_runtime.errors import EdgeError, SyncRefused
from edge_runtime.sync.backoff import wait_us
from edge_runtime.sync.lease_renewal import LeaseLost
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire.refusal import CODES

MINUTE_US = 60_000_000


class Pace:
    """Counts attempts and failures of one link. All times are boot time."""

    def __init__(self, settings: SyncSettings) -> None:
        self._settings = settings
        self._failures = 0
        self._began_us: deque[int] = deque(maxlen=settings.attempts_per_minute)
        self._not_before_us = 0
        """What the server asked for, of the session that ended last."""
        self._last: EdgeError | None = None
        self._at_once = False

    def began(self, boot_us: int) -> None:
        """An attempt begins."""
        self._began_us.append(boot_us)

    def ended(self, trouble: EdgeError | None, live_us: int | None, boot_us: int) -> None:
        """It ended.

        Args:
            trouble: why; None when this device ended it and wants to come back.
            live_us: how long it was open with the server proven; None: it never was.
        """
        if live_us is not None and live_us >= self._settings.healthy_us:
            self._failures = 0
        # a lost lease is no fault of the server's: back at once, unless that just happened
        self._at_once = trouble is None or (
            isinstance(trouble, LeaseLost) and not isinstance(self._last, LeaseLost)
        )
        if not self._at_once:
            self._failures += 1
        self._not_before_us = boot_us + self._asked_us(trouble)
        self._last = trouble

    def wait_us(self, boot_us: int, chance: float) -> int:
        """Microseconds until the next attempt; `chance` in [0, 1) is drawn anew each time."""
        asked_us = self._left_us(self._not_before_us, boot_us, self._settings.retry_after_most_us)
        jitter_us = 0 if self._at_once else wait_us(self._failures, chance, 0, self._settings, self._most_us)
        return max(asked_us + jitter_us, self._crowded_us(boot_us))

    def _asked_us(self, trouble: EdgeError | None) -> int:
        """How long the server wants to be left alone."""
        if not isinstance(trouble, SyncRefused):
            return 0
        asked_us = trouble.retry_after_us or 0
        if trouble.code == "unsupported_version":  # until somebody updates one of the two
            asked_us = max(asked_us, self._settings.unsupported_us)
        return asked_us

    @property
    def _most_us(self) -> int:
        """A server that says no for good is not asked as often as one that is busy or away."""
        hopeless = isinstance(self._last, SyncRefused) and not CODES[self._last.code].retry
        return self._settings.refused_most_us if hopeless else self._settings.backoff_most_us

    def _crowded_us(self, boot_us: int) -> int:
        """Law 11: whatever the reasons, so many attempts a minute and no more."""
        if len(self._began_us) < self._settings.attempts_per_minute:
            return 0
        return self._left_us(self._began_us[0] + MINUTE_US, boot_us, MINUTE_US)

    def _left_us(self, until_us: int, boot_us: int, most_us: int) -> int:
        """What is left until then; the boot clock may have been set back meanwhile."""
        return min(max(until_us - boot_us, 0), most_us)
