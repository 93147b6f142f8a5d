"""Uplift held to the exact law of the mechanism: what is planted is found, what is not is not, as stated."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import product

import msgspec
import numpy as np
import pytest

from bench.experiment_rounds import Population, looks, question_of_arms, tallies
from edge_runtime.aggregates.mechanisms import Frequencies, frequencies_for
from edge_runtime.aggregates.mechanisms.choice import frequencies
from sync_server.aggregates.estimators.covariance import exact_covariance, population_covariance
from sync_server.aggregates.experiments.chi_square import upper_tail
from sync_server.aggregates.experiments.plan import Design, detectable, needed, power_of
from sync_server.aggregates.experiments.uplift import Uplift, fieller, uplift

EXPERIMENTS = 2_000
PLANS = [
    Design(baseline=0.2, epsilon="1"),
    Design(baseline=0.1, exposed=0.5, epsilon="4"),
    Design(baseline=0.3, exposed=0.8, epsilon="1/2"),
    Design(baseline=0.2, exposed=0.9, epsilon="2", weights=(2, 1, 1)),
]
UPLIFTS = (0.05, 0.02, 0.1, 0.05)
CELLS = Population(0.6, (0.2, 0.4)).shares


def within(count: int, of: int, rate: float) -> bool:
    """Whether a count is within 3.3 deviations of a binomial: about 1 in 1,000 is not."""
    return abs(count - of * rate) <= 3.3 * math.sqrt(of * rate * (1 - rate))


def population(design: Design, difference: float) -> Population:
    rates = [design.baseline] * len(design.weights)
    rates[design.arm] += difference
    return Population(design.exposed, tuple(rates), design.weights)


@pytest.mark.parametrize(("design", "difference"), list(zip(PLANS, UPLIFTS, strict=True)))
def test_a_planted_uplift_is_found_at_the_planned_power(design: Design, difference: float) -> None:
    """2,000 experiments on as many subjects as planned: `up` in the stated share of them."""
    plan = needed(design, difference)
    told = looks(
        population(design, difference), design.epsilon, plan.subjects, EXPERIMENTS, np.random.default_rng(1)
    )
    verdicts = [one.comparisons[design.arm - 1].verdict for one in told]
    power = power_of(design, difference, plan.subjects)
    assert abs(power - plan.power) < 0.001
    assert within(verdicts.count("up"), EXPERIMENTS, power)
    assert verdicts.count("down") <= 2


@pytest.mark.parametrize(("design", "difference"), list(zip(PLANS, UPLIFTS, strict=True)))
def test_where_there_is_none_none_is_found_but_for_alpha(design: Design, difference: float) -> None:
    """Any verdict of any arm is a false alarm: at most alpha of them, and not far under it for one arm."""
    n = needed(design, difference).subjects
    told = looks(population(design, 0.0), design.epsilon, n, EXPERIMENTS, np.random.default_rng(2))
    alarms = sum(any(c.verdict != "no_difference_shown" for c in one.comparisons) for one in told)
    assert alarms <= EXPERIMENTS * 0.05 + 3.3 * math.sqrt(EXPERIMENTS * 0.05 * 0.95)
    assert len(design.weights) > 2 or within(alarms, EXPERIMENTS, 0.05)


@pytest.mark.parametrize(("design", "difference"), list(zip(PLANS, UPLIFTS, strict=True)))
def test_intervals_cover_the_truth_of_the_population(design: Design, difference: float) -> None:
    n = needed(design, difference).subjects
    told = looks(population(design, difference), design.epsilon, n, EXPERIMENTS, np.random.default_rng(3))
    truth = {design.arm: difference}
    for name in ("interval", "relative_interval"):
        scale = 1.0 if name == "interval" else design.baseline
        held = [
            all(
                (found := getattr(c, name)) is None or found[0] <= truth.get(i, 0.0) / scale <= found[1]
                for i, c in enumerate(one.comparisons, start=1)
            )
            for one in told
        ]
        least = EXPERIMENTS * 0.95 - 3.3 * math.sqrt(EXPERIMENTS * 0.95 * 0.05)
        assert sum(held) >= least, name


def test_noise_alone_would_be_too_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: at epsilon 4 the sampling of subjects is most of the chance there is."""
    import sync_server.aggregates.experiments.cells as module

    def noise_only(shares: module.Vector, n: int, mechanism: Frequencies | None) -> module.Vector:
        found: module.Vector = population_covariance(shares, n, mechanism)
        return found - population_covariance(shares, n, None)

    monkeypatch.setattr(module, "population_covariance", noise_only)
    told = looks(Population(0.5, (0.1, 0.1)), "4", 20_000, 1_000, np.random.default_rng(4))
    alarms = sum(one.comparisons[0].verdict != "no_difference_shown" for one in told)
    assert alarms > 100


