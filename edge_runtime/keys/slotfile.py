"""A file that keeps a root slot: made once, replaced whole, and read only when it is its owner's alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from edge_runtime.cache import failure
from edge_runtime.errors import KeyMissing, KeyUnreadable, StorageError
from edge_runtime.keys import files

LIMIT_BYTES: Final = 65_536
"""No slot is larger; a file that is, is not ours."""


class SlotFile:
    """The file at `path`, called `what` in messages."""

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self._path, self._what = Path(path), what

    def __str__(self) -> str:
        return str(self._path)

    def exists(self) -> bool:
        """Whether the file is there; raises `StorageError` when that cannot be seen."""
        try:
            return self._path.exists()
        except OSError as error:
            raise failure.of_file(error, self._what) from None

    def read(self) -> bytes:
        """What it holds.

        Raises `KeyMissing`, `KeyUnreadable` (over `LIMIT_BYTES`), `StorageError` (among them a file that
        others than its owner can read or write), with nothing changed.
        """
        try:
            with self._path.open("rb") as file:
                if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise StorageError(
                        f"the {self._what} can be read by others: expected mode 0600; nothing opened"
                    )
                content = file.read(LIMIT_BYTES + 1)
        except FileNotFoundError:
            raise KeyMissing(f"the {self._what} is not there; nothing was created") from None
        except OSError as error:
            raise failure.of_file(error, self._what) from None
        if len(content) > LIMIT_BYTES:
            raise KeyUnreadable(f"the {self._what} is larger than any of ours; nothing was touched")
        return content

    def create(self, content: bytes) -> bool:
        """Make the file; False, changing nothing, when it is there: of many processes, one makes it."""
        try:
            files.create(self._path, content)
        except FileExistsError:
            return False
        except OSError as error:
            raise failure.of_file(error, self._what) from None
        return True

    def replace(self, content: bytes) -> None:
        """Put another in its place; see `files.replace`."""
        try:
            files.replace(self._path, content)
        except OSError as error:
            raise failure.of_file(error, self._what) from None
