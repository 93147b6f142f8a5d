"""Looking for bytes in the memory of a living process, as somebody would who took an image of it."""

from __future__ import annotations

import os
import re

_REGION = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw")
_CHUNK = 1 << 24


def readable(pid: int) -> bool:
    """Whether this machine lets us look into that process."""
    try:
        with open(f"/proc/{pid}/mem", "rb"):
            return True
    except OSError:
        return False


def hits(pid: int, needle: bytes) -> int:
    """How often `needle` stands in the writable memory of a process."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            region = _REGION.match(line)
            if region is not None:
                found += _in_region(memory.fileno(), int(region[1], 16), int(region[2], 16), needle)
    return found


def _in_region(memory: int, start: int, end: int, needle: bytes) -> int:
    found = 0
    for at in range(start, end, _CHUNK):
        try:
            part = os.pread(memory, min(_CHUNK + len(needle), end - at), at)
        except OSError:
            continue
        found += part.count(needle)
    return found