@pytest.mark.parametrize("mechanism", ["randomized_response", "subset_selection", "unary_encoding"])
def test_the_covariance_of_the_cells_is_the_one_of_the_estimates(mechanism: str) -> None:
    """The noise part equals the exact one; noise and sampling together equal what tallies show."""
    made = frequencies(mechanism, 5, Fraction(1))
    exact = exact_covariance([Fraction(float(s)) for s in CELLS], 1_000, made)
    found = population_covariance(CELLS, 1_000, made) - population_covariance(CELLS, 1_000, None)
    assert np.allclose(found, [[float(v) for v in row] for row in exact], rtol=1e-9)
    drawn = tallies(made, CELLS, 1_000, 60_000, np.random.default_rng(5)) / 1_000
    p, q = float(made.true_rate), float(made.false_rate)
    seen = np.cov(((drawn - q) / (p - q)).T)
    assert np.allclose(seen, population_covariance(CELLS, 1_000, made), atol=0.03 * seen.max())


def test_arms_that_are_exposed_otherwise_than_weighed_raise_an_alarm() -> None:
    """Nearly never where they are as weighed; nearly always where one in ten of an arm got lost."""
    rng = np.random.default_rng(6)
    fair = looks(Population(0.9, (0.2, 0.2)), "4", 20_000, EXPERIMENTS, rng)
    assert sum(one.sample_ratio.alarm for one in fair) <= 8
    assert within(sum(one.sample_ratio.p_value < 0.05 for one in fair), EXPERIMENTS, 0.05)
    question, arms = question_of_arms((("a", 1), ("b", 1)), "4"), (("a", 1), ("b", 1))
    skewed = np.array([0.145, 0.36, 0.09, 0.324, 0.081])
    tally = tallies(frequencies_for(question), skewed, 20_000, 200, rng)
    made = frequencies_for(question)
    p, q = float(made.true_rate), float(made.false_rate)
    seen = [dict(zip(question.categories, (row / 20_000 - q) / (p - q), strict=True)) for row in tally]
    alarms = sum(uplift(question, one, 20_000, arms).sample_ratio.alarm for one in seen)
    assert alarms >= 190


def test_more_looks_widen_every_interval_and_hold_the_alarms_over_all_of_them() -> None:
    """Ten independent looks at nothing: under 5 % of experiments ever cry; unplanned, some 40 % do."""
    rng = np.random.default_rng(7)
    flat = Population(0.9, (0.2, 0.2))
    cried = {1: 0, 10: 0}
    for planned, _ in product(cried, range(200)):
        told = looks(flat, "4", 5_000, 10, rng, alpha=0.05 / planned)
        cried[planned] += any(c.verdict != "no_difference_shown" for one in told for c in one.comparisons)
    assert cried[10] <= 200 * 0.05 + 3.3 * math.sqrt(200 * 0.05 * 0.95)
    assert cried[1] > 200 * 0.25
    question = question_of_arms(flat.arms, "4")
    seen = dict(zip(question.categories, flat.shares, strict=True))
    ten = uplift(question, seen, 5_000, flat.arms, looks=10)
    same = uplift(question, seen, 5_000, flat.arms, alpha=0.005)
    assert ten.comparisons[0].interval == pytest.approx(same.comparisons[0].interval)
    assert ten.level == pytest.approx(0.995)


def test_too_few_exposed_tell_nothing() -> None:
    """No rate, no interval, no verdict: not a number out of a division by noise."""
    question = question_of_arms((("a", 1), ("b", 1)), "1")
    seen = dict(zip(question.categories, (0.99, 0.01, 0.0, -0.02, 0.02), strict=True))
    found = uplift(question, seen, 500, (("a", 1), ("b", 1)))
    assert [arm.rate for arm in found.arms] == [None, None]
    assert (found.comparisons[0].uplift, found.comparisons[0].verdict) == (None, "no_difference_shown")


def test_what_is_told_is_json_and_reads_back() -> None:
    """Numbers of numpy are none to the encoder."""
    (told,) = looks(Population(0.9, (0.2, 0.25)), "4", 8_000, 1, np.random.default_rng(11))
    assert msgspec.json.decode(msgspec.json.encode(told), type=Uplift) == told


