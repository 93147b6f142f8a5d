"""Putting a rebuilt database in the place of a damaged one, so that a kill at any point is mended.

The new database is made whole under a name of its own (`NAME.rebuilt`) while the damaged one stays where it
is; until then nothing is decided, and a kill or a full disk leaves only a file to delete. Then the intent is
written (`NAME.rebuild`) and three renames follow: the log, the damaged file, the new one. A kill among these
is finished by the next opening, which needs no key for it. The intent file is also the lock: one process at a
time rebuilds.

What was set aside stays: `NAME.damaged-TIME`, perhaps its log, and a text that says when, why and what was
saved. Only the newest few stay, or failing hardware would fill the disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.cache import failure
from edge_runtime.errors import DatabaseInUse
from edge_runtime.keys.files import sync_folder
from edge_runtime.keys.vault import Step, no_step

if sys.platform != "win32":  # where nothing but `:memory:` opens
    import fcntl

KEPT: Final = 3
"""How many damaged databases stay beside the one in use; the oldest goes when there are more."""


class _Intent(msgspec.Struct, frozen=True):
    """What a swap was about to do."""

    aside: str
    """Name of the file that the damaged database becomes."""
    report: str
    """What stands in the text beside it."""


class Place:
    """The files around one database while it is rebuilt. Made by `claimed`.

    Attributes:
        rebuilt: where the new database is made.
        scratch: a path for files that go again.
        aside: what the damaged one will be called.
    """

    def __init__(self, path: Path, lock: int, now_us: int) -> None:
        self._path, self._lock = path, lock
        self.rebuilt, self.scratch = beside(path, ".rebuilt"), beside(path, ".scratch")
        self.aside = _free_name(path, now_us)

    def clear(self) -> None:
        """Remove what an attempt before this one left."""
        for name in (self.rebuilt, self.scratch):
            for ending in ("", "-wal", "-shm", ".log"):
                beside(name, ending).unlink(missing_ok=True)

    def swap(self, report: str, step: Step = no_step) -> None:
        """The new database is complete and closed: put it in place. Points: `intent`, and those of `_swap`.

        Raises `StorageError` with everything as it was when not even the intent could be written; later
        faults leave a swap that the next opening finishes.
        """
        intent = _Intent(self.aside.name, report)
        try:
            os.pwrite(self._lock, msgspec.json.encode(intent), 0)
            os.fsync(self._lock)
            sync_folder(self._path)
            step("intent")
            _swap(self._path, intent, step)
        except OSError as error:
            raise failure.of_file(error, "database") from None


def beside(path: Path, ending: str) -> Path:
    """The file of that ending beside a database."""
    return path.with_name(path.name + ending)


def unfinished(path: Path) -> bool:
    """Whether a swap of the database at `path` was cut short."""
    return _read(beside(path, ".rebuild")) is not None


@contextmanager
def claimed(path: Path, now_us: int) -> Iterator[Place]:
    """The right to rebuild the database at `path`; an earlier swap is finished first.

    Raises `DatabaseInUse` while another process does, `StorageError` where no file can be made.
    """
    intent_path = beside(path, ".rebuild")
    lock = _locked(intent_path)
    try:
        found = _read(intent_path)
        if found is not None:
            _swap(path, found)
            os.truncate(lock, 0)
        place = Place(path, lock, now_us)
        place.clear()
        try:
            yield place
        finally:
            if not unfinished(path):
                place.clear()
                intent_path.unlink(missing_ok=True)
    except OSError as error:
        raise failure.of_file(error, "database") from None
    finally:
        os.close(lock)


def finish(path: Path) -> bool:
    """Finish a swap that was cut short; whether there was one. It was decided then, and needs no key.

    Raises `DatabaseInUse` while another process rebuilds, `StorageError` when files cannot be renamed.
    """
    if not unfinished(path):
        return False
    with claimed(path, 0):
        return True


def set_aside(path: Path) -> list[Path]:
    """Damaged databases that were set aside, oldest first."""
    found = [p for p in path.parent.glob(f"{path.name}.damaged-*") if p.suffix != ".txt"]
    return sorted(p for p in found if not p.name.endswith("-wal"))


def _swap(path: Path, intent: _Intent, step: Step = no_step) -> None:
    """The renames; each is skipped where it has happened. Points: `log`, `aside`, `in_place`, `told`."""
    rebuilt, aside = beside(path, ".rebuilt"), path.with_name(intent.aside)
    if rebuilt.exists():  # the log beside it is still the damaged one's
        _moved(beside(path, "-wal"), beside(aside, "-wal"))
        step("log")
        if not aside.exists():
            _moved(path, aside)
        step("aside")
        _moved(rebuilt, path)
        step("in_place")
    beside(aside, ".txt").write_text(intent.report)
    step("told")
    for old in set_aside(path)[:-KEPT]:
        for ending in ("", "-wal", ".txt"):
            beside(old, ending).unlink(missing_ok=True)
    beside(path, ".rebuild").unlink(missing_ok=True)
    sync_folder(path)


def _moved(old: Path, new: Path) -> None:
    if old.exists():
        old.rename(new)
        sync_folder(new)


def _read(path: Path) -> _Intent | None:
    """The intent in a file; None for none, or one that a kill kept from being written whole."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Intent)
    except (OSError, msgspec.DecodeError):  # what else is wrong with the folder the opening will say
        return None


def _locked(path: Path) -> int:
    """An open file under that name, locked, which is still the one that stands there."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            os.close(file)
            raise DatabaseInUse("another process rebuilds the database; nothing changed") from None
        os.close(file)


def _free_name(path: Path, now_us: int) -> Path:
    when = datetime.fromtimestamp(now_us // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (beside(path, f".damaged-{when}{n}") for n in ("", *(f"-{n}" for n in range(1, 1000))))
    return next(name for name in names if not name.exists())
