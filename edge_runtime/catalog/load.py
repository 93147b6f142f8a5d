"""From a table (TOML or JSON, already parsed) to a `CatalogModel`: all of it, or every fault and nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_runtime.catalog.experiments import read_experiments
from edge_runtime.catalog.hidden import HiddenViews
from edge_runtime.catalog.limits import CatalogLimits
from edge_runtime.catalog.metric_source import MetricSurroundings
from edge_runtime.catalog.metrics import read_metrics
from edge_runtime.catalog.model import CatalogModel
from edge_runtime.catalog.people import (
    read_controller,
    read_entities,
    read_events,
    read_notices,
    read_purposes,
    read_signature,
)
from edge_runtime.catalog.references import MAX_VERSION
from edge_runtime.catalog.section import Findings, Section, check_name, shown
from edge_runtime.catalog.services import read_services
from edge_runtime.catalog.views import read_views
from edge_runtime.errors import CatalogError, Fault

SECTIONS: Final = ("purposes", "notices", "entities", "events", "views", "services", "metrics", "experiments")


def read_model(table: object, limits: CatalogLimits) -> CatalogModel:
    """The checked model of a parsed catalog.

    Raises:
        CatalogError: with every fault found, each at its place (`views.activity.features.views_5m.window`).
    """
    if not isinstance(table, Mapping):
        raise CatalogError([Fault("catalog", f"expected a table, got {shown(table)}")])
    findings = Findings(limits)
    top = Section(findings, "", dict(table))
    name, version = _heading(top)
    sections = {key: top.table(key) or Section(findings, key, {}) for key in SECTIONS}
    controller = read_controller(top.table("controller"))
    signature = read_signature(top.table("signature"))
    top.close()
    purposes = read_purposes(sections["purposes"])
    notices = read_notices(sections["notices"], purposes)
    entities = read_entities(sections["entities"])
    events = read_events(sections["events"], entities)
    views = read_views(sections["views"], purposes, entities, events)
    services = read_services(sections["services"], views, entities)
    hidden = HiddenViews(entities, events, views)
    around = MetricSurroundings(purposes, entities, views, hidden)
    metrics = read_metrics(sections["metrics"], around)
    made = read_experiments(sections["experiments"], around, metrics)
    if findings.faults:
        raise CatalogError(findings.faults)
    return CatalogModel(
        name=name,
        version=version,
        purposes=purposes,
        notices=notices,
        entities=entities,
        events={**events, **made.events},
        views={**views, **hidden.views, **made.views},
        services=services,
        metrics={**metrics, **made.metrics},
        experiments=made.experiments,
        controller=controller,
        signature=signature,
    )


def _heading(top: Section) -> tuple[str, int]:
    heading = top.table("catalog", required=True)
    if heading is None:
        return "", 0
    name = heading.text("name", required=True)
    version = heading.integer("version", 1, MAX_VERSION, required=True)
    heading.close()
    if name is None or not check_name(heading, "name", name, "a catalog name"):
        return "", 0
    return name, version or 0
