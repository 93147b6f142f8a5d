"""A time as people read it, in every text that this project writes."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(at_us: int) -> str:
    """A time in microseconds since 1970, to the second, in UTC.

    >>> time_text(1_780_000_000_000_000)
    '2026-05-28 20:26:40 UTC'
    """
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
