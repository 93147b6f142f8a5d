"""`[views.*]`: what every view declares, and the features of server and request views."""

from __future__ import annotations

from typing import Final, cast

from edge_runtime.catalog.defaults import read_default
from edge_runtime.catalog.derived import check_derived
from edge_runtime.catalog.dtype import EXPECTED, fits, parse_dtype
from edge_runtime.catalog.duration import UNIT_US, write_duration
from edge_runtime.catalog.inputs import Surroundings
from edge_runtime.catalog.model import (
    DType,
    EntityType,
    EventType,
    Feature,
    FieldFeature,
    Purpose,
    Scalar,
    Source,
    Tier,
    View,
)
from edge_runtime.catalog.people import entity_names
from edge_runtime.catalog.references import declared_key
from edge_runtime.catalog.section import Section, check_name, shown
from edge_runtime.catalog.session_features import read_session_feature

DEFAULT_LATENESS_US: Final = 60 * UNIT_US["s"]
DEDUP_MARGIN_US: Final = 60 * UNIT_US["s"]
_SESSION_ONLY: Final = ("allowed_lateness", "dedup_horizon")


def read_views(
    section: Section,
    purposes: dict[str, Purpose],
    entities: dict[str, EntityType],
    events: dict[str, EventType],
) -> dict[str, View]:
    """Every view by `name@version`, in the order declared.

    Session views are read last, for they name embeddings.
    """
    bodies = list(section.tables())
    order: list[str] = []
    views: dict[str, View] = {}
    for wanted in (False, True):
        given = dict(views)
        for key, body in bodies:
            if (body.raw("source") == "session") is not wanted:
                continue
            view = _view(section, key, body, purposes, entities, events, given)
            if view is not None and view.key in views:
                section.fault(key, f"{view.key} is declared twice")
            elif view is not None:
                views[view.key] = view
    for key, body in bodies:
        name, _, version = key.partition("@")
        declared = version or str(body.raw("version") or 1)
        order.append(f"{name}@{declared}")
    return {key: views[key] for key in order if key in views}


def _view(
    section: Section,
    key: str,
    body: Section,
    purposes: dict[str, Purpose],
    entities: dict[str, EntityType],
    events: dict[str, EventType],
    given: dict[str, View],
) -> View | None:
    named = declared_key(section, key, body, "a view name")
    source = cast(
        "Source | None", body.text("source", required=True, choices=("server", "session", "request"))
    )
    owner, tier = body.text("owner"), body.text("tier", choices=("hot", "warm", "cold"))
    if source is None or named is None:
        return None
    entity = _entity(body, source, entities)
    purpose = _purpose(body, source, entity, purposes, entities)
    ttl_us = _ttl(body, source)
    lateness_us, horizon_us = _lateness(body, source, purpose)
    retention_us = purpose.retention_us if purpose is not None else None
    around = Surroundings(entity, retention_us, entities, events, given)
    features = _features(body, source, around)
    body.close()
    return View(
        name=named[0],
        version=named[1],
        entity=entity,
        source=source,
        purpose=None if purpose is None else purpose.name,
        ttl_us=ttl_us,
        owner=owner or "",
        tier=cast(Tier, tier or "hot"),
        allowed_lateness_us=lateness_us,
        dedup_horizon_us=horizon_us,
        features=features,
    )


def _entity(body: Section, source: Source, entities: dict[str, EntityType]) -> tuple[str, ...]:
    if source == "request":
        body.forbid("entity", "a request view has no entity: its values are given at the read")
        return ()
    key = entity_names(body, "entity", entities)
    if sum(entities[name].personal for name in key) > 1:
        body.fault("entity", "expected at most one personal entity in a key: a row has one subject")
    return key


def _purpose(
    body: Section,
    source: Source,
    entity: tuple[str, ...],
    purposes: dict[str, Purpose],
    entities: dict[str, EntityType],
) -> Purpose | None:
    name = body.text("purpose")
    personal = [e for e in entity if entities[e].personal]
    if not personal:
        if name is not None:
            body.fault("purpose", "expected none: a view without a personal entity has no subject")
        return None
    if not body.has("purpose"):
        body.fault("purpose", f"missing: {personal[0]} is personal, every personal view belongs to a purpose")
        return None
    if name is not None and name not in purposes:
        body.fault("purpose", f"expected a declared purpose ({' '.join(purposes)}), got {shown(name)}")
    return purposes.get(name) if name is not None else None


