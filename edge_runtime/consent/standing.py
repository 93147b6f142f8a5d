"""What the ledger's lane says against keys that live here, kept in memory for the gate.

A key means "given". The lane can still forbid its use: `restricted` always, any other state that does not
allow use when it is newer than what the key's own decision had seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.catalog.model import Purpose
from edge_runtime.consent.words import GIVEN, needs_consent
from edge_runtime.keys.datakey import DataKey
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import LaneEntry

BARRING: Final = ("restricted", "expired", "objected", "refused", "withdrawn", "revoked", "invalidated")
"""States that forbid use."""


class Standing:
    """Bars on living keys, and objections under other bases than consent.

    The consent room's lock guards every change.
    """

    def __init__(self, keyring: Keyring, database: Database) -> None:
        self._keyring, self._database = keyring, database
        self._bars: dict[bytes, str] = {}
        self._objections: dict[tuple[bytes, str], str] = {}
        self._declared: set[str] = set()
        self.changes = 0
        """Counts what may have changed an answer."""

    def barred(self, key: DataKey) -> str | None:
        """Why a living key may not be used; None when it may."""
        return self._bars.get(key.handle)

    def objection(self, subject: bytes, purpose: str) -> str | None:
        """The state by which a subject is against a purpose under another basis than consent."""
        return self._objections.get((subject, purpose))

    def denied_state(self, subject: bytes, purpose: str) -> str | None:
        """The state of a pair without a key: the newer of our denial and the lane; None if neither denies.

        A live grant elsewhere is none here: no key was made on this device.
        """
        denial = self._keyring.denial(subject, purpose)
        with self._database.read() as tx:
            entry = tx.lane_entry(subject, purpose)
        newer = entry is None or denial is None or not denial.settled or denial.seq >= entry.seq
        if denial is not None and newer:
            return denial.state
        return None if entry is None or entry.state in GIVEN else entry.state

    def bar(self, key: DataKey) -> None:
        """A denial of this key is committed: from now on nobody may use it."""
        self._bars[key.handle] = "withdrawn"
        self.changes += 1

    def tidy(self) -> None:
        """Drop the bars of keys that are gone."""
        self._bars = {h: why for h, why in self._bars.items() if self._keyring.by_handle(h) is not None}
        self.changes += 1

    def decided(self, subject: str, purpose: str) -> None:
        """A new decision was taken, with the whole lane seen: only a restriction still stands."""
        key = self._keyring.key(subject, purpose)
        if key is not None:
            with self._database.read() as tx:
                entry = tx.lane_entry(self._keyring.pseudonym(subject), purpose)
            self._judge(key, entry)

    def learn(self, entries: Iterable[LaneEntry]) -> None:
        """Take in new lane entries."""
        for entry in entries:
            key = self._keyring.by_pseudonym(entry.subject, entry.purpose)
            if key is not None:
                self._judge(key, entry)
            if entry.purpose in self._declared:
                self._object(entry)

    def load(self, purposes: Iterable[Purpose]) -> None:
        """Read what the stored lane says, for every declared purpose."""
        self._bars, self._objections = {}, {}
        self.changes += 1
        all_purposes = list(purposes)
        self._declared = {p.name for p in all_purposes if not needs_consent(p)}
        with self._database.read() as tx:
            for purpose in all_purposes:
                against = BARRING if purpose.name in self._declared else ("restricted", "expired", "objected")
                self.learn(tx.lane_in_state(purpose.name, against))

    def _judge(self, key: DataKey, entry: LaneEntry | None) -> None:
        self._bars.pop(key.handle, None)
        self.changes += 1
        if entry is None or entry.state in GIVEN:
            return
        if entry.state == "restricted" or entry.seq > max(key.grant, key.base):
            self._bars[key.handle] = entry.state

    def _object(self, entry: LaneEntry) -> None:
        self._objections.pop((entry.subject, entry.purpose), None)
        self.changes += 1
        if entry.state not in GIVEN:
            self._objections[entry.subject, entry.purpose] = entry.state
