"""How whole and how fresh each view is across the fleet, from what was released. Pure.

Completeness is a histogram of statuses (`read = "status"`): whose value is PRESENT, whose has not come, whose
has expired. Freshness is the age of what is there (`read = "age"`). Both are metrics like any other, with a
budget and a minimum; so health is known only of subjects with permission, and as of the last round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from edge_runtime.aggregates.mechanisms import definition
from edge_runtime.catalog.hidden import is_hidden
from edge_runtime.catalog.model import CatalogModel, Metric, MetricKind, View
from sync_server.aggregates.release import Figure, Release

PRESENT: Final = "PRESENT"


class Measure(msgspec.Struct, kw_only=True):
    """What the newest release of one metric says of a view."""

    metric: str
    feature: str
    kind: MetricKind
    state: Literal["released", "withheld", "not_asked"]
    """`not_asked`: no round of the metric as it is declared now was released yet."""
    reason: str | None = None
    """Why there is no number; null when there is one."""
    round: str | None = None
    """Hex."""
    closed_at_us: int | None = None
    n: int | None = None
    """Subjects who answered."""
    figures: dict[str, Figure] = {}
    """Completeness: status -> share. Freshness: `0.5` -> seconds, the age that half of the subjects stay
    under; or `mean` -> seconds; or bucket -> share."""


class ViewHealth(msgspec.Struct):
    """What is known of one view."""

    view: str
    """`name@version`."""
    purpose: str | None
    present: Figure | None
    """The share of PRESENT in the newest completeness that was released."""
    completeness: list[Measure]
    """Empty: no metric with `read = "status"` is declared for it."""
    freshness: list[Measure]
    """Empty: no metric with `read = "age"` is declared for it."""


class Health(msgspec.Struct):
    """Every view of the active catalog that has subjects."""

    catalog: str
    """`name@version`."""
    views: list[ViewHealth]
    without_subjects: list[str]
    """Views that are about nobody: no metric can ask for them."""


@dataclass(frozen=True, slots=True)
class Published:
    """A release, and what its round asked."""

    definition: bytes
    release: Release


def health(model: CatalogModel, newest: Mapping[str, Published]) -> Health:
    """The health of every view of `model`.

    Args:
        newest: metric -> its newest release, where there is one; see `watched`.
    """
    views = [v for v in model.views.values() if v.source != "request"]
    found = [_view(view, model, newest) for view in views if _has_subject(view, model)]
    return Health(
        f"{model.name}@{model.version}",
        # a metric's own view is watched only where somebody asks for that
        [h for h in found if not is_hidden(model.views[h.view]) or h.completeness or h.freshness],
        [view.key for view in views if not _has_subject(view, model)],
    )


def watched(model: CatalogModel) -> list[str]:
    """The metrics whose newest releases health is made of."""
    return [metric.name for metric in model.metrics.values() if metric.read != "value"]


def _has_subject(view: View, model: CatalogModel) -> bool:
    return len(view.entity) == 1 and model.entities[view.entity[0]].personal


def _view(view: View, model: CatalogModel, newest: Mapping[str, Published]) -> ViewHealth:
    mine = [m for m in model.metrics.values() if m.of.view == view.key and m.read != "value"]
    told = {m.name: _measure(m, newest.get(m.name)) for m in mine}
    completeness = [told[m.name] for m in mine if m.read == "status"]
    released = [one for one in completeness if one.state == "released"]
    last = max(released, key=lambda one: one.closed_at_us or 0, default=None)
    return ViewHealth(
        view=view.key,
        purpose=view.purpose,
        present=None if last is None else last.figures.get(PRESENT),
        completeness=completeness,
        freshness=[told[m.name] for m in mine if m.read == "age"],
    )


def _measure(metric: Metric, published: Published | None) -> Measure:
    bare = Measure(metric=metric.name, feature=metric.of.feature, kind=metric.kind, state="not_asked")
    if published is None:
        return msgspec.structs.replace(bare, reason="no round of it was released yet")
    if published.definition != definition(metric):
        return msgspec.structs.replace(bare, reason="its last round asked for another definition")
    release = published.release
    intervals = release.ci95 or {}
    return msgspec.structs.replace(
        bare,
        state=release.status,
        reason=release.reason,
        round=release.round,
        closed_at_us=release.closed_at_us,
        n=release.n,
        figures={name: Figure(e, intervals[name]) for name, e in (release.estimate or {}).items()},
    )
