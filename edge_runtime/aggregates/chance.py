"""Where a device's chance comes from: the operating system, through `secrets`."""

from __future__ import annotations

import secrets


def system_bits(n: int) -> int:
    """Uniform on 0 … n-1, without modulo bias; what `Bits` is outside of tests."""
    return secrets.randbelow(n)
