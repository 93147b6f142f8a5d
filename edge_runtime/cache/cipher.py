"""The cipher: which build of SQLite it takes, how a connection gets its key, and how a file gets another.

Nothing is ever opened in plain text, and no file beside the database holds any: temporary tables stay in
memory, and so does the index of the write-ahead log.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import apsw

from edge_runtime.errors import CipherMissing, KeyMissing

MEMORY: Final = ":memory:"
CIPHER: Final = "aegis"
PAGE_BYTES: Final = 4096
KEY_BYTES: Final = 32
CACHE_KIB: Final = 8_000
"""Most KiB of opened pages that each connection keeps: opening a page costs as much as reading a row."""
EXCL: Final = "-excl"
"""How the name of a VFS ends under which a process holds the file alone and may open it more than once: its
write-ahead log has its index in memory, so nothing of it is in a file beside the database."""
OTHER_CIPHERS: Final = ("chacha20", "sqlcipher", "aes256cbc", "aes128cbc", "ascon128", "rc4")
"""What else this build of SQLite can read, for telling that a file is one of them."""


def require_cipher() -> None:
    """Raise `CipherMissing` unless `apsw` is the build with SQLite3 Multiple Ciphers and safe defaults."""
    if not getattr(apsw, "mc_version", ""):
        raise CipherMissing(
            "apsw is here without SQLite3 Multiple Ciphers: install apsw-sqlite3mc instead; nothing opened"
        )
    if "TEMP_STORE=2" not in apsw.compile_options and "TEMP_STORE=3" not in apsw.compile_options:
        raise CipherMissing(
            "this SQLite may write temporary files in plain text: install apsw-sqlite3mc; nothing opened"
        )


def check_key(page_key: bytes) -> None:
    """Raise `KeyMissing` unless it is 32 bytes."""
    if len(page_key) != KEY_BYTES:
        raise KeyMissing(f"expected a page key of {KEY_BYTES} bytes, got {len(page_key)}; nothing opened")


def raw_key(page_key: bytes) -> bytes:
    """The form in which the cipher takes 32 bytes as the key itself.

    Plain bytes it would take for a passphrase and stretch: 30 ms and 19 MiB at each opening, for nothing.
    """
    return b"raw:" + page_key.hex().encode()


def set_key(connection: apsw.Connection, page_key: bytes | None, cipher: str = CIPHER) -> None:
    """Tell a connection what it must know before it touches a page; None: a database in memory."""
    if page_key is not None:
        connection.pragma("cipher", cipher)
        connection.pragma("hexkey", raw_key(page_key).hex())
    connection.set_busy_timeout(0)
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)


def reader(path: str, page_key: bytes, vfs: str | None) -> apsw.Connection:
    """One more connection to a file that this process holds; it cannot write."""
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    set_key(connection, page_key)
    connection.pragma("cache_size", -CACHE_KIB)
    return connection


def change_key(connection: apsw.Connection, page_key: bytes) -> None:
    """Seal every page anew, free pages too, in one transaction through the log; on an error all is as it was.

    Nothing else may be connected to the file. Needs as much room as the file has, until the log is cut.
    """
    connection.pragma("hexrekey", raw_key(page_key).hex())


def best_vfs() -> str | None:
    """The VFS for files: with one process and several connections where that is to be had."""
    return f"multipleciphers-unix{EXCL}" if f"unix{EXCL}" in apsw.vfs_names() else None


def other_cipher(path: str, page_key: bytes, vfs: str | None) -> str | None:
    """Which other cipher `page_key` opens the file with; None for none. Reads one page and locks nothing."""
    address = f"{Path(path).absolute().as_uri()}?immutable=1"
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    for cipher in OTHER_CIPHERS:
        connection = apsw.Connection(address, flags=flags, vfs=vfs)
        try:
            set_key(connection, page_key, cipher)
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        except apsw.Error:
            continue
        finally:
            connection.close()
        return cipher
    return None
