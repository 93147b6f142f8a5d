"""The gate that every use passes (law 1): may this be read, computed, stored, synced or reported now?"""

from __future__ import annotations

import threading
from typing import Final

from edge_runtime.cache.database import Database
from edge_runtime.catalog.model import Purpose
from edge_runtime.clock import Clock
from edge_runtime.consent.denying import base_of
from edge_runtime.consent.lease import Leases
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import Declared, Permission, needs_consent
from edge_runtime.keys.datakey import DataKey, new_facts
from edge_runtime.keys.keyring import Keyring

_ALLOWED: Final = Permission(True, "given")


class UseGate:
    """Judges by keys, leases and what the ledger says. Thread-safe; only making a key takes `lock`."""

    def __init__(
        self,
        catalog: Declared,
        keyring: Keyring,
        database: Database,
        clock: Clock,
        leases: Leases,
        standing: Standing,
        lock: threading.RLock,
    ) -> None:
        self._catalog, self._keyring, self._database = catalog, keyring, database
        self._clock, self._leases, self._standing, self._lock = clock, leases, standing, lock
        self._leased = frozenset(p.name for p in catalog.purposes.values() if needs_consent(p))

    def permission(self, subject: str, purpose: str) -> Permission:
        """Whether the personal features of (typed id, purpose) may be used now (law 1). Unknown means no.

        Under consent: given here, not barred by the ledger, and a live lease. Under another basis: declared,
        neither objected to nor restricted. Takes no lock and asks no disk.
        """
        declared = self._catalog.purposes.get(purpose)
        if declared is None:
            return Permission(False, "the catalog declares no such purpose")
        key = self._keyring.key(subject, purpose)
        if key is None:
            return self._without_key(subject, declared)
        against = self.against(key, declared)
        return _ALLOWED if against is None else Permission(False, against)

    def access(self, subject: str, purpose: str) -> Permission:
        """Whether the subject may be shown what is held of it (Art. 15).

        As `permission`, and also while it is restricted: that forbids use, not a look by whom it is about.
        """
        found, declared = self.permission(subject, purpose), self._catalog.purposes.get(purpose)
        if found.reason != "restricted" or declared is None:
            return found
        if declared.name in self._leased and not self._leases.live(declared):
            return Permission(False, self._leases.reason())
        return Permission(True, found.reason)

    def key(self, subject: str, purpose: str) -> DataKey | None:
        """The key to store under, with permission; None without.

        Under another basis than consent the key is made here at first use: declaring is what allows it.
        """
        key, declared = self._keyring.key(subject, purpose), self._catalog.purposes.get(purpose)
        if key is not None and declared is not None:
            return key if self.against(key, declared) is None else None
        return self._declared_key(subject, purpose) if self.permission(subject, purpose).allowed else None

    def against(self, key: DataKey, declared: Purpose) -> str | None:
        """Why a living key may not be used now; None when it may."""
        barred = self._standing.barred(key)
        if self._leases.ended:
            return self._leases.reason()
        if barred is None and declared.name in self._leased and not self._leases.live(declared):
            return self._leases.reason()
        return barred

    def _without_key(self, subject: str, declared: Purpose) -> Permission:
        pseudonym = self._keyring.pseudonym(subject)
        denial = self._keyring.denial(pseudonym, declared.name)
        if needs_consent(declared):
            return Permission(False, "unknown" if denial is None else denial.state)
        if self._leases.ended:
            return Permission(False, self._leases.reason())
        state = denial.state if denial is not None else self._standing.objection(pseudonym, declared.name)
        return Permission(True, declared.legal_basis) if state is None else Permission(False, state)

    def _declared_key(self, subject: str, purpose: str) -> DataKey:
        with self._lock:
            made = self._keyring.key(subject, purpose)
            if made is not None:
                return made
            base, now_us = base_of(self._keyring, self._database), self._clock.now_us()
            ordinal = self._keyring.next_ordinal()
            facts = new_facts(purpose, bytes(16), "", base=base, at_us=now_us, grant=0, ordinal=ordinal)
            resting = self._catalog.purposes[purpose].on_disk
            return self._keyring.create([(subject, facts)], resting=resting)[0]
