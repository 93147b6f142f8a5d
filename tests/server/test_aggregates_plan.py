"""The plan says beforehand what simulated rounds then measure."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import numpy as np
import pytest

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Duchi,
    Question,
    bounded_for,
    curator_for,
    frequencies_for,
    hierarchical_for,
)
from sync_server.aggregates.estimators.bounded_mean import mean_of
from sync_server.aggregates.estimators.expected import expected
from sync_server.aggregates.estimators.prefixes import Prefixes
from sync_server.aggregates.estimators.quantiles import answered_levels
from sync_server.aggregates.plan import Plan, asked_otherwise, fleet, plan
from tests.support.answered import drawn, levels, named, outputs
from tests.support.questions import count, curated, histogram, number, quantile

ROUNDS = 3000
CLOSE = 5 * (2 / ROUNDS) ** 0.5
"""Five standard errors of a measured variance, relative."""


@pytest.mark.parametrize("mechanism", ["subset_selection", "randomized_response", "unary_encoding"])
@pytest.mark.parametrize(("categories", "epsilon"), [(4, "1"), (8, "1/2")])
def test_the_error_of_a_histogram_is_the_measured_one(mechanism: str, categories: int, epsilon: str) -> None:
    """Standard error of each share and the total, on even data."""
    question, n = histogram(categories, epsilon, mechanism), 200
    law = frequencies_for(question)
    p, q = float(law.true_rate), float(law.false_rate)
    counts = named(law, [n // categories] * categories, ROUNDS, np.random.default_rng(1))
    errors = (counts / n - q) / (p - q) - 1 / categories
    said = expected(question, n, 1)
    assert abs((errors**2).mean() / said.standard**2 - 1) < CLOSE
    assert said.total is not None
    assert abs((errors**2).sum(axis=1).mean() / said.total - 1) < CLOSE


@pytest.mark.parametrize("categories", [2, 3, 4, 16, 64])
def test_the_best_mechanism_meets_the_limit_and_the_others_do_not_pass_it(categories: int) -> None:
    for question in asked_otherwise(histogram(categories, "1"))[:3]:
        ratio = expected(question, 100, 1).ratio
        assert ratio is not None
        assert ratio >= 1 - 1e-12
        assert question.mechanism != "subset_selection" or ratio < 1 + 1e-12


def test_the_error_of_a_count_is_the_measured_one() -> None:
    question, n = count("1"), 300
    law = frequencies_for(question)
    scale = float(law.true_rate - law.false_rate)
    yes = named(law, [150, 150], ROUNDS, np.random.default_rng(2))[:, 1] / scale
    (said,) = plan(question, [n]).chosen.at
    assert abs(yes.var() / said.standard_error**2 - 1) < CLOSE
    assert said.half_width == pytest.approx(n * said.relative)


@pytest.mark.parametrize(("mechanism", "epsilon"), [("duchi", "1"), ("piecewise", "1"), ("piecewise", "4")])
def test_the_error_of_a_mean_is_the_measured_one_at_the_noisiest_inputs(mechanism: str, epsilon: str) -> None:
    """And so is the half width, on average; other inputs have less."""
    question, n = number("mean", epsilon, mechanism), 100
    law = bounded_for(question)
    inputs = np.full(n, STEPS // 2 if isinstance(law, Duchi) else 0)
    tallies = outputs(law, inputs, ROUNDS, np.random.default_rng(3))
    (said,) = plan(question, [n]).chosen.at
    means = 8 / 2 * tallies[:, 0] / (n * float(law.slope) * STEPS)
    assert abs(means.var() / said.standard_error**2 - 1) < CLOSE
    found = [mean_of(tally, n, law, Fraction(-3), Fraction(5)) for tally in tallies[:200].tolist()]
    assert float(sum(e.high - e.low for e in found)) / 400 == pytest.approx(said.half_width, rel=0.02)


def test_the_error_of_a_quantile_is_that_of_the_share_below_it() -> None:
    question, n, rng = quantile("2", 16), 600, np.random.default_rng(4)
    mechanism = hierarchical_for(question)
    values, seen = np.arange(n) % 16, []
    for _ in range(600):
        leaves = Prefixes(
            mechanism.tree, answered_levels(levels(mechanism, values, rng), mechanism)
        ).leaf_shares()
        seen.append(float(sum(leaves[:8])) - 0.5)
    said = expected(msgspec.structs.replace(question, quantiles=("1/2",)), n, 1)
    assert abs(float(np.mean(np.square(seen))) / said.standard**2 - 1) < 5 * (2 / 600) ** 0.5


@pytest.mark.parametrize(
    "question", [histogram(4, "1"), count("2"), number("mean", "1")], ids=lambda q: q.kind
)
def test_the_error_of_kiosks_is_the_measured_one(question: Question) -> None:
    """100 subjects on kiosks of 8: 13 reports, the last one with fewer."""
    asked = curated(question)
    curator = curator_for(asked)
    noise = drawn(curator, curator.cells, 13, ROUNDS, np.random.default_rng(5))
    unit = 100 * (STEPS if question.kind == "mean" else 1)
    said = expected(asked, 100, 8)
    assert abs((noise / unit).var() / said.standard**2 - 1) < 2 * CLOSE  # Laplace has twice the fourth moment


@pytest.mark.parametrize(
    "question", [histogram(4, "1"), count("1"), number("sum", "2"), curated(number("mean", "1"))], ids=str
)
def test_the_smallest_fleet_is_the_smallest(question: Question) -> None:
    """One subject fewer (one kiosk fewer, in curator mode) misses the wanted half width."""
    found = fleet(question, 0.05, 20)
    assert found is not None
    assert expected(question, found, 20).half <= 0.05
    assert expected(question, found - 1, 20).half > 0.05


def test_the_price_and_the_alternatives() -> None:
    """Epsilon 1 of 4: a quarter, four rounds. Other mechanisms are worse, the curator much better."""
    made = plan(histogram(16, "1"), [100, 1000])
    assert (made.budget_part, made.rounds, made.epsilon_ceiling) == (0.25, 4, 4.0)
    assert [(o.mechanism, o.kiosk_subjects) for o in made.alternatives] == [
        ("randomized_response", None),
        ("unary_encoding", None),
        ("discrete_laplace", 20),
    ]
    chosen, *others, curator = (option.at[1].half_width for option in (made.chosen, *made.alternatives))
    assert all(half > chosen for half in others)
    assert curator < chosen / 2
    assert [at.subjects for at in made.chosen.at] == [100, 1000]
    assert made.chosen.at[0].limit_ratio == pytest.approx(1)


@pytest.mark.parametrize(
    "question", [count("1"), number("sum", "1/2"), quantile("1", 64)], ids=lambda q: q.kind
)
def test_every_kind_has_a_plan_in_both_modes(question: Question) -> None:
    """More subjects never make it worse, and a plan of the curator's question has the local one beside it."""
    for asked in (question, curated(question)):
        made: Plan = plan(asked, [50, 5000], wanted=[0.1])
        small, large = made.chosen.at
        assert small.relative > large.relative > 0
        assert {"local", "curator"} <= {made.chosen.mode, *(option.mode for option in made.alternatives)}


def test_a_fleet_that_cannot_be_is_none_and_nonsense_is_refused() -> None:
    assert fleet(quantile("1", 4), 0.1) is None  # half a leaf alone is more than that
    for sizes, kiosk in (([0], 1), ([1], 0)):
        with pytest.raises(ValueError, match="above 0"):
            plan(count("1"), sizes, kiosk)
