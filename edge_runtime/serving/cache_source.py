"""Where reads get their values: states and rows in memory, the encrypted cache on a miss.

Permission and lease are judged at the runtime's clock now; a value's age at the read's own time.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Self, cast

import msgspec

from edge_runtime.cache.database import Database
from edge_runtime.cache.group_commit import GroupCommit
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import ABSENT, CATALOG, GAPS, LET_GO, ChannelState
from edge_runtime.cache.working_set import LiveState, WorkingSet
from edge_runtime.catalog import Catalog, View
from edge_runtime.clock import Clock
from edge_runtime.consent.decisions import Consents
from edge_runtime.consent.permit import Permit
from edge_runtime.errors import ReadInPast, StorageFull
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.serving.embeddings import Embeddings
from edge_runtime.serving.evidence import Evidence, Place
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues, Source
from edge_runtime.serving.status import Status
from edge_runtime.serving.warming import warmed
from edge_runtime.session.operators.vector import Resolve
from edge_runtime.sync.channel_name import SHARED
from edge_runtime.sync.personal_rows import fetched_slot, open_delivered, row_slot
from edge_runtime.sync.shelf import order, personal_state
from edge_runtime.tracking import Tracker
from edge_runtime.wire.messages import Row
from edge_runtime.wire.seal import subject_token

_NOT_FOUND = Missing(Status.NOT_FOUND, "the server has no such row")
_NOT_FETCHED = Missing(Status.NOT_SYNCED, "rows of this view come when `fetch` asks for them")
_NEVER_SENT = Missing(Status.NOT_SYNCED, "rows of this view never leave the server")
_AMBIGUOUS = Missing(Status.REVOKED, "the ids of this pair could be read as two subjects'")
_NOT_SYNCED = Missing(Status.NOT_SYNCED, "its channel was not received yet")
_ON_ITS_WAY = Missing(Status.NOT_SYNCED, "its channel is not known to be equal to the server's yet")
_ELSEWHERE = Missing(
    Status.NOT_SYNCED,
    "the server has rows that no channel here brings: `fetch` tells if this is one",
)
_STUB = Missing(Status.NOT_SYNCED, "there was no place for it when it came; it comes again with its channel")
_NO_ROOM = Missing(Status.NOT_SYNCED, "the disk is full: there was no room to make this subject's key")

_decode_values = msgspec.msgpack.Decoder(dict[str, object]).decode


USED_NOTED = 65_536
"""Most rows of which it is noted that they were read; the others look as cold as they did."""


class CacheSource:
    """Reads of one runtime; the runtime's lock guards every call."""

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        tracker: Tracker,
        states: WorkingSet,
        commit: GroupCommit,
        clock: Clock,
        rows_limit: int,
    ) -> None:
        self._catalog, self._database, self._keyring, self._consents = catalog, database, keyring, consents
        self._tracker, self._states, self._commit, self._clock = tracker, states, commit, clock
        self._rows_limit = rows_limit
        self._rows: OrderedDict[tuple[str, str], ServerRow | Missing] = OrderedDict()
        self._gaps: set[tuple[str, str]] = set()
        """Those of `_rows` where nothing is held: what that means can change without any row."""
        self._views = {view.key: _Asked.of(catalog, view) for view in catalog.views.values()}
        embeddings = {view.key: Embeddings(catalog, view) for view in catalog.views.values()}
        self._embeddings = {key: found for key, found in embeddings.items() if found.view_keys}
        self.rows_changes = 0
        """Counts the times that changes of rows were told of."""
        self.noting = False
        """Whether it is noted which rows about nobody are read; see `used`."""
        self._used: set[tuple[str, str, int]] = set()
        self.holds: Callable[[Permit], bool] = consents.permits.holds
        """Whether a permit still stands; see `permit`."""

    # ---- session views -----------------------------------------------------------------------------------

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """Values of a session view at `t_us`; raises `ReadInPast` when the journal no longer tells."""
        key = self._key(self._views[view_key], entity)
        if key is _NO_ROOM:  # nothing was tracked for a subject without a key
            plan = self._tracker.target(view_key).plan
            resolve = self.resolve(view_key, self, t_us)
            return SessionValues(plan.values(plan.new_state(), t_us, resolve), None)
        if isinstance(key, Missing):
            return SessionValues((), None, key.status, key.reason)
        live = self._tracker.state(self._tracker.target(view_key), entity, key)
        plan, state = live.plan, live.state
        if plan.advance(state, self._clock.now_us()):
            self._states.ended(live)
            self._commit.work.set()
        newest_us = state.newest_us
        if newest_us is not None and t_us < newest_us:
            return self._in_past(live, t_us)
        if view_key not in self._embeddings and not live.incomplete:
            return SessionValues(plan.values(state, t_us), newest_us, live=live)
        heard = Evidence(self)
        values = plan.values(state, t_us, self.resolve(view_key, heard, t_us))
        whole = warmed(plan, values, live.incomplete, state, t_us)
        kept = live if whole is values else None
        return SessionValues(whole, newest_us, incomplete=live.incomplete, live=kept, rows=heard.rows)

    def _in_past(self, live: LiveState, t_us: int) -> SessionValues:
        whole, entries = self._states.journal(live)
        if not whole or not live.stored or self._commit.folded(live.key.handle):
            raise ReadInPast("the journal no longer reaches back to the time asked for; nothing changed")
        entries += [e for e in self._commit.unwritten(live.key.handle) if live.slot in e.slots]
        known = {entry.event_id: entry.event for entry in entries}
        state = live.plan.new_state()
        for event_id, event in sorted(known.items(), key=lambda item: (item[1].at_us, item[0])):
            if event.at_us <= t_us:
                live.plan.apply(state, event, event_id, t_us)
        values = live.plan.values(state, t_us, self.resolve(live.plan.view.key, self, t_us))
        if live.incomplete:
            values = warmed(live.plan, values, live.incomplete, state, t_us)
        return SessionValues(values, state.newest_us, incomplete=live.incomplete)

    # ---- what may be kept between reads ------------------------------------------------------------------

    def permit(self, places: Iterable[Place]) -> Permit | None:
        """The permit under which the values of these places may be kept; None if some may not be used."""
        pairs = []
        for view_key, entity in places:
            asked = self._views[view_key]
            if asked.purpose is not None:
                subject = entity if asked.alone else asked.subject_of(entity)
                if subject is None:
                    return None
                pairs.append((subject, asked.purpose))
        return self._consents.permits.of(pairs)

    def stands(self, live: LiveState) -> bool:
        """Whether a state is in memory still."""
        return self._states.find(live.slot) is live

    def resolve(self, view_key: str, heard: Source, t_us: int) -> Resolve | None:
        """The embeddings of a session view as `heard` has them; None for a view that names none."""
        embeddings = self._embeddings.get(view_key)
        return None if embeddings is None else embeddings.at(heard, t_us)

    def same_rows(self, rows: Mapping[Place, ServerRow | Missing]) -> bool:
        """Whether each of these rows is the one held now."""
        return all(self._rows.get(place) is row for place, row in rows.items())

    # ---- server views ------------------------------------------------------------------------------------

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """The row held, or why there is none."""
        asked = self._views[view_key]
        key = self._key(asked, entity)
        if isinstance(key, Missing):
            return key
        found = self._rows.get((view_key, entity))
        return self._fetch(asked, view_key, entity, key) if found is None else found

    def server_rows(self, view_key: str, entities: Sequence[str]) -> Sequence[ServerRow | Missing]:
        """`server_row` of each; a view that is about nobody asks no permission."""
        if self._views[view_key].purpose is not None:
            return [self.server_row(view_key, entity) for entity in entities]
        held = self._rows.get
        found = [held((view_key, entity)) for entity in entities]
        if None not in found:
            return cast("list[ServerRow | Missing]", found)
        return [self.server_row(view_key, entity) for entity in entities]

    def _fetch(self, asked: _Asked, view_key: str, entity: str, key: DataKey) -> ServerRow | Missing:
        if asked.personal:
            found = self._personal_row(asked, entity, key)
        else:
            found = self._plain_row(asked.view, entity)
        self._rows[view_key, entity] = found
        if isinstance(found, Missing):
            self._gaps.add((view_key, entity))
        if len(self._rows) > self._rows_limit:
            gone, _ = self._rows.popitem(last=False)
            self._gaps.discard(gone)
        return found

    def _plain_row(self, view: View, entity: str) -> ServerRow | Missing:
        row = self._database.ask(lambda tx: tx.row(entity, view.name, view.version))
        if row is None and view.tier == "hot":
            with self._database.read() as tx:  # one snapshot: that it is not there, and what that means
                row, channel = tx.row(entity, view.name, view.version), tx.channel(SHARED)
                fits = self._fits(tx)
            if row is None:
                return _absent(channel, fits=fits)
        if row is None:
            return _not_here(view)
        if self.noting and len(self._used) < USED_NOTED:
            self._used.add((entity, view.name, view.version))
        return _served(row)

    def _personal_row(self, asked: _Asked, entity: str, key: DataKey) -> ServerRow | Missing:
        on_wire = asked.named(entity, subject_token(self._keyring.pseudonym(key.subject)))
        view = asked.view
        slots = row_slot(key, view.key, on_wire), fetched_slot(key, view.key, on_wire)
        # two snapshots: a delta that comes in between is told of by `changed`, and this answer let go
        found = self._database.ask(lambda tx: _newest(tx, key, slots))
        if found is None and view.tier == "hot":
            with self._database.read() as tx:
                found, channel, fits = _newest(tx, key, slots), personal_state(tx, key), self._fits(tx)
            if found is None:
                return _absent(channel, fits=fits)
        return _not_here(view) if found is None else _served(found)

    def _fits(self, tx: ReadTransaction) -> bool:
        """Whether channels were filled by this catalog: another may have pushed other views."""
        return tx.meta(CATALOG) in (None, self._catalog.fingerprint.encode())

    # ---- forgetting --------------------------------------------------------------------------------------

    def used(self) -> set[tuple[str, str, int]]:
        """(entity, view, version) of rows about nobody that were taken from the cache since the last time."""
        taken, self._used = self._used, set()
        return taken

    def changed(self, places: Iterable[tuple[str | None, str]]) -> None:
        """Rows at (view key, typed entity) are others now, or (None, channel) all of a channel: decode again
        at the next read. (`GAPS`, channel): so are those that are not there."""
        self.rows_changes += 1
        for place in places:
            if place[0] is None:
                self._rows.clear()
                self._gaps.clear()
            elif place[0] == GAPS:
                for gap in self._gaps:
                    self._rows.pop(gap, None)
                self._gaps.clear()
            else:
                self._rows.pop(cast("tuple[str, str]", place), None)
                self._gaps.discard(cast("tuple[str, str]", place))

    def forget(self, subject: str) -> int:
        """Let go of every decoded row about a subject; returns how many there were."""
        gone = [(key, entity) for key, entity in self._rows if self._views[key].subject_of(entity) == subject]
        for place in gone:
            del self._rows[place]
        self._gaps.difference_update(gone)
        self._tracker.forget()
        return len(gone)

    def _key(self, asked: _Asked, entity: str) -> DataKey | Missing:
        """The key of a view's subject under its purpose, or REVOKED and why (law 1)."""
        purpose = asked.purpose
        if purpose is None:
            return self._keyring.device_key()
        subject = entity if asked.alone else asked.subject_of(entity)
        if subject is None:
            return _AMBIGUOUS
        try:
            key = self._consents.key(subject, purpose)
        except StorageFull:  # under another basis than consent the key is made now, and must rest first
            return _NO_ROOM
        if key is not None:
            return key
        return Missing(Status.REVOKED, self._consents.permission(subject, purpose).reason)


