"""Opening sealed rows under their keys, and adding up what channels brought: what a doctor sees in rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Final, ParamSpec

import msgspec

from edge_runtime.cache.journal_entry import open_entries
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.stored_state import (
    ADDED,
    COVERED,
    LOST,
    open_added,
    open_covered,
    open_lost,
    open_state,
)
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.recovery.checks import ChannelFacts, Sampled
from edge_runtime.sync import personal_rows
from edge_runtime.wire import digest

P = ParamSpec("P")

SAMPLE_KEYS: Final = 64
SAMPLE_ROWS: Final = 16
"""How many keys, and rows of each of their tables, are opened where not all are."""


class Sampling:
    """Looks at rows through one transaction.

    Args:
        deep: look at all of them.
    """

    def __init__(self, tx: ReadTransaction, keyring: Keyring, *, deep: bool) -> None:
        self._tx, self._keyring, self._deep = tx, keyring, deep
        self._keys = None if deep else SAMPLE_KEYS
        self._rows = None if deep else SAMPLE_ROWS

    def sealed(self) -> Sampled:
        """Whether rows open, and whether any hang on a key that is gone."""
        bad: Counter[str] = Counter()
        living: set[bytes] = set()
        opened = looked = 0
        for key in chain([self._keyring.device_key()], self._keyring.every_key()):
            living.add(key.handle)
            if self._keys is None or len(living) <= self._keys:
                looked += 1
                for table, opens in self._opened(key):
                    opened += opens
                    bad[table] += not opens
        return Sampled(looked, opened, dict(+bad), len(self._tx.handles() - living), self._deep)

    def _opened(self, key: DataKey) -> Iterator[tuple[str, bool]]:
        """(table, whether it opens) of rows under a key."""
        for _, sealed in islice(self._tx.events(key.handle), self._rows):
            yield "journal", _opens(open_entries, key, sealed)
        for slot, sealed in islice(self._tx.states(key.handle), self._rows):
            yield "state", _opens(_open_state, key, slot, sealed)
        for slot, sealed in islice(self._tx.personal_rows(key.handle), self._rows):
            yield "personal", _opens(key.open, personal_rows.TABLE, slot, sealed)

    def channels(self) -> ChannelFacts:
        """Cursors, and digests made anew."""
        shared = self._tx.channels()
        wrong = fresh = rows = personal = 0
        for name, state in shared.items():
            total = 0
            for row_hash in self._tx.hashes_in_channel(name):
                total, rows = digest.add(total, added=digest.from_bytes(row_hash)), rows + 1
            fresh += not state.cursor
            wrong += bool(state.cursor) and total != state.digest
        for key in islice(self._keyring.every_key(), self._keys):
            stand = self._stand(key)
            if stand is not None:
                personal += 1
                fresh += not stand.cursor
                wrong += bool(stand.cursor) and self._total(key) != digest.from_bytes(stand.digest)
        return ChannelFacts(len(shared), personal, fresh, wrong, rows)

    def _stand(self, key: DataKey) -> personal_rows.Stand | None:
        slot = personal_rows.stand_slot(key)
        sealed = self._tx.personal_row(key.handle, slot)
        return None if sealed is None else personal_rows.open_stand(key, slot, sealed)

    def _total(self, key: DataKey) -> int:
        """The digest of a subject's rows, from the hashes that rest with them."""
        total, stand = 0, personal_rows.stand_slot(key)
        for slot, sealed in self._tx.personal_rows(key.handle):
            if slot != stand:
                row_hash = personal_rows.open_delivered(key, slot, sealed).hash
                total = digest.add(total, added=digest.from_bytes(row_hash))
        return total


def _open_state(key: DataKey, slot: bytes, sealed: bytes) -> object:
    match slot:
        case _ if slot == COVERED:
            return open_covered(key, sealed)
        case _ if slot == ADDED:
            return open_added(key, sealed)
        case _ if slot == LOST:
            return open_lost(key, sealed)
    return open_state(key, slot, sealed)


def _opens(opening: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> bool:
    try:
        opening(*arguments, **named)
    except (DatabaseUnreadable, msgspec.MsgspecError):
        return False
    return True
