"""Replacing a small secret file: whole or not at all, also when the power goes.

What is new is written to `NAME.new` beside the file, under a lock, so that two processes never write into one
another's; a `NAME.new` that a kill left is overwritten by the next one, not merely cut off.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":  # where nothing but `:memory:` opens
    import fcntl


def replace(path: Path, content: bytes) -> None:
    """Write `content` beside `path` (mode 0600), make it durable, and put it in `path`'s place.

    What stood there is overwritten before it is let go: best effort, since no file system promises that the
    same blocks are hit. Raises `OSError` with the old file as it was; if only the folder could not be made
    durable, with the new one in its place.
    """
    with _fresh(path, content) as fresh:
        old = _held(path)
        try:
            os.replace(fresh, path)
            sync_folder(path)
            if old is not None:
                _overwrite(old)
        finally:
            if old is not None:
                os.close(old)


def create(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet; raises `FileExistsError` when it does.

    It appears under its name only when it is whole.
    """
    with _fresh(path, content) as fresh:
        os.link(fresh, path)
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the folder's entry for `path` durable."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time, of those that lock the same file or folder; it is not changed."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _fresh(path: Path, content: bytes) -> Iterator[Path]:
    """`content`, durable under a name beside `path` that is ours alone; the name is gone afterwards."""
    fresh = path.with_name(path.name + ".new")
    file = _ours(fresh)
    try:
        _fill(file, content)
        yield fresh
    finally:
        if _is(file, fresh):
            fresh.unlink()
        os.close(file)


def _ours(fresh: Path) -> int:
    """An open file under that name, locked; whoever waited may have waited for one that moved away."""
    while True:
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if _is(file, fresh):
            if os.fstat(file).st_nlink == 1:
                os.fchmod(file, 0o600)
                return file
            fresh.unlink()  # a kill within `create`: this is the file itself, by its second name
        os.close(file)


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _fill(file: int, content: bytes) -> None:
    """Over what a kill left there, so that no more of it stays than of a file that was replaced."""
    view = memoryview(content.ljust(os.fstat(file).st_size, b"\0"))
    while view:
        view = view[os.write(file, view) :]
    os.ftruncate(file, len(content))
    os.fsync(file)


def _held(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None


def _overwrite(file: int) -> None:
    with contextlib.suppress(OSError):  # the new file stands already: this must not make it seem otherwise
        os.pwrite(file, bytes(os.fstat(file).st_size), 0)
        os.fsync(file)
