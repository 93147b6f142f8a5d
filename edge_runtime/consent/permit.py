"""A permit: what the gate answered for some pairs, and a cheap way to know that it would answer the same.

It is never weaker than asking again. Everything that can change an answer grows a count: a key made or
destroyed, a denial, a bar set or lifted, a lease granted or lost, another identity. Only the passing of time
does not, so each use judges the lease on the clock that cannot be set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from edge_runtime.catalog.model import Purpose
from edge_runtime.consent.lease import NO_END_US, Leases
from edge_runtime.consent.standing import Standing
from edge_runtime.consent.words import needs_consent
from edge_runtime.keys.keyring import DataKey, Keyring


class Permit(NamedTuple):
    """What stood when it was made."""

    changes: int
    allowed_us: int
    """How much of the lease may be consumed while it holds."""


class Permits:
    """Makes and judges permits; the consent room's lock guards every call.

    Args:
        against: why a living key may not be used under a purpose now; None when it may.
    """

    def __init__(
        self,
        keyring: Keyring,
        standing: Standing,
        leases: Leases,
        purposes: Mapping[str, Purpose],
        against: Callable[[DataKey, Purpose], str | None],
    ) -> None:
        self._keyring, self._standing, self._leases = keyring, standing, leases
        self._purposes, self._against = purposes, against

    def of(self, pairs: Iterable[tuple[str, str]]) -> Permit | None:
        """One permit for what the gate says of all of (typed id, purpose), allowed or not.

        None if it locks one for want of a lease: the reason that it gives for that changes with time.
        """
        changes, allowed_us = self.changes, NO_END_US
        for subject, name in pairs:
            key, purpose = self._keyring.key(subject, name), self._purposes[name]
            if key is None or self._standing.barred(key) is not None:
                continue
            if self._against(key, purpose) is not None:
                return None
            if needs_consent(purpose):
                allowed_us = min(allowed_us, self._leases.allows_us(purpose))
        return Permit(changes, allowed_us)

    def holds(self, permit: Permit) -> bool:
        """Whether asking again would give the same answers."""
        in_time = self._leases.within(permit.allowed_us)  # first: a clock that was set back is a change
        return in_time and permit.changes == self.changes

    @property
    def changes(self) -> int:
        """Counts what may have changed an answer; that a lease ends is no change."""
        return self._keyring.changes + self._standing.changes + self._leases.changes
