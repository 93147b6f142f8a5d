"""The file that the nodes of a key tree are appended to: `magic || generation`, then sealed nodes.

Appended nodes wait in memory until `sync`, which makes them durable in one write. What a crash leaves behind
the last node that the root slot can reach is overwritten by the next append.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from edge_runtime.keys.node import mismatch

_MAGIC: Final = b"EDGEKEYS2"
HEADER_BYTES: Final = 17


class NodeFile(Protocol):
    """Where sealed nodes rest. Raises `OSError` as the disk does."""

    def read(self, offset: int, length: int) -> bytes:
        """The bytes there; fewer where the file ends."""
        ...

    def append(self, sealed: bytes) -> int:
        """Put a node behind the others and return its offset; it rests once `sync` returned."""
        ...

    def sync(self) -> None:
        """Make everything appended durable. What fails is forgotten: see `forget`."""
        ...

    def forget(self, end: int) -> None:
        """What stands behind `end` was not taken: append there again."""
        ...

    def zero(self, offset: int, length: int) -> None:
        """Overwrite a stretch that no living root reaches, best effort."""
        ...

    @property
    def end(self) -> int:
        """Where the next node goes."""
        ...

    def close(self) -> None:
        """Let the file go."""
        ...


class MemoryNodes:
    """Nodes of a database in memory."""

    def __init__(self) -> None:
        self._held = bytearray(HEADER_BYTES)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._held[offset : offset + length])

    def append(self, sealed: bytes) -> int:
        at = len(self._held)
        self._held += sealed
        return at

    def sync(self) -> None:
        """Nothing rests."""

    def forget(self, end: int) -> None:
        del self._held[end:]

    def zero(self, offset: int, length: int) -> None:
        self._held[offset : offset + length] = bytes(length)

    @property
    def end(self) -> int:
        return len(self._held)

    def close(self) -> None:
        self._held.clear()


class DiskNodes:
    """Nodes in a file of mode 0600. Made by `create` or `open`."""

    def __init__(self, file: int, end: int) -> None:
        self._file, self._written = file, end
        self._waiting: list[bytes] = []
        self.end = end

    @classmethod
    def create(cls, path: Path, generation: int) -> DiskNodes:
        """A new file, in the place of what stands there; it rests with the first `sync`."""
        made = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), 0)
        made.append(_MAGIC + generation.to_bytes(8, "big"))
        return made

    @classmethod
    def open(cls, path: Path, end: int) -> DiskNodes:
        """The file at `path`, whose last living node ends at `end`."""
        return cls(os.open(path, os.O_RDWR), end)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def append(self, sealed: bytes) -> int:
        at = self.end
        self._waiting.append(sealed)
        self.end += len(sealed)
        return at

    def sync(self) -> None:
        waiting = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        while waiting:
            taken = os.pwrite(self._file, waiting, self._written)
            self._written += taken
            waiting = waiting[taken:]
        os.fsync(self._file)

    def forget(self, end: int) -> None:
        self._waiting.clear()
        self.end = self._written = end

    def zero(self, offset: int, length: int) -> None:
        os.pwrite(self._file, bytes(length), offset)

    def close(self) -> None:
        os.close(self._file)


def generation_of(path: Path) -> int | None:
    """The generation that the file at `path` says it is; None when there is no file.

    Raises `KeystoreMismatch` for a file that is no keystore of ours.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except FileNotFoundError:
        return None
    if len(head) < HEADER_BYTES or not head.startswith(_MAGIC):
        raise mismatch("is no keystore of ours, or was written by another release")
    return int.from_bytes(head[len(_MAGIC) :], "big")
