"""A view as a service reads it: which entity, from where, in which feature order, how long it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edge_runtime.catalog.model import View
from edge_runtime.serving.reads import Missing, Reading, ServerRow, Source
from edge_runtime.serving.status import Status

STALE: Final = Missing(Status.EXPIRED, "older than the view's ttl")


class Group:
    """Reads one view for one set of entities: a tuple in feature order, or why there is none."""

    __slots__ = (
        "_absent",
        "_forgotten_us",
        "_key",
        "_kind",
        "_names",
        "_only",
        "_prefix",
        "_ttl_us",
        "_types",
        "positions",
        "types",
        "view",
    )

    def __init__(self, view: View, retention_us: int | None = None) -> None:
        self.view = view
        # A silence longer than the retention leaves nothing of a subject: empty values, not old ones.
        self._forgotten_us = retention_us if view.source == "session" else None
        self.types = view.entity
        self.positions = {name: n for n, name in enumerate(view.features)}
        self._key, self._kind, self._ttl_us = view.key, view.source, view.ttl_us
        self._names = tuple(view.features)
        self._absent = {t: Missing(Status.NOT_FOUND, f"no {t} was given") for t in view.entity}
        self._only = view.entity[0] if len(view.entity) == 1 else None
        self._prefix = f"{self._only}:"
        self._types = tuple((f"{t}:", t) for t in view.entity)

    def entity(self, ids: Mapping[str, str]) -> str | Missing:
        """The typed id (composite: joined with `|`), or which entity type was not given."""
        if self._only is not None:
            bare = ids.get(self._only)
            return self._absent[self._only] if bare is None else self._prefix + bare
        parts = []
        for prefix, kind in self._types:
            bare = ids.get(kind)
            if bare is None:
                return self._absent[kind]
            parts.append(prefix + bare)
        return "|".join(parts)

    def read(self, source: Source, ids: Mapping[str, str], t_us: int) -> Reading:
        """The values of a server or session view at `t_us` for these bare ids by type."""
        entity = self.entity(ids)
        return entity if isinstance(entity, Missing) else self.read_entity(source, entity, t_us)

    def read_entity(self, source: Source, entity: str, t_us: int) -> Reading:
        """The same for a typed id at hand."""
        if self._kind == "session":
            found = source.session_values(self._key, entity, t_us)
            if found.status:
                return Missing(found.status, found.reason)
            newest_us = found.event_time_us
            return STALE if newest_us is not None and self.stale(newest_us, t_us) else found.values
        return self._usable(source.server_row(self._key, entity), t_us)

    def _usable(self, row: ServerRow | Missing, t_us: int) -> Reading:
        if isinstance(row, Missing):
            return row
        return STALE if self.stale(row.event_time_us, t_us) else row.in_order(self._names)

    def stale(self, event_time_us: int, t_us: int) -> bool:
        """Whether a value of that event time may no longer be used at `t_us` (ttl 0: for ever)."""
        if not self._ttl_us or event_time_us + self._ttl_us >= t_us:
            return False
        return self._forgotten_us is None or t_us - event_time_us <= self._forgotten_us

    def read_many(
        self, source: Source, ids: Mapping[str, str], kind: str, candidates: Sequence[str], t_us: int
    ) -> list[Reading]:
        """One reading for each candidate id of entity type `kind`, the other ids staying."""
        if self.types == (kind,):
            prefix = self._prefix
            entities = [prefix + bare for bare in candidates]
            if self._kind == "session":
                return [self.read_entity(source, entity, t_us) for entity in entities]
            names, usable = self._names, self._usable
            oldest_us = t_us - self._ttl_us if self._ttl_us else 0
            return [
                row.in_order(names)
                if isinstance(row, ServerRow) and row.event_time_us > oldest_us
                else usable(row, t_us)
                for row in source.server_rows(self._key, entities)
            ]
        scope = dict(ids)
        readings: list[Reading] = []
        for bare in candidates:
            scope[kind] = bare
            entity = self.entity(scope)
            readings.append(entity if isinstance(entity, Missing) else self.read_entity(source, entity, t_us))
        return readings
