"""What the server says of an experiment: one release, and what follows from it."""

from __future__ import annotations

from typing import Literal

import msgspec

from sync_server.aggregates.experiments.uplift import Uplift, uplift
from sync_server.aggregates.release import Parameters, Release


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """One look at an experiment."""

    experiment: str
    round: str
    """Hex."""
    status: Literal["released", "withheld"]
    reason: str | None
    """Why there is no number."""
    opened_at_us: int
    closed_at_us: int
    catalog: str
    """`name@version` under which it was asked."""
    epsilon: float
    mechanism: str
    result: Uplift | None
    """Null when the release is withheld."""


def report_of(release: Release, parameters: Parameters, *, alpha: float, looks: int) -> ExperimentReport:
    """The report of an experiment's release.

    Args:
        parameters: those of its round; their arms are the experiment's.

    Raises `ValueError` when the round was not one of an experiment.
    """
    if not parameters.arms:
        raise ValueError("expected a round of an experiment")
    result = None
    if release.estimate is not None and release.n is not None:
        asked, arms = parameters.question, parameters.arms
        result = uplift(asked, release.estimate, release.n, arms, alpha=alpha, looks=looks)
    return ExperimentReport(
        experiment=release.metric,
        round=release.round,
        status=release.status,
        reason=release.reason,
        opened_at_us=release.opened_at_us,
        closed_at_us=release.closed_at_us,
        catalog=release.catalog,
        epsilon=release.epsilon,
        mechanism=release.mechanism,
        result=result,
    )
