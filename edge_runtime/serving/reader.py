"""The reads of one runtime: vectors, matrices, scores and single features, from held rows where it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.contract import Contract
from edge_runtime.clock import Clock
from edge_runtime.errors import MalformedRequest
from edge_runtime.presence import Presence
from edge_runtime.serving.cache_source import CacheSource
from edge_runtime.serving.held import Held
from edge_runtime.serving.plan import Matrix, ServicePlan, Vector, compile_service
from edge_runtime.serving.request import read_time_us
from edge_runtime.serving.scoring import Bindable, Model, Scores, bound, scored
from edge_runtime.serving.value import FeatureValue, read_feature
from edge_runtime.settings import Settings

Entities = Mapping[str, str | Sequence[str]]


class Reader:
    """Answers reads; the runtime's lock guards every call."""

    def __init__(
        self, catalog: Catalog, source: CacheSource, clock: Clock, settings: Settings, presence: Presence
    ) -> None:
        self._catalog, self._source, self._clock, self._presence = catalog, source, clock, presence
        self._candidates_limit, self._held_limit = settings.candidates, settings.held_rows
        self._plans: dict[str, ServicePlan] = {}
        self._models: dict[str, Model] = {}
        self._held: dict[tuple[object, ...], Held | None] = {}
        """By service and ids; None for a row that was read once: holding one costs more than reading it."""

    def vector(
        self, service: str, entities: Mapping[str, str], at: object, request: Mapping[str, object] | None
    ) -> Vector:
        """As `Runtime.vector`."""
        now_us, plan = self._clock.now_us(), self._plan(service)
        self._presence.note(entities, now_us)
        if at is not None:
            return plan.vector(self._source, entities, now_us, read_time_us(at), request)
        given = plan.given(request) if request else plan.nothing_given
        key = (service, *entities.items())
        try:
            again = key in self._held
        except TypeError:  # an id that is no text, nor anything a row could be held for
            again = False
        held = self._held[key] if again else None
        if held is not None:
            vector = held.vector(self._source, now_us, given)
            if vector is not None:
                return vector
        vector, kept = plan.hold(self._source, entities, now_us, given, again)
        self._keep(key, kept)
        return vector

    def matrix(
        self, service: str, entities: Entities, at: object, request: Mapping[str, object] | None
    ) -> Matrix:
        """As `Runtime.matrix`."""
        single = {kind: ids for kind, ids in entities.items() if isinstance(ids, str)}
        several = [(kind, tuple(ids)) for kind, ids in entities.items() if not isinstance(ids, str)]
        if len(several) != 1:
            raise MalformedRequest("entities", "one list of candidates", f"{len(several)} lists")
        kind, ids = several[0]
        if len(ids) > self._candidates_limit:
            raise MalformedRequest(kind, f"at most {self._candidates_limit} candidates", str(len(ids)))
        row = self.vector(service, single, at, request)
        return self._plan(service).beside(self._source, row, single, (kind, ids))

    def attach(self, service: str, model: Model | Bindable) -> None:
        """As `Runtime.use_model`."""
        contract = Contract.of(self._catalog, service)
        self._models[contract.service] = bound(model, contract)

    def scoring(
        self, service: str, entities: Entities, at: object, request: Mapping[str, object] | None
    ) -> Callable[[], Scores]:
        """Reads the rows now and returns what scores them, which needs no lock."""
        found = self._catalog.service(service)
        name = f"{found.name}@{found.version}"
        model = self._models.get(name)
        if model is None:
            raise MalformedRequest("service", "one that `use_model` gave a model", "one without a model")
        single = {kind: ids for kind, ids in entities.items() if isinstance(ids, str)}
        if len(single) == len(entities):
            return partial(scored, model, self.vector(service, single, at, request), name)
        return partial(scored, model, self.matrix(service, entities, at, request), name)

    def read(self, ref: str, entities: Mapping[str, str], at: object, *, seen: bool = True) -> FeatureValue:
        """As `Runtime.read`.

        Args:
            seen: whether it says that a subject is here; False for reads that nobody asked for.
        """
        found, at_us = self._catalog.ref(ref), read_time_us(at)
        view = self._catalog.views[found.view]
        retention_us = None if view.purpose is None else self._catalog.purposes[view.purpose].retention_us
        now_us = self._clock.now_us()
        if seen:
            self._presence.note(entities, now_us)
        t_us = now_us if at_us is None else at_us
        return read_feature(self._source, view, found.feature, entities, t_us, retention_us)

    def forget(self) -> None:
        """Somebody is erased: no number of a held row stays in memory."""
        for held in self._held.values():
            if held is not None:
                held.wipe()
        self._held.clear()

    def _keep(self, key: tuple[object, ...], held: Held | None) -> None:
        self._held[key] = held
        if len(self._held) > self._held_limit:
            del self._held[next(iter(self._held))]

    def _plan(self, service: str) -> ServicePlan:
        found = self._plans.get(service)
        if found is None:
            found = self._plans[service] = compile_service(self._catalog, self._catalog.service(service))
        return found
