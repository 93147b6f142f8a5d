"""What an experiment declares by itself: the event of an exposure, and the view that remembers it.

The event is `exposure.NAME`; `Runtime.assign` records it, once for a subject. The view, `exposures.NAME`,
is a hidden session view of the experiment's purpose. So an exposure is journalled, exported, replayed and
erased as every other event is. Both names hold a dot, which no declared name may.
"""

from __future__ import annotations

from typing import Final

from edge_runtime.catalog.hidden import hidden_view
from edge_runtime.catalog.model import (
    DType,
    EventType,
    Experiment,
    Feature,
    Purpose,
    Ref,
    SessionFeature,
    View,
    Where,
)

ARM: Final = "arm"
"""Feature: the arm that the subject was first exposed to; NULL before."""
EXPOSED_S: Final = "exposed_s"
"""Feature: seconds since that; NULL before."""
ASSIGNMENT: Final = "assignment"
"""Property: by which salt, arms and weights the arm was chosen; exposures under others do not count."""
_EVENT: Final = "exposure."
_VIEW: Final = "exposures."
_TEXT: Final = DType("string")


def is_exposure(event_type: str) -> bool:
    """Whether an event type is one that an experiment declares by itself."""
    return event_type.startswith(_EVENT)


def begins_with_exposure(view: View, feature: str) -> bool:
    """Whether a feature has nothing to miss from before the catalog named it, so that it never warms.

    There was no exposure before; and what an outcome counts from the exposure on is whole if its events are
    known since then (`complete_from`), which is for who counts it to judge.
    """
    if view.name.startswith(_VIEW):
        return True
    declared = view.features[feature]
    since = isinstance(declared, SessionFeature) and declared.op == "since_last"
    return since and view.name.startswith("experiments.")


def exposure_event(experiment: Experiment) -> EventType:
    """The event type of its exposures."""
    return EventType(experiment.event, (experiment.unit,), {ARM: _TEXT, ASSIGNMENT: _TEXT})


def exposed_s(experiment: Experiment) -> Ref:
    """The feature that holds the seconds since the exposure."""
    return Ref(experiment.exposure.view, EXPOSED_S)


def exposure_view(experiment: Experiment, purpose: Purpose) -> View:
    """The view that remembers a subject's exposure for as long as the purpose keeps anything."""
    where = (Where(ASSIGNMENT, "eq", experiment.assignment),)
    events = (experiment.event,)
    name, _, version = experiment.exposure.view.partition("@")
    features: dict[str, Feature] = {
        ARM: SessionFeature(ARM, "first", events, value=ARM, where=where, dtype=_TEXT),
        EXPOSED_S: SessionFeature(EXPOSED_S, "since_first", events, where=where),
    }
    return hidden_view(name, int(version), (experiment.unit,), purpose, features)
