"""Rebuilding a damaged database: a new one beside it, of all that can still be read, then in its place.

Read, judge, write, swap. What is damaged is never written, and stays under another name. The new database is
made under the same page key; as it counts no opening yet, it is treated like an older copy, so that nothing
that was erased or denied since comes back. What session features lost is made up for when a catalog is next
brought to it (`cache/evolution.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge_runtime.cache.database import Database
from edge_runtime.cache.remains import Remains
from edge_runtime.cache.salvage import remains_of
from edge_runtime.errors import KeyMismatch, StorageError
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.slot import Slot
from edge_runtime.keys.vault import Step, no_step
from edge_runtime.recovery.carrying import Carrying
from edge_runtime.recovery.set_aside import Place, claimed
from edge_runtime.recovery.taking_over import TakingOver
from edge_runtime.wire.time_text import time_text

POINTS: Final = ("claimed", "carried", "intent", "log", "aside", "in_place", "told")
"""Every point at which the `step` hook is called, in order."""
AHEAD_US: Final = 60_000_000
"""How far ahead of its receipt an event may lie, at least."""
_NEW_NUMBERS: Final = 1 << 20
"""How far the numbers of the journal jump when it cannot be read which ones were given."""


class Rebuilt(NamedTuple):
    """What became of a damaged database. Nothing personal is in it."""

    reason: str
    """What was found."""
    at_us: int
    aside: str
    """Name of the file that the damaged one is now."""
    kept: dict[str, int]
    """Table -> rows that were taken over."""
    lost: dict[str, int]
    """Table -> rows that were there for certain and could not be."""
    unread: tuple[str, ...]
    """Tables of which something more may be lost, nobody knows how much."""
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """When, why, and what was saved."""
        return [
            f"when   {time_text(self.at_us)}",
            f"why    {self.reason}",
            f"kept   {_rows(self.kept) or 'nothing'}",
            f"lost   {self._lost()}",
            *(f"note   {note}" for note in self.notes),
        ]

    def _lost(self) -> str:
        known = _rows(self.lost)
        unknown = f"something of {', '.join(self.unread)}" if self.unread else ""
        return " and ".join(part for part in (known, unknown) if part) or "nothing"

    def text(self) -> str:
        """For the file beside the one that was set aside."""
        lines = [
            f"{self.aside} is a damaged database that edge-runtime set aside; another one was made of it.",
            "",
            *self.lines(),
            "",
            "It is as encrypted as it was. Look at it, or delete it: nothing needs it any more.",
        ]
        return "\n".join(lines) + "\n"


def rebuild(
    path: str,
    keyring: Keyring,
    reason: str,
    now_us: int,
    *,
    ahead_us: int = AHEAD_US,
    step: Step = no_step,
) -> Rebuilt:
    """Put a new database in the place of the one at `path`, with everything in it that can still be read.

    Args:
        keyring: loaded; its keys decide what is taken over.
        reason: what was found, without anything personal.
        ahead_us: how far ahead of its receipt an event may have been taken (`Settings.future_us`).
        step: called with each of `POINTS`; for tests that kill there.

    Raises:
        DatabaseInUse: somebody has it open, or rebuilds it.
        KeyMismatch: the key does not open it, or it is no cache of ours.
        StorageFull, StorageError: no room, or no right, to make the new one. In each case nothing changed.
    """
    with claimed(Path(path), now_us) as place:
        step("claimed")
        with _remains(path, page_keys(keyring.slot), str(place.scratch)) as (remains, page_key):
            done = _made(place, remains, page_key, keyring, reason, now_us, max(ahead_us, AHEAD_US))
            step("carried")
            place.swap(done.text(), step)  # while nobody else can open the damaged one
    return done


def page_keys(slot: Slot) -> list[bytes]:
    """The keys that the file may be under: both, while a rekey is not finished."""
    return [slot.page_key] if slot.next_page_key is None else [slot.next_page_key, slot.page_key]


@contextmanager
def _remains(path: str, keys: Sequence[bytes], scratch: str) -> Iterator[tuple[Remains, bytes]]:
    """What remains, and the key that the file is under."""
    with ExitStack() as stack:
        yield _entered(stack, path, keys, scratch)


def _entered(stack: ExitStack, path: str, keys: Sequence[bytes], scratch: str) -> tuple[Remains, bytes]:
    for key in keys[:-1]:
        with suppress(KeyMismatch):
            return stack.enter_context(remains_of(path, key, scratch)), key
    return stack.enter_context(remains_of(path, keys[-1], scratch)), keys[-1]


def _made(
    place: Place,
    remains: Remains,
    page_key: bytes,
    keyring: Keyring,
    reason: str,
    now_us: int,
    ahead_us: int,
) -> Rebuilt:
    """Make the new database, whole and closed; returns what there is to say."""
    fresh = Database.open(str(place.rebuilt), page_key)
    try:
        plain = TakingOver(remains, fresh, keyring, now_us)
        sealed = Carrying(remains, fresh, keyring, now_us, ahead_us)
        sealed.run(sessions=plain.sessions_known, stands=plain.stands_known)
        plain.run()
        newest = remains.newest_row()
        with fresh.write("rebuild") as tx:
            tx.set_newest_row(sealed.top + _NEW_NUMBERS if newest is None else max(newest, sealed.top))
        fresh.checkpoint_truncate()
    finally:
        fresh.close()
    if fresh.wal_bytes():
        raise StorageError("the rebuilt database could not be made whole; nothing changed")
    notes = (*plain.notes, *_told(remains, sealed.broken))
    unread = tuple(sorted(sealed.unread | plain.unread))
    kept = dict(sealed.kept + plain.kept)
    return Rebuilt(reason, now_us, place.aside.name, kept, dict(sealed.lost), unread, notes)


def _told(remains: Remains, broken: int) -> list[str]:
    notes = []
    if remains.log_cut:
        notes.append("the newest commits cannot be reached: what was acknowledged in them is gone")
    if broken:
        notes.append(f"session features of {broken} keys say since when they are whole")
    return notes


def _rows(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {table}" for table, count in sorted(counts.items()) if count)