def _absent(channel: ChannelState | None, *, fits: bool) -> Missing:
    """What it means that a row which is pushed is not held (law 7): by the channel that would bring it.

    Args:
        fits: whether that was filled by the catalog in use.

    >>> _absent(ChannelState(7, 0, whole=True), fits=True).status.name
    'NOT_FOUND'
    >>> _absent(ChannelState(7, 0, whole=None), fits=True).status.name
    'NOT_SYNCED'
    """
    if channel is None:
        return _NOT_SYNCED
    if not fits:
        return _ON_ITS_WAY
    return {True: _NOT_FOUND, False: _ELSEWHERE, None: _ON_ITS_WAY}[channel.whole]


def _not_here(view: View) -> Missing:
    """Why nothing is held of a row that is not pushed."""
    return _NOT_FETCHED if view.tier == "warm" else _NEVER_SENT


def _newest(tx: ReadTransaction, key: DataKey, slots: tuple[bytes, ...]) -> Row | None:
    """The newest of the rows sealed in these slots: what the channel brought, and what was asked for."""
    sealed = ((slot, tx.personal_row(key.handle, slot)) for slot in slots)
    rows = [open_delivered(key, slot, one).row for slot, one in sealed if one is not None]
    return max(rows, key=order, default=None)


def _served(row: Row) -> ServerRow | Missing:
    """A kept row as reads take it; a stub says nothing, not even that there is no such row."""
    if not row.values:
        return _STUB
    if row.values == ABSENT:
        return ServerRow.absent(row.created_us)
    if row.values == LET_GO:
        return ServerRow.let_go(row.event_time_us, row.created_us)
    return ServerRow(_decode_values(row.values), row.event_time_us, row.created_us)


