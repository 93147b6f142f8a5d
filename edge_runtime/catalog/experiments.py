"""`[experiments.*]`: who gets which arm, what counts as a success, and at what price it may be asked.

An experiment compiles to what the rest of the runtime knows already: the event and view of its exposures
(`exposure.py`), a hidden view for an outcome declared in place, and a histogram metric of the same name whose
categories are `unexposed`, then `ARM/no` and `ARM/yes` for each arm. Tickets, budget, minimum and releases
hold for that metric as for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from edge_runtime.catalog.exposure import exposure_event, exposure_view
from edge_runtime.catalog.metric_source import MetricSurroundings
from edge_runtime.catalog.metrics import DEFAULT_WINDOW_US, read_epsilon, read_purpose
from edge_runtime.catalog.model import EventType, Experiment, Feature, Metric, Purpose, Ref, View
from edge_runtime.catalog.references import resolve
from edge_runtime.catalog.section import Section, check_name, shown

ARMS_LIMIT: Final = 16
WEIGHT_LIMIT: Final = 1_000_000
SALT_BYTES: Final = 64
"""As long as a key of BLAKE2b may be."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What all experiments of a catalog make."""

    experiments: dict[str, Experiment] = field(default_factory=dict)
    events: dict[str, EventType] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)


def read_experiments(section: Section, around: MetricSurroundings, metrics: Mapping[str, Metric]) -> Compiled:
    """Every experiment by name, with what each makes. Adds to `around.hidden`."""
    made = Compiled()
    for name, body in section.tables():
        named = check_name(section, name, name, "an experiment name")
        if name in metrics:
            section.fault(name, f"a metric has this name: the metric of the experiment is to be {name}")
        found = _experiment(name, body, around)
        body.close()
        if found is None or not named:
            continue
        experiment, metric = found
        view = exposure_view(experiment, around.purposes[experiment.purpose])
        made.experiments[name], made.metrics[name] = experiment, metric
        made.events[experiment.event], made.views[view.key] = exposure_event(experiment), view
    return made


def _experiment(name: str, body: Section, around: MetricSurroundings) -> tuple[Experiment, Metric] | None:
    purpose, epsilon = read_purpose(body, around.purposes), read_epsilon(body)
    minimum = body.integer("min_subjects", 2, 2**31, required=True)
    window_us = body.positive_duration("window")
    unit, arms = _unit(body, around), _arms(body)
    salt, traffic = _salt(body, name), _traffic(body)
    if purpose is not None and not purpose.on_disk:
        body.fault("purpose", f"expected one that may rest on disk: {purpose.name} is kept in memory only")
    if unit is None:
        body.has("outcome")
        return None
    outcome = _outcome(name, body, unit, purpose, around)
    if outcome is None or purpose is None or arms is None:
        return None
    ref, since_exposure = outcome
    experiment = Experiment(name, purpose.name, unit, arms, ref, since_exposure, salt, traffic)
    metric = Metric(
        name=name,
        purpose=purpose.name,
        kind="histogram",
        of=ref,
        epsilon=epsilon or 0.0,
        min_subjects=minimum or 0,
        window_us=DEFAULT_WINDOW_US if window_us is None else window_us,
        values=experiment.cells,
        experiment=name,
        assignment=experiment.assignment,
    )
    return experiment, metric


def _unit(body: Section, around: MetricSurroundings) -> str | None:
    personal = [e.name for e in around.entities.values() if e.personal]
    if not body.has("unit") and len(personal) == 1:
        return personal[0]
    unit = body.text("unit", required=True)
    if unit is not None and unit not in personal:
        body.fault("unit", f"expected a personal entity ({' '.join(personal)}), got {shown(unit)}")
        return None
    return unit


def _arms(body: Section) -> tuple[tuple[str, int], ...] | None:
    """The arms with their weights: the control (`control`, else the first one), then the others by name.

    So nothing but the control depends on the order of a table, which not every format keeps.
    """
    table, control = body.table("arms", required=True), body.text("control")
    if table is None:
        return None
    found: dict[str, int] = {}
    declared = list(table.entries())
    for name, _ in declared:
        weight = table.integer(name, 1, WEIGHT_LIMIT)
        if check_name(table, name, name, "an arm name") and weight is not None:
            found[name] = weight
    if not 2 <= len(declared) <= ARMS_LIMIT:
        body.fault("arms", f"expected 2 to {ARMS_LIMIT} arms, got {len(declared)}")
        return None
    if control is not None and control not in found:
        body.fault("control", f"expected one of the arms ({' '.join(found)}), got {shown(control)}")
        return None
    if len(found) < len(declared):
        return None
    first = control or next(iter(found))
    return (first, found.pop(first)), *sorted(found.items())


def _salt(body: Section, name: str) -> str:
    salt = body.text("salt")
    if salt is not None and not 1 <= len(salt.encode()) <= SALT_BYTES:
        body.fault("salt", f"expected 1 to {SALT_BYTES} bytes of UTF-8, got {len(salt.encode())}")
        return name
    return name if salt is None else salt


def _traffic(body: Section) -> float:
    traffic = body.number("traffic")
    if traffic is not None and not 0 < traffic <= 1:
        body.fault("traffic", f"expected more than 0 and at most 1, got {traffic:g}")
    return 1.0 if traffic is None else traffic


def _outcome(
    name: str, body: Section, unit: str, purpose: Purpose | None, around: MetricSurroundings
) -> tuple[Ref, bool] | None:
    """The feature that tells a success, and whether it counts from the exposure on."""
    if isinstance(body.raw("outcome"), dict):
        return _in_place(name, body, unit, purpose, around)
    text = body.text("outcome", required=True)
    ref = None if text is None else resolve(body, "outcome", text, around.views)
    if ref is None:
        return None
    view = around.views[ref.view]
    if view.entity != (unit,):
        body.fault("outcome", f"expected a feature of {unit} alone, so that each has one value: {ref} is not")
        return None
    return (ref, False) if _tells(body, view.features[ref.feature]) else None


def _in_place(
    name: str, body: Section, unit: str, purpose: Purpose | None, around: MetricSurroundings
) -> tuple[Ref, bool] | None:
    """Without `op`: one such event at or after the exposure."""
    given = body.raw("outcome")
    assert isinstance(given, dict)
    if given.get("entity", unit) != unit:
        body.fault("outcome.entity", f"expected the unit {unit}, got {shown(given['entity'])}")
        return None
    if given.get("op") in ("since_last", "since_first"):
        reason = "expected no op, which counts from the exposure on, or one whose value says yes or no"
        body.fault("outcome.op", reason)
        return None
    table: dict[object, object] = {"op": "since_last", "entity": unit, **given}
    ref = around.hidden.add(f"experiments.{name}", Section(body.findings, body.at("outcome"), table), purpose)
    if ref is None or not _tells(body, around.hidden.views[ref.view].features[ref.feature]):
        return None
    return ref, "op" not in given


def _tells(body: Section, feature: Feature) -> bool:
    """Whether each value is a success or not: one number or a bool; a default would be nobody's."""
    if not feature.dtype.numeric:
        body.fault("outcome", f"expected a number or a bool, {feature.name} is {feature.dtype}")
        return False
    if feature.default is not None:
        body.fault("outcome", f"expected a feature without a default: that of {feature.name} is no outcome")
        return False
    return True
