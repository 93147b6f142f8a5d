"""What would have been read in the past: the serving plan over replayed events and the rows of that time.

A training row and a served row come from one code path (law 8): `ServicePlan.vector`, fed with session values
of the replay engine and, for each server view, the newest row at or before the point. No cache and no consent
gate stand between: the caller owns the events.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_runtime.catalog import Catalog, Ref, View
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.binding import group_of
from edge_runtime.serving.embeddings import Embeddings
from edge_runtime.serving.held import Given
from edge_runtime.serving.past_points import PointReader
from edge_runtime.serving.past_rows import PastRows, RowsAt, instant
from edge_runtime.serving.past_vectors import PastVectors
from edge_runtime.serving.plan import Numbers, ServicePlan, Statuses
from edge_runtime.serving.reads import Missing, SessionValues
from edge_runtime.serving.request import RequestForm
from edge_runtime.serving.value import read_group
from edge_runtime.session.plan import Plan, ViewPlan, compile_catalog
from edge_runtime.session.replay import Histories, Place, states_at
from edge_runtime.session.table import Table
from edge_runtime.wire.printing import prints_only

ANSWERED = 256
"""Points between two calls of `answered`."""
TOGETHER = 2048
"""Points of a service that are answered at once."""


@prints_only("at_us")
@dataclass(frozen=True, slots=True)
class Moment:
    """One point: ids by entity type, a time, request values."""

    ids: Mapping[str, str]
    at_us: int
    request: Mapping[str, object] | None
    given: Given
    """The request values as a service reads them, checked."""


@prints_only()
@dataclass(frozen=True, slots=True)
class Answers:
    """What was found at some points, in their order: a service's rows, or a column for each reference."""

    rows: tuple[Numbers, Statuses] | None
    columns: Mapping[str, tuple[list[object], list[int]]]


class Question:
    """What a replay asks at every point: references, or one service. Exactly one of both.

    Raises:
        MalformedRequest: both or none, or an unknown reference or service.
    """

    def __init__(
        self, catalog: Catalog, refs: Sequence[str] | None, service: str | None, *, as_seen: bool
    ) -> None:
        if (refs is None) == (service is None):
            raise MalformedRequest(
                "replay", "exactly one of refs and service", "none" if refs is None else "both"
            )
        self.catalog, self.as_seen = catalog, as_seen
        self.engine: Plan = compile_catalog(catalog)
        self.refs: dict[str, Ref] = {text: catalog.ref(text) for text in refs or ()}
        self.service = None if service is None else ServicePlan(catalog, catalog.service(service))
        keys = self.service.view_keys if self.service else {ref.view for ref in self.refs.values()}
        self.session_views = tuple(key for key in self.engine.views if key in keys)
        """Keys of the session views that are read, in the catalog's order."""
        self.groups = {key: group_of(catalog.views[key], catalog.purposes) for key in sorted(keys)}
        self._wanted = {key: self._features(key) for key in self.session_views}
        self._form = RequestForm(catalog.views)
        self._nothing_given = self._form.read(None)
        for text, ref in self.refs.items():
            if catalog.views[ref.view].source == "request":
                raise MalformedRequest(f"refs.{text}", "a server or session feature", "a request feature")

    def moments(self, points: Sequence[Mapping[str, object]]) -> list[Moment]:
        """The points, checked: their ids, times and request values.

        Raises:
            MalformedRequest: a point that does not fit; the place begins `points[number]`.
        """
        return [self._moment(number, point) for number, point in enumerate(points)]

    def places(self, moment: Moment) -> list[Place]:
        """The session states that are read at a moment."""
        found = ((key, self.groups[key].entity(moment.ids)) for key in self.session_views)
        return [(key, entity) for key, entity in found if not isinstance(entity, Missing)]

    def table(self, answers: Answers) -> Table:
        """The answers with their names."""
        if answers.rows is None:
            columns = {text: values for text, (values, _) in answers.columns.items()}
            return Table(columns, {text: statuses for text, (_, statuses) in answers.columns.items()})
        assert self.service is not None
        matrix, statuses = answers.rows
        names = self.service.names
        return Table(
            {name: cast("list[object]", matrix[:, n].tolist()) for n, name in enumerate(names)},
            {name: statuses[:, n].tolist() for n, name in enumerate(names)},
            matrix,
        )

    def session_values(self, plan: ViewPlan) -> Callable[..., tuple[object, ...]]:
        """The reader of one view's values: all of them for a service, for references only what they name."""
        wanted = self._wanted[plan.view.key]
        if self.service is not None or len(wanted) == len(plan.names):
            return plan.values
        return lambda state, t_us, resolve: tuple(
            plan.read_one(state, name, t_us, resolve) if name in wanted else None for name in plan.names
        )

    def _features(self, view_key: str) -> frozenset[str]:
        return frozenset(ref.feature for ref in self.refs.values() if ref.view == view_key)

    def _moment(self, number: int, point: Mapping[str, object]) -> Moment:
        place, entities = f"points[{number}]", self.catalog.entities
        ids: dict[str, str] = {}
        for name, value in point.items():
            if name in ("at", "request"):
                continue
            if name not in entities:
                raise MalformedRequest(place, " ".join((*entities, "at", "request")), "another key")
            if not isinstance(value, str) or not value:
                raise MalformedRequest(f"{place}.{name}", "an id", type(value).__name__)
            ids[name] = value
        for ref in self.refs.values():
            for kind in self.catalog.views[ref.view].entity:
                if kind not in ids:
                    raise MalformedRequest(f"{place}.{kind}", "an id", "nothing")
        request = point.get("request")
        given = self._given(f"{place}.request", request)
        at_us = instant(point.get("at"), f"{place}.at")
        return Moment(ids, at_us, cast("Mapping[str, object] | None", request), given)

    def _given(self, place: str, request: object) -> Given:
        if request is None:
            return self._nothing_given
        if not isinstance(request, Mapping):
            raise MalformedRequest(place, "a table of request values", type(request).__name__)
        try:
            return self._form.read(request)
        except MalformedRequest as error:
            below = error.place.removeprefix("request")
            raise MalformedRequest(f"{place}{below}", error.expected, error.got) from None


