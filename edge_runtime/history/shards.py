"""Which worker answers a point, and which workers an event or a row must go to. Pure.

A worker answers whole points, so it needs every session state that its points read. Points are dealt by the
id of one entity type, the one that most of the views read are keyed by (of equals a personal one): all states
of an entity that holds this id, alone or in a composite key, live with one worker. A view that is keyed
otherwise has its events sent to each worker whose points read that state; the state is then computed there
again, from the same events, to the same bits. An event whose state no point reads is only checked, by any.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import cast
from zlib import crc32

from edge_runtime.catalog import Catalog, SumLookupColumn
from edge_runtime.serving.embeddings import Embeddings
from edge_runtime.serving.past_rows import PastRows
from edge_runtime.serving.training import Moment, Question
from edge_runtime.session.event import Event
from edge_runtime.session.replay import Place, Received

Workers = tuple[int, ...]
_Route = tuple[dict[str, Workers], Callable[[Mapping[str, object]], object]]
"""The workers of a view's states, by the key that the function makes of an event's fields."""


class Shards:
    """How one question's points, events and rows are shared among `workers`."""

    def __init__(self, question: Question, moments: Sequence[Moment], workers: int) -> None:
        self._question, self._workers = question, workers
        self._kind = dealt_by(question)
        self.points: list[list[int]] = [[] for _ in range(workers)]
        """For each worker the numbers of its points, rising."""
        needs: dict[Place, set[int]] = defaultdict(set)
        for number, moment in enumerate(moments):
            worker = self._worker_of(number, moment)
            self.points[worker].append(number)
            for place in question.places(moment):
                needs[place].add(worker)
        self._any: list[Workers] = [(worker,) for worker in range(workers)]
        self._routes = self._flat_routes(needs)

    def of_event(self, number: int, given: Event | Received | Mapping[str, object]) -> Workers:
        """The workers that must see event `number`; one of them where nobody needs it, to check it."""
        if type(given) is dict:
            kind, fields = given.get("type"), cast("Mapping[str, object]", given)
        else:
            kind, fields = _named(given)
        found = None
        for needs, key_of in self._routes.get(kind, ()) if isinstance(kind, str) else ():
            key = key_of(fields)
            workers = needs.get(key) if key.__class__ is str else None
            if workers is not None and workers != found:
                found = workers if found is None else tuple(sorted({*found, *workers}))
        return self._any[number % len(self._any)] if found is None else found

    def of_rows(self, rows: PastRows, worker: int) -> PastRows:
        """The rows that a worker's points may read.

        Rows that are found by an id out of a value (an embedding, a sum of lookups) go to every worker.
        """
        if self._kind is None:
            return rows
        everywhere, views, kind = _by_value(self._question), self._question.catalog.views, self._kind

        def belongs(view_key: str, entity: str) -> bool:
            types = views[view_key].entity
            if view_key in everywhere or kind not in types:
                return True
            parts = entity.split("|") if len(types) > 1 else [entity]
            # An id may hold the sign that joins: where the parts are not plain, every worker gets the row.
            return len(parts) != len(types) or self._deal(parts[types.index(kind)]) == worker

        return rows.part(belongs)

    def _worker_of(self, number: int, moment: Moment) -> int:
        bare = None if self._kind is None else moment.ids.get(self._kind)
        return number % self._workers if bare is None else self._deal(f"{self._kind}:{bare}")

    def _deal(self, entity: str) -> int:
        return crc32(entity.encode("utf-8", "surrogatepass")) % self._workers

    def _flat_routes(self, needs: Mapping[Place, set[int]]) -> Mapping[str, list[_Route]]:
        views: dict[str, dict[str, Workers]] = {key: {} for key in self._question.session_views}
        plans = self._question.engine.views
        for (view_key, entity), found in needs.items():
            types = plans[view_key].view.entity
            key = entity[len(types[0]) + 1 :] if len(types) == 1 else entity
            views[view_key][key] = tuple(sorted(found))
        routes: dict[str, list[_Route]] = defaultdict(list)
        for view_key, workers in views.items():
            for kind in plans[view_key].event_types:
                routes[kind].append((workers, _flat_key(plans[view_key].view.entity)))
        return routes


def dealt_by(question: Question) -> str | None:
    """The entity type by whose id the points are dealt; None where no session view is read."""
    catalog = question.catalog
    votes = Counter(kind for key in question.session_views for kind in catalog.views[key].entity)
    order = list(catalog.entities)
    return max(
        votes,
        key=lambda kind: (votes[kind], catalog.entities[kind].personal, -order.index(kind)),
        default=None,
    )


def _by_value(question: Question) -> frozenset[str]:
    catalog: Catalog = question.catalog
    found: set[str] = set()
    for key in question.session_views:
        found |= Embeddings(catalog, catalog.views[key]).view_keys
    if question.service is not None:
        sums = (c for c in question.service.service.columns if isinstance(c, SumLookupColumn))
        found |= {column.ref.view for column in sums}
    return frozenset(found)


def _named(given: Event | Received | Mapping[str, object]) -> tuple[object, Mapping[str, object]]:
    """An event's type, and its ids by entity type among whatever else it holds."""
    if isinstance(given, Received):
        given = given.event
    if isinstance(given, Event):
        return given.type, given.entities
    return given.get("type"), given


def _flat_key(kinds: Sequence[str]) -> Callable[[Mapping[str, object]], object]:
    """The bare id, or of several ids the typed key; not a text where an id is none."""
    if len(kinds) == 1:
        only = kinds[0]
        return lambda flat: flat.get(only)
    return lambda flat: "|".join(f"{kind}:{flat.get(kind)}" for kind in kinds)
