"""WARMING: a feature that a later catalog added, while it may still miss what came before it was known.

Since when its events are known stands beside the state (`complete_from`). A value at time t is whole when
nothing from before can be in it:

- a window reaches back its own length, rounded up to whole tiles;
- a decayed value at most 64 half-lives, for older events are worth 0 by definition;
- a feature of the current session is whole once the session began more than `gap` after that time, or where
  none is current, once the gap has passed since;
- one without a window looks back over the retention;
- a derived one is as whole as its operands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_runtime.catalog.model import DerivedFeature, SessionFeature
from edge_runtime.serving.reads import Missing
from edge_runtime.serving.status import Status
from edge_runtime.session.admission import ViewState
from edge_runtime.session.operators.decayed import BUCKETS
from edge_runtime.session.plan import ViewPlan

WARMING: Final = Missing(
    Status.WARMING, "added later, and it reaches back before what the journal could refill"
)
_FOREVER_US: Final = 1 << 61


def warmed(
    plan: ViewPlan,
    values: tuple[object, ...],
    incomplete: Mapping[str, int],
    state: ViewState,
    t_us: int,
) -> tuple[object, ...]:
    """The values at `t_us` with `WARMING` in the place of each that is not whole.

    Args:
        values: in the order of `plan.names`.
        incomplete: feature -> since when its events are known, for those that did not see their whole
            history; derived features that rest on them among these.
    """
    cold = {name for name, since_us in incomplete.items() if not _whole(plan, name, since_us, state, t_us)}
    if not cold:
        return values
    features = plan.view.features
    return tuple(
        WARMING if _cold(plan, name, cold) else value for name, value in zip(features, values, strict=True)
    )


def _cold(plan: ViewPlan, name: str, cold: set[str]) -> bool:
    feature = plan.view.features[name]
    if isinstance(feature, DerivedFeature):
        return any(_cold(plan, operand, cold) for operand in feature.of)
    return name in cold


def _whole(plan: ViewPlan, name: str, since_us: int, state: ViewState, t_us: int) -> bool:
    feature = plan.view.features[name]
    if not isinstance(feature, SessionFeature):
        return True  # asked of its operands
    if feature.gap_us is None:
        return t_us - _reach_us(plan, feature) >= since_us
    began_us = plan.session_began_us(state, name, t_us)
    if began_us is None:
        return t_us - feature.gap_us >= since_us
    return began_us - feature.gap_us > since_us


def _reach_us(plan: ViewPlan, feature: SessionFeature) -> int:
    """How far back from its read an event can still be in a feature."""
    if feature.window_us is not None:
        assert feature.hop_us is not None
        assert feature.tiles is not None
        return feature.hop_us * feature.tiles
    retention_us = _FOREVER_US if plan.retention_us is None else plan.retention_us
    if feature.op in ("decayed_count", "decayed_sum"):
        assert feature.half_life_us is not None
        return min(retention_us, BUCKETS * feature.half_life_us)
    return retention_us
