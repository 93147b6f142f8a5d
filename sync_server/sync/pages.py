"""Encoded frames of shared channels, kept for others: the newest in memory, what falls out in a file.

A fleet that starts from nothing reads a snapshot of any size, each device at its own speed. Whatever memory
there is, each page is read from the store and encoded once: a page from the file costs a `pread`. The file
has no name and goes with the process. Nothing about a subject is ever put here.
"""

from __future__ import annotations

import os
import tempfile
import weakref
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

Place = TypeVar("Place")
"""What a frame is asked by; hashable."""


class _Filed(NamedTuple):
    offset: int
    size: int
    checksum: int


class Pages(Generic[Place]):
    """Frames by place, within two limits. Losing any of them only costs its making.

    Args:
        memory_bytes: frames kept in memory; the least recently used goes to the file.
        file_bytes: size of the file; when it is full it begins anew. 0: no file.
        folder: where the file lies.
    """

    def __init__(self, memory_bytes: int, file_bytes: int, folder: Path) -> None:
        self._memory_limit, self._file_limit, self._folder = memory_bytes, file_bytes, folder
        self._memory: OrderedDict[Place, bytes] = OrderedDict()
        self._filed: dict[Place, _Filed] = {}
        self._file: int | None = None
        self._letting_go: weakref.finalize[..., object] | None = None
        self.memory_bytes = self.file_bytes = 0
        """What is kept now."""
        self.from_file = 0
        """Frames that were read back since the start."""

    def get(self, place: Place) -> bytes | None:
        """The frame kept for `place`."""
        found = self._memory.get(place)
        if found is not None:
            self._memory.move_to_end(place)
            return found
        filed = self._filed.get(place)
        return None if filed is None else self._read(place, filed)

    def put(self, place: Place, frame: bytes) -> None:
        """Keep `frame`; one that was kept for the same place goes."""
        self.drop(place)
        self._memory[place] = frame
        self.memory_bytes += len(frame)
        while self.memory_bytes > self._memory_limit:
            gone, old = self._memory.popitem(last=False)
            self.memory_bytes -= len(old)
            self._write(gone, old)

    def drop(self, place: Place) -> None:
        """Forget what is kept for `place`."""
        old = self._memory.pop(place, None)
        self.memory_bytes -= 0 if old is None else len(old)
        self._filed.pop(place, None)

    def close(self) -> None:
        """Let go of the file; so does the end of this object."""
        if self._letting_go is not None:
            self._letting_go()
        self._file = self._letting_go = None
        self._filed.clear()

    def _read(self, place: Place, filed: _Filed) -> bytes | None:
        """None, and forgotten, when it does not come back as it was."""
        assert self._file is not None
        try:
            frame = os.pread(self._file, filed.size, filed.offset)
        except OSError:
            frame = b""
        if zlib.crc32(frame) != filed.checksum or len(frame) != filed.size:
            del self._filed[place]
            return None
        self.from_file += 1
        return frame

    def _write(self, place: Place, frame: bytes) -> None:
        """A disk that takes nothing is no fault: the page is made again when somebody asks."""
        if len(frame) > self._file_limit:
            return
        if self.file_bytes + len(frame) > self._file_limit:
            self._filed.clear()
            self.file_bytes = 0
        try:
            if self._file is None:
                self._file = self._open()
            written = os.pwrite(self._file, frame, self.file_bytes)
        except OSError:
            return
        if written == len(frame):
            self._filed[place] = _Filed(self.file_bytes, len(frame), zlib.crc32(frame))
            self.file_bytes += len(frame)

    def _open(self) -> int:
        """A file that has lost its name already."""
        file, path = tempfile.mkstemp(dir=self._folder)
        self._letting_go = weakref.finalize(self, os.close, file)
        os.unlink(path)
        return file
