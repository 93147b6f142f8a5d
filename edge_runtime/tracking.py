"""What happens to an event: permission first, then admission, then every view's update, then the journal.

Read, decide, write: nothing is applied before every target has judged the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.journal_entry import JournalEntry
from edge_runtime.cache.working_set import LiveState, WorkingSet, slot_of
from edge_runtime.catalog import Catalog, SessionFeature, View
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.errors import MalformedEvent
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event, EventLimits, check_event, event_from_dict, make_event
from edge_runtime.session.plan import Plan, Route, ViewPlan, next_content_id

_ACCEPTED, _DUPLICATE, _LATE, _WAITING = (
    Admission.ACCEPTED,
    Admission.DUPLICATE,
    Admission.LATE,
    Admission.WAITING,
)

REASONS_KEPT = 100
"""Most refusals that one `track_many` explains; all are counted."""
SLOTS_NOTED = 16_384
"""Most slots that are noted for one view, so as not to hash the same id with every event."""


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
    """One session view that takes events."""

    plan: ViewPlan
    view: View
    view_key: str
    subject_type: str | None
    """The entity type of its data subject; None for a view about nobody."""
    keep_events_us: int
    on_disk: bool
    reach_us: int
    """How far back the longest of its features looks."""
    slots: dict[str, bytes]
    """Slots of typed entities seen; see `Tracker.forget`."""


class Share(NamedTuple):
    """The views of one event type that rest on one key: one permission, one entry in the journal."""

    subject_type: str | None
    purpose: str | None
    on_disk: bool
    targets: tuple[tuple[Target, Callable[[Event], str] | None], ...]
    """Each view, and whose state in it: the typed entity key of an event; None where that is the subject."""


class Held(NamedTuple):
    """The states of one share that may be used now, and their key."""

    key: DataKey
    on_disk: bool
    lives: list[LiveState]


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
        self._shares = {event_type: self._shared(routes) for event_type, routes in plan.routes.items()}

    def parse(self, event_type: str, fields: Mapping[str, object]) -> Event:
        """The typed event in `fields`, or `MalformedEvent` with nothing changed."""
        return make_event(self._catalog, event_type, fields, now_us=self._clock.now_us(), limits=self._limits)

    def take(self, event: Event) -> Admission:
        """Judge, apply and queue one well-formed event."""
        now_us = self._clock.now_us()
        shares = self._shares.get(event.type, ())
        held = [found for share in shares if (found := self._held(share, event)) is not None]
        if shares and not held:
            return Admission.NO_CONSENT
        lives = [live for one in held for live in one.lives]
        for live in lives:
            live.plan.advance(live.state, now_us)
        event_id = event.id
        if event_id is None:
            event_id = next_content_id(event, [live.state for live in lives])
        if event.at_us > now_us:  # only such an event can still be malformed: too many wait already
            for live in lives:
                live.plan.admit(live.state, event_id, event.at_us, now_us)
        verdicts: list[Admission] = []
        for one in held:
            verdicts += self._offer(one, event, event_id, now_us)
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
        slot = target.slots.get(entity) or _slot(target, entity)
        found = self._states.find(slot)
        if found is not None and found.key is key:
            return found
        return self._states.load(target.plan, entity, slot, key, target.keep_events_us, target.on_disk)

    def forget(self) -> None:
        """Somebody was erased: no name of a slot stays in memory."""
        for target in self._by_view.values():
            target.slots.clear()

    def _held(self, share: Share, event: Event) -> Held | None:
        """The states of a share, with permission (law 1); None without."""
        key: DataKey | None
        kind, purpose, on_disk, targets = share
        if kind is None or purpose is None:
            subject, key = "", self._keyring.device_key()
        else:
            subject = f"{kind}:{event.entities[kind]}"
            key = self._consents.key(subject, purpose)
            if key is None:
                return None
        lives = [self.state(target, subject if of is None else of(event), key) for target, of in targets]
        return Held(key, on_disk, lives)

    def _offer(self, held: Held, event: Event, event_id: str, now_us: int) -> list[Admission]:
        """Every state of a share judges and applies; what any took goes to the journal once."""
        verdicts, slots = [], []
        for live in held.lives:
            verdict = live.plan.offer(live.state, event, event_id, now_us)
            verdicts.append(verdict)
            if verdict is _ACCEPTED or verdict is _WAITING:
                live.changed = True
                slots.append(live.slot)
        if slots and held.on_disk:
            self._commit.add(JournalEntry(held.key, event, event_id, now_us, tuple(slots)))
            self._states.touched(held.key.handle)
        return verdicts

    def _typed(self, given: Event | Mapping[str, object]) -> Event:
        now_us = self._clock.now_us()
        if isinstance(given, Event):
            return check_event(self._catalog, given, now_us=now_us, limits=self._limits)
        return event_from_dict(self._catalog, given, now_us=now_us, limits=self._limits)

    def _shared(self, routes: Iterable[Route]) -> tuple[Share, ...]:
        groups: dict[tuple[str | None, str | None, bool], list[Route]] = {}
        for route in routes:
            target = self._by_view[route.view_key]
            personal = target.subject_type is not None and target.view.purpose is not None
            whose = (target.subject_type, target.view.purpose) if personal else (None, None)
            groups.setdefault((*whose, target.on_disk), []).append(route)
        return tuple(
            Share(*common, tuple(self._aimed(common[0], route) for route in members))
            for common, members in groups.items()
        )

    def _aimed(self, subject_type: str | None, route: Route) -> tuple[Target, Callable[[Event], str] | None]:
        target = self._by_view[route.view_key]
        return target, None if target.view.entity == (subject_type,) else route.entity_of

    def _target(self, plan: ViewPlan) -> Target:
        view = plan.view
        personal = [kind for kind in view.entity if self._catalog.entities[kind].personal]
        subject_type = personal[0] if personal else None
        if view.purpose is None:
            return Target(plan, view, view.key, subject_type, 0, True, _reach_us(view, None), {})
        purpose = self._catalog.purposes[view.purpose]
        reach_us = _reach_us(view, purpose.retention_us)
        keep_us, on_disk = purpose.keep_events_us, purpose.on_disk
        return Target(plan, view, view.key, subject_type, keep_us, on_disk, reach_us, {})


def _reach_us(view: View, retention_us: int | None) -> int:
    """The longest window of a view; features without one look back over the whole retention."""
    whole_us = retention_us if retention_us is not None else 1 << 61
    features = [f for f in view.features.values() if isinstance(f, SessionFeature)]
    return max((whole_us if f.window_us is None else f.window_us for f in features), default=0)


def _overall(verdicts: list[Admission]) -> Admission:
    """One word for several views: taken anywhere is ACCEPTED; else DUPLICATE outranks LATE."""
    if not verdicts or _ACCEPTED in verdicts or _WAITING in verdicts:
        return _ACCEPTED
    return _DUPLICATE if _DUPLICATE in verdicts else _LATE


def _slot(target: Target, entity: str) -> bytes:
    """The slot of an entity not seen lately, noted for the next time."""
    if len(target.slots) >= SLOTS_NOTED:
        target.slots.clear()
    found = target.slots[entity] = slot_of(target.view_key, entity)
    return found
