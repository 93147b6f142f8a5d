"""What a service would have given in the past: the same plan over replayed events and the rows of that time.

A training row and a served row come from one code path (law 8): `ServicePlan.vector`, fed with session values
of the replay engine and, for each server view, the newest row at or before the point. No cache and no consent
gate stand between: the caller owns the events.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_runtime.catalog import Catalog, Ref, SessionFeature, View
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.serving.binding import group_of
from edge_runtime.serving.groups import Group
from edge_runtime.serving.plan import Numbers, ServicePlan
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues
from edge_runtime.serving.status import Status
from edge_runtime.serving.value import read_feature
from edge_runtime.session.event import Event, instant_us
from edge_runtime.session.operators.vector import Resolve
from edge_runtime.session.plan import Plan, compile_catalog
from edge_runtime.session.replay import History, Received, sort_history, states_at
from edge_runtime.session.table import Table

_NO_ROW = Missing(Status.NOT_FOUND, "no row at or before this time")
_EMPTY = SessionValues((), None)


def replay(
    catalog: Catalog,
    events: Iterable[Event | Received | Mapping[str, object]],
    *,
    points: Sequence[Mapping[str, object]],
    refs: Sequence[str] | None = None,
    service: str | None = None,
    rows: Iterable[Mapping[str, object]] | None = None,
    as_seen: bool = False,
) -> Table:
    """Session features (`refs`) or whole rows of a service (`service`) as they were at `points`.

    Args:
        events: as for `track_many`, in any order, each with its time.
        points: `{"user": "alice", "item": "x", "at": t, "request": {"ctx:hour": 14}}`; `request` is optional.
        service: `ranker` or `ranker@2`. The table then has one float32 column for each number, and
            `to_numpy()` is the float32[points, n] matrix.
        rows: feature rows as published: `{"view": "item_stats", "entity": "item:x", "event_time": t,
            "created": t, "values": {...}}`, `version` for other than the newest version, `created` defaults
            to the event time. The newest by (event time, created) at or before the point counts.
        as_seen: leave out events received, and rows created, after the point.

    Raises:
        MalformedEvent: an event that does not fit the catalog.
        MalformedRequest: a bad point, row, reference or service, or not exactly one of refs and service.
    """
    if (refs is None) == (service is None):
        raise MalformedRequest("replay", "exactly one of refs and service", "both" if refs else "none")
    past = PastRows(catalog, rows or (), as_seen)
    engine = compile_catalog(catalog)
    history = sort_history(catalog, engine, events)
    moments = [_moment(catalog, number, point) for number, point in enumerate(points)]
    if refs is not None:
        found = [catalog.ref(text) for text in refs]
        source = PastSource(catalog, engine, history, past, moments, {ref.view for ref in found}, as_seen)
        return _feature_table(catalog, source, moments, dict(zip(refs, found, strict=True)))
    plan = ServicePlan(catalog, catalog.service(service or ""))
    source = PastSource(catalog, engine, history, past, moments, plan.view_keys, as_seen)
    return _service_table(plan, source, moments)


@dataclass(frozen=True, slots=True)
class Moment:
    """One point: ids by entity type, a time, request values."""

    ids: Mapping[str, str]
    at_us: int
    request: Mapping[str, object] | None


def _moment(catalog: Catalog, number: int, point: Mapping[str, object]) -> Moment:
    place = f"points[{number}]"
    ids: dict[str, str] = {}
    for name, value in point.items():
        if name in ("at", "request"):
            continue
        if name not in catalog.entities:
            raise MalformedRequest(place, " ".join((*catalog.entities, "at", "request")), "another key")
        if not isinstance(value, str) or not value:
            raise MalformedRequest(f"{place}.{name}", "an id", type(value).__name__)
        ids[name] = value
    request = point.get("request")
    if request is not None and not isinstance(request, Mapping):
        raise MalformedRequest(f"{place}.request", "a table of request values", type(request).__name__)
    return Moment(ids, _instant(point.get("at"), f"{place}.at"), request)


def _instant(value: object, place: str) -> int:
    try:
        return instant_us(value)
    except MalformedEvent as error:
        raise MalformedRequest(place, error.expected, error.got) from None


class PastRows:
    """Every row ever published, found by (view, entity) and time."""

    def __init__(self, catalog: Catalog, rows: Iterable[Mapping[str, object]], as_seen: bool) -> None:
        self._as_seen = as_seen
        found: dict[tuple[str, str], list[tuple[int, int, int, ServerRow]]] = defaultdict(list)
        for number, given in enumerate(rows):
            place = f"rows[{number}]"
            view = self._view(catalog, given, place)
            row = self._row(given, view, place)
            entity = given.get("entity")
            if not isinstance(entity, str) or not entity:
                raise MalformedRequest(
                    f"{place}.entity", 'a typed id such as "item:x"', type(entity).__name__
                )
            found[view.key, entity].append((row.event_time_us, row.created_us, number, row))
        self._rows = {key: sorted(versions, key=lambda v: v[:3]) for key, versions in found.items()}
        self._times = {key: [v[0] for v in versions] for key, versions in self._rows.items()}

    @staticmethod
    def _view(catalog: Catalog, given: Mapping[str, object], place: str) -> View:
        name, version = given.get("view"), given.get("version")
        if not isinstance(name, str):
            raise MalformedRequest(f"{place}.view", "a view's name", type(name).__name__)
        view = catalog.view(name if version is None or "@" in name else f"{name}@{version}")
        if view.source != "server":
            raise MalformedRequest(f"{place}.view", "a server view", f"a {view.source} view")
        return view

    @staticmethod
    def _row(given: Mapping[str, object], view: View, place: str) -> ServerRow:
        values = given.get("values")
        if not isinstance(values, Mapping):
            raise MalformedRequest(f"{place}.values", "a table of values", type(values).__name__)
        unknown = [name for name in values if name not in view.features]
        if unknown:
            raise MalformedRequest(f"{place}.values", f"features of {view.key}", "an unknown feature")
        event_time_us = _instant(given.get("event_time"), f"{place}.event_time")
        created = given.get("created")
        created_us = event_time_us if created is None else _instant(created, f"{place}.created")
        return ServerRow(cast("Mapping[str, object]", values), event_time_us, created_us)

    def at(self, view_key: str, entity: str, t_us: int) -> ServerRow | Missing:
        """The newest row with event time at or before `t_us`; of equal times the last created."""
        versions = self._rows.get((view_key, entity))
        if versions is None:
            return _NO_ROW
        for n in range(bisect_right(self._times[view_key, entity], t_us) - 1, -1, -1):
            row = versions[n][3]
            if not self._as_seen or row.created_us <= t_us:
                return row
        return _NO_ROW

    def resolve(self, catalog: Catalog, view: View, t_us: int) -> Resolve | None:
        """The embeddings that a session view reads, as they were at `t_us`; None if it reads none."""
        for feature in view.features.values():
            if isinstance(feature, SessionFeature) and feature.embedding is not None:
                ref = catalog.ref(feature.embedding)
                break
        else:
            return None
        group: Group = group_of(catalog.views[ref.view], catalog.purposes)
        prefix, position = f"{group.types[0]}:", group.positions[ref.feature]
        at = _RowsAt(self)

        def embedding(item: str) -> Sequence[float] | None:
            reading = group.read_entity(at, prefix + item, t_us)
            if isinstance(reading, Missing):
                return None
            return cast("Sequence[float] | None", reading[position])

        at.t_us = t_us
        return embedding


class _RowsAt:
    """A `Source` of rows alone, at the time set."""

    def __init__(self, rows: PastRows) -> None:
        self._rows = rows
        self.t_us = 0

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """None are kept here: an embedding never comes from a session view."""
        return _EMPTY

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        return self._rows.at(view_key, entity, self.t_us)


class PastSource(_RowsAt):
    """What the runtime's source would have answered at each moment. Set `t_us` before reading at it."""

    def __init__(
        self,
        catalog: Catalog,
        engine: Plan,
        history: History,
        rows: PastRows,
        moments: Sequence[Moment],
        view_keys: Collection[str],
        as_seen: bool,
    ) -> None:
        super().__init__(rows)
        self._values: dict[tuple[str, str, int], SessionValues] = {}
        for view_key in sorted(set(view_keys) & set(engine.views)):
            plan = engine.views[view_key]
            group = group_of(plan.view, catalog.purposes)
            asked: dict[str, set[int]] = defaultdict(set)
            for moment in moments:
                entity = group.entity(moment.ids)
                if not isinstance(entity, Missing):
                    asked[entity].add(moment.at_us)
            for entity, times_us in asked.items():
                events = history.get((view_key, entity), ())
                for t_us, state in states_at(plan, events, sorted(times_us), as_seen=as_seen):
                    values = plan.values(state, t_us, rows.resolve(catalog, plan.view, t_us))
                    self._values[view_key, entity, t_us] = SessionValues(values, state.newest_us)

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        return self._values[view_key, entity, t_us]


