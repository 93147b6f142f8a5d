"""Events, points and feature rows out of files, typed by the catalog, ready for `er.replay`.

What a file can only hold as text becomes what the catalog declares; whether it is legal, the replay checks.
Times are Unix seconds or ISO 8601 with a zone; a time without one is refused unless `zone` says where the
file's clock stood. Each function yields one record after another and holds none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, tzinfo
from functools import cache

from edge_runtime.catalog import Catalog, DType, FieldFeature, View
from edge_runtime.errors import MalformedEvent, MalformedRequest
from edge_runtime.history.cells import Unfit, converter, in_zone, instant, integer, read_json
from edge_runtime.history.records import Record, Sheet
from edge_runtime.session.event import instant_us

Cell = Callable[[object], object]
"""From what a file holds to what is meant; raises `Unfit`."""
_NUMBERED = re.compile(r"(events|points|rows)\[(\d+)\]\.?(.*)", re.DOTALL)


def events_of(
    sheet: Sheet, catalog: Catalog, *, event_type: str | None = None, zone: tzinfo | None = None
) -> Iterator[Record]:
    """The events of a file: columns `type`, `at`, `id`, `received`, entities and properties.

    Args:
        event_type: the type of events that have none of their own.

    Raises:
        MalformedRequest: a line that cannot be read or a cell that is not of its dtype, as `file:line`.
    """
    time = _time(zone)
    always: dict[str, Cell] = {"at": time, "received": time}

    @cache
    def cells(kind: str | None) -> Mapping[str, Cell]:
        declared = catalog.events.get(kind) if kind is not None else None
        return always | _cells(declared.properties if declared else {}, zone, every=sheet.is_text)

    for line, record in sheet.records():
        found = {name: value for name, value in record.items() if value is not None}
        if event_type is not None:
            found.setdefault("type", event_type)
        kind = found.get("type")
        _convert(found, cells(kind if isinstance(kind, str) else None), sheet, line)
        yield found


def points_of(sheet: Sheet, catalog: Catalog, *, zone: tzinfo | None = None) -> Iterator[Record]:
    """The points of a file: columns of entity ids, `at`, and what is given at the read.

    That is `request` (a table; in a CSV as JSON), or a column for a feature of a request view (`ctx:hour`).

    Raises:
        MalformedRequest: as `events_of`.
    """
    cells: dict[str, Cell] = {"at": _time(zone)}
    if sheet.is_text:
        cells |= {"request": _json} | _cells(_request_dtypes(catalog), zone, every=True)
    for line, record in sheet.records():
        found = {name: value for name, value in record.items() if value is not None}
        _convert(found, cells, sheet, line)
        flat = {name: found.pop(name) for name in list(found) if ":" in name}
        request = found.get("request")
        if flat:
            found["request"] = {**request, **flat} if isinstance(request, Mapping) else flat
        yield found


def rows_of(sheet: Sheet, catalog: Catalog, *, zone: tzinfo | None = None) -> Iterator[Record]:
    """The feature rows of a file: columns `view`, `version`, `entity`, `event_time`, `created`, and values.

    The values are a table `values` (in a CSV as JSON), or a column for each feature, empty where not known.

    Raises:
        MalformedRequest: as `events_of`, or a `version` that is no whole number.
    """
    time, cells_by_view = _time(zone), {v: _row_cells(view, zone) for v, view in catalog.views.items()}
    cells: dict[str, Cell] = {"event_time": time, "created": time}
    if sheet.is_text:
        cells |= {
            "values": _json,
            "version": _text(integer),
        }
    own = ("view", "version", "entity", "event_time", "created", "values")
    for line, record in sheet.records():
        found = {name: value for name, value in record.items() if value is not None}
        _convert(found, cells, sheet, line)
        if "values" not in found:
            values = {name: found.pop(name) for name in list(found) if name not in own}
            if sheet.is_text:
                _convert(values, cells_by_view.get(_view_key(catalog, found), {}), sheet, line)
            found["values"] = values
        yield found


def located(
    error: MalformedEvent | MalformedRequest, sheets: Mapping[str, Sheet | None]
) -> MalformedEvent | MalformedRequest:
    """The same error with its `file:line` where it names a number, of `events`, `points` or `rows`.

    The file is read once more up to that record, so no line had to be remembered.
    """
    numbered = _NUMBERED.fullmatch(error.place)
    sheet = sheets.get(numbered[1]) if numbered else None
    if numbered is None or sheet is None:
        return error
    place = f"{sheet.place_of(int(numbered[2]))} {numbered[3]}".rstrip()
    return type(error)(place, error.expected, error.got)


def _convert(found: Record, cells: Mapping[str, Cell], sheet: Sheet, line: int) -> None:
    for name, cell in cells.items():
        value = found.get(name)
        if value is not None:
            try:
                found[name] = cell(value)
            except Unfit as unfit:
                raise unfit.at(f"{sheet.place(line)} {name}") from None


def _time(zone: tzinfo | None) -> Cell:
    def time(value: object) -> object:
        if isinstance(value, str):
            return instant(value, zone)
        return in_zone(value, zone) if isinstance(value, datetime) else value

    return time


def _cells(dtypes: Mapping[str, DType], zone: tzinfo | None, *, every: bool) -> dict[str, Cell]:
    """Cells for texts of these dtypes; of a file that keeps types only the times."""
    return {
        name: _time(zone) if dtype.kind == "time" else _text(converter(dtype))
        for name, dtype in dtypes.items()
        if dtype.kind == "time" or (every and dtype.kind != "string")
    }


def _text(convert: Callable[[str], object]) -> Cell:
    return lambda value: convert(value) if isinstance(value, str) else value


_json = _text(read_json)


def _request_dtypes(catalog: Catalog) -> dict[str, DType]:
    found: dict[str, DType] = {}
    for key, view in catalog.views.items():
        if view.source == "request":
            for name, feature in view.features.items():
                found |= {f"{prefix}:{name}": feature.dtype for prefix in (key, view.name)}
    return found


def _row_cells(view: View, zone: tzinfo | None) -> dict[str, Cell]:
    """Cells of a server view's features; a time in a row is microseconds."""
    declared = {n: f.dtype for n, f in view.features.items() if isinstance(f, FieldFeature)}
    time = _time(zone)
    cells = _cells(declared, zone, every=True)
    for name, dtype in declared.items():
        if dtype.kind == "time":
            cells[name] = lambda value: instant_us(time(value))
    return cells


def _view_key(catalog: Catalog, found: Record) -> str:
    name, version = found.get("view"), found.get("version")
    try:
        return catalog.view(str(name) if version is None else f"{name}@{version}").key
    except MalformedRequest:
        return ""  # the replay says what is wrong with it
