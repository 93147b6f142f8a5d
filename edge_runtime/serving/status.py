"""The eight things a value can be. A number never comes without one."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a value is (DESIGN: a value always says what it is)."""

    PRESENT = 0
    NULL = 1
    DEFAULTED = 2
    """The declared default stands in for NULL, NOT_FOUND or NOT_SYNCED; the reason keeps which."""
    EXPIRED = 3
    REVOKED = 4
    """No live permission or lease, whatever the reason."""
    NOT_SYNCED = 5
    NOT_FOUND = 6
    WARMING = 7
    """Added by a later catalog; its window still reaches back before what the journal could refill."""
