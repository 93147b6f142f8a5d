"""Looking into an encrypted file without changing a byte of it or beside it, however damaged it is.

SQLite itself would make a log, take over what stands in one and write on closing. So the file is opened
through a VFS under the cipher that only reads. It takes the shared lock, which a process that has the file
open does not grant, and nobody can begin to write while the look lasts; of higher locks it only says that it
has them. The log is read from where it stands, up to where SQLite believes it.

Two things may be shown otherwise than they are: some pages, where the file's own are damaged; and another log
than the one beside it, or none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

import apsw

from edge_runtime.cache import failure
from edge_runtime.cache.cipher import PAGE_BYTES, require_cipher, set_key
from edge_runtime.cache.claims import CLAIMS

_NAME: Final = "edge-untouched"
_OWN: Final[Mapping[int, bytes]] = {}
OWN_LOG: Final = ""
"""As the log to show: the one beside the file."""


class _Shown(NamedTuple):
    """How one file is shown."""

    pages: Mapping[int, bytes]
    log: str | None


@contextmanager
def untouched(
    path: str, page_key: bytes, *, pages: Mapping[int, bytes] = _OWN, log: str | None = OWN_LOG
) -> Iterator[apsw.Connection]:
    """A connection that reads the file at `path` as far as it can be read, and changes nothing.

    Args:
        page_key: 32 bytes. A wrong one shows with the first look (`apsw.NotADBError`), not here.
        pages: number -> encrypted page to show in the place of the file's own.
        log: path of another log to show in the place of the file's own; None shows the file as it was before
            what stands in its log.

    Raises:
        DatabaseInUse: another connection, of this process or another, has the file open to write.
        StorageError: the file cannot be read.
    """
    require_cipher()
    whole_path = os.path.realpath(path)
    shown = _Shown(pages, f"{whole_path}-wal" if log == OWN_LOG else log)
    with _claimed(whole_path), _shown(whole_path, shown):
        try:
            connection = apsw.Connection(whole_path, vfs=f"multipleciphers-{_NAME}")
        except apsw.Error as error:
            raise failure.public(error) from None
        try:
            _prepare(connection, page_key)
            yield connection
        finally:
            connection.close(True)


def first_bytes(path: str, count: int) -> bytes:
    """The beginning of the file as it is; raises as `untouched`."""
    with _claimed(path):
        try:
            with open(path, "rb") as file:
                return file.read(count)
        except OSError as error:
            raise failure.of_file(error, "database") from None


@contextmanager
def _claimed(path: str) -> Iterator[None]:
    """Nobody else in this process has the file open: SQLite's lock keeps only other processes out."""
    try:
        with CLAIMS.lock:
            stat = os.stat(path)
            CLAIMS.check(stat)
            claim = CLAIMS.hold(stat)
    except OSError as error:
        raise failure.of_file(error, "database") from None
    try:
        yield
    finally:
        CLAIMS.give_back(claim)


def _prepare(connection: apsw.Connection, page_key: bytes) -> None:
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, 1)  # a file that was cut short still opens
    set_key(connection, page_key)
    connection.pragma("locking_mode", "exclusive")
    try:
        connection.pragma("user_version")  # the lock comes with the first look
    except (apsw.BusyError, apsw.LockedError) as error:
        raise failure.public(error) from None
    except apsw.Error:
        pass  # whoever looks finds out how far it can be read


class _Files(apsw.VFS):
    """Opens files to read them, and a log that is not there as an empty one."""

    def __init__(self) -> None:
        self.base = "unix" if "unix" in apsw.vfs_names() else apsw.vfs_names()[-1]
        self.shown: dict[str, _Shown] = {}
        super().__init__(_NAME, self.base)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            name = log = self.shown[str(path).removesuffix("-wal")].log
            if log is None or not os.path.exists(log):
                return _Nothing()
        writing = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        flags[0] = flags[0] & ~writing | apsw.SQLITE_OPEN_READONLY
        pages = self.shown[str(path)].pages if flags[0] & apsw.SQLITE_OPEN_MAIN_DB else _OWN
        return _Patched(self.base, name, flags, pages) if pages else _File(self.base, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        raise apsw.ReadOnlyError("a look deletes nothing")


class _File(apsw.VFSFile):
    """One file, which only gives."""

    def __init__(self, base: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(base, name, flags)

    def xLock(self, level: int) -> None:
        if level <= apsw.SQLITE_LOCK_SHARED:
            super().xLock(level)

    def xWrite(self, data: bytes, offset: int) -> None:
        raise apsw.ReadOnlyError("a look writes nothing")

    def xTruncate(self, newsize: int) -> None:
        raise apsw.ReadOnlyError("a look cuts nothing")

    def xSync(self, flags: int) -> None:
        """Nothing was written."""


class _Patched(_File):
    """One file with other pages in the place of some of its own."""

    def __init__(
        self,
        base: str,
        name: str | apsw.URIFilename | None,
        flags: list[int],
        pages: Mapping[int, bytes],
    ) -> None:
        self._pages = pages
        super().__init__(base, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        before, start = divmod(offset, PAGE_BYTES)
        page = self._pages.get(before + 1)
        return super().xRead(amount, offset) if page is None else page[start : start + amount]

    def xFileSize(self) -> int:
        shown = max(self._pages) * PAGE_BYTES
        return max(super().xFileSize(), shown)  # of a file that was cut short, what is shown may lie behind


class _Nothing(apsw.VFSFile):
    """An empty file that is on no disk."""

    def __init__(self) -> None:
        """Not the base's: there is nothing to open."""

    def xRead(self, amount: int, offset: int) -> bytes:
        return b""

    def xFileSize(self) -> int:
        return 0

    def xWrite(self, data: bytes, offset: int) -> None:
        raise apsw.ReadOnlyError("a look writes nothing")

    def xTruncate(self, newsize: int) -> None:
        """It is empty."""

    def xSync(self, flags: int) -> None:
        """Nothing was written."""

    def xClose(self) -> None:
        """Nothing was opened."""


_files: _Files | None = None
_files_lock = threading.Lock()


@contextmanager
def _shown(path: str, how: _Shown) -> Iterator[None]:
    """Let the VFS, made at the first use and kept, show a file in this way."""
    global _files
    with _files_lock:
        _files = _files or _Files()
        files = _files
        files.shown[path] = how
    try:
        yield
    finally:
        with _files_lock:
            del files.shown[path]
