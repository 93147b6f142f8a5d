"""Hidden views: session features that a metric or an experiment declares for itself, in place.

`of = {entity = "user", event = "buy", op = "count"}` is a session view of its own, under the metric's own
purpose: its events are journalled and counted under that purpose's permission alone, and go when it ends.
No other view is needed, and no other purpose is asked. It stands among the catalog's views like any other, so
that states, journal, replay, export and evolution treat it as one.

Its name holds a dot (`metrics.basket`), which no declared name may: it collides with none. Its version is a
hash of what it counts, for whom and under which purpose: a changed definition is another view, whose state is
made anew from the journal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from edge_runtime.catalog.feature_table import Table, session_table
from edge_runtime.catalog.inputs import Surroundings
from edge_runtime.catalog.model import EntityType, EventType, Feature, Purpose, Ref, SessionFeature, View
from edge_runtime.catalog.operators import OPERATORS
from edge_runtime.catalog.people import entity_names
from edge_runtime.catalog.references import MAX_VERSION
from edge_runtime.catalog.section import Section
from edge_runtime.catalog.session_features import read_session_feature
from edge_runtime.catalog.views import DEDUP_MARGIN_US, DEFAULT_LATENESS_US

FEATURE: Final = "value"
"""The name of a hidden view's only feature."""
_MARK: Final = "."


def is_hidden(view: View) -> bool:
    """Whether a metric or an experiment declared the view in place; then `render` writes it there."""
    return _MARK in view.name


def hidden_table(view: View) -> Table:
    """What was written in place: the entity and the feature's body, every default written out."""
    feature = view.features[FEATURE]
    assert isinstance(feature, SessionFeature)
    return {"entity": view.entity[0], **session_table(feature)}


class HiddenViews:
    """Collects the hidden views of a catalog while its metrics and experiments are read."""

    def __init__(
        self,
        entities: Mapping[str, EntityType],
        events: Mapping[str, EventType],
        views: Mapping[str, View],
    ) -> None:
        self._entities, self._events, self._declared = dict(entities), dict(events), dict(views)
        self.views: dict[str, View] = {}
        """Those found so far, by `name@version`: they go behind the declared ones."""

    def add(self, owner: str, body: Section, purpose: Purpose | None) -> Ref | None:
        """The feature that `body` declares, its view added; None, with faults noted at their places.

        Args:
            owner: section and name of what declares it: `metrics.basket`.
            body: the table in place: `entity`, which is personal, and the body of a session feature.
            purpose: the declaring metric's own; None when that was a fault.
        """
        entity = self._entity(body)
        body.forbid("default", "a default is not the subject's value: nobody answers with it")
        if body.text("op", required=True, choices=tuple(OPERATORS)) is None:  # a derived one has no events
            return None
        retention_us = None if purpose is None else purpose.retention_us
        given = {key: view for key, view in self._declared.items() if view.source != "session"}
        around = Surroundings(entity, retention_us, self._entities, self._events, given)
        feature = read_session_feature(FEATURE, body, around)
        if not isinstance(feature, SessionFeature) or not entity or purpose is None:
            return None
        version = _version(entity, purpose, feature)
        view = hidden_view(owner, version, entity, purpose, {FEATURE: feature})
        self.views[view.key] = view
        return Ref(view.key, FEATURE)

    def _entity(self, body: Section) -> tuple[str, ...]:
        names = entity_names(body, "entity", self._entities)
        if names and (len(names) != 1 or not self._entities[names[0]].personal):
            body.fault("entity", "expected one personal entity, so that each subject has one value")
            return ()
        return names


def hidden_view(
    name: str, version: int, entity: tuple[str, ...], purpose: Purpose, features: Mapping[str, Feature]
) -> View:
    """A session view of `purpose` that nobody declares by itself; `name` holds a dot."""
    lateness_us = min(DEFAULT_LATENESS_US, purpose.retention_us or DEFAULT_LATENESS_US)
    return View(
        name=name,
        version=version,
        entity=entity,
        source="session",
        purpose=purpose.name,
        ttl_us=0,
        owner="",
        tier="hot",
        allowed_lateness_us=lateness_us,
        dedup_horizon_us=lateness_us + DEDUP_MARGIN_US,
        features=features,
    )


def _version(entity: tuple[str, ...], purpose: Purpose, feature: SessionFeature) -> int:
    defined = json.dumps([entity, purpose.name, session_table(feature)], sort_keys=True)
    digest = hashlib.blake2b(defined.encode(), digest_size=8, person=b"edge-hidden").digest()
    return int.from_bytes(digest, "big") % MAX_VERSION + 1
