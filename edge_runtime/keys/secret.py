"""Secrets in memory that can be made to go away: bytearrays, filled in place and overwritten when done with.

Python's `bytes` cannot be overwritten, so no key is ever held as `bytes` for longer than a call takes. What
the interpreter or a library copies by itself is beyond reach: this is best effort, and receipts do not claim
more.
"""

from __future__ import annotations

import os
from typing import Final

KEY_BYTES: Final = 32


def fresh_secret(size: int = KEY_BYTES) -> bytearray:
    """`size` bytes of the operating system's randomness."""
    return bytearray(os.urandom(size))


def wipe(secret: bytearray) -> None:
    """Overwrite a secret where it stands."""
    secret[:] = bytes(len(secret))
