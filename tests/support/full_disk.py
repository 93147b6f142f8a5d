"""A disk that runs full when a test says so, under the cipher: what fails is the writing of sealed pages."""

from __future__ import annotations

import itertools

import apsw

_names = itertools.count()


class FullDisk(apsw.VFS):
    """Takes `room` more writes, then says it is full, until `room` is None again.

    Open the database through `name`; keep this object as long as the connection lives.
    """

    def __init__(self) -> None:
        base = f"full-{next(_names)}"
        self.name = f"multipleciphers-{base}"
        self.room: int | None = None
        super().__init__(base, "")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """A file of this disk."""
        return _File(self, name, flags)

    def take(self) -> None:
        """One more write, or `FullError`."""
        if self.room is None:
            return
        if self.room == 0:
            raise apsw.FullError("no room")
        self.room -= 1


class _File(apsw.VFSFile):
    def __init__(self, disk: FullDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.take()
        super().xWrite(data, offset)
