"""Who may answer in a round, and with which input: permission for every purpose, and a whole value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from edge_runtime.aggregates.exposed import cell_input
from edge_runtime.aggregates.reading import Reading, read_input
from edge_runtime.aggregates.rounds_in_hand import Round
from edge_runtime.catalog import Catalog, Metric
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import DataKey, Keyring

SUBJECTS: Final = 1_000
"""Most subjects in one ticket request of a kiosk's sum, so that both frames fit: fewer are more noise."""
AT_ONCE: Final = 48
"""The same of answers of their own: drawn and stored in one transaction, some milliseconds."""
LOOKED: Final = 200
"""After so many subjects others get their turn; the next are looked at a tick later."""


class Permission(Protocol):
    """Whether a (subject, purpose) may be used now."""

    @property
    def allowed(self) -> bool:
        """Only True is yes."""
        ...


class Consents(Protocol):
    """What is needed of the consent room."""

    def permission(self, subject: str, purpose: str) -> Permission:
        """The gate of law 1."""
        ...


ReadValue = Callable[[str, str], Reading]
"""`read_value(ref, subject)`: the feature `view@version:feature` of typed id `subject`, judged now."""


class Respondents:
    """The subjects of one runtime, as those who may be asked."""

    def __init__(
        self,
        catalog: Catalog,
        keyring: Keyring,
        consents: Consents,
        read_value: ReadValue,
        clock: Clock,
    ) -> None:
        self._catalog, self._keyring, self._consents = catalog, keyring, consents
        self._read_value, self._clock = read_value, clock

    def asking(self, round_: Round, payable: Callable[[str], bool]) -> dict[bytes, str]:
        """Pseudonym -> subject of those next who can answer; none while they are too few for a request.

        Looks at few subjects, whoever they are: a device has thousands, and its link waits meanwhile.

        Args:
            payable: whether a subject did not answer yet, and its budget reaches.
        """
        most = SUBJECTS if round_.question.mode == "curator" else AT_ONCE
        looked = 0
        while round_.turning and len(round_.found) < most and looked < LOOKED:
            looked += self._look(round_, payable)
        if round_.turning and len(round_.found) < most:
            return {}
        return {name: round_.found.pop(name) for name in list(round_.found)[:most]}

    def _look(self, round_: Round, payable: Callable[[str], bool]) -> int:
        """Look at the next subjects, a leaf of the keystore; at how many."""
        kind = self._catalog.views[round_.metric.of.view].entity[0]
        keys, round_.after = self._keyring.keys_after(round_.after)
        round_.turning = round_.after is not None
        asked = (key.subject for key in keys if key.purpose == round_.metric.purpose)
        subjects = [subject for subject in asked if subject.startswith(f"{kind}:")]
        for subject in subjects:
            if payable(subject) and self.input(round_.metric, subject) is not None:
                round_.found[self._keyring.pseudonym(subject)] = subject
        return len(subjects)

    def input(self, metric: Metric, subject: str) -> int | None:
        """The input to answer with, or None: no permission, or nothing to answer with (`reading.py`)."""
        if self.keys(metric, subject) is None:
            return None
        if metric.experiment is not None:
            return cell_input(self._catalog.experiments[metric.experiment], self._read_value, subject)
        reading = self._read_value(str(metric.of), subject)
        return read_input(metric, reading, self._clock.now_us())

    def keys(self, metric: Metric, subject: str) -> list[DataKey] | None:
        """The data keys an answer is sealed under; None without live permission for every purpose."""
        purposes = self._catalog.model.purposes_of(metric)
        if not all(self._consents.permission(subject, p).allowed for p in purposes):
            return None
        keys = [self._keyring.key(subject, p) for p in purposes]
        held = [key for key in keys if key is not None]
        return held if len(held) == len(keys) else None
