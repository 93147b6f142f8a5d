"""From a round's tally to the numbers of its release, each with an interval. Pure; exact rationals.

One file of `estimators/` for each family says what it estimates and why its intervals hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Question,
    bounded_for,
    curator_for,
    frequencies_for,
    hierarchical_for,
)
from sync_server.aggregates.estimators.bounded_mean import mean_of, times
from sync_server.aggregates.estimators.interval import Estimate
from sync_server.aggregates.estimators.prefixes import Prefixes
from sync_server.aggregates.estimators.quantiles import answered_levels, quantiles_of
from sync_server.aggregates.estimators.shares import count_of, estimate
from sync_server.aggregates.estimators.sums import (
    curated_count,
    curated_mean,
    curated_quantiles,
    curated_shares,
)

__all__ = ["Estimate", "estimates", "quantile_names"]


def estimates(question: Question, tally: Sequence[int], subjects: int, reports: int) -> dict[str, Estimate]:
    """Every number of a release, by its name.

    histogram: one for each category. count, mean, sum: one of that name. quantile: `0.5` and so on.

    Args:
        tally: one sum a cell of the question's mechanism.
        subjects: whose answers are in it; at least 1.
        reports: in how many reports they came; the same number for a local mechanism.
    """
    if question.mode == "curator":
        return _curated(question, tally, subjects, reports)
    match question.kind:
        case "histogram":
            found = estimate(tally, subjects, frequencies_for(question))
            return dict(zip(question.categories, found, strict=True))
        case "count":
            return {"count": count_of(tally, subjects, frequencies_for(question))}
        case "mean" | "sum":
            return _number(
                question, mean_of(tally, subjects, bounded_for(question), *_bounds(question)), subjects
            )
        case "quantile":
            mechanism = hierarchical_for(question)
            prefixes = Prefixes(mechanism.tree, answered_levels(tally, mechanism))
            wanted = [Fraction(one) for one in question.quantiles]
            return _named(question, quantiles_of(prefixes, subjects, wanted, *_bounds(question)))


def _curated(question: Question, tally: Sequence[int], subjects: int, reports: int) -> dict[str, Estimate]:
    draw = curator_for(question).variance
    match question.kind:
        case "histogram":
            found = curated_shares(tally, draw, subjects, reports)
            return dict(zip(question.categories, found, strict=True))
        case "count":
            return {"count": curated_count(tally[0], draw, subjects, reports)}
        case "mean" | "sum":
            mean = curated_mean(tally[0], draw, subjects, reports, STEPS, _bounds(question))
            return _number(question, mean, subjects)
        case "quantile":
            return _named(question, curated_quantiles(question, tally, subjects, reports))


def quantile_names(question: Question) -> list[str]:
    """What a release calls the quantiles of `question`: decimals, `0.5`."""
    return [format(float(Fraction(one)), ".15g") for one in question.quantiles]


def _named(question: Question, found: Sequence[Estimate]) -> dict[str, Estimate]:
    return dict(zip(quantile_names(question), found, strict=True))


def _number(question: Question, mean: Estimate, subjects: int) -> dict[str, Estimate]:
    return {"mean": mean} if question.kind == "mean" else {"sum": times(subjects, mean)}


def _bounds(question: Question) -> tuple[Fraction, Fraction]:
    return Fraction(question.low), Fraction(question.high)