def _ttl(body: Section, source: Source) -> int:
    if source == "request":
        body.forbid("ttl", "a request view has no ttl: its values are given at the read")
        return 0
    return body.duration("ttl", required=True) or 0


def _lateness(body: Section, source: Source, purpose: Purpose | None) -> tuple[int, int]:
    if source != "session":
        for key in _SESSION_ONLY:
            body.forbid(key, f"only a session view has {key}")
        return 0, 0
    lateness_us = body.duration("allowed_lateness")
    lateness_us = DEFAULT_LATENESS_US if lateness_us is None else lateness_us
    if purpose is not None and purpose.retention_us and lateness_us > purpose.retention_us:
        body.fault(
            "allowed_lateness",
            f"expected at most the purpose's retention of {write_duration(purpose.retention_us)}, "
            f"got {write_duration(lateness_us)}",
        )
    horizon_us = body.duration("dedup_horizon")
    if horizon_us is not None and horizon_us < lateness_us:
        body.fault(
            "dedup_horizon",
            f"expected at least the allowed_lateness of {write_duration(lateness_us)}: "
            "a late duplicate would count twice",
        )
    return lateness_us, lateness_us + DEDUP_MARGIN_US if horizon_us is None else horizon_us


def _features(body: Section, source: Source, around: Surroundings) -> dict[str, Feature]:
    table = body.table("features", required=True)
    if table is None:
        return {}
    features: dict[str, Feature] = {}
    for name, declared in table.tables():
        if not check_name(table, name, name, "a feature name"):
            continue
        feature = (
            read_session_feature(name, declared, around) if source == "session" else _field(name, declared)
        )
        if feature is not None:
            features[name] = feature
    check_derived(table, [name for name, _ in table.entries()], features)
    if not list(table.entries()):
        body.fault("features", "expected at least one feature, got none")
    return features


def _field(name: str, body: Section) -> FieldFeature | None:
    text = body.text("dtype", required=True)
    dtype = None if text is None else parse_dtype(text, body.findings.limits.vector_size)
    if text is not None and dtype is None:
        body.fault("dtype", f"expected {EXPECTED}, got {shown(text)}")
    for key in ("values", "range", "default"):
        body.has(key)
    if dtype is None:
        body.close()
        return None
    values, bounds = _values(body, dtype), _range(body, dtype)
    feature = FieldFeature(name, dtype, values, bounds, _default(body, dtype, values, bounds))
    body.close()
    return feature


def _values(body: Section, dtype: DType) -> tuple[Scalar, ...] | None:
    items = body.items("values")
    if items is None:
        return None
    if dtype.kind not in ("string", "int64", "bool"):
        body.fault("values", f"expected no values: {dtype} has no categories (string, int64 and bool have)")
        return None
    if not items or not all(fits(dtype, item) for item in items) or len(set(items)) != len(items):
        body.fault("values", f"expected distinct {dtype} values, at least one")
        return None
    return cast(tuple[Scalar, ...], items)


def _range(body: Section, dtype: DType) -> tuple[float, float] | None:
    bounds = body.numbers("range")
    if bounds is None:
        return None
    scalar = DType(dtype.kind) if dtype.size is not None else dtype
    if not scalar.numeric or dtype.kind == "bool":
        body.fault("range", f"expected no range: {dtype} is not a number")
        return None
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        body.fault("range", f"expected [low, high] with low <= high, got {shown(body.raw('range'))}")
        return None
    return bounds[0], bounds[1]


def _default(
    body: Section,
    dtype: DType,
    values: tuple[Scalar, ...] | None,
    bounds: tuple[float, float] | None,
) -> Scalar | None:
    value = read_default(body, dtype)
    if value is None:
        return None
    if values is not None and value not in values:
        body.fault("default", f"expected one of the values, got {shown(value)}")
    if bounds is not None and not bounds[0] <= cast(float, value) <= bounds[1]:
        body.fault("default", f"expected a number within the range, got {shown(value)}")
    return value
