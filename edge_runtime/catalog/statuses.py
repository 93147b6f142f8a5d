"""The names of what a value can be, as a catalog's metrics count them."""

from __future__ import annotations

from typing import Final

COUNTED: Final = ("PRESENT", "NULL", "DEFAULTED", "EXPIRED", "NOT_SYNCED", "NOT_FOUND", "WARMING")
"""The statuses of `serving/status.py` in their order, but REVOKED: who gave no permission never answers."""
