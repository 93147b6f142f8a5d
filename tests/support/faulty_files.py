"""Files beside the database that fail when a test says so: every write, sync, rename and delete is a point.

Points are named as those of `faulty_disk` are: `cache.db-keys.sync.2` is the second sync of the keystore.
There the process dies as by `kill -9`, or as by a power cut: then what was not synced is undone first,
renames in a folder that was not synced among it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.support.consent_room import die

Death = Literal["kill", "power"]


class FaultyFiles:
    """Counts and names what is done to files by `os` calls, and dies at one of the points.

    Args:
        at: the point; None never dies by itself.

    Attributes:
        points: every point passed, in order.
    """

    def __init__(self, at: str | None, death: Death) -> None:
        self.points: list[str] = []
        self._at, self._death = at, death
        self._counts: Counter[str] = Counter()
        self._undo: list[tuple[str, Callable[[], None]]] = []
        """(what a sync of makes it durable, how it is undone)."""
        self._real = (os.pwrite, os.write, os.fsync, os.replace, os.rename, os.unlink, os.link)

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

    def _pass(self, file: int | str | Path, what: str) -> None:
        """Something durable is about to be done, or was: die here, if this is the point."""
        path = Path(_path(file) if isinstance(file, int) else file)
        name = f"{'folder' if path.is_dir() else path.name}.{what}"
        self._counts[name] += 1
        self.points.append(f"{name}.{self._counts[name]}")
        if self.points[-1] == self._at:
            self.cut()

    def _pwrite(self, file: int, data: bytes, offset: int) -> int:
        self._pass(file, "write")
        path, size = _path(file), os.fstat(file).st_size
        if _is_named(file, path):  # else its name is gone, and what it holds with it
            with open(path, "rb") as whole:
                whole.seek(offset)
                before = whole.read(len(data))
            self._undo.append((path, lambda: _put_back(path, before, offset, size)))
        return self._real[0](file, data, offset)

    def _write(self, file: int, data: bytes) -> int:
        self._pass(file, "write")
        path, size = _path(file), os.fstat(file).st_size
        if _is_named(file, path):
            self._undo.append((path, lambda: os.truncate(path, size) if os.path.exists(path) else None))
        return self._real[1](file, data)

    def _fsync(self, file: int) -> None:
        self._pass(file, "sync")
        self._real[2](file)
        path = _path(file)
        self._undo = [one for one in self._undo if one[0] != path]
        self._pass(file, "synced")

    def _rename(self, old: str | Path, new: str | Path) -> None:
        self._pass(new, "rename")
        keeps = os.path.exists(new) and self._death == "power"
        backup = f"{new}.before-{len(self.points)}" if keeps else None
        if backup is not None:
            self._real[6](new, backup)
        self._real[3](old, new)

        def undo() -> None:
            self._real[3](new, old)
            if backup is not None:
                self._real[3](backup, new)

        self._undo.append((str(Path(new).parent), undo))
        self._pass(new, "renamed")

    def _link(self, old: str | Path, new: str | Path) -> None:
        self._pass(new, "link")
        self._real[6](old, new)
        self._undo.append((str(Path(new).parent), lambda: self._real[5](new)))

    def _unlink(self, path: str | Path, *, dir_fd: int | None = None) -> None:
        self._pass(path, "delete")
        self._real[5](path, dir_fd=dir_fd)


def _put_back(path: str, before: bytes, offset: int, size: int) -> None:
    if os.path.exists(path):
        with open(path, "r+b") as whole:
            whole.seek(offset)
            whole.write(before)
            whole.truncate(size)


def _is_named(file: int, path: str) -> bool:
    return os.path.exists(path) and os.stat(path).st_ino == os.fstat(file).st_ino


def _path(file: int) -> str:
    return os.readlink(f"/proc/self/fd/{file}").removesuffix(" (deleted)")
