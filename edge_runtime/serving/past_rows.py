"""Every feature row ever published, found by entity and time: the server views of a replay."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from edge_runtime.catalog import Catalog, View
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues
from edge_runtime.serving.status import Status
from edge_runtime.session.event import instant_us
from edge_runtime.wire.printing import prints_only

_NO_ROW = Missing(Status.NOT_FOUND, "no row at or before this time")
_EMPTY = SessionValues((), None)


class Version(NamedTuple):
    """One row of an entity: ordered by event time, then `created`, then as given."""

    event_time_us: int
    created_us: int
    number: int
    row: ServerRow


@prints_only()
class Past(NamedTuple):
    """All rows of one entity in their order, and their event times."""

    times_us: list[int]
    rows: list[ServerRow]


class PastRows:
    """Rows by (view key, typed entity). With `as_seen` a row counts only from its `created` on."""

    def __init__(self, as_seen: bool) -> None:
        self.as_seen = as_seen
        self._rows: dict[tuple[str, str], Past] = {}

    @classmethod
    def of(cls, catalog: Catalog, rows: Iterable[Mapping[str, object]], *, as_seen: bool) -> PastRows:
        """The rows, checked.

        Raises:
            MalformedRequest: a row that does not fit; the place begins `rows[number]`.
        """
        found: dict[tuple[str, str], list[Version]] = defaultdict(list)
        for number, given in enumerate(rows):
            place = f"rows[{number}]"
            view = _view(catalog, given, place)
            row = _row(given, view, place)
            entity = given.get("entity")
            if not isinstance(entity, str) or not entity:
                got = type(entity).__name__
                raise MalformedRequest(f"{place}.entity", 'a typed id such as "item:x"', got)
            found[view.key, entity].append(Version(row.event_time_us, row.created_us, number, row))
        made = cls(as_seen)
        made._keep(found)
        return made

    def part(self, belongs: Callable[[str, str], bool]) -> PastRows:
        """Those rows whose view key and typed entity belong."""
        made = PastRows(self.as_seen)
        made._rows = {place: past for place, past in self._rows.items() if belongs(*place)}
        return made

    def at(self, view_key: str, entity: str, t_us: int) -> ServerRow | Missing:
        """The newest row with event time at or before `t_us`; of equal times the last created."""
        past = self._rows.get((view_key, entity))
        n = -1 if past is None else self.newest(past, t_us)
        return _NO_ROW if past is None or n < 0 else past.rows[n]

    def past(self, view_key: str, entity: str) -> Past | None:
        """All rows of an entity."""
        return self._rows.get((view_key, entity))

    def newest(self, past: Past, t_us: int) -> int:
        """Which of an entity's rows counts at `t_us`; -1 where none does."""
        n = bisect_right(past.times_us, t_us) - 1
        if self.as_seen:
            while n >= 0 and past.rows[n].created_us > t_us:
                n -= 1
        return n

    def _keep(self, found: Mapping[tuple[str, str], list[Version]]) -> None:
        for place, versions in found.items():
            versions.sort()
            self._rows[place] = Past([v.event_time_us for v in versions], [v.row for v in versions])


class RowsAt:
    """A `Source` of past rows alone, at the time set in `t_us`."""

    def __init__(self, rows: PastRows) -> None:
        self._rows = rows
        self.t_us = 0

    def session_values(self, view_key: str, entity: str, t_us: int) -> SessionValues:
        """None are kept here: an embedding never comes from a session view."""
        return _EMPTY

    def server_row(self, view_key: str, entity: str) -> ServerRow | Missing:
        """The row as of `t_us`."""
        return self._rows.at(view_key, entity, self.t_us)

    def server_rows(self, view_key: str, entities: Sequence[str]) -> Sequence[ServerRow | Missing]:
        """The rows as of `t_us`."""
        return [self._rows.at(view_key, entity, self.t_us) for entity in entities]


def instant(value: object, place: str) -> int:
    """Microseconds of a time in a request.

    Raises:
        MalformedRequest: no time; says so at `place`.
    """
    try:
        return instant_us(value)
    except MalformedEvent as error:
        raise MalformedRequest(place, error.expected, error.got) from None


def _view(catalog: Catalog, given: Mapping[str, object], place: str) -> View:
    name, version = given.get("view"), given.get("version")
    if not isinstance(name, str):
        raise MalformedRequest(f"{place}.view", "a view's name", type(name).__name__)
    view = catalog.view(name if version is None or "@" in name else f"{name}@{version}")
    if view.source != "server":
        raise MalformedRequest(f"{place}.view", "a server view", f"a {view.source} view")
    return view


def _row(given: Mapping[str, object], view: View, place: str) -> ServerRow:
    values = given.get("values")
    if not isinstance(values, Mapping):
        raise MalformedRequest(f"{place}.values", "a table of values", type(values).__name__)
    unknown = [name for name in values if name not in view.features]
    if unknown:
        raise MalformedRequest(f"{place}.values", f"features of {view.key}", "an unknown feature")
    event_time_us = instant(given.get("event_time"), f"{place}.event_time")
    created = given.get("created")
    created_us = event_time_us if created is None else instant(created, f"{place}.created")
    return ServerRow(cast("Mapping[str, object]", values), event_time_us, created_us)
