"""Secrets in memory that can be made to go away: bytearrays, filled in place and overwritten when done with.

Python's `bytes` cannot be overwritten, and a bytearray that grows leaves its old place behind as it was. So
no data key is ever held as `bytes`, or in a buffer that grows. What a library copies by itself is beyond
reach: receipts claim nothing of memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Final

KEY_BYTES: Final = 32


def fresh_secret(size: int = KEY_BYTES) -> bytearray:
    """`size` bytes of the operating system's randomness."""
    secret, source = bytearray(size), _source()
    if source is None or os.readv(source, [secret]) != size:
        secret[:] = os.urandom(size)
    return secret


def joined(parts: Sequence[bytes | bytearray]) -> bytearray:
    """The parts one after another, in a buffer that never moved."""
    whole = bytearray(sum(map(len, parts)))
    at = 0
    for part in parts:
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def wipe(secret: bytearray) -> None:
    """Overwrite a secret where it stands."""
    secret[:] = bytes(len(secret))


@cache
def _source() -> int | None:
    """The system's own source where it is a file: what is read from it passes through no other buffer."""
    try:
        return os.open("/dev/urandom", os.O_RDONLY | os.O_CLOEXEC) if hasattr(os, "readv") else None
    except OSError:
        return None
