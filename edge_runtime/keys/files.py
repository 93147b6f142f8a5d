"""Replacing a small secret file: whole or not at all, also when the power goes."""

from __future__ import annotations

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Write `content` beside `path` (mode 0600), make it durable, and put it in `path`'s place.

    What stood there is overwritten before it is let go: best effort, since no file system promises that the
    same blocks are hit. Raises `OSError` with the old file as it was.
    """
    fresh = path.with_name(path.name + ".new")
    try:
        _write(fresh, content, os.O_CREAT | os.O_TRUNC)
        old = _held(path)
        try:
            os.replace(fresh, path)
            sync_folder(path)
            if old is not None:
                _overwrite(old)
        finally:
            if old is not None:
                os.close(old)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def create(path: Path, content: bytes) -> None:
    """Write a file that must not exist yet; raises `FileExistsError` when it does.

    It appears under its name only when it is whole.
    """
    fresh = path.with_name(path.name + ".new")
    _write(fresh, content, os.O_CREAT | os.O_TRUNC)
    try:
        os.link(fresh, path)
    finally:
        fresh.unlink()
    sync_folder(path)


def sync_folder(path: Path) -> None:
    """Make the folder's entry for `path` durable."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, content: bytes, flags: int) -> None:
    file = os.open(path, os.O_WRONLY | flags, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)


def _held(path: Path) -> int | None:
    try:
        return os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        return None


def _overwrite(file: int) -> None:
    os.pwrite(file, bytes(os.fstat(file).st_size), 0)
    os.fsync(file)
