"""What a metric reads: a declared feature or one declared in place; its value, its status or its age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from edge_runtime.catalog.hidden import HiddenViews
from edge_runtime.catalog.model import (
    DType,
    EntityType,
    FieldFeature,
    MetricRead,
    Purpose,
    Ref,
    Scalar,
    View,
)
from edge_runtime.catalog.references import resolve
from edge_runtime.catalog.section import Section, shown
from edge_runtime.catalog.statuses import COUNTED

READS: Final = ("value", "status", "age")
_KINDS: Final = {"status": ("histogram",), "age": ("histogram", "mean", "quantile")}
"""What may be asked of what is not a value; a value is for every kind."""


@dataclass(frozen=True, slots=True)
class MetricSource:
    """What is read of each subject, and what is known of it beforehand."""

    ref: Ref
    read: MetricRead
    name: str
    """As faults say it."""
    dtype: DType
    values: tuple[Scalar, ...] | None = None
    range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class MetricSurroundings:
    """What metrics are judged against: the rest of the catalog."""

    purposes: Mapping[str, Purpose]
    entities: Mapping[str, EntityType]
    views: Mapping[str, View]
    """The declared ones: nobody names a hidden view."""
    hidden: HiddenViews


def read_source(
    owner: str, body: Section, kind: str | None, purpose: Purpose | None, around: MetricSurroundings
) -> MetricSource | None:
    """`of` and `read`; None with faults noted."""
    read = cast(MetricRead, body.text("read", choices=READS) or "value")
    if kind is not None and kind not in _KINDS.get(read, (kind,)):
        body.fault("read", f'expected read = "value" for {kind}: {read} is for {" ".join(_KINDS[read])}')
    ref = _ref(owner, body, purpose, around)
    if ref is None:
        return None
    view = around.views.get(ref.view) or around.hidden.views[ref.view]
    feature = view.features[ref.feature]
    match read:
        case "status":
            return MetricSource(ref, read, f"the status of {ref.feature}", DType("string"), COUNTED)
        case "age":
            return MetricSource(ref, read, f"the age of {ref.feature}", DType("float64"))
    if isinstance(feature, FieldFeature):
        return MetricSource(ref, read, feature.name, feature.dtype, feature.values, feature.range)
    return MetricSource(ref, read, feature.name, feature.dtype)


def _ref(owner: str, body: Section, purpose: Purpose | None, around: MetricSurroundings) -> Ref | None:
    """The feature: of a view whose key is one personal entity, so that a subject has one value."""
    given = body.raw("of")
    if isinstance(given, dict):
        table = body.table("of")
        return None if table is None else around.hidden.add(owner, table, purpose)
    if body.has("of") and not isinstance(given, str):
        body.fault("of", f"expected view:feature or a session feature in place, got {shown(given)}")
        return None
    text = body.text("of", required=True)
    ref = None if text is None else resolve(body, "of", text, around.views)
    if ref is None:
        return None
    view = around.views[ref.view]
    if len(view.entity) != 1 or not around.entities[view.entity[0]].personal:
        body.fault(
            "of", f"expected a feature of one personal entity, so that each subject has one: {ref} is not"
        )
        return None
    return ref
