"""Data keys in memory: of subjects asked for lately, and of guests, whose keys rest nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from weakref import WeakValueDictionary

from edge_runtime.cache import process
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.entry import Entry
from edge_runtime.keys.secret import wipe


class HeldKeys:
    """The keys in memory. The keyring's lock guards every change; `of` may be asked without it.

    A key that leaves is overwritten as soon as nobody has its object any more; while somebody has, it is the
    one that comes back when the subject is asked for again.

    Args:
        limit: subjects held; the one held longest is let go. Guests do not count.
        pseudonym: the name of a subject in the tree.
    """

    def __init__(self, limit: int, pseudonym: Callable[[str], bytes]) -> None:
        self.limit, self._pseudonym = limit, pseudonym
        self._held: dict[str, dict[str, DataKey]] = {}
        """Subject -> purpose -> key; empty for a subject known to have none."""
        self._names: dict[bytes, str] = {}
        """Pseudonym -> subject, of those held that have a key."""
        self._out: WeakValueDictionary[bytes, DataKey] = WeakValueDictionary()
        """Handle -> the one object of each key that anybody still has."""
        self.guests: dict[str, set[str]] = {}
        """Subject -> purposes kept in memory only: such a subject is never let go."""
        process.register(self)

    def hold_still(self, held: ExitStack) -> None:
        """See `process.Owned`; there is nothing to wait for."""

    def disown(self) -> None:
        """See `process.Owned`: in a child nothing is answered from what its parent held."""
        self._held, self._names = {}, {}

    def of(self, subject: str) -> dict[str, DataKey] | None:
        """Purpose -> key of a subject; None when it is not known here."""
        return self._held.get(subject)

    def subject(self, name: bytes) -> str | None:
        """The subject with a pseudonym, if it is held and has a key."""
        return self._names.get(name)

    def objects(self, database_id: bytes, entry: Entry) -> list[DataKey]:
        """The one object of each key of an entry; the entry's own copies of the secrets are used up."""
        found = []
        for kept in entry.keys.values():
            key = self._out.get(kept.facts.handle)
            if key is None:
                key = DataKey(database_id, entry.subject, kept.facts, kept.secret)
                self._out[kept.facts.handle] = key
            else:
                wipe(kept.secret)
            found.append(key)
        return found

    def hold(self, subject: str, keys: Iterable[DataKey]) -> dict[str, DataKey]:
        """Hold what the keystore has of a subject."""
        found = self._held.setdefault(subject, {key.purpose: key for key in keys})
        if found:
            self._names[self._pseudonym(subject)] = subject
        while len(self._held) > self.limit + len(self.guests):
            oldest = next(iter(self._held))
            gone = self._held.pop(oldest)
            if oldest in self.guests or oldest == subject:
                self._held[oldest] = gone  # to the end of the line
            else:
                self._names.pop(self._pseudonym(oldest), None)
        return found

    def came(self, key: DataKey) -> None:
        """A key was made; what else its subject has is held already."""
        self._out[key.handle] = key
        self._held[key.subject][key.purpose] = key
        self._names[self._pseudonym(key.subject)] = key.subject
        if not key.resting:
            self.guests.setdefault(key.subject, set()).add(key.purpose)

    def went(self, key: DataKey) -> None:
        """A key was destroyed."""
        key.destroy()
        held = self._held.get(key.subject, {})
        held.pop(key.purpose, None)
        if not held:
            self._names.pop(self._pseudonym(key.subject), None)
        guests = self.guests.get(key.subject, set())
        guests.discard(key.purpose)
        if not guests:
            self.guests.pop(key.subject, None)

    def ask_again(self, names: Iterable[bytes]) -> None:
        """What rests of these pseudonyms may be another than what is held."""
        for name in names:
            subject = self._names.get(name)
            if subject is not None and subject not in self.guests:
                del self._held[subject]
                del self._names[name]

    def of_guests(self) -> list[DataKey]:
        """Every key that is kept in memory only."""
        return [self._held[subject][p] for subject, purposes in self.guests.items() for p in sorted(purposes)]

    def forget(self) -> None:
        """Hold nothing; guests must be gone."""
        self._held.clear()
        self._names.clear()

    def wipe(self) -> None:
        """Overwrite every key that anybody still has."""
        for key in list(self._out.values()):
            key.wipe()
        self._held.clear()
        self._names.clear()
        self.guests.clear()
