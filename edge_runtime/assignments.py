"""Gives subjects their arm of an experiment, and records that they were exposed to it.

The app always gets an arm, and never waits for the network: whoever may not be exposed, or cannot be, gets
the control, and the assignment says why. An exposure is an event like any other: taken under permission
alone, journalled by the group commit, gone with an erasure. It is recorded once for a subject; asking again
writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from edge_runtime.catalog import Catalog, Experiment
from edge_runtime.catalog.assignment import arm_of, takes_part
from edge_runtime.catalog.exposure import ARM, ASSIGNMENT
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.words import subject_of
from edge_runtime.errors import MalformedRequest, ReadInPast, StorageError
from edge_runtime.keys.keyring import DataKey
from edge_runtime.serving.request import check_id
from edge_runtime.serving.status import Status
from edge_runtime.serving.value import FeatureValue
from edge_runtime.session.admission import Admission
from edge_runtime.tracking import Tracker

EXPOSED: Final = "exposed"
NOT_IN_TRAFFIC: Final = "not_in_traffic"
NO_STORAGE: Final = "no_storage"
KNOWN: Final = 16_384
"""Most assignments known in memory; of others the state is read again."""
BELIEVED_US: Final = 3_600_000_000
"""How long one is believed: an exposure ends with the retention of its purpose, and is then recorded anew."""

ReadOwn = Callable[[str, str], FeatureValue]
"""`read(ref, typed subject)`, judged now."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm that a subject gets now."""

    arm: str
    """The control whenever `exposed` is False."""
    exposed: bool
    """Whether the subject counts for this arm: the exposure is recorded, now or before."""
    why: str
    """`exposed`; else why not: `not_in_traffic`, `no_storage` (the disk is full or damaged), or what the gate
    says of the experiment's purpose (`unknown`, `withdrawn`, the lease's reason ...)."""


class Assignments:
    """The experiments of one runtime; the runtime's lock guards every call.

    Args:
        read: how the runtime reads a feature of its own.
    """

    def __init__(
        self, catalog: Catalog, consents: Consents, tracker: Tracker, clock: Clock, read: ReadOwn
    ) -> None:
        self._catalog, self._consents, self._tracker = catalog, consents, tracker
        self._clock, self._read = clock, read
        self._known: dict[tuple[str, str], tuple[DataKey, int, Assignment]] = {}
        """(experiment, subject) -> under which key, since when, and what was found."""

    def assign(self, name: str, entities: Mapping[str, str]) -> Assignment:
        """As `Runtime.assign`."""
        experiment, subject = self._asked(name, entities)
        try:
            key = self._consents.key(subject, experiment.purpose)
        except StorageError:  # a key under another basis than consent is made at first use, and must rest
            return _control(experiment, NO_STORAGE)
        if key is None:
            reason = self._consents.permission(subject, experiment.purpose).reason
            return _control(experiment, reason)
        now_us, known = self._clock.now_us(), self._known.get((name, subject))
        if known is not None and known[0] is key and 0 <= now_us - known[1] < BELIEVED_US:
            return known[2]
        if not takes_part(experiment, subject):
            found = _control(experiment, NOT_IN_TRAFFIC)
        else:
            found = self._exposed(experiment, subject)
        if found.why != NO_STORAGE:
            self._note(name, subject, (key, now_us, found))
        return found

    def arm(self, name: str, entities: Mapping[str, str]) -> str:
        """As `Runtime.arm`."""
        experiment, subject = self._asked(name, entities)
        allowed = self._consents.permission(subject, experiment.purpose).allowed
        shown = allowed and takes_part(experiment, subject)
        return arm_of(experiment, subject) if shown else experiment.control

    def forget(self) -> None:
        """Somebody was erased: no subject stays in memory."""
        self._known.clear()

    def _asked(self, name: str, entities: Mapping[str, str]) -> tuple[Experiment, str]:
        experiment = self._catalog.experiment(name)
        if set(entities) != {experiment.unit}:
            raise MalformedRequest("entities", f"{experiment.unit}=..., the unit", "others or none")
        bare = entities[experiment.unit]
        check_id(experiment.unit, bare)
        return experiment, subject_of(self._catalog, f"{experiment.unit}:{bare}")

    def _exposed(self, experiment: Experiment, subject: str) -> Assignment:
        """The arm, once the exposure is recorded; the control where it cannot be."""
        arm = arm_of(experiment, subject)
        try:
            if not self._recorded(experiment, subject) and not self._record(experiment, subject, arm):
                return _control(experiment, NO_STORAGE)
        except StorageError:
            return _control(experiment, NO_STORAGE)
        return Assignment(arm, True, EXPOSED)

    def _recorded(self, experiment: Experiment, subject: str) -> bool:
        """Whether the subject was exposed before; also when the clock was set back behind that."""
        try:
            return self._read(str(experiment.exposure), subject).status is Status.PRESENT
        except ReadInPast:  # the view takes nothing but exposures under this assignment, and one lies ahead
            return True

    def _record(self, experiment: Experiment, subject: str, arm: str) -> bool:
        if self._tracker.cramped:  # the read before brought the state into memory, where it could not stay
            return False
        bare = subject.partition(":")[2]
        exposure = {experiment.unit: bare, ARM: arm, ASSIGNMENT: experiment.assignment}
        taken = self._tracker.take(experiment.event, {**exposure, "id": experiment.assignment})
        return taken in (Admission.ACCEPTED, Admission.DUPLICATE)

    def _note(self, name: str, subject: str, known: tuple[DataKey, int, Assignment]) -> None:
        self._known[name, subject] = known
        if len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]


def _control(experiment: Experiment, why: str) -> Assignment:
    return Assignment(experiment.control, False, why)