def _service_table(plan: ServicePlan, source: PastSource, moments: Sequence[Moment]) -> Table:
    matrix = np.empty((len(moments), len(plan.names)), dtype=np.float32)
    statuses = np.empty((len(moments), len(plan.names)), dtype=np.uint8)
    for n, moment in enumerate(moments):
        source.t_us = moment.at_us
        vector = plan.vector(source, moment.ids, moment.at_us, None, moment.request)
        matrix[n], statuses[n] = vector.values, vector.status
    columns = {name: _column(matrix, i) for i, name in enumerate(plan.names)}
    return Table(columns, {name: statuses[:, i].tolist() for i, name in enumerate(plan.names)}, matrix)


def _column(matrix: Numbers, position: int) -> list[object]:
    return cast("list[object]", matrix[:, position].tolist())


def _feature_table(
    catalog: Catalog, source: PastSource, moments: Sequence[Moment], refs: Mapping[str, Ref]
) -> Table:
    columns: dict[str, list[object]] = {text: [] for text in refs}
    statuses: dict[str, list[int]] = {text: [] for text in refs}
    for moment in moments:
        source.t_us = moment.at_us
        for text, ref in refs.items():
            view = catalog.views[ref.view]
            retention_us = None if view.purpose is None else catalog.purposes[view.purpose].retention_us
            found = read_feature(source, view, ref.feature, moment.ids, moment.at_us, retention_us)
            columns[text].append(found.value)
            statuses[text].append(found.status)
    return Table(columns, statuses)
