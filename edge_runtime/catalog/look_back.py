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

    `newest`: no farther than so many events, 0 where their number does not matter. `silence_us`: no farther
    than the newest silence longer than that, None where no silence ends anything.
    """

    us: int | None
    session: bool = False
    newest: int = 0
    silence_us: int | None = None

    @property
    def ends(self) -> bool:
        """Whether anything at all makes a feature whole that was added later."""
        return self.us is not None or self.silence_us is not None or self.newest > 0

    def warming(self, known_us: int) -> str:
        """For how long a feature is WARMING when the last `known_us` are known."""
        if self.session:
            return "WARMING until a session begins"
        known = "its newest event is" if self.newest == 1 else f"{self.newest} of its events are"
        ways = []
        if self.us is not None:
            ways.append(f"for at most {write_duration(self.us - known_us)}")
        elif self.silence_us is not None:
            ways.append(f"until its subject was silent for {write_duration(self.silence_us)}")
        if self.newest:
            ways.append(f"until {known} known")
        end = ", or ".join(ways) or "for good: it looks back for ever, and no retention ends that"
        return f"WARMING {end}"


def sources(view: View, name: str) -> set[str]:
    """The features that a feature is made of in the end, itself if it is not derived."""
    feature = view.features[name]
    if isinstance(feature, DerivedFeature):
        return set[str]().union(*(sources(view, source) for source in feature.of))
    return {name}


def look_back(view: View, names: Iterable[str], retention_us: int | None) -> LookBack:
    """The farthest of some features that are not derived.

    Of a window its whole tiles, of a decayed value 64 half-lives, of others for ever: a retention ends only
    what lies before a silence that outlasts it (None: no retention).
    """
    each = [_one(view.features[name], retention_us) for name in names]
    return max(each, key=lambda back: (back.us is None, back.us or 0, back.session, not back.newest))


def _one(feature: Feature, retention_us: int | None) -> LookBack:
    assert isinstance(feature, SessionFeature)
    if feature.gap_us is not None:
        return LookBack(feature.gap_us, session=True, silence_us=retention_us)
    us = None
    if feature.hop_us is not None and feature.tiles is not None:
        us = feature.hop_us * feature.tiles
    elif feature.op in ("decayed_count", "decayed_sum") and feature.half_life_us is not None:
        us = BUCKETS * feature.half_life_us
    return LookBack(us, newest=_newest(feature), silence_us=retention_us)


def _newest(feature: SessionFeature) -> int:
    match feature.op:
        case "last" | "since_last":
            return 1
        case "last_n" | "decayed_mean_vector":
            return feature.n or VECTOR_ITEMS
    return 0
