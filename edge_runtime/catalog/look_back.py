"""How far back from a read an event can still be in a feature: until then a new feature is WARMING.

A feature of the newest n events is whole earlier, once so many are known; how far they lie back no catalog
can tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import DerivedFeature, Feature, SessionFeature, View
from edge_runtime.session.operators.decayed import BUCKETS
from edge_runtime.session.operators.vector import VECTOR_ITEMS


class LookBack(NamedTuple):
    """`us` microseconds, None: for ever; `session`: over the current session, at least its gap.

    `newest`: no farther than so many events, 0 where their number does not matter.
    """

    us: int | None
    session: bool = False
    newest: int = 0

    def warming(self, known_us: int) -> str:
        """For how long a feature is WARMING when the last `known_us` are known."""
        if self.session:
            return "WARMING until a session begins"
        longest = None if self.us is None else f"WARMING for at most {write_duration(self.us - known_us)}"
        if not self.newest:
            return longest or "WARMING for good: it looks back for ever, and no retention ends that"
        known = "its newest event is" if self.newest == 1 else f"{self.newest} of its events are"
        return f"{longest}, or until {known} known" if longest else f"WARMING until {known} known"


def sources(view: View, name: str) -> set[str]:
    """The features that a feature is made of in the end, itself if it is not derived."""
    feature = view.features[name]
    if isinstance(feature, DerivedFeature):
        return set[str]().union(*(sources(view, source) for source in feature.of))
    return {name}


def look_back(view: View, names: Iterable[str], retention_us: int | None) -> LookBack:
    """The farthest of some features that are not derived.

    Of a window its whole tiles, of a decayed value 64 half-lives, of others the retention (None: no end).
    """
    each = [_one(view.features[name], retention_us) for name in names]
    return max(each, key=lambda back: (back.us is None, back.us or 0, back.session, not back.newest))


def _one(feature: Feature, retention_us: int | None) -> LookBack:
    assert isinstance(feature, SessionFeature)
    if feature.gap_us is not None:
        return LookBack(feature.gap_us, session=True)
    newest = _newest(feature)
    if feature.hop_us is not None and feature.tiles is not None:
        return LookBack(feature.hop_us * feature.tiles, newest=newest)
    bounds = [] if retention_us is None else [retention_us]
    if feature.op in ("decayed_count", "decayed_sum") and feature.half_life_us is not None:
        bounds.append(BUCKETS * feature.half_life_us)
    return LookBack(min(bounds, default=None), newest=newest)


def _newest(feature: SessionFeature) -> int:
    match feature.op:
        case "last" | "since_last":
            return 1
        case "last_n" | "decayed_mean_vector":
            return feature.n or VECTOR_ITEMS
    return 0
