"""How long to stay away: full jitter, and never shorter than the server asked."""

from __future__ import annotations

from edge_runtime.sync.settings import SyncSettings


def wait_us(
    failures: int, chance: float, retry_after_us: int, settings: SyncSettings, most_us: int | None = None
) -> int:
    """Microseconds before the next attempt after `failures` in a row.

    Args:
        failures: 1 after the first.
        chance: a number in [0, 1), drawn anew each time.
        retry_after_us: what the server asked for; 0 when it asked for nothing.
        most_us: ceiling of the jitter; `backoff_most_us` by default.

    >>> wait_us(1, 0.5, 0, SyncSettings()), wait_us(20, 0.5, 0, SyncSettings())
    (500000, 16000000)
    """
    most_us = settings.backoff_most_us if most_us is None else most_us
    ceiling = min(most_us, settings.backoff_first_us << min(max(failures - 1, 0), 40))
    return retry_after_us + int(chance * ceiling)
