"""What `/v1/aggregates` takes and answers, for its doors and for clients. See also `release.py`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edge_runtime.catalog.model import MetricKind, MetricMode
from sync_server.aggregates.release import Release

RoundId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class NewRound(msgspec.Struct, forbid_unknown_fields=True):
    """A round to open."""

    closes_in_s: Annotated[float, msgspec.Meta(ge=1, le=30 * 86_400)]
    """Seconds until it closes by itself: 1 second to 30 days."""


class Round(msgspec.Struct):
    """One asking of a metric. How many answered is not told while it is open."""

    round: str
    """Its id, hex."""
    metric: str
    state: Literal["open", "closing", "closed"]
    """`closing`: it takes no more answers, and those that came in time are being opened."""
    opened_at_us: int
    closes_at_us: int
    kind: MetricKind
    mode: MetricMode
    categories: list[str]
    """histogram: their names in order; else empty."""
    epsilon: str
    """A rational, as text: `1`, `1/2`."""
    min_subjects: int
    """Below it nothing is released."""
    mechanism: str
    """Name of the mechanism of the answers."""


class RoundWithRelease(Round, kw_only=True):
    """A round and, once it is closed, its release."""

    release: Release | None
    """Null while it is open."""


class RoundBrief(msgspec.Struct, kw_only=True):
    """One round of a list."""

    round: str
    """Its id, hex."""
    metric: str
    opened_at_us: int
    closes_at_us: int
    """When it closes by itself, or was to."""
    closed_at_us: int | None
    """Null while it takes answers."""
    state: Literal["open", "closing", "released", "withheld"]
    """`closing`: it takes no more answers, and its numbers are not published yet."""


class Rounds(msgspec.Struct):
    """A page of rounds, newest first."""

    rounds: list[RoundBrief]
    next: str | None
    """`after` of the page behind it; null: this is the last."""


class Releases(msgspec.Struct):
    """A page of releases, newest first."""

    releases: list[Release]
    next: str | None
    """`after` of the page behind it; null: this is the last."""


class DeclaredMetric(msgspec.Struct, kw_only=True):
    """A metric of the active catalog, and what one round of it costs each subject."""

    metric: str
    kind: MetricKind
    mode: MetricMode
    of: str
    """What is counted: `view@1:feature`, or what is made of events, as `sum of price over buy, 7d`."""
    purposes: list[str]
    """Whose permission each answer needs."""
    min_subjects: int
    epsilon: float
    """What one round costs a subject; what all rounds of the budget window may cost is `epsilon_ceiling`."""
    epsilon_ceiling: float
    window_days: int
    """The budget window that all metrics of the catalog share."""
    mechanism: str | None
    """Name of the mechanism of the answers; null where no round can be opened."""
    reason: str | None
    """Why no round can be opened; null where one can."""


class DeclaredMetrics(msgspec.Struct):
    """The metrics of the active catalog, by name."""

    catalog: str
    """`name@version` of it."""
    metrics: list[DeclaredMetric]
