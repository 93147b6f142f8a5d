"""One feature's value with what it is: the answer of `rt.read`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_runtime.catalog.model import View
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.cells import cause, settle
from edge_runtime.serving.groups import STALE, Group
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues, Source, value_at
from edge_runtime.serving.request import check_id
from edge_runtime.serving.status import Status


@dataclass(frozen=True, slots=True)
class FeatureValue:
    """A value that says what it is. Times are microseconds since 1970 UTC."""

    value: object
    """The value under its dtype; the declared default or None when there is no usable one."""
    status: Status
    event_time: int | None = None
    """When it was true: of the row, or of the newest event in it."""
    created: int | None = None
    """When the server made the row; None for session and request features."""
    complete_from: int | None = None
    """Since when every event is counted; None when the whole history is."""
    reason: str = ""
    """Empty for PRESENT, else the cause, also behind a default."""


def read_feature(
    source: Source,
    view: View,
    feature: str,
    ids: Mapping[str, str],
    t_us: int,
    retention_us: int | None = None,
) -> FeatureValue:
    """The feature of a server or session view for bare ids by entity type, at `t_us`.

    `retention_us` is that of the view's purpose: after a longer silence nothing is left to expire.

    Raises:
        MalformedRequest: a request view (its values are given at the read), an entity type not given, or an
            id that is none.
    """
    if view.source == "request":
        raise MalformedRequest("ref", "a server or session feature", "a request feature")
    for kind, bare in ids.items():
        check_id(kind, bare)
    return read_group(source, Group(view, retention_us), view, feature, ids, t_us)


def read_group(
    source: Source, group: Group, view: View, feature: str, ids: Mapping[str, str], t_us: int
) -> FeatureValue:
    """`read_feature` for callers that keep the view's group.

    Raises:
        MalformedRequest: an entity type not given.
    """
    entity = group.entity(ids)
    if isinstance(entity, Missing):
        raise MalformedRequest("entity", " ".join(view.entity), "not all of them")
    if view.source == "session":
        return _session(view, group, feature, source.session_values(view.key, entity, t_us), t_us)
    return _server(view, group, feature, source.server_row(view.key, entity), t_us)


def _session(view: View, group: Group, feature: str, found: SessionValues, t_us: int) -> FeatureValue:
    newest_us, complete_us = found.event_time_us, found.incomplete.get(feature)
    if found.status:
        return _settled(view, feature, Missing(found.status, found.reason), newest_us, None, complete_us)
    if newest_us is not None and group.stale(newest_us, t_us):
        return _settled(view, feature, STALE, newest_us, None, complete_us)
    value = value_at(found.values, group.positions[feature])
    if isinstance(value, Missing):
        return _settled(view, feature, value, newest_us, None, complete_us)
    return FeatureValue(value, Status.PRESENT, newest_us, None, complete_us)


def _server(view: View, group: Group, feature: str, row: ServerRow | Missing, t_us: int) -> FeatureValue:
    if isinstance(row, Missing):
        return _settled(view, feature, row)
    if group.stale(row.event_time_us, t_us):
        return _settled(view, feature, STALE, row.event_time_us, row.created_us)
    value = value_at(row.in_order(tuple(view.features)), group.positions[feature])
    if isinstance(value, Missing):
        return _settled(view, feature, value, row.event_time_us, row.created_us)
    return FeatureValue(value, Status.PRESENT, row.event_time_us, row.created_us)


def _settled(
    view: View,
    feature: str,
    miss: Missing,
    event_time: int | None = None,
    created: int | None = None,
    complete_from: int | None = None,
) -> FeatureValue:
    default = view.features[feature].default
    status = settle(miss.status, default is not None)
    return FeatureValue(default, status, event_time, created, complete_from, cause(miss.status, miss.reason))
