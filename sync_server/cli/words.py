"""How `edge-sync` writes a time for people."""

from __future__ import annotations

from datetime import UTC, datetime


def time_text(at_us: int) -> str:
    """A time in microseconds, to the second, in UTC."""
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
