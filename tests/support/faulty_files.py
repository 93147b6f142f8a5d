"""Files beside the database that fail when a test says so: every write, sync, rename and delete is a point.

At its point the process dies as by `kill -9`, or as by a power cut: then what was not synced is undone first,
renames in a folder that was not synced among it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.support.consent_room import die

Death = Literal["kill", "power"]


class FaultyFiles:
    """Counts and names what is done to files by `os` calls, and dies before the nth.

    Args:
        dies_at: the number of the point; None never dies.
        names: told the name of each point.
    """

    def __init__(self, dies_at: int | None, death: Death, names: Callable[[str], None]) -> None:
        self._dies_at, self._death, self._names = dies_at, death, names
        self._passed = 0
        self._undo: list[tuple[str, Callable[[], None]]] = []
        """(what a sync of makes it durable, how it is undone)."""
        self._real = (os.pwrite, os.write, os.fsync, os.replace, os.rename, os.unlink, os.link)

    def point(self, name: str) -> None:
        """Something durable is about to be done: die here, if this is the one."""
        self._passed += 1
        self._names(name)
        if self._passed == self._dies_at:
            self.cut()

    def cut(self) -> None:
        """Die now."""
        if self._death == "power":
            self._stop()
            for _, undo in reversed(self._undo):
                undo()
        die()

    @contextmanager
    def watching(self) -> Iterator[FaultyFiles]:
        """While this lasts every call counts."""
        os.pwrite, os.write, os.fsync = self._pwrite, self._write, self._fsync  # type: ignore[assignment]
        os.replace = os.rename = self._rename  # type: ignore[assignment]
        os.unlink, os.link = self._unlink, self._link  # type: ignore[assignment]
        try:
            yield self
        finally:
            self._stop()

    def _stop(self) -> None:
        os.pwrite, os.write, os.fsync, os.replace, os.rename, os.unlink, os.link = self._real

    def _pwrite(self, file: int, data: bytes, offset: int) -> int:
        self.point(f"write {_name(file)}")
        path, size = _path(file), os.fstat(file).st_size
        if os.path.exists(path):  # else its name is gone, and what it holds with it
            with open(path, "rb") as whole:
                whole.seek(offset)
                before = whole.read(len(data))
            self._undo.append((path, lambda: _put_back(path, before, offset, size)))
        return self._real[0](file, data, offset)

    def _write(self, file: int, data: bytes) -> int:
        self.point(f"write {_name(file)}")
        path, size = _path(file), os.fstat(file).st_size
        self._undo.append((path, lambda: os.truncate(path, size) if os.path.exists(path) else None))
        return self._real[1](file, data)

    def _fsync(self, file: int) -> None:
        self.point(f"sync {_name(file)}")
        self._real[2](file)
        path = _path(file)
        self._undo = [one for one in self._undo if one[0] != path]
        self.point(f"synced {_name(file)}")

    def _rename(self, old: str | Path, new: str | Path) -> None:
        self.point(f"rename {Path(new).name}")
        backup = f"{new}.before" if os.path.exists(new) else None
        if backup is not None:
            self._real[6](new, backup)
        self._real[3](old, new)

        def undo() -> None:
            self._real[3](new, old)
            if backup is not None:
                self._real[3](backup, new)

        self._undo.append((str(Path(new).parent), undo))
        self._kept_aside(backup)
        self.point(f"renamed {Path(new).name}")

    def _kept_aside(self, backup: str | None) -> None:
        """The backup is the test's own: it goes with the process, or with the first sync of the folder."""
        if backup is not None and self._death == "kill":
            self._real[5](backup)

    def _link(self, old: str | Path, new: str | Path) -> None:
        self.point(f"link {Path(new).name}")
        self._real[6](old, new)
        self._undo.append((str(Path(new).parent), lambda: self._real[5](new)))

    def _unlink(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        self.point(f"delete {Path(path).name}")
        self._real[5](path, dir_fd=dir_fd)


def _put_back(path: str, before: bytes, offset: int, size: int) -> None:
    if os.path.exists(path):
        with open(path, "r+b") as whole:
            whole.seek(offset)
            whole.write(before)
            whole.truncate(size)


def _path(file: int) -> str:
    return os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)")


def _name(file: int) -> str:
    return Path(_path(file)).name
