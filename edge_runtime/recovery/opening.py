"""Opening a cache that may be damaged: as it is; or, where that was asked for, rebuilt.

Without `recover="rebuild"` a damaged database is refused untouched, and the refusal says what to do. With it
every page is read once before anything is built on the file (some 3 ms for each MiB), so damage that nobody
has met yet is found too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal, TypeVar

import apsw

from edge_runtime.cache.cipher import MEMORY
from edge_runtime.cache.database import Database
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.untouched import first_bytes, untouched
from edge_runtime.consent.opening import open_cache
from edge_runtime.errors import DatabaseUnreadable, EdgeError, KeyMismatch, KeystoreMismatch
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyProvider
from edge_runtime.keys.slot import decode
from edge_runtime.recovery import set_aside
from edge_runtime.recovery.rebuild import AHEAD_US, Rebuilt, page_keys, rebuild

T = TypeVar("T")
Recover = Literal["discard", "rebuild"]

ADVICE: Final = (
    "Open with recover='rebuild', or run `edge-runtime doctor --repair`: the file is set aside, and another "
    "one made of all that can still be read"
)
_FIRST_PAGE: Final = "the database is damaged: its first page does not open"
_PLAIN: Final = b"SQLite format 3\x00"


def open_recovered(
    path: str,
    provider: KeyProvider,
    build: Callable[[Keyring, Database], T],
    *,
    now_us: int,
    ahead_us: int = AHEAD_US,
    recover: Recover | None = None,
    rebuilt: Callable[[Rebuilt], None] = lambda _: None,
) -> T:
    """Open the cache at `path` and build on it.

    Args:
        build: what is wanted of the opened cache; when it raises, the cache is closed.
        ahead_us: see `rebuild`.
        recover: `"discard"` as for `open_cache`; `"rebuild"` makes a damaged database anew.
        rebuilt: told what was done when one was.

    Raises as `open_cache`; `DatabaseUnreadable` says what to do.
    """
    in_memory = path == MEMORY
    if not in_memory:
        set_aside.finish(Path(path))
    try:
        if recover == "rebuild" and not in_memory:
            _look_at_every_page(path, provider)
        return _opened(path, provider, build, recover)
    except (DatabaseUnreadable, KeyMismatch) as damage:
        if in_memory or _is_plain(path):
            raise
        if recover != "rebuild":
            if isinstance(damage, KeyMismatch):
                raise
            raise DatabaseUnreadable(f"{damage}. {ADVICE}") from None
        rebuilt(_rebuilt(path, provider, damage, now_us, ahead_us))
    return _opened(path, provider, build, None)


def _rebuilt(path: str, provider: KeyProvider, damage: EdgeError, now_us: int, ahead_us: int) -> Rebuilt:
    """Rebuild what met `damage`; a key that does not fit is no damage, and says what it said before."""
    try:
        with closing(Keyring.open(provider, f"{path}-keys", True)) as keyring:
            reason = _FIRST_PAGE if isinstance(damage, KeyMismatch) else str(damage).partition(";")[0]
            return rebuild(path, keyring.load(), reason, now_us, ahead_us=ahead_us)
    except (KeyMismatch, KeystoreMismatch):
        if isinstance(damage, KeyMismatch):
            raise damage from None
        raise


def _opened(
    path: str,
    provider: KeyProvider,
    build: Callable[[Keyring, Database], T],
    recover: Recover | None,
) -> T:
    keyring, database = open_cache(path, provider, recover="discard" if recover == "discard" else None)
    try:
        return build(keyring, database)
    except BaseException:
        database.close()
        keyring.close()
        raise


def _look_at_every_page(path: str, provider: KeyProvider) -> None:
    """Raise `DatabaseUnreadable` for damage anywhere in the file, which is not touched by the look.

    What keeps the file from being looked at at all is for the opening to say.
    """
    if not provider.exists() or not os.path.exists(path):
        return
    faults: list[str] = []
    for page_key in page_keys(decode(provider.load())):
        with untouched(path, page_key) as connection, suppress(apsw.Error):
            faults += ReadTransaction(connection).faults(1)
    if faults:
        first = faults[0].partition(" error code")[0].rstrip(".")
        raise DatabaseUnreadable(f"the database is damaged: {first}; nothing was used of it")


def _is_plain(path: str) -> bool:
    """Whether the file is no damaged cache but an unencrypted one of somebody's."""
    return not os.path.exists(path) or first_bytes(path, len(_PLAIN)) == _PLAIN
