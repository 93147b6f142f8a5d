"""What the ledger's lane says against keys that live here, kept in memory for the gate.

A key means "given". The lane can still forbid its use: `restricted` always, any other state that does not
allow use when it is newer than what the key's own decision had seen. So a consent given after this device's
own withdrawal waits, from when the lane brings the withdrawal until the ledger has the consent as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_runtime.cache.database import Database
from edge_runtime.consent.words import GIVEN
from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import LaneEntry


class Standing:
    """Bars on living keys, and objections under other bases than consent.

    A bar stands on the key's own object. Keys that are not in memory are judged when they are loaded, so
    nothing here grows with the number of subjects. The consent room's lock guards every change.
    """

    def __init__(self, keyring: Keyring, database: Database) -> None:
        self._keyring, self._database = keyring, database
        self._denied: dict[tuple[bytes, str], int] = {}
        """Pairs whose denial is committed and whose erasure is not finished -> its ordinal."""
        self.changes = 0
        """Counts what may have changed an answer."""
        keyring.judge = self._load

    def barred(self, key: DataKey) -> str | None:
        """Why a living key may not be used; None when it may."""
        return key.barred

    def objection(self, subject: bytes, purpose: str) -> str | None:
        """The state by which a subject is against a purpose under another basis than consent."""
        entry = self._entry(subject, purpose)
        return None if entry is None or entry.state in GIVEN else entry.state

    def denied_state(self, subject: bytes, purpose: str) -> str | None:
        """The state of a pair without a key: the newer of our denial and the lane; None if neither denies.

        A live grant elsewhere is none here: no key was made on this device.
        """
        denial = self._keyring.denial(subject, purpose)
        try:
            entry = self._entry(subject, purpose)
        except DatabaseUnreadable:
            if denial is None:
                raise
            return denial.state
        newer = entry is None or denial is None or not denial.settled or denial.seq >= entry.seq
        if denial is not None and newer:
            return denial.state
        return None if entry is None or entry.state in GIVEN else entry.state

    def bar(self, key: DataKey, denial: Denial) -> None:
        """A denial of this key is committed: from now on nobody may use it."""
        self._denied[denial.pair] = denial.ordinal
        key.barred = "withdrawn"
        self.changes += 1

    def tidy(self) -> None:
        """Every erasure that was begun is finished."""
        self._denied.clear()
        self.changes += 1

    def decided(self, subject: str, purpose: str) -> None:
        """A new decision was taken, with the whole lane seen: only a restriction still stands."""
        key = self._keyring.key(subject, purpose)
        if key is not None:
            self._judge(key, self._entry(self._keyring.pseudonym(subject), purpose))
            self.changes += 1

    def learn(self, entries: Iterable[LaneEntry]) -> None:
        """Take in new lane entries, once they are stored."""
        self._keyring.changes += 1  # a key that is being loaded now is judged again
        for entry in entries:
            key = self._keyring.held_by_pseudonym(entry.subject, entry.purpose)
            if key is not None:
                self._judge(key, entry)
        self.changes += 1

    def learn_anew(self, pairs: Iterable[tuple[bytes, str]]) -> None:
        """What is stored of these (pseudonym, purpose) is another thing than before, or nothing."""
        self._keyring.changes += 1
        for subject, purpose in pairs:
            key = self._keyring.held_by_pseudonym(subject, purpose)
            if key is not None:
                self._judge(key, self._entry(subject, purpose))
        self.changes += 1

    def _load(self, key: DataKey) -> None:
        pseudonym = self._keyring.pseudonym(key.subject)
        if key.facts.ordinal < self._denied.get((pseudonym, key.purpose), 0):
            key.barred = "withdrawn"
            return
        try:
            self._judge(key, self._entry(pseudonym, key.purpose))
        except DatabaseUnreadable:
            key.barred = "unknown"  # what the ledger says of it cannot be read: unknown means no

    def _judge(self, key: DataKey, entry: LaneEntry | None) -> None:
        if key.facts.restricted is not None:
            key.barred = "restricted"
        elif entry is None:
            key.barred = None
        elif entry.state in GIVEN:  # by whose decision, the ledger says of ours when it has it
            unheard = not key.grant and entry.denial > key.facts.base
            key.barred = "withdrawn" if unheard else None
        elif entry.state == "restricted" or entry.seq > max(key.grant, key.facts.base):
            key.barred = entry.state
        else:
            key.barred = None

    def _entry(self, subject: bytes, purpose: str) -> LaneEntry | None:
        with self._database.glance() as tx:  # a key may be loaded inside anybody's transaction
            return tx.lane_entry(subject, purpose)
