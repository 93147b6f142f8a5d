"""The server's only source of unpredictable bytes: the operating system."""

from __future__ import annotations

import secrets
from collections.abc import Callable

Entropy = Callable[[int], bytes]
"""`entropy(n)`: n unpredictable bytes."""


def system_entropy(count: int) -> bytes:
    """`count` bytes from the operating system."""
    return secrets.token_bytes(count)
