"""A file, a place or a key that will not do: each has its own error, and nothing is created or changed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from edge_runtime.cache.cipher import OTHER_CIPHERS, set_key
from edge_runtime.cache.database import Database
from edge_runtime.cache.schema import SCHEMA
from edge_runtime.errors import (
    CipherMismatch,
    CipherMissing,
    DatabaseReadOnly,
    DatabaseUnreadable,
    EdgeError,
    KeyMismatch,
    KeyMissing,
    StorageError,
    StorageFull,
)
from tests.support.faulty_disk import FaultyDisk
from tests.support.forensics import bytes_of
from tests.support.forks import in_child

KEY, NOBODY = bytes(range(32)), 65534


def made_by_us(path: Path) -> None:
    Database.open(str(path), KEY).close()


def plain(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    connection.close()


def sealed_with(cipher: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        connection = apsw.Connection(str(path))
        set_key(connection, KEY, cipher)
        connection.execute(SCHEMA)
        connection.pragma("user_version", 1)
        connection.close()

    return make


def other_key(path: Path) -> None:
    Database.open(str(path), bytes(32)).close()


def foreign_tables(path: Path) -> None:
    connection = apsw.Connection(str(path))
    set_key(connection, KEY)
    connection.execute("CREATE TABLE theirs(x)")
    connection.close()


FILES: dict[str, tuple[Callable[[Path], object], type[EdgeError], str]] = {
    "plain SQLite": (plain, DatabaseUnreadable, "got a plain SQLite file"),
    "zero bytes": (Path.touch, DatabaseUnreadable, "got a file of zero bytes"),
    "a page cut off": (
        lambda path: path.write_bytes(os.urandom(4096 * 2 + 100)),
        DatabaseUnreadable,
        "expected whole pages",
    ),
    "too short": (
        lambda path: path.write_bytes(os.urandom(99)),
        DatabaseUnreadable,
        "expected at least 4096",
    ),
    "no database": (lambda path: path.write_bytes(os.urandom(8192)), KeyMismatch, "does not open this file"),
    "another key": (other_key, KeyMismatch, "does not open this file"),
    "tables of others": (foreign_tables, DatabaseUnreadable, "it has tables and no version"),
    "not there": (lambda path: None, KeyMissing, "the file is not there"),
    "a folder": (Path.mkdir, StorageError, "EISDIR"),
    **{
        cipher: (sealed_with(cipher), CipherMismatch, f"made with aegis, got one made with {cipher};")
        for cipher in OTHER_CIPHERS
    },
}


@pytest.mark.parametrize("what", FILES)
def test_law_12_a_file_that_will_not_do_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    """Two times over: looking changed nothing either."""
    make, kind, words = FILES[what]
    path = tmp_path / "cache.db"
    make(path)
    before = bytes_of(tmp_path)
    for _ in range(2):
        with pytest.raises(kind, match=words) as caught:
            Database.open(str(path), KEY, create=False)
        assert type(caught.value) is kind
        assert bytes_of(tmp_path) == before


@pytest.mark.parametrize("cipher", OTHER_CIPHERS)
def test_another_cipher_is_told_from_another_key(tmp_path: Path, cipher: str) -> None:
    """The same file with a key that opens it under no cipher is a key mismatch."""
    sealed_with(cipher)(tmp_path / "cache.db")
    with pytest.raises(KeyMismatch):
        Database.open(str(tmp_path / "cache.db"), bytes(32))
    with pytest.raises(CipherMismatch):
        Database.open(str(tmp_path / "cache.db"), bytes(32), next_page_key=KEY)


def test_law_12_a_key_that_is_none_is_refused_before_the_file_is_looked_at(tmp_path: Path) -> None:
    for short in (b"", KEY[:31], KEY + b"x"):
        with pytest.raises(KeyMissing, match=f"expected a page key of 32 bytes, got {len(short)}"):
            Database.open(str(tmp_path / "cache.db"), short)
    assert bytes_of(tmp_path) == {}


@pytest.mark.parametrize("lacks", ["mc_version", "TEMP_STORE"])
@pytest.mark.parametrize("there", [False, True])
def test_law_5_a_build_that_could_write_plain_text_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacks: str, there: bool
) -> None:
    if there:
        made_by_us(tmp_path / "cache.db")
    before = bytes_of(tmp_path)
    if lacks == "mc_version":
        monkeypatch.delattr(apsw, "mc_version")
    else:
        options = tuple(option for option in apsw.compile_options if "TEMP_STORE" not in option)
        monkeypatch.setattr(apsw, "compile_options", options)
    with pytest.raises(CipherMissing, match="install apsw-sqlite3mc"):
        Database.open(str(tmp_path / "cache.db"), KEY)
    assert bytes_of(tmp_path) == before


def test_law_11_a_full_disk_leaves_no_file_that_was_not_made(tmp_path: Path) -> None:
    """Wherever in the making it is full; a file of zero bytes that somebody left there stays one."""
    for empty in (False, True):
        for room in range(100):
            disk, path = FaultyDisk(), tmp_path / "cache.db"
            disk.room = room
            if empty:
                path.touch()
            try:
                database = Database.open(str(path), KEY, vfs=disk.name)
            except StorageFull:
                assert bytes_of(tmp_path) == ({"cache.db": b""} if empty else {}), room
            else:
                break
        assert room > 3
        disk.room = None
        database.close()
        path.unlink()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that anybody may enter: what belongs to the tests, only they may."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("create", "what", "words"),
    [
        (True, "folder", "expected a folder that may be written"),
        (False, "folder", "expected a folder that may be written"),
        (False, "cache.db", "expected a database that may be read and written"),
        (False, "cache.db-wal", "with its log"),
        (False, "unreadable", "expected a database that may be read and written"),
    ],
)
def test_law_12_what_may_only_be_read_is_refused_as_such(
    open_place: Path, create: bool, what: str, words: str
) -> None:
    """Asked of a user to whom modes mean something, in a process of its own."""
    path = open_place / "cache.db"
    if not create:
        made_by_us(path)
        (open_place / "cache.db-wal").touch()
    if os.getuid() == 0:
        for owned in (open_place, *open_place.iterdir()):
            os.chown(owned, NOBODY, NOBODY)
    modes = {"folder": (open_place, 0o555), "unreadable": (path, 0o200)}
    place, mode = modes.get(what, (open_place / what, 0o444))
    place.chmod(mode)
    before = bytes_of(open_place)

    def work() -> None:
        if os.getuid() == 0:
            os.setuid(NOBODY)
        with pytest.raises(DatabaseReadOnly, match=words):
            Database.open(str(path), KEY, create=create)

    in_child(work)
    assert bytes_of(open_place) == before
    open_place.chmod(0o755)


def test_law_12_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="expected a folder for the database, got none"):
        Database.open(str(tmp_path / "nowhere" / "cache.db"), KEY)
    assert bytes_of(tmp_path) == {}


def test_every_error_has_words_of_its_own() -> None:
    """Somebody who reads one knows what it is about."""
    words = [words for what, (_, _, words) in FILES.items() if what != "another key"]
    assert len(set(words)) == len(words)
