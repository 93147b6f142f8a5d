"""What is published of a round: numbers with their intervals, or only that there were too few subjects."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Final, Literal

import msgspec

from edge_runtime.aggregates.mechanisms import Question, cost_micros, noised_for, question_of
from edge_runtime.catalog.model import CatalogModel, Metric, MetricKind, MetricMode
from sync_server.aggregates.estimate import estimates
from sync_server.store.aggregates import RoundRow

ENDINGS: Final = {
    "upgraded": "the server was upgraded to another way of asking while the round was open",
    "restored": "the server was restored from a backup of when the round was open: what came since is lost",
}
"""Why a round ends without a number, whatever came."""
DIGITS: Final = 6
"""Decimals of a published number; a share of a millionth is far below any interval."""


Interval = Annotated[tuple[float, ...], msgspec.Meta(min_length=2, max_length=2)]
"""Lower and upper end. Its schema has one type of items, which every reader of OpenAPI documents knows."""


class Figure(msgspec.Struct, frozen=True):
    """One number that is worked out from releases."""

    estimate: float
    ci95: Interval


class NeededPurpose(msgspec.Struct, frozen=True):
    """A purpose that an answer needs, and whether its permission is a consent (unknown then means no)."""

    name: str
    consent: bool


class Parameters(msgspec.Struct, frozen=True):
    """Everything a round asks, frozen when it opens: a later catalog does not change it."""

    purposes: tuple[NeededPurpose, ...]
    question: Question
    cost_micros: int
    window_days: int
    min_subjects: int
    catalog: str
    """`name@version` of the catalog that declared the metric so."""
    arms: tuple[tuple[str, int], ...] = ()
    """Of an experiment: (arm, weight), control first; what its cells were assigned by."""


class Release(msgspec.Struct, frozen=True):
    """The published result of one round: the numbers, how sure they are, and how they came about."""

    round: str
    """Hex."""
    metric: str
    status: Literal["released", "withheld"]
    """`withheld`: fewer subjects than the minimum; then no number is shown, not even how many."""
    min_subjects: int
    epsilon: float
    opened_at_us: int
    closed_at_us: int
    kind: MetricKind = "histogram"
    mode: MetricMode = "local"
    mechanism: str = ""
    """Name of the mechanism that made the answers."""
    catalog: str = ""
    """`name@version` under which it was asked."""
    purposes: tuple[str, ...] = ()
    """Whose permission each answer needed."""
    reason: str | None = None
    """Why nothing is released."""
    n: int | None = None
    """Subjects counted."""
    reports: int | None = None
    """Reports counted; fewer than subjects where kiosks sum over their own."""
    refused: dict[str, int] | None = None
    """code -> reports that were not counted."""
    estimate: dict[str, float] | None = None
    """Unbiased. histogram: category -> share, may lie a little below 0. count, sum, mean: one entry of that
    name. quantile: `0.5` -> the value below which that part of the subjects lies."""
    ci95: dict[str, Interval] | None = None
    """95 % interval of each estimate, for the noise added on the devices."""
    share: dict[str, float] | None = None
    """For charts. histogram: the estimates made non-negative with sum one; count: the part of the subjects,
    in 0 … 1."""


def freeze(model: CatalogModel, metric: Metric, window_days: int) -> Parameters:
    """The parameters of a round of `metric`."""
    needed = (model.purposes[name] for name in model.purposes_of(metric))
    experiment = None if metric.experiment is None else model.experiments[metric.experiment]
    return Parameters(
        purposes=tuple(NeededPurpose(p.name, p.asks) for p in needed),
        question=question_of(metric),
        cost_micros=cost_micros(metric),
        window_days=window_days,
        min_subjects=metric.min_subjects,
        catalog=f"{model.name}@{model.version}",
        arms=() if experiment is None else experiment.arms,
    )


def make_release(
    row: RoundRow,
    parameters: Parameters,
    tally: Mapping[int, int],
    refused: Mapping[str, int],
    closed_us: int,
) -> Release:
    """The release of a round with this tally (cell -> sum)."""
    question = parameters.question
    bare = Release(
        round=row.id.hex(),
        metric=row.metric,
        status="withheld",
        min_subjects=parameters.min_subjects,
        epsilon=float(Fraction(question.epsilon)),
        kind=question.kind,
        mode=question.mode,
        mechanism=question.mechanism,
        catalog=parameters.catalog,
        purposes=tuple(purpose.name for purpose in parameters.purposes),
        opened_at_us=row.opened_us,
        closed_at_us=closed_us,
    )
    if row.ending is not None:
        return msgspec.structs.replace(bare, reason=ENDINGS[row.ending])
    least = max(1, parameters.min_subjects)
    if row.subjects < least:
        return msgspec.structs.replace(bare, reason=f"fewer than {least} subjects answered")
    ordered = [tally.get(cell, 0) for cell in range(noised_for(question).cells)]
    found = estimates(question, ordered, row.subjects, row.reports)
    return msgspec.structs.replace(
        bare,
        status="released",
        n=row.subjects,
        reports=row.reports,
        refused=dict(refused),
        estimate={name: _decimal(e.estimate) for name, e in found.items()},
        ci95={name: (_decimal(e.low), _decimal(e.high)) for name, e in found.items()},
        share={name: _decimal(e.share) for name, e in found.items() if e.share is not None} or None,
    )


def read_release(body: bytes) -> Release:
    """A release as it was published, also by a server of before, which described the mechanism at length."""
    raw = msgspec.json.decode(body)
    match raw:
        case {"mechanism": {"name": str(name)}}:
            raw = {**raw, "mechanism": name}
    return msgspec.convert(raw, Release)


def _decimal(value: Fraction) -> float:
    """Rounded as a rational first; the float is only how JSON writes it."""
    return float(round(value, DIGITS))
