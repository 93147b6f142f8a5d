"""Questions for tests of what is estimated, planned and compared."""

from __future__ import annotations

from fractions import Fraction

import msgspec

from edge_runtime.aggregates.mechanisms import STEPS, Question, best_bounded, best_frequencies


def histogram(categories: int, epsilon: str, mechanism: str | None = None) -> Question:
    """A local histogram over c0, c1 …; its best mechanism where none is named."""
    return Question(
        kind="histogram",
        mode="local",
        epsilon=epsilon,
        mechanism=mechanism or best_frequencies(categories, Fraction(epsilon)),
        categories=tuple(f"c{i}" for i in range(categories)),
    )


def number(
    kind: str, epsilon: str, mechanism: str | None = None, low: str = "-3", high: str = "5"
) -> Question:
    """A local mean or sum between bounds."""
    name = mechanism or best_bounded(STEPS, Fraction(epsilon))
    assert kind in ("mean", "sum")
    return Question(
        kind="mean" if kind == "mean" else "sum",
        mode="local",
        epsilon=epsilon,
        mechanism=name,
        low=low,
        high=high,
    )


def count(epsilon: str) -> Question:
    """A local count."""
    chosen = best_frequencies(2, Fraction(epsilon))
    return Question(kind="count", mode="local", epsilon=epsilon, mechanism=chosen, categories=("no", "yes"))


def quantile(epsilon: str, leaves: int) -> Question:
    """The first and last decile and the median; a leaf is 1 wide."""
    return Question(
        kind="quantile",
        mode="local",
        epsilon=epsilon,
        mechanism="hierarchical",
        low="0",
        high=str(leaves),
        leaves=leaves,
        quantiles=("1/10", "1/2", "9/10"),
    )


def curated(question: Question) -> Question:
    """The same, asked of kiosks."""
    return msgspec.structs.replace(question, mode="curator", mechanism="discrete_laplace")
