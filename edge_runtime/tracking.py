"""What happens to an event: permission first, then admission, then every view's update, then the journal.

Read, decide, write: nothing is applied before every target has judged the event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_runtime.cache.group_commit import GroupCommit, JournalEntry
from edge_runtime.cache.working_set import LiveState, WorkingSet, slot_of
from edge_runtime.catalog import Catalog, SessionFeature, View
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.errors import MalformedEvent
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event, EventLimits, check_event, event_from_dict, make_event
from edge_runtime.session.plan import Plan, ViewPlan, next_content_id

_TAKEN = frozenset({Admission.ACCEPTED, Admission.WAITING})

REASONS_KEPT = 100
"""Most refusals that one `track_many` explains; all are counted."""


@dataclass(slots=True)
class TrackSummary:
    """What became of the events of one `track_many`."""

    accepted: int = 0
    duplicate: int = 0
    late: int = 0
    no_consent: int = 0
    refused: int = 0
    reasons: list[tuple[int, str]] = field(default_factory=list)
    """(position, reason) of the first refused events."""
    _position: int = 0

    def count(self, admission: Admission) -> None:
        """Add one verdict."""
        match admission:
            case Admission.DUPLICATE:
                self.duplicate += 1
            case Admission.LATE:
                self.late += 1
            case Admission.NO_CONSENT:
                self.no_consent += 1
            case Admission.ACCEPTED | Admission.WAITING:
                self.accepted += 1
        self._position += 1

    def refuse(self, error: MalformedEvent) -> None:
        """Add one event that does not fit the catalog."""
        self.refused += 1
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append((self._position, str(error)))
        self._position += 1


class Target(NamedTuple):
    """One session view that an event type feeds."""

    plan: ViewPlan
    view: View
    subject_type: str | None
    keep_events_us: int
    on_disk: bool
    reach_us: int
    """How far back the longest of its features looks."""


class Tracker:
    """Takes events for one runtime; the runtime's lock guards every call."""

    def __init__(
        self,
        catalog: Catalog,
        plan: Plan,
        consents: Consents,
        keyring: Keyring,
        states: WorkingSet,
        commit: GroupCommit,
        clock: Clock,
        limits: EventLimits,
    ) -> None:
        self._catalog, self._consents, self._keyring = catalog, consents, keyring
        self._states, self._commit, self._clock, self._limits = states, commit, clock, limits
        self._by_view = {key: self._target(view_plan) for key, view_plan in plan.views.items()}
        self._targets = {
            event_type: tuple(self._by_view[route.view_key] for route in routes)
            for event_type, routes in plan.routes.items()
        }

    def parse(self, event_type: str, fields: Mapping[str, object]) -> Event:
        """The typed event in `fields`, or `MalformedEvent` with nothing changed."""
        return make_event(self._catalog, event_type, fields, now_us=self._clock.now_us(), limits=self._limits)

    def take(self, event: Event) -> Admission:
        """Judge, apply and queue one well-formed event."""
        now_us = self._clock.now_us()
        targets = self._targets.get(event.type, ())
        lives = [live for target in targets if (live := self._live(target, event.entities)) is not None]
        if targets and not lives:
            return Admission.NO_CONSENT
        for live in lives:
            live.plan.advance(live.state, now_us)
        event_id = event.id
        if event_id is None:
            event_id = next_content_id(event, [live.state for live in lives])
        verdicts = [live.plan.admit(live.state, event_id, event.at_us, now_us) for live in lives]
        taken = [live for live, verdict in zip(lives, verdicts, strict=True) if verdict in _TAKEN]
        for live in taken:
            live.plan.apply(live.state, event, event_id, now_us)
        self._journal(taken, event, event_id, now_us)
        return _overall(verdicts)

    def take_many(self, events: Iterable[Event | Mapping[str, object]], summary: TrackSummary) -> None:
        """Take events one by one into `summary`; a malformed one changes nothing and is explained."""
        for given in events:
            try:
                summary.count(self.take(self._typed(given)))
            except MalformedEvent as error:
                summary.refuse(error)

    def target(self, view_key: str) -> Target:
        """How a session view takes events."""
        return self._by_view[view_key]

    def state(self, target: Target, entity: str, key: DataKey) -> LiveState:
        """The state of typed `entity` in a view, brought into memory under the subject's live key."""
        slot = slot_of(target.view.key, entity)
        found = self._states.find(slot)
        if found is not None and found.key is key:
            return found
        return self._states.load(target.plan, entity, slot, key, target.keep_events_us, target.on_disk)

    def _live(self, target: Target, entities: Mapping[str, str]) -> LiveState | None:
        key = self._key(target, entities)
        if key is None:
            return None
        return self.state(target, "|".join(f"{kind}:{entities[kind]}" for kind in target.view.entity), key)

    def _key(self, target: Target, entities: Mapping[str, str]) -> DataKey | None:
        purpose = target.view.purpose
        if target.subject_type is None or purpose is None:
            return self._keyring.device_key()
        subject = f"{target.subject_type}:{entities[target.subject_type]}"
        return self._consents.key(subject, purpose)

    def _typed(self, given: Event | Mapping[str, object]) -> Event:
        now_us = self._clock.now_us()
        if isinstance(given, Event):
            return check_event(self._catalog, given, now_us=now_us, limits=self._limits)
        return event_from_dict(self._catalog, given, now_us=now_us, limits=self._limits)

    def _journal(self, taken: list[LiveState], event: Event, event_id: str, now_us: int) -> None:
        by_key: dict[bytes, list[LiveState]] = {}
        for live in taken:
            live.changed = True
            if live.stored:
                by_key.setdefault(live.key.handle, []).append(live)
        for handle, group in by_key.items():
            slots = tuple(live.slot for live in group)
            self._commit.add(JournalEntry(group[0].key, event, event_id, now_us, slots))
            self._states.touched(handle)

    def _target(self, plan: ViewPlan) -> Target:
        view = plan.view
        personal = [kind for kind in view.entity if self._catalog.entities[kind].personal]
        subject_type = personal[0] if personal else None
        if view.purpose is None:
            return Target(plan, view, subject_type, 0, True, _reach_us(view, None))
        purpose = self._catalog.purposes[view.purpose]
        reach_us = _reach_us(view, purpose.retention_us)
        return Target(plan, view, subject_type, purpose.keep_events_us, purpose.on_disk, reach_us)


def _reach_us(view: View, retention_us: int | None) -> int:
    """The longest window of a view; features without one look back over the whole retention."""
    whole_us = retention_us if retention_us is not None else 1 << 61
    features = [f for f in view.features.values() if isinstance(f, SessionFeature)]
    return max((whole_us if f.window_us is None else f.window_us for f in features), default=0)


def _overall(verdicts: list[Admission]) -> Admission:
    """One word for several views: taken anywhere is ACCEPTED; else DUPLICATE outranks LATE."""
    if not verdicts or not _TAKEN.isdisjoint(verdicts):
        return Admission.ACCEPTED
    return Admission.DUPLICATE if Admission.DUPLICATE in verdicts else Admission.LATE
