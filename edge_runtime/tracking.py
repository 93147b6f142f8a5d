"""What happens to an event: permission first, then admission, then every view's update, then the journal.

Read, decide, write: nothing is applied before every target has judged the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.journal_entry import pack_entry
from edge_runtime.cache.working_set import LiveState, WorkingSet, slot_of
from edge_runtime.catalog import Catalog, View
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.errors import MalformedEvent, StorageFull
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.presence import Presence
from edge_runtime.session.admission import Admission
from edge_runtime.session.event import Event, EventLimits
from edge_runtime.session.event_reader import EventReader
from edge_runtime.session.plan import Plan, Route, ViewPlan, ViewState, next_content_id
from edge_runtime.wire.printing import prints_only

_ACCEPTED, _DUPLICATE, _LATE, _NO_CONSENT, _WAITING, _NO_ROOM = Admission

REASONS_KEPT = 100
"""Most refusals that one `track_many` explains; all are counted."""
SLOTS_NOTED = 16_384
"""Most slots that are noted for one view, so as not to hash the same id with every event."""
EVENTS_AT_ONCE = 512
"""Most events of one `track_many` that are taken while everybody else waits."""

T = TypeVar("T")


def chunks(events: Iterable[T]) -> Iterator[list[T]]:
    """The events in order, `EVENTS_AT_ONCE` at a time."""
    iterator = iter(events)
    while chunk := list(islice(iterator, EVENTS_AT_ONCE)):
        yield chunk


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

    @property
    def told(self) -> int:
        """How many events were judged or refused: the position of the next."""
        return self.accepted + self.duplicate + self.late + self.no_consent + self.refused

    def count(self, verdicts: Sequence[int]) -> None:
        """Add how many verdicts there were of each kind."""
        self.accepted += verdicts[_ACCEPTED]
        self.duplicate += verdicts[_DUPLICATE]
        self.late += verdicts[_LATE]
        self.no_consent += verdicts[_NO_CONSENT]

    def refuse(self, position: int, reason: str) -> None:
        """Add one event that does not fit the catalog, or found no room."""
        self.refused += 1
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append((position, reason))


class _NoRoom(Exception):
    """The disk takes nothing, so an event that needs more than memory may hold is not taken."""


@prints_only("view_key", "subject_type", "keep_events_us", "on_disk")
class Target(NamedTuple):
    """One session view that takes events."""

    plan: ViewPlan
    view: View
    view_key: str
    subject_type: str | None
    """The entity type of its data subject; None for a view about nobody."""
    keep_events_us: int
    on_disk: bool
    slots: dict[str, bytes]
    """Slots of typed entities seen; see `Tracker.forget`."""


Held = tuple[DataKey, bool, list[LiveState]]
"""The states of one share that may be used now: their key, whether they may rest on disk, themselves."""


class Feed(NamedTuple):
    """All that one event goes into."""

    held: list[Held]
    lives: list[LiveState]
    """The states of all shares."""
    states: list[ViewState]
    """What is in them."""


class Share(NamedTuple):
    """The views of one event type that rest on one key: one permission, one entry in the journal."""

    subject_type: str | None
    purpose: str | None
    on_disk: bool
    targets: tuple[tuple[Target, Callable[[Event], str] | None], ...]
    """Each view, and whose state in it: the typed entity key of an event; None where that is the subject."""
    alone: bool
    """Whether that is the subject in every view."""
    noted: dict[bytes, Feed]
    """Handle of a subject -> its states, where that says which; see `Tracker._states_of`."""


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
        presence: Presence,
    ) -> None:
        self._presence = presence
        self._catalog, self._consents, self._keyring = catalog, consents, keyring
        self._states, self._commit, self._clock = states, commit, clock
        self._reader = EventReader(catalog, limits)
        self._departed = states.departed
        self._by_view = {key: self._target(view_plan) for key, view_plan in plan.views.items()}
        self._shares = {event_type: self._shared(routes) for event_type, routes in plan.routes.items()}
        self._alone = {event_type: _alone(shares) for event_type, shares in self._shares.items()}

    def take(self, event_type: str, fields: Mapping[str, object]) -> Admission:
        """Judge, apply and queue the event in `fields`.

        Raises:
            MalformedEvent: it does not fit the catalog; nothing changed.
        """
        now_us = self._clock.now_us()
        event = self._reader.named(event_type, fields, now_us)
        try:
            return self._take(event, now_us, self._feed(event))
        except _NoRoom:
            return _NO_ROOM

    def take_many(self, events: Iterable[Event | Mapping[str, object]], summary: TrackSummary) -> None:
        """Take events in order into `summary`; a malformed one changes nothing and is explained.

        Permission is asked, and states are found, once for each subject: a decision, a lane entry and the
        letting go of a state all need the runtime's lock, which is held until the last event was taken.
        """
        verdicts, noted = [0] * len(Admission), dict[tuple[str, str], Feed | None]()
        for position, given in enumerate(events, summary.told):
            now_us = self._clock.now_us()
            try:
                event = self._reader.given(given, now_us)
                verdicts[self._take(event, now_us, self._noted(event, noted))] += 1
            except MalformedEvent as error:
                summary.refuse(position, str(error))
            except _NoRoom:
                summary.refuse(position, "no room: the disk takes nothing, and memory holds what it may")
        summary.count(verdicts)

    @property
    def cramped(self) -> bool:
        """Whether no further state may change: the disk takes nothing, and memory holds what it may."""
        return self._commit.stuck is not None and self._states.cramped

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
        self._let_go()

    def _noted(self, event: Event, noted: dict[tuple[str, str], Feed | None]) -> Feed | None:
        """As `_feed`, asked once for each subject where the states depend on nothing else of the event."""
        alone = self._alone[event.type]
        if alone is None:
            return self._feed(event)
        place = event.type, event.entities[alone]
        feed = noted.get(place)
        if feed is None:
            feed = noted[place] = self._feed(event)
        return feed

    def _feed(self, event: Event) -> Feed | None:
        """What an event goes into; None when no permission is there for any of it."""
        shares = self._shares[event.type]
        found = [feed for share in shares if (feed := self._permitted(share, event)) is not None]
        if len(found) == 1:
            return found[0]
        if shares and not found:
            return None
        held = [one for feed in found for one in feed.held]
        lives = [live for feed in found for live in feed.lives]
        return Feed(held, lives, [live.state for live in lives])

    def _permitted(self, share: Share, event: Event) -> Feed | None:
        """What of a share an event goes into, with permission (law 1); None without."""
        kind, purpose = share.subject_type, share.purpose
        if kind is None or purpose is None:
            return self._states_of(share, event, "", self._keyring.device_key())
        subject = f"{kind}:{event.entities[kind]}"
        try:
            key = self._consents.key(subject, purpose)
        except StorageFull:  # under another basis than consent the key is made now, and must rest first
            raise _NoRoom from None
        return None if key is None else self._states_of(share, event, subject, key)

    def _states_of(self, share: Share, event: Event, subject: str, key: DataKey) -> Feed:
        """The states of a share; those of a subject alone are noted until some state leaves memory."""
        if self._departed != self._states.departed:
            self._let_go()
        feed = share.noted.get(key.handle)
        if feed is None:
            places = [(target, subject if of is None else of(event)) for target, of in share.targets]
            if self.cramped:
                self._require_held(places)
            lives = [self.state(target, entity, key) for target, entity in places]
            feed = Feed([(key, share.on_disk, lives)], lives, [live.state for live in lives])
            if share.alone:
                share.noted[key.handle] = feed
        return feed

    def _require_held(self, places: Iterable[tuple[Target, str]]) -> None:
        for target, entity in places:
            if self._states.find(target.slots.get(entity) or _slot(target, entity)) is None:
                raise _NoRoom

    def _let_go(self) -> None:
        """States left memory: nobody's are known where to be."""
        self._departed = self._states.departed
        for share in chain.from_iterable(self._shares.values()):
            share.noted.clear()

    def _take(self, event: Event, now_us: int, feed: Feed | None) -> Admission:
        """Judge, apply and queue a well-formed event."""
        if feed is None:
            return _NO_CONSENT
        self._presence.note(event.entities, now_us)
        held, lives, states = feed
        for live in lives:
            plan, state = live.plan, live.state
            # Nearly always nothing is due (`offer` forgets ids by itself), and asking here saves the call.
            due = state.waiting or state.previous is not None or now_us - state.newest > plan.bridge_us
            if due and plan.advance(state, now_us):
                self._states.ended(live)
                self._commit.work.set()
        event_id = event.id
        if event_id is None:
            event_id = next_content_id(event, states)
        if event.at_us > now_us:  # only such an event can still be malformed: too many wait already
            for live in lives:
                live.plan.admit(live.state, event_id, event.at_us, now_us)
        taken, known = not lives, False
        for key, on_disk, mine in held:
            slots = []
            for live in mine:
                verdict = live.plan.offer(live.state, event, event_id, now_us)
                if verdict is _ACCEPTED or verdict is _WAITING:
                    live.changed, live.version = True, live.version + 1
                    slots.append(live.slot)
                elif verdict is _DUPLICATE:
                    known = True
            if slots:
                taken = True
                if on_disk:
                    self._commit.add(key, now_us, pack_entry((event, event_id, now_us, slots)))
        if taken:
            return _ACCEPTED
        return _DUPLICATE if known else _LATE

    def _shared(self, routes: Iterable[Route]) -> tuple[Share, ...]:
        groups: dict[tuple[str | None, str | None, bool], list[Route]] = {}
        for route in routes:
            target = self._by_view[route.view_key]
            personal = target.subject_type is not None and target.view.purpose is not None
            whose = (target.subject_type, target.view.purpose) if personal else (None, None)
            groups.setdefault((*whose, target.on_disk), []).append(route)
        return tuple(self._share(*common, members) for common, members in groups.items())

    def _share(
        self, subject_type: str | None, purpose: str | None, on_disk: bool, routes: Iterable[Route]
    ) -> Share:
        targets = tuple(self._aimed(subject_type, route) for route in routes)
        alone = all(of is None for _, of in targets)
        return Share(subject_type, purpose, on_disk, targets, alone, {})

    def _aimed(self, subject_type: str | None, route: Route) -> tuple[Target, Callable[[Event], str] | None]:
        target = self._by_view[route.view_key]
        return target, None if target.view.entity == (subject_type,) else route.entity_of

    def _target(self, plan: ViewPlan) -> Target:
        view = plan.view
        personal = [kind for kind in view.entity if self._catalog.entities[kind].personal]
        subject_type = personal[0] if personal else None
        if view.purpose is None:
            return Target(plan, view, view.key, subject_type, 0, True, {})
        purpose = self._catalog.purposes[view.purpose]
        keep_us, on_disk = purpose.keep_events_us, purpose.on_disk
        return Target(plan, view, view.key, subject_type, keep_us, on_disk, {})


def _alone(shares: Iterable[Share]) -> str | None:
    """The entity type whose id alone says which states these shares have; None if it takes more."""
    kinds = {share.subject_type if share.alone else None for share in shares}
    return kinds.pop() if len(kinds) == 1 else None


def _slot(target: Target, entity: str) -> bytes:
    """The slot of an entity not seen lately, noted for the next time."""
    if len(target.slots) >= SLOTS_NOTED:
        target.slots.clear()
    found = target.slots[entity] = slot_of(target.view_key, entity)
    return found
