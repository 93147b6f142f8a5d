"""WARMING: a feature that a later catalog added, while it may still miss what came before it was known.

Since when its events are known stands beside the state (`complete_from`). A value at time t is whole when
nothing from before can be in it (`catalog/look_back.py` says how far it looks back):

- a window is, once it begins at or after that time; a decayed value 64 half-lives after it;
- a feature of the current session is whole once the session began more than `gap` after that time, or where
  none is current, once the gap has passed since;
- one of the newest n events is whole also once the n-th newest came at or after that time;
- any is, once the retention has ended what was before: the oldest event that counts came more than a
  retention after that time, or none counts and a retention has passed since. One without a window has no
  other end; about nobody there is no retention, so it is never whole;
- a derived one is as whole as its operands;
- an exposure is at once, and so is an outcome that counts from it on (`catalog/exposure.py`). Since when its
  events are known stands beside it, for who counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final

from edge_runtime.catalog.exposure import begins_with_exposure
from edge_runtime.catalog.look_back import look_back, sources
from edge_runtime.catalog.model import DerivedFeature
from edge_runtime.serving.reads import Missing
from edge_runtime.serving.status import Status
from edge_runtime.session.admission import ViewState
from edge_runtime.session.plan import ViewPlan

WARMING: Final = Missing(
    Status.WARMING, "added later, and it reaches back before what the journal could refill"
)
FOR_GOOD: Final = Missing(
    Status.WARMING, "added later, and it looks back for ever: without a window nothing makes it whole"
)


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
    named = zip(plan.names, values, strict=True)
    return tuple(
        _cold(plan, lacking) if (lacking := sources(plan.view, name) & cold) else value
        for name, value in named
    )


def _cold(plan: ViewPlan, names: Set[str]) -> Missing:
    back = look_back(plan.view, names, plan.retention_us)
    return WARMING if back.ends else FOR_GOOD


def _whole(plan: ViewPlan, name: str, since_us: int, state: ViewState, t_us: int) -> bool:
    if isinstance(plan.view.features[name], DerivedFeature):
        return True  # asked of its operands
    if begins_with_exposure(plan.view, name):
        return True
    back = look_back(plan.view, (name,), plan.retention_us)
    if back.newest:
        filled_us = plan.filled_since_us(state, name, t_us)
        if filled_us is not None and filled_us >= since_us:
            return True
    if back.silence_us is not None:
        oldest_us = plan.alive_since_us(state, t_us)
        if (t_us if oldest_us is None else oldest_us) - back.silence_us > since_us:
            return True
    if back.us is None:
        return False
    began_us = plan.session_began_us(state, name, t_us) if back.session else None
    return t_us - back.us >= since_us if began_us is None else began_us - back.us > since_us
