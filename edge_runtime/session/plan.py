"""A catalog's session views, compiled: one generated update function for each view.

`compile_catalog` is the door. A `ViewPlan` judges an event (`admit`), applies it (`apply`), or both
(`offer`), lets time pass (`advance`) and reads (`values`). All of it is pure: times are arguments, states are
plain data that the caller keeps, one for each view and entity.

Retention counts from the newest event. A silence longer than it ends all that was before: the next event
begins anew, and a read after such a silence sees nothing. Because a late event may still bridge the silence,
what was before it is kept apart while one could be admitted; `advance` drops everything once the clock is
past retention plus lateness. So the order of arrival does not change what counts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from edge_runtime.catalog.model import EventType, Purpose, SessionFeature, View
from edge_runtime.errors import CatalogError, Fault, ReadInPast, StateUnreadable
from edge_runtime.session.admission import (
    FEW_IDS,
    KNOWN_IDS_LIMIT,
    NEVER,
    Admission,
    Waiting,
    forget_ids,
    judge,
)
from edge_runtime.session.admission import ViewState as ViewState
from edge_runtime.session.codegen import load_source, view_source
from edge_runtime.session.event import Event, content_id
from edge_runtime.session.identity import Identity, identify, identify_needs
from edge_runtime.session.joining import Joining
from edge_runtime.session.layout import lay_out
from edge_runtime.session.operators.recent import Entry, Newest, Recent
from edge_runtime.session.operators.runs import Runs
from edge_runtime.session.operators.vector import Resolve
from edge_runtime.session.reading import paces_of
from edge_runtime.session.snapshot import Carried, Contents

_ACCEPTED, _WAITING = Admission.ACCEPTED, Admission.WAITING


class Declared(Protocol):
    """What is compiled: a `Catalog`, or a `CatalogModel`."""

    @property
    def events(self) -> Mapping[str, EventType]: ...
    @property
    def views(self) -> Mapping[str, View]: ...
    @property
    def purposes(self) -> Mapping[str, Purpose]: ...


class Route(NamedTuple):
    """Where an event of some type goes: a view, and whose state in it."""

    view_key: str
    entity_of: Callable[[Event], str]
    """The typed entity key (`user:alice`, or `user:alice|item:x` for a composite key)."""


class Plan(NamedTuple):
    """A compiled catalog."""

    views: Mapping[str, ViewPlan]
    """Session views by key."""
    routes: Mapping[str, tuple[Route, ...]]
    """For every event type the views that it feeds."""
    source: str
    """The generated source of all views."""


def compile_catalog(catalog: Declared) -> Plan:
    """Compile every session view. Compile once and keep the plan: it costs some milliseconds.

    Raises:
        CatalogError: a feature that cannot be built, or a lateness longer than the purpose's retention.
    """
    views = {view.key: ViewPlan(view, catalog) for view in catalog.views.values() if view.source == "session"}
    routes: dict[str, list[Route]] = {kind: [] for kind in catalog.events}
    for plan in views.values():
        for kind in plan.event_types:
            routes[kind].append(Route(plan.view.key, entity_key(plan.view.entity)))
    source = "\n\n".join(plan.source for plan in views.values())
    return Plan(views, {kind: tuple(found) for kind, found in routes.items()}, source)


def entity_key(types: Sequence[str]) -> Callable[[Event], str]:
    """The function from an event to its typed key for a view of these entity types."""
    if len(types) == 1:
        only, prefix = types[0], f"{types[0]}:"
        return lambda event: prefix + event.entities[only]
    return lambda event: "|".join(f"{kind}:{event.entities[kind]}" for kind in types)


def next_content_id(event: Event, states: Sequence[ViewState]) -> str:
    """The id of an event that came without one: the first ordinal that none of `states` knows."""
    first = content_id(event, 0)
    for state in states:
        if first in state.ids:
            break
    else:
        return first
    ordinal, step = 1, 2
    while _known(content_id(event, ordinal), states):
        ordinal, step = ordinal + step, step * 2
    low = ordinal - step // 2 + 1
    while low < ordinal:
        middle = (low + ordinal) // 2
        if _known(content_id(event, middle), states):
            low = middle + 1
        else:
            ordinal = middle
    return content_id(event, ordinal)


def _known(event_id: str, states: Sequence[ViewState]) -> bool:
    return True in [event_id in state.ids for state in states]  # twice as fast as `any`, once for each event


class ViewPlan:
    """One session view, compiled.

    Attributes:
        view: the view as declared.
        names: its features, in order; `values` answers in this order.
        event_types: the event types that it listens to.
        source: the generated source.
        statistics: what its states consist of, by names that other catalogs' plans give them too.
    """

    def __init__(self, view: View, catalog: Declared) -> None:
        self.view = view
        features = [f for f in view.features.values() if isinstance(f, SessionFeature)]
        self.names = tuple(view.features)
        self.event_types = tuple(dict.fromkeys(kind for f in features for kind in f.events))
        retention_us = catalog.purposes[view.purpose].retention_us if view.purpose is not None else None
        _check_lateness(view, retention_us)
        self.retention_us = retention_us
        self.lateness_us, self.horizon_us = view.allowed_lateness_us, view.dedup_horizon_us
        self._silence_us = 1 << 61 if retention_us is None else retention_us
        self.bridge_us = self._silence_us + self.lateness_us
        """How long after the newest event a late one may still join what came before a silence."""
        self._layout = lay_out(view)
        self.statistics = identify(self._layout, catalog.events)
        self._needs = identify_needs(self._layout, catalog.events)
        self._contents = Contents(self._layout, self.statistics, self.lateness_us)
        self.source = view_source(view, self._layout, catalog.events, retention_us)
        self._code = load_source(
            self.source, view.key, {"turn": self._turn, "rejoin": self._rejoin, "before": self._before}
        )
        self.update: Callable[[ViewState, Event, str], None] = self._code["update"]
        """The generated function alone: no judgement, no ids. For replay, of distinct events in order."""
        self._values: Callable[..., tuple[object, ...]] = self._code["values"]
        self._reads: Mapping[str, Callable[..., object]] = self._code["READS"]
        self.paces = paces_of(view, self._code)
        """What time alone changes, and when; see `reading`."""
        self._nothing = self._fresh_cells()
        self._joining = Joining(
            self._layout, self.statistics, self._silence_us, self._roll, self._fresh_cells
        )

    def new_state(self) -> ViewState:
        """The state of an entity of which nothing was seen."""
        return ViewState(self._fresh_cells())

    def admit(self, state: ViewState, event_id: str, at_us: int, now_us: int) -> Admission:
        """What would become of an event; changes nothing.

        Raises:
            MalformedEvent: it lies ahead of now and too many wait already.
        """
        return judge(state, event_id, at_us, now_us, lateness_us=self.lateness_us, horizon_us=self.horizon_us)

    def apply(self, state: ViewState, event: Event, event_id: str, now_us: int) -> None:
        """Take in an event that `admit` accepted or let wait. Its properties must have been checked."""
        if state.waiting:
            self.advance(state, now_us)
        at_us = event.at_us
        state.ids[event_id] = at_us
        if at_us > now_us:
            state.waiting.append(Waiting(event, event_id))
            return
        self.update(state, event, event_id)
        self._forget(state, now_us)

    def offer(self, state: ViewState, event: Event, event_id: str, now_us: int) -> Admission:
        """`admit`, and `apply` where it may enter, in one call.

        Raises:
            MalformedEvent: as `admit`; nothing is changed.
        """
        at_us, newest, ids = event.at_us, state.newest, state.ids
        if at_us > now_us or newest > now_us or state.waiting:
            return self._consider(state, event, event_id, now_us)
        # The usual case of `judge` and `apply`, in line.
        if event_id in ids and ids[event_id] >= newest - self.horizon_us:
            return Admission.DUPLICATE
        if at_us < newest and (at_us < newest - self.lateness_us or at_us < state.floor_us):
            return Admission.LATE
        ids[event_id] = at_us
        self.update(state, event, event_id)
        if len(ids) > FEW_IDS and (at_us >= state.prune_us or len(ids) > KNOWN_IDS_LIMIT):
            forget_ids(state, now_us, self.horizon_us)
        return _ACCEPTED

    def advance(self, state: ViewState, now_us: int) -> bool:
        """Let time pass: feed the events whose time has come, forget ids and what retention has ended.

        Returns whether retention has ended all that was there.
        """
        if state.waiting:
            due = sorted((w for w in state.waiting if w.at_us <= now_us), key=lambda w: w.order)
            state.waiting = [w for w in state.waiting if w.at_us > now_us]
            for one in due:
                self.update(state, one.event, one.event_id)
        if state.newest == NEVER:
            return False
        if state.previous is not None and now_us - state.previous[0] > self.bridge_us:
            state.previous = None
        if now_us - state.newest > self.bridge_us:
            self._purge(state)
            return True
        self._forget(state, now_us)
        return False

    def values(self, state: ViewState, t_us: int, resolve: Resolve | None = None) -> tuple[object, ...]:
        """The value of every feature at `t_us`, in the order of `names`; the state keeps its meaning.

        Args:
            t_us: not before the newest applied event; waiting events up to it are seen.
            resolve: an item's embedding, for `decayed_mean_vector`.

        Raises:
            ReadInPast: `t_us` lies before the newest applied event.
        """
        return self._values(self.cells_at(state, t_us), t_us, resolve)

    def read_one(self, state: ViewState, name: str, t_us: int, resolve: Resolve | None = None) -> object:
        """The value of feature `name` alone; as `values`."""
        return self._reads[name](self.cells_at(state, t_us), t_us, resolve)

    def dump(self, state: ViewState) -> bytes:
        """The state as bytes (msgpack)."""
        return self._contents.dump(state)

    def load(self, raw: bytes) -> ViewState:
        """The state that `dump` wrote.

        Raises:
            StateUnreadable: damaged, or made under definitions that lack some of these; see `carry`.
        """
        carried = self.carry(raw)
        if carried.missing:
            raise StateUnreadable("the state was made under other definitions; carry it over from events")
        return carried.state

    def carry(self, raw: bytes) -> Carried:
        """The state that another plan's `dump` wrote, as far as its statistics are the same.

        Raises:
            StateUnreadable: damaged; rebuild it from events.
        """
        return self._contents.carry(raw)

    def graft(self, state: ViewState, missing: Mapping[bytes, int], donor: ViewState) -> ViewState:
        """`state` with what `carry` missed as `donor` has it; both are used up (see `joining`)."""
        return self._joining.graft(state, missing, donor)

    def lacking(self, state: ViewState, missing: Mapping[bytes, int]) -> Mapping[bytes, int]:
        """What of that may really lack events; the state as `carry` gave it (see `joining`)."""
        return self._joining.lacking(state, missing)

    def statistics_of(self, feature: str) -> tuple[Identity, ...]:
        """What a feature is read from, its operands' included, each with the room that it needs."""
        return self._needs[feature]

    def merge(self, mine: ViewState, other: ViewState) -> ViewState:
        """The state of both streams together, which must have distinct ids; neither is changed.

        Sessions and silences longer than the retention keep only what late events can reach, so there the
        streams must be consecutive in time, overlapping by at most the lateness.
        """
        return self._joining.merge(mine, other)

    def cells_at(self, state: ViewState, t_us: int) -> list[object]:
        """The slots that a read at `t_us` sees: the state's own, unless events wait or all is forgotten."""
        state = self._arrived(state, t_us)
        return state.cells if t_us - state.newest <= self._silence_us else self._nothing

    def alive_since_us(self, state: ViewState, t_us: int) -> int | None:
        """Time of the oldest event that still counts at `t_us`; None where none does."""
        state = self._arrived(state, t_us)
        return state.oldest_us if t_us - state.newest <= self._silence_us else None

    def _arrived(self, state: ViewState, t_us: int) -> ViewState:
        """The state with the events whose time has come by `t_us`; itself where none was waiting."""
        if state.waiting and any(w.at_us <= t_us for w in state.waiting):
            state = copy.deepcopy(state)
            self.advance(state, t_us)
        if t_us < state.newest:
            raise ReadInPast("expected a time not before the newest event of this view; nothing changed")
        return state

    def session_began_us(self, state: ViewState, feature: str, t_us: int) -> int | None:
        """When the session began that is current for a session feature at `t_us`; None where none is."""
        cells = self.cells_at(state, t_us)
        for placed in self._layout.needs[feature]:
            if isinstance(placed.statistic, Runs):
                end_us, start_us = cast("list[int]", cells[placed.base : placed.base + 2])
                return start_us if t_us - end_us <= placed.statistic.gap_us else None
        return None

    def filled_since_us(self, state: ViewState, feature: str, t_us: int) -> int | None:
        """For a feature of the newest n events, the time of the n-th newest at `t_us`.

        Nothing before it can be in the value. None while there are fewer, and for other features.
        """
        cells, layout = self.cells_at(state, t_us), self._layout
        for placed, wanted in zip(layout.needs[feature], layout.wanted[feature], strict=True):
            match wanted:
                case Recent():
                    newest = cast("Sequence[Entry]", cells[placed.base])
                    return newest[-wanted.n][0] if len(newest) >= wanted.n else None
                case Newest():
                    at_us = cast(int, cells[placed.base])
                    return None if at_us == NEVER else at_us
        return None

    def _consider(self, state: ViewState, event: Event, event_id: str, now_us: int) -> Admission:
        """`offer` for an event ahead of now, or while others wait."""
        admission = self.admit(state, event_id, event.at_us, now_us)
        if admission is _ACCEPTED or admission is _WAITING:
            self.apply(state, event, event_id, now_us)
        return admission

    def _turn(self, state: ViewState, at_us: int) -> None:
        """A silence longer than the retention ended: set aside what was before it."""
        if state.newest != NEVER:
            bridged = at_us - self.lateness_us <= state.newest + self._silence_us
            state.previous = (state.newest, state.oldest, state.cells) if bridged else None
            state.cells = self._fresh_cells()
        state.oldest = at_us

    def _rejoin(self, state: ViewState) -> None:
        """A late event bridges the silence: what was before it counts again."""
        assert state.previous is not None
        _, state.oldest, cells = state.previous
        state.cells = self._joining.cells(cells, state.cells)
        state.previous = None

    def _before(self, state: ViewState, event: Event, event_id: str) -> None:
        """An event from before a silence longer than the retention, of a clock set back: it counts apart."""
        apart = ViewState(self._fresh_cells())
        if state.previous is not None:
            apart.newest, apart.oldest, apart.cells = state.previous
        self.update(apart, event, event_id)
        state.previous = (apart.newest, apart.oldest, apart.cells)

    def _roll(self, slot: int, cells: list[Any], at_us: int) -> None:
        self._code[f"roll_{slot}"](cells, at_us)

    def _forget(self, state: ViewState, now_us: int) -> None:
        known = len(state.ids)
        if known > FEW_IDS and (state.newest >= state.prune_us or known > KNOWN_IDS_LIMIT):
            forget_ids(state, now_us, self.horizon_us)

    def _purge(self, state: ViewState) -> None:
        waiting = {w.event_id: w.at_us for w in state.waiting}
        fresh = self.new_state()
        for name in ViewState.__slots__:
            if name != "waiting":
                setattr(state, name, getattr(fresh, name))
        state.ids = waiting

    def _fresh_cells(self) -> list[object]:
        cells: list[object] = [NEVER] * len(self._layout.frames)
        for placed in self._layout.placed:
            cells += placed.statistic.fresh()
        return cells


def _check_lateness(view: View, retention_us: int | None) -> None:
    if retention_us is not None and view.allowed_lateness_us > retention_us:
        place = f"views.{view.name}.allowed_lateness"
        raise CatalogError([Fault(place, "expected at most the purpose's retention, got more")])
