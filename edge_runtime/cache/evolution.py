"""A catalog other than the one before: every stored state is brought over in one transaction.

Read what the catalog before left, decide what each state keeps, lacks and no longer needs, write. Features
whose definition did not change keep their state; new ones are made from the journal and say since when they
are known; a list of newest values that grew gets from there what came before those it holds; what no feature
needs any more goes, and so do the states of views that are gone or rest under another purpose. A crash leaves
all as it was before, or all as it is after.

This is upkeep of what rests here, under the keys of purposes that the subject permitted. Nothing is read out:
a bar or an ended lease forbids every use afterwards as it did before. A subject whose key is gone has no rows
that could be opened. Purposes kept in memory only have none at all.

A database that was rebuilt after damage is brought over in the same way, also to the catalog it had: states
that were lost are made from the journal, and what misses events says since when it is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from edge_runtime.cache.database import Database
from edge_runtime.cache.histories import META, REBUILT, Known, followed, holder_of
from edge_runtime.cache.journal_entry import DAY_US
from edge_runtime.cache.past import Numbered, Past, Place
from edge_runtime.cache.since import Since, not_before, within
from edge_runtime.cache.stored_state import (
    ADDED,
    COVERED,
    FACTS,
    LOST,
    Snapshot,
    StoredState,
    day_of,
    open_added,
    open_covered,
    open_lost,
    open_state,
    seal_added,
    seal_covered,
    seal_state,
    slot_of,
)
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.errors import StateUnreadable
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.keys.vault import Step, no_step
from edge_runtime.session.plan import Plan, ViewPlan, ViewState


def evolve(
    database: Database,
    keyring: Keyring,
    catalog: Catalog,
    plan: Plan,
    now_us: int,
    step: Step = no_step,
) -> Known:
    """Bring the database to `catalog`; returns what it knows since when. The same catalog again costs a look.

    Points for `step`: `begun`, `handle` (after each), `facts` (before the commit), `committed`.

    Raises:
        StorageFull, StorageError: the database is as it was.
        DatabaseUnreadable: a sealed row was damaged or moved; the database is as it was.
    """
    with database.read() as tx:
        raw, newest_row, rebuilt = tx.meta(META), tx.newest_row(), tx.meta(REBUILT) is not None
    before = None if raw is None else Known.decode(raw)
    known = followed(before, catalog, plan, now_us, newest_row)
    if known == before and not rebuilt:
        return known
    with database.write("evolve") as tx:
        step("begun")
        if before is not None:
            change = _Change(before, known, catalog, plan, now_us)
            for key in chain([keyring.device_key()], keyring.every_key()):
                if change.concerns(key) or (rebuilt and tx.state(key.handle, LOST) is not None):
                    _Handle(change, key, tx).bring_over()
                    step("handle")
        tx.set_meta(META, known.encode())
        tx.drop_meta(REBUILT)
        step("facts")
    if before is not None:
        database.checkpoint_truncate()  # what was dropped does not stay in the log
    step("committed")
    return known


class _Change(NamedTuple):
    """From one catalog to the next."""

    before: Known
    known: Known
    catalog: Catalog
    plan: Plan
    now_us: int

    def concerns(self, key: DataKey) -> bool:
        """Whether anything under a key's holder is another than before."""
        holder = holder_of(key)
        old = {k: fed for k, fed in self.before.views.items() if fed.holder == holder}
        return old != {k: fed for k, fed in self.known.views.items() if fed.holder == holder}

    def new_in(self, view_key: str) -> Mapping[bytes, int]:
        """The statistics of a view that it did not have before, with room 0 as `ViewPlan.carry` tells it.

        Where no state is, one that has more room than before is as known as it was.
        """
        fed = self.known.views[view_key]
        stood = self.before.view(view_key, fed.holder, fed.entity)
        had = {} if stood is None else stood.statistics
        return {name: 0 for name in fed.statistics if name not in had}


