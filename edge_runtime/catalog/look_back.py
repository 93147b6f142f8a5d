"""How far back from a read an event can still be in a feature: until then a new feature is WARMING."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from edge_runtime.catalog.duration import write_duration
from edge_runtime.catalog.model import DerivedFeature, Feature, SessionFeature, View
from edge_runtime.session.operators.decayed import BUCKETS


class LookBack(NamedTuple):
    """`us` microseconds, None: for ever; `session`: over the current session, at least its gap."""

    us: int | None
    session: bool = False

    def warming(self, known_us: int) -> str:
        """For how long a feature is WARMING when the last `known_us` are known."""
        if self.session:
            return "WARMING until a session begins"
        if self.us is None:
            return "WARMING for good: it looks back for ever"
        return f"WARMING for at most {write_duration(self.us - known_us)}"


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
    return max(each, key=lambda back: (back.us is None, back.us or 0, back.session))


def _one(feature: Feature, retention_us: int | None) -> LookBack:
    assert isinstance(feature, SessionFeature)
    if feature.gap_us is not None:
        return LookBack(feature.gap_us, session=True)
    if feature.hop_us is not None and feature.tiles is not None:
        return LookBack(feature.hop_us * feature.tiles)
    bounds = [] if retention_us is None else [retention_us]
    if feature.op in ("decayed_count", "decayed_sum") and feature.half_life_us is not None:
        bounds.append(BUCKETS * feature.half_life_us)
    return LookBack(min(bounds, default=None))
