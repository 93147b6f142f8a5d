"""What one read was told, kept: so that it can be kept up, and explained as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_runtime.serving.groups import Group
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues, Source
from edge_runtime.session.reading import NEVER_US

Place = tuple[str, str]
"""(view key, typed entity)"""


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
            self.rows.update(found.rows)
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

    def after(self, newest_us: Mapping[Place, int | None]) -> Evidence:
        """Another that has heard the same of session views with these newest events."""
        other = self.also(self._source)
        for place, at_us in newest_us.items():
            other.sessions[place] = other.sessions[place]._replace(event_time_us=at_us)
        return other

    def event_time_us(self, group: Group, entity: str) -> int | None:
        """When what a view said of an entity was true; None where it said nothing."""
        place = group.view.key, entity
        row = self.rows.get(place)
        if isinstance(row, ServerRow):
            return row.event_time_us
        found = self.sessions.get(place)
        return None if found is None else found.event_time_us

    def ends_us(self, ttls_us: Mapping[str, int], t_us: int) -> int:
        """When a ttl ends first after `t_us`."""
        rows = [(at, row.event_time_us) for at, row in self.rows.items() if isinstance(row, ServerRow)]
        times = [*rows, *[(at, found.event_time_us) for at, found in self.sessions.items()]]
        ends = [us + ttls_us[key] + 1 for (key, _), us in times if us is not None and ttls_us[key]]
        return min([NEVER_US, *[end for end in ends if end > t_us]])
