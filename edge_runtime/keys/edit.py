"""An edit: entries taken out of the key tree, changed, and put back together in one commit. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge_runtime.errors import MalformedRequest
from edge_runtime.keys.datakey import KeyFacts
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.entry import PURPOSES, Entry, Kept
from edge_runtime.keys.secret import wipe


class Growth(NamedTuple):
    """How many more there are than before; negative for fewer."""

    keys: int
    subjects: int
    """Those with at least one key."""


class Edit:
    """Changes to some entries. Whoever commits it wipes it.

    Args:
        find: the entry of a pseudonym as it rests, a copy of its own; None for one without.
    """

    def __init__(self, find: Callable[[bytes], Entry | None]) -> None:
        self._find = find
        self.entries: dict[bytes, Entry] = {}
        """Pseudonym -> entry as it shall be."""
        self._had: dict[bytes, int] = {}

    def of(self, name: bytes) -> Entry:
        """The entry of a pseudonym, to be changed in place."""
        entry = self.entries.get(name)
        if entry is None:
            entry = self.entries[name] = self._find(name) or Entry()
            self._had[name] = len(entry.keys)
        return entry

    def add(self, name: bytes, subject: str, kept: Kept) -> None:
        """A key is made; its secret is copied.

        Raises `MalformedRequest` for more purposes of one subject than an entry holds.
        """
        entry = self.of(name)
        if len(entry.keys) >= PURPOSES:
            raise MalformedRequest("purposes", f"at most {PURPOSES} of one subject", "one more")
        entry.subject = subject
        entry.keys[kept.facts.purpose] = Kept(kept.facts, bytearray(kept.secret))
        entry.remember(())

    def know(self, name: bytes, facts: KeyFacts) -> None:
        """A key's facts are these now."""
        keys = self.of(name).keys
        keys[facts.purpose] = Kept(facts, keys[facts.purpose].secret)

    def destroy(self, name: bytes, purpose: str) -> None:
        """A key is no more."""
        kept = self.of(name).keys.pop(purpose, None)
        if kept is not None:
            wipe(kept.secret)

    def remember(self, denial: Denial) -> None:
        """A denial is to be remembered, as it rests in the keystore."""
        self.of(denial.subject).remember([denial.at_rest()])

    def drop(self, name: bytes) -> None:
        """Nothing is remembered of a pseudonym."""
        self.of(name).wipe()
        self.entries[name] = Entry()

    @property
    def growth(self) -> Growth:
        """What it changes in number."""
        keys = sum(len(entry.keys) - self._had[name] for name, entry in self.entries.items())
        subjects = sum(bool(e.keys) - bool(self._had[name]) for name, e in self.entries.items())
        return Growth(keys, subjects)

    def wipe(self) -> None:
        """Overwrite every secret in it."""
        for entry in self.entries.values():
            entry.wipe()