class _Asked(NamedTuple):
    """What every read of one view asks first."""

    view: View
    personal: bool
    purpose: str | None
    """The purpose to ask permission for; None for a view that is about nobody."""
    place: int
    """Where in the view's entity types its data subject stands."""
    alone: bool
    """Whether the subject is the whole key."""
    shapes: tuple[re.Pattern[str], re.Pattern[str]]
    """Of a composite key, each part as short and as long as it can be: ids may hold the sign that joins."""

    def subject_of(self, entity: str) -> str | None:
        """The typed id of the subject in a key; None if it is about nobody, or could be either of two's."""
        if not self.personal or self.alone:
            return entity if self.personal else None
        short, long = (shape.fullmatch(entity) for shape in self.shapes)
        if short is None or long is None or short.groups() != long.groups():
            return None
        return str(short[self.place + 1])

    def named(self, entity: str, token: str) -> str:
        """A key of a known subject with `token` in the subject's place, as it stands on the wire."""
        found = None if self.alone else self.shapes[0].fullmatch(entity)
        if found is None:
            return token
        start, end = found.span(self.place + 1)
        return entity[:start] + token + entity[end:]

    @classmethod
    def of(cls, catalog: Catalog, view: View) -> Self:
        places = [n for n, kind in enumerate(view.entity) if catalog.entities[kind].personal]
        shapes = _shape(view, "+?"), _shape(view, "+")
        if not places:
            return cls(view, False, None, 0, True, shapes)
        return cls(view, True, view.purpose, places[0], len(view.entity) == 1, shapes)


def _shape(view: View, as_many: str) -> re.Pattern[str]:
    parts = (f"({re.escape(kind)}:.{as_many})" for kind in view.entity)
    return re.compile(r"\|".join(parts), re.DOTALL)
