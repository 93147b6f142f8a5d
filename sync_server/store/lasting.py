"""Files that are there after a power loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_private(path: Path, content: bytes) -> None:
    """Create `path`, readable by its owner only, durable when this returns.

    Raises FileExistsError, or what the disk says; then no new file is left.
    """
    with new_private(path) as file:
        file.write(content)


@contextmanager
def new_private(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner may read, to be written in the block; durable when that ends.

    Raises FileExistsError before the block begins. Whatever ends the block early leaves no file.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was made, renamed or removed in a folder last."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