class Training:
    """Some points of a question and the events that they need; first `take_all` events, then `answers`."""

    def __init__(self, question: Question, rows: PastRows, moments: Sequence[Moment]) -> None:
        self._question, self._rows, self._moments = question, rows, moments
        self._times: dict[Place, set[int]] = defaultdict(set)
        for moment in moments:
            for place in question.places(moment):
                self._times[place].add(moment.at_us)
        self._histories = Histories(question.catalog, question.engine, self._times, as_seen=question.as_seen)
        self.take_all = self._histories.take_all
        """Take numbered events: see `Histories.take_all`."""

    def answers(self, answered: Callable[[int], None] | None = None) -> Answers:
        """The values at the points. `answered` is told now and then how many more points were answered."""
        source = self.source()
        if self._question.service is not None:
            return self._service_rows(self._question.service, source, answered)
        columns: dict[str, tuple[list[object], list[int]]] = {t: ([], []) for t in self._question.refs}
        reads = [
            (*columns[text], self._question.groups[ref.view], self._view(ref), ref.feature)
            for text, ref in self._question.refs.items()
        ]
        for moment in self._told(answered):
            source.t_us = moment.at_us
            for values, statuses, group, view, feature in reads:
                found = read_group(source, group, view, feature, moment.ids, moment.at_us)
                values.append(found.value)
                statuses.append(int(found.status))
        return Answers(None, columns)

    def _service_rows(
        self, plan: ServicePlan, source: PastSource, answered: Callable[[int], None] | None
    ) -> Answers:
        reader = PointReader(self._question.catalog, plan, source)
        matrix = np.empty((len(self._moments), len(plan.names)), dtype=np.float32)
        statuses = np.empty((len(self._moments), len(plan.names)), dtype=np.uint8)
        for start in range(0, len(self._moments), TOGETHER):
            found = reader.rows(self._moments[start : start + TOGETHER])
            end = start + len(found.values)
            matrix[start:end], statuses[start:end] = found
            if answered is not None:
                answered(end - start)
        return Answers((matrix, statuses), {})

    def source(self) -> PastSource:
        """The session values of every place, at each time that is asked of it once."""
        question, source = self._question, PastSource(self._rows)
        for view_key, places in _by_view(self._times).items():
            plan = question.engine.views[view_key]
            read = question.session_values(plan)
            vectors = PastVectors(Embeddings(question.catalog, plan.view), self._rows)
            for place in places:
                events, times_us = self._histories.sorted(place), sorted(self._times[place])
                for t_us, state in states_at(plan, events, times_us, as_seen=question.as_seen):
                    values = read(state, t_us, vectors.at(t_us))
                    source.values[view_key, place[1], t_us] = SessionValues(values, state.newest_us)
        return source

    def _view(self, ref: Ref) -> View:
        return self._question.catalog.views[ref.view]

    def _told(self, answered: Callable[[int], None] | None) -> Iterator[Moment]:
        for n, moment in enumerate(self._moments, 1):
            yield moment
            if answered is not None and n % ANSWERED == 0:
                answered(ANSWERED)
        if answered is not None:
            answered(len(self._moments) % ANSWERED)


class PastSource(RowsAt):
    """What the runtime's source would have answered. Set `t_us` before reading at it."""

    def __init__(self, rows: PastRows) -> None:
        super().__init__(rows)
        self.values: dict[tuple[str, str, int], SessionValues] = {}

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """The values that were put for exactly this time."""
        return self.values[view_key, entity, t_us]


def _by_view(places: Collection[Place]) -> Mapping[str, list[Place]]:
    found: dict[str, list[Place]] = defaultdict(list)
    for place in places:
        found[place[0]].append(place)
    return found
