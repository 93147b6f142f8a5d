"""What one read was told, kept: so that it can be kept up, and explained as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_runtime.serving.groups import Group
from edge_runtime.serving.reads import Kept, Missing, ServerRow, SessionValues, Source

Place = tuple[str, str]
"""(view key, typed entity)"""
FOREVER_US = 1 << 62


class Evidence:
    """A `Source` that asks another one once for each place and answers from memory after that."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.sessions: dict[Place, SessionValues] = {}
        self.rows: dict[Place, ServerRow | Missing] = {}

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """As the source said; it is asked for one time only."""
        found = self.sessions.get((view_key, entity))
        if found is None:
            found = self.sessions[view_key, entity] = self._source.session_values(view_key, entity, t_us)
            if found.kept is not None:
                self.rows.update(found.kept.rows)
        return found

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """As the source said."""
        found = self.rows.get((view_key, entity))
        if found is None:
            found = self.rows[view_key, entity] = self._source.server_row(view_key, entity)
        return found

    def server_rows(self, view_key: str, entities: Sequence[str]) -> Sequence[ServerRow | Missing]:
        """As the source said."""
        found = self._source.server_rows(view_key, entities)
        self.rows.update(zip([(view_key, entity) for entity in entities], found, strict=True))
        return found

    def also(self, source: Source) -> Evidence:
        """Another that has heard the same, and may hear more from `source`."""
        other = Evidence(source)
        other.sessions, other.rows = dict(self.sessions), dict(self.rows)
        return other

    def event_time_us(self, group: Group, entity: str) -> int | None:
        """When what a view said of an entity was true; None where it said nothing."""
        place = group.view.key, entity
        row = self.rows.get(place)
        if isinstance(row, ServerRow):
            return row.event_time_us
        found = self.sessions.get(place)
        return None if found is None else found.event_time_us

    def kept(self) -> dict[Place, Kept] | None:
        """What every session view's values rest on; None when some are of this read alone."""
        found = {place: one.kept for place, one in self.sessions.items()}
        return None if None in found.values() else {p: kept for p, kept in found.items() if kept is not None}

    def until_us(self, ttls_us: Mapping[str, int], t_us: int) -> int:
        """When a ttl ends first after `t_us`, or what a session view kept does; tiles are not asked."""
        ends = [FOREVER_US]
        for (view_key, _), row in self.rows.items():
            if ttls_us[view_key] and isinstance(row, ServerRow):
                ends.append(row.event_time_us + ttls_us[view_key] + 1)
        for (view_key, _), found in self.sessions.items():
            if found.kept is not None:
                ends.append(found.kept.until_us)
            if ttls_us[view_key] and found.event_time_us is not None:
                ends.append(found.event_time_us + ttls_us[view_key] + 1)
        return min([end for end in ends if end > t_us])
