"""The canonical table of a model: JSON-able, every default written out, read back to an equal model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.exposure import is_exposure
from edge_runtime.catalog.feature_table import Table, encoding_table, feature_table, known, tests_table
from edge_runtime.catalog.hidden import hidden_table, is_hidden
from edge_runtime.catalog.model import (
    CatalogModel,
    Column,
    Controller,
    DotColumn,
    EventType,
    Experiment,
    LookupColumn,
    Metric,
    Notice,
    PlainColumn,
    Purpose,
    Signature,
    SumLookupColumn,
    View,
)


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
        "events": {k: _event(v) for k, v in model.events.items() if not is_exposure(k)},
        "views": {k: _view(v) for k, v in model.views.items() if not is_hidden(v)},
        "services": {k: {"features": [_column(c) for c in v.columns]} for k, v in model.services.items()},
        "metrics": {
            k: metric_table(v, model.views) for k, v in model.metrics.items() if v.experiment is None
        },
        **_experiments(model),
    }


def _experiments(model: CatalogModel) -> Table:
    """No entry where there are none: a catalog without experiments means what it always did."""
    made = {k: experiment_table(e, model.metrics[k], model.views) for k, e in model.experiments.items()}
    return {"experiments": made} if made else {}


def controller_table(c: Controller) -> Table:
    """The controller as the canonical table has it."""
    reached = [("name", c.name), ("contact", c.contact), ("dpo", c.dpo)]
    return known([*reached, ("address", c.address), ("jurisdiction", c.jurisdiction)])


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
    described = known(
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
    return known(
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
        features[name] = feature_table(feature)
    table["features"] = features
    return table


def _column(column: Column) -> Table:
    named = [("name", column.name), ("default", column.default)]
    match column:
        case PlainColumn():
            encoding = None if column.encoding is None else encoding_table(column.encoding)
            return known([*named, ("ref", str(column.ref)), ("encode", encoding)])
        case LookupColumn():
            return known([*named, ("lookup", str(column.ref)), ("key", column.key)])
        case SumLookupColumn():
            joined = [("sum_lookup", str(column.ref)), ("keys", str(column.keys)), ("key", column.key)]
            return known([*named, *joined])
        case DotColumn():
            return known([*named, ("dot", (str(column.left), str(column.right)))])
        case _:
            assert_never(column)


def experiment_table(e: Experiment, metric: Metric, views: Mapping[str, View]) -> Table:
    """An experiment as the canonical table has it; without `op`, its outcome counts from the exposure on."""
    outcome: object = str(e.outcome)
    if is_hidden(views[e.outcome.view]):
        table = hidden_table(views[e.outcome.view])
        outcome = {key: v for key, v in table.items() if key != "op" or not e.since_exposure}
    return {
        "purpose": e.purpose,
        "unit": e.unit,
        "arms": dict(e.arms),
        "control": e.control,
        "outcome": outcome,
        "epsilon": metric.epsilon,
        "min_subjects": metric.min_subjects,
        "window": write_duration(metric.window_us),
        "salt": e.salt,
        "traffic": e.traffic,
    }


def metric_table(m: Metric, views: Mapping[str, View]) -> Table:
    """A metric as the canonical table has it; a feature declared in place stands in place."""
    view = views[m.of.view]
    bounds = None if m.low is None or m.high is None else (m.low, m.high)
    # the categories of a status are no choice of the author
    values = None if m.read == "status" else m.values
    return known(
        [
            ("purpose", m.purpose),
            ("kind", m.kind),
            ("of", hidden_table(view) if is_hidden(view) else str(m.of)),
            ("read", m.read),
            ("epsilon", m.epsilon),
            ("min_subjects", m.min_subjects),
            ("window", write_duration(m.window_us)),
            ("mode", m.mode),
            ("mechanism", m.mechanism),
            ("values", values),
            ("edges", m.edges),
            ("bounds", bounds),
            ("absent", m.absent),
            ("where", tests_table(m.where) or None),
            ("quantiles", m.quantiles or None),
            ("leaves", m.leaves or None),
            ("reference", m.reference),
            ("drift_alarm", m.drift_alarm),
        ]
    )
