"""The canonical table of a model: JSON-able, every default written out, read back to an equal model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import (
    CatalogModel,
    Column,
    Controller,
    DerivedFeature,
    DotColumn,
    Encoding,
    EventType,
    Feature,
    FieldFeature,
    LookupColumn,
    Metric,
    Notice,
    PlainColumn,
    Purpose,
    SessionFeature,
    Signature,
    SumLookupColumn,
    View,
    Where,
)
from edge_runtime.catalog.operators import OPERATORS

Table = dict[str, object]


def render(model: CatalogModel) -> Table:
    """The whole catalog as nested dicts and lists of strings, numbers and booleans."""
    heading: Table = {"catalog": {"name": model.name, "version": model.version}}
    if model.controller is not None:
        heading["controller"] = controller_table(model.controller)
    return {
        **heading,
        "purposes": {k: purpose_table(v) for k, v in model.purposes.items()},
        "notices": {k: notice_table(v) for k, v in model.notices.items()},
        "entities": {k: {"personal": v.personal} for k, v in model.entities.items()},
        "events": {k: _event(v) for k, v in model.events.items()},
        "views": {k: _view(v) for k, v in model.views.items()},
        "services": {k: {"features": [_column(c) for c in v.columns]} for k, v in model.services.items()},
        "metrics": {k: metric_table(v) for k, v in model.metrics.items()},
    }


def _known(pairs: Iterable[tuple[str, object]]) -> Table:
    """The pairs whose value is known: absent and None mean the same."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in pairs if value is not None
    }


def controller_table(c: Controller) -> Table:
    """The controller as the canonical table has it."""
    known = [("name", c.name), ("contact", c.contact), ("dpo", c.dpo)]
    return _known([*known, ("address", c.address), ("jurisdiction", c.jurisdiction)])


def signature_table(s: Signature) -> Table:
    """The signature as the canonical table has it; bytes as hex."""
    return {"key": s.key.hex(), "signed_at": s.signed_us, "signature": s.signature.hex()}


def purpose_table(p: Purpose) -> Table:
    """A purpose as the canonical table has it."""
    lists = [
        ("data_categories", p.data_categories),
        ("recipients", p.recipients),
        ("transfers", p.transfers),
        ("uses", p.uses),
    ]
    described = _known(
        [("description", p.description), ("dpv", p.dpv), *((key, items or None) for key, items in lists)]
    )
    return {
        "title": p.title,
        "legal_basis": p.legal_basis,
        "terminal_access": p.terminal_access,
        "lease": write_duration(p.lease_us),
        "retention": "session" if p.retention_us is None else write_duration(p.retention_us),
        "keep_events": write_duration(p.keep_events_us),
        **described,
    }


def notice_table(n: Notice) -> Table:
    """A notice as the canonical table has it."""
    return _known(
        [
            ("purposes", n.purposes),
            ("language", n.language),
            ("content_hash", n.content_hash),
            ("title", n.title),
            ("url", n.url),
            ("effective", n.effective),
        ]
    )


def _event(e: EventType) -> Table:
    return {"entities": list(e.entities), "properties": {k: str(v) for k, v in e.properties.items()}}


def _view(view: View) -> Table:
    table: Table = {"source": view.source, "owner": view.owner, "tier": view.tier}
    if view.source != "request":
        table |= {"entity": list(view.entity), "ttl": write_duration(view.ttl_us)}
    if view.purpose is not None:
        table["purpose"] = view.purpose
    if view.source == "session":
        table["allowed_lateness"] = write_duration(view.allowed_lateness_us)
        table["dedup_horizon"] = write_duration(view.dedup_horizon_us)
    features: Table = {}
    for name, feature in view.features.items():
        features[name] = _feature(feature)
    table["features"] = features
    return table


def _feature(f: Feature) -> Table:
    match f:
        case SessionFeature():
            return _session(f)
        case DerivedFeature():
            return _derived(f)
        case FieldFeature():
            return _field(f)
        case _:
            assert_never(f)


def _derived(f: DerivedFeature) -> Table:
    arguments = {} if f.encoding is None else encoding_table(f.encoding)
    arguments.pop("kind", None)
    return {"op": f.op} | _known([("of", f.of), ("default", f.default)]) | arguments


def _field(f: FieldFeature) -> Table:
    return _known([("dtype", str(f.dtype)), ("values", f.values), ("range", f.range), ("default", f.default)])


def _session(f: SessionFeature) -> Table:
    spec = OPERATORS[f.op]
    durations = (("window", f.window_us), ("gap", f.gap_us), ("half_life", f.half_life_us))
    table = _known(
        [
            ("op", f.op),
            ("event", f.events),
            ("value", f.value),
            ("by", f.by),
            *((key, None if us is None else write_duration(us)) for key, us in durations),
            ("n", f.n),
            ("cap", f.cap if "cap" in spec.optional else None),
            ("max_keys", f.max_keys if "max_keys" in spec.optional else None),
            ("embedding", f.embedding),
            ("default", f.default),
        ]
    )
    if f.where:
        table["where"] = _where(f.where)
    return table


def _where(conditions: tuple[Where, ...]) -> Table:
    tests: dict[str, Table] = {}
    for c in conditions:
        operand = list(c.operand) if isinstance(c.operand, tuple) else c.operand
        tests.setdefault(c.property, {})[c.test] = operand
    return dict(tests)


def _column(column: Column) -> Table:
    named = [("name", column.name), ("default", column.default)]
    match column:
        case PlainColumn():
            encoding = None if column.encoding is None else encoding_table(column.encoding)
            return _known([*named, ("ref", str(column.ref)), ("encode", encoding)])
        case LookupColumn():
            return _known([*named, ("lookup", str(column.ref)), ("key", column.key)])
        case SumLookupColumn():
            joined = [("sum_lookup", str(column.ref)), ("keys", str(column.keys)), ("key", column.key)]
            return _known([*named, *joined])
        case DotColumn():
            return _known([*named, ("dot", (str(column.left), str(column.right)))])
        case _:
            assert_never(column)


def encoding_table(e: Encoding) -> Table:
    """`kind` and the arguments that it takes."""
    match e.kind:
        case "hash":
            return {"kind": e.kind, "buckets": e.buckets}
        case "zscore":
            return {"kind": e.kind, "mean": e.mean, "std": e.std}
        case "clip":
            return _known([("kind", e.kind), ("low", e.low), ("high", e.high)])
        case "bucketize":
            return {"kind": e.kind, "edges": list(e.edges)}
        case _:
            return {"kind": e.kind}


def metric_table(m: Metric) -> Table:
    """A metric as the canonical table has it."""
    bounds = None if m.low is None or m.high is None else (m.low, m.high)
    return _known(
        [
            ("purpose", m.purpose),
            ("kind", m.kind),
            ("of", str(m.of)),
            ("epsilon", m.epsilon),
            ("min_subjects", m.min_subjects),
            ("window", write_duration(m.window_us)),
            ("values", m.values),
            ("edges", m.edges),
            ("bounds", bounds),
        ]
    )