def test_the_adjusted_p_and_the_verdict_say_the_same() -> None:
    told = looks(Population(0.9, (0.2, 0.25, 0.2), (1, 1, 1)), "4", 8_000, 300, np.random.default_rng(8))
    for one in told:
        for c in one.comparisons:
            assert c.p_value is not None
            assert (c.p_value < one.alpha) == (c.verdict != "no_difference_shown")


@pytest.mark.parametrize("change", [{"alpha": 0.0}, {"alpha": 1.0}, {"looks": 0}])
def test_law_12_what_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    arms = (("a", 1), ("b", 1))
    question = question_of_arms(arms, "1")
    seen = dict.fromkeys(question.categories, 0.2)
    with pytest.raises(ValueError, match="expected alpha"):
        uplift(question, seen, 500, arms, **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the cells of these arms"):
        uplift(question, seen, 500, (("b", 1), ("a", 1)))


def test_fieller_holds_where_the_ratio_is_far_from_normal() -> None:
    """A denominator of 4 deviations: the interval covers at its rate, and is none when it could be zero."""
    rng = np.random.default_rng(9)
    drawn = rng.multivariate_normal((2.0, 4.0), ((1.0, 0.3), (0.3, 1.0)), size=20_000)
    found = [fieller(above, below, 1.0, 0.3, 1.0, 1.959964) for above, below in drawn]
    held = sum(one is None or one[0] <= 0.5 <= one[1] for one in found)
    assert held >= 20_000 * 0.95 - 3.3 * math.sqrt(20_000 * 0.95 * 0.05)
    assert fieller(1.0, 1.9, 1.0, 0.0, 1.0, 1.96) is None
    assert fieller(1.0, -9.0, 1.0, 0.0, 1.0, 1.96) is None


@pytest.mark.parametrize("freedom", range(1, 16))
def test_the_chi_square_tail_is_that_of_drawn_sums(freedom: int) -> None:
    drawn = np.random.default_rng(10).chisquare(freedom, size=200_000)
    for value in (0.1, freedom / 2, freedom, 2.0 * freedom, 30.0):
        assert upper_tail(value, freedom) == pytest.approx(float((drawn > value).mean()), abs=0.005)
    assert upper_tail(-1.0, freedom) == pytest.approx(1.0)


# ---- the planner -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("design", "difference"), list(zip(PLANS, UPLIFTS, strict=True)))
def test_the_plan_and_its_reverse_agree(design: Design, difference: float) -> None:
    plan = needed(design, difference)
    back = detectable(design, plan.subjects)
    assert back is not None
    assert back.uplift == pytest.approx(difference, rel=0.01)
    assert plan.in_the_clear < plan.subjects


def test_the_plan_in_the_clear_is_the_textbook_one() -> None:
    """(z + z_power)^2 (p1 q1 + p2 q2) / d^2 in each arm; Fleiss, Levin and Paik, chapter 4."""
    clear = needed(Design(baseline=0.2), 0.05).in_the_clear
    by_hand = 2 * (1.959964 + 0.841621) ** 2 * (0.2 * 0.8 + 0.25 * 0.75) / 0.05**2
    assert abs(clear - by_hand) <= 2


def test_more_of_anything_that_helps_asks_for_fewer() -> None:
    plain = Design(baseline=0.2, exposed=0.5, epsilon="1")
    base = needed(plain, 0.05).subjects
    for better in (replace(plain, epsilon="2"), replace(plain, exposed=1.0), replace(plain, alpha=0.1)):
        assert needed(better, 0.05).subjects < base
    for worse in (replace(plain, looks=5), replace(plain, weights=(1, 1, 1)), replace(plain, weights=(9, 1))):
        assert needed(worse, 0.05).subjects > base
    assert needed(plain, 0.06).subjects < base < needed(plain, 0.05, power=0.9).subjects


def test_a_fleet_that_can_show_nothing_is_told_so() -> None:
    assert detectable(Design(baseline=0.2, epsilon="1/10"), 100) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"baseline": 0.0},
        {"exposed": 0.0},
        {"weights": (1,)},
        {"weights": (1, 0)},
        {"epsilon": "0"},
        {"epsilon": "x"},
        {"alpha": 1.0},
        {"looks": 0},
    ],
)
def test_law_12_a_design_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|Invalid"):
        Design(**{"baseline": 0.2, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected an uplift"):
        needed(Design(baseline=0.2), 0.9)