class _Handle:
    """Everything that rests under one key."""

    def __init__(self, change: _Change, key: DataKey, tx: WriteTransaction) -> None:
        self._change, self._key, self._tx = change, key, tx
        holder = holder_of(key)
        self._views = {
            k: change.plan.views[k] for k, fed in change.known.views.items() if fed.holder == holder
        }
        self._lost = open_lost(key, tx.state(key.handle, LOST))
        self._added = {} if self._lost.states else open_added(key, tx.state(key.handle, ADDED))
        self._covered = open_covered(key, tx.state(key.handle, COVERED))
        self._newest = max(tx.newest_event(key.handle), self._covered)

    def bring_over(self) -> None:
        """States, facts about them, and the journal."""
        change, handle = self._change, self._key.handle
        stored = self._kept()
        if not self._views:
            for fact in FACTS:
                self._tx.drop_state(handle, fact)
            self._tx.drop_events(handle, self._newest)
            return
        for place in dict.fromkeys((*stored, *self._past.places)):
            self._state(place, stored.get(place))
        self._facts()
        keep_us = max(change.known.views[key].keep_events_us for key in self._views)
        self._tx.drop_events(handle, self._newest, (change.now_us - keep_us) // DAY_US)

    @cached_property
    def _past(self) -> Past:
        """The journal; where nothing is new or lost, what no stored state covers is enough."""
        whole = self._lost.states or any(map(self._missing, self._views))
        return self._whole_past if whole else self._opened(self._covered)

    @cached_property
    def _whole_past(self) -> Past:
        return self._opened(0)

    def _opened(self, after: int) -> Past:
        change = self._change
        return Past(
            self._key, change.known, change.plan, change.catalog.events, self._tx, change.now_us, after
        )

    def _kept(self) -> dict[Place, StoredState]:
        """The stored states whose view is still here; the others are deleted."""
        kept = {}
        for slot, sealed in self._tx.states(self._key.handle):
            if slot in FACTS:
                continue
            one = open_state(self._key, slot, sealed)
            if one.view in self._views and self._change.before.view(one.view, *self._shape(one.view)):
                kept[Place(one.view, one.entity)] = one
            else:
                self._tx.drop_state(self._key.handle, slot)
        return kept

    def _shape(self, view_key: str) -> tuple[str, tuple[str, ...]]:
        fed = self._change.known.views[view_key]
        return fed.holder, fed.entity

    def _state(self, place: Place, stored: StoredState | None) -> None:
        """One state as the catalog in use would have it, stored if it is another than before."""
        plan = self._views[place.view_key]
        state, since, missing, stands = self._base(plan, stored)
        slot = slot_of(*place)
        through = self._covered if stored is None else stored.through
        tail = [one for one in self._past.places[place] if one.row > through and slot in one.entry.slots]
        if stands and not tail and not self._lost.tail:
            return
        if missing:
            lacking = plan.lacking(state, missing)
            state = self._whole_past.filled(plan, place.entity, _applied(plan, state, tail), missing)
            since |= self._since(plan, lacking)
        else:
            _applied(plan, state, tail)
        if self._lost.tail:
            since = not_before(since, plan.statistics, self._lost.whole_us)
        day = day_of(state, since, self._change.now_us)
        snapshot = Snapshot(self._key, slot, *place, plan.dump(state), since, day, keep_from_day=0)
        self._tx.put_state(self._key.handle, slot, day, seal_state(snapshot, self._newest))

    def _base(
        self, plan: ViewPlan, stored: StoredState | None
    ) -> tuple[ViewState, Since, Mapping[bytes, int], bool]:
        """(what is kept, since when, what is missing of it, whether it can stay stored as it is)."""
        if stored is None:
            missing = self._missing(plan.view.key)
            return plan.new_state(), self._added_before(plan, missing), missing, not missing
        try:
            state, missing, differs = plan.carry(stored.dump)
        except StateUnreadable:
            return plan.new_state(), {}, {one.name: 0 for one in plan.statistics}, False
        return state, _still_known(stored.since, plan, missing), missing, not differs

    def _added_before(self, plan: ViewPlan, missing: Mapping[bytes, int]) -> Since:
        """What earlier catalogs left to know of entities without a state."""
        return _still_known(self._added.get(plan.view.key, {}), plan, missing)

    def _missing(self, view_key: str) -> Mapping[bytes, int]:
        """What an entity without a state lacks: what is new; all, where its state may have been lost."""
        if self._lost.states:
            return {one.name: 0 for one in self._views[view_key].statistics}
        return self._change.new_in(view_key)

    def _since(self, plan: ViewPlan, missing: Mapping[bytes, int]) -> Since:
        """Since when the journal knows what is missing; a part of it that was lost counts as trimmed."""
        since, whole_us = self._whole_past.since(plan, missing), self._lost.whole_us
        if not whole_us:
            return since
        return not_before(since, [one for one in plan.statistics if one.name in missing], whole_us)

    def _facts(self) -> None:
        """What is known of entities without a state, and that every state is stored up to now."""
        added = {}
        for key, plan in self._views.items():
            missing = self._missing(key)
            since = self._added_before(plan, missing) | (self._since(plan, missing) if missing else {})
            if self._lost.tail:
                since = not_before(since, plan.statistics, self._lost.whole_us)
            if since:
                added[key] = since
        handle = self._key.handle
        self._tx.drop_state(handle, LOST)
        if added:
            self._tx.put_state(handle, ADDED, 0, seal_added(self._key, added))
        else:
            self._tx.drop_state(handle, ADDED)
        self._tx.put_state(handle, COVERED, 0, seal_covered(self._key, self._newest))


def _still_known(since: Since, plan: ViewPlan, missing: Mapping[bytes, int]) -> Since:
    """What stays true of a state's statistics, those left out that were not in it at all."""
    return within(since, [one for one in plan.statistics if missing.get(one.name, 1)])


def _applied(plan: ViewPlan, state: ViewState, tail: list[Numbered]) -> ViewState:
    """The state with the journalled events that came after it was stored."""
    for _, entry in tail:
        plan.apply(state, entry.event, entry.event_id, entry.received_us)
    return state
