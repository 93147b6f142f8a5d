"""A disk that fails when a test says so, under the cipher: what is lost, torn or refused are sealed pages.

Every write, sync, truncate and delete has a name: `wal.write.3` is the third write to the log. There the disk
can end: the process is killed with what it wrote kept (`kill`), half of that write kept (`torn`), or all that
no sync had covered lost (`power`). Or it only refuses, once (`io_error`) or until there is room.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal

import apsw

from tests.support.consent_room import die

How = Literal["kill", "torn", "power", "io_error"]

_names = itertools.count()
_KINDS: Final = (
    (apsw.SQLITE_OPEN_MAIN_DB, "db"),
    (apsw.SQLITE_OPEN_WAL, "wal"),
    (apsw.SQLITE_OPEN_MAIN_JOURNAL, "journal"),
)


class FaultyDisk(apsw.VFS):
    """Open the database through `name`; keep this object as long as the connection lives.

    Args:
        at: the point at which it fails, such as `db.sync.1`; None never fails by itself.
        how: what happens there.
        dies: how the process is killed there.
        shared: whether one process may have several connections on it (readers beside the writer).

    Attributes:
        points: every point passed, in order.
        watch: told of every point before it is passed.
        room: takes so many more writes, then says it is full, until this is None again.
    """

    def __init__(
        self,
        at: str | None = None,
        how: How = "kill",
        *,
        shared: bool = True,
        dies: Callable[[], None] = die,
    ) -> None:
        base = f"faulty-{next(_names)}" + ("-excl" if shared else "")
        self.name = f"multipleciphers-{base}"
        self.base = "unix-excl" if shared else "unix"
        self.room: int | None = None
        self.points: list[str] = []
        self.watch: Callable[[str], object] = str
        self._at, self._how, self._dies = at, how, dies
        self._counts: Counter[str] = Counter()
        self._unsynced: dict[str, _Unsynced] = {}
        super().__init__(base, self.base)

    def fail_at(self, point: str | None) -> None:
        """Count and name from here on, and fail at this point."""
        self._at = point
        self._counts.clear()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        """A file of this disk."""
        kind = next((kind for flag, kind in _KINDS if flags[0] & flag), "temp")
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return _File(self, kind, str(path), name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """A file goes at once, whatever was unsynced of it."""
        kind = "wal" if filename.endswith("-wal") else "journal"
        self.pass_point(f"{kind}.delete")
        self._unsynced.pop(filename, None)
        super().xDelete(filename, syncdir)

    def pass_point(self, what: str, torn: Callable[[], None] = lambda: None) -> None:
        """Count one thing that is about to be done, and fail here if this is the point.

        `torn` does half of it.
        """
        self._counts[what] += 1
        point = f"{what}.{self._counts[what]}"
        self.points.append(point)
        self.watch(point)
        if point == self._at:
            if self._how == "io_error":
                raise apsw.IOError("the disk refuses")
            if self._how == "torn":
                torn()
            self._dies()
        if what.endswith(".write") and self.room is not None:
            if self.room == 0:
                raise apsw.FullError("no room")
            self.room -= 1

    def cache_of(self, path: str, file: apsw.VFSFile) -> _Unsynced | None:
        """What the machine still holds of a file that no sync has covered; None where nothing is lost."""
        if self._how != "power":
            return None
        if path not in self._unsynced:
            self._unsynced[path] = _Unsynced(file)
        return self._unsynced[path]


class _Unsynced:
    """A file as it looks to this machine: what is on the disk, and what is not there yet."""

    def __init__(self, file: apsw.VFSFile) -> None:
        size = apsw.VFSFile.xFileSize(file)
        self.content = bytearray(apsw.VFSFile.xRead(file, size, 0) if size else b"")
        self._late: list[Callable[[apsw.VFSFile], None]] = []

    def write(self, data: bytes, offset: int) -> None:
        self.content.extend(bytes(max(offset - len(self.content), 0)))
        self.content[offset : offset + len(data)] = data
        self._late.append(lambda file: apsw.VFSFile.xWrite(file, data, offset))

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self._late.append(lambda file: apsw.VFSFile.xTruncate(file, size))

    def sync(self, file: apsw.VFSFile) -> None:
        late, self._late = self._late, []
        for step in late:
            step(file)


class _File(apsw.VFSFile):
    def __init__(
        self,
        disk: FaultyDisk,
        kind: str,
        path: str,
        name: str | apsw.URIFilename | None,
        flags: list[int],
    ) -> None:
        self._disk, self._kind = disk, kind
        super().__init__(disk.base, name, flags)
        self._cache = disk.cache_of(path, self)

    def xRead(self, amount: int, offset: int) -> bytes:
        if self._cache is None:
            return super().xRead(amount, offset)
        return bytes(self._cache.content[offset : offset + amount])

    def xFileSize(self) -> int:
        return super().xFileSize() if self._cache is None else len(self._cache.content)

    def xWrite(self, data: bytes, offset: int) -> None:
        half = data[: len(data) // 2]
        self._disk.pass_point(f"{self._kind}.write", lambda: apsw.VFSFile.xWrite(self, half, offset))
        if self._cache is None:
            super().xWrite(data, offset)
        else:
            self._cache.write(bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.pass_point(f"{self._kind}.truncate")
        if self._cache is None:
            super().xTruncate(newsize)
        else:
            self._cache.truncate(newsize)

    def xSync(self, flags: int) -> None:
        self._disk.pass_point(f"{self._kind}.sync")
        if self._cache is not None:
            self._cache.sync(self)
        super().xSync(flags)

    def xClose(self) -> None:
        if self._cache is not None:
            self._cache.sync(self)
        super().xClose()
