from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import msgspec
import pytest

from edge_runtime.aggregates.mechanisms import (
    DAY_US,
    STEPS,
    Question,
    best_bounded,
    bounded_for,
    cost_micros,
    curator_for,
    definition,
    frequencies_for,
    hierarchical_for,
    mechanism_for,
    question_of,
)
from edge_runtime.catalog.model import Metric, MetricKind, MetricMode, Ref, Where

PLAIN = Metric("spend", "measurement", "mean", Ref("activity@1", "spend_7d"), 1.0, 100, DAY_US)
METRICS: dict[MetricKind, Metric] = {
    "histogram": replace(PLAIN, kind="histogram", values=("de", "fr", "uk")),
    "count": replace(PLAIN, kind="count", where=(Where("value", "ge", 3),)),
    "sum": replace(PLAIN, kind="sum", low=0.0, high=250.1),
    "mean": replace(PLAIN, kind="mean", low=-1.5, high=1.5),
    "quantile": replace(PLAIN, kind="quantile", low=0.0, high=100.0, leaves=64, quantiles=(0.5, 0.9)),
}
KINDS: tuple[MetricKind, ...] = get_args(MetricKind)
MODES: tuple[MetricMode, ...] = get_args(MetricMode)


def questions(kind: MetricKind) -> list[Question]:
    return [question_of(replace(METRICS[kind], mode=mode)) for mode in MODES]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_mechanism_in_its_mode_and_none_in_the_other(kind: MetricKind) -> None:
    """A local question has no curator and a curator's question no local mechanism."""
    local, curated = questions(kind)
    assert mechanism_for(local).name == local.mechanism
    assert curator_for(curated).name == curated.mechanism == "discrete_laplace"
    with pytest.raises(ValueError, match="expected a local"):
        mechanism_for(curated)
    with pytest.raises(ValueError, match="expected a curator"):
        curator_for(local)


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_survives_json_and_makes_the_same_mechanism(kind: MetricKind) -> None:
    """Both sides keep it as JSON; what is read back is equal, so the one mechanism is found again."""
    for question in questions(kind):
        again = msgspec.json.decode(msgspec.json.encode(question), type=Question)
        assert again == question
        assert hash(again) == hash(question)


def test_numbers_are_the_decimals_that_the_author_wrote() -> None:
    """0.1 is one tenth in epsilon, bounds and quantiles, not the nearest float."""
    metric = replace(METRICS["quantile"], epsilon=0.1, low=0.3, high=250.1, quantiles=(0.05, 0.9))
    question = question_of(metric)
    assert (question.epsilon, question.low, question.high) == ("1/10", "3/10", "2501/10")
    assert question.quantiles == ("1/20", "9/10")
    assert cost_micros(metric) == 100_000


def test_inputs_and_cells_are_those_of_the_kind() -> None:
    """Categories, no and yes, grid steps, leaves; a tally as long as each mechanism says."""
    (histogram, histogram_c), (count, count_c) = questions("histogram"), questions("count")
    (mean, mean_c), (quantile, quantile_c) = questions("mean"), questions("quantile")
    assert frequencies_for(histogram).categories == mechanism_for(histogram).cells == 3
    assert count.categories == ("no", "yes")
    assert frequencies_for(count).categories == 2
    assert bounded_for(mean).inputs == STEPS + 1
    assert bounded_for(mean).cells == 2
    tree = hierarchical_for(quantile)
    assert tree.inputs == 64
    assert tree.cells == sum(tree.tree.sizes) + len(tree.tree.sizes)
    curators = [curator_for(q) for q in (histogram_c, count_c, mean_c, quantile_c)]
    assert [c.inputs for c in curators] == [3, 2, STEPS + 1, 64]
    assert [c.cells for c in curators[:3]] == [3, 1, 1]
    assert [c.sensitivity for c in curators[:3]] == [2, 1, STEPS]
    shape = curators[3].tree
    assert shape is not None
    assert curators[3].cells == sum(shape.sizes)
    assert curators[3].sensitivity == 2 * len(shape.sizes)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("histogram", ("randomized_response", "subset_selection", "unary_encoding")),
        ("count", ("randomized_response", "subset_selection", "unary_encoding")),
        ("sum", ("duchi", "piecewise")),
        ("mean", ("duchi", "piecewise")),
        ("quantile", ("hierarchical",)),
    ],
)
def test_an_author_may_force_any_mechanism_of_the_kind_and_no_other(
    kind: MetricKind, names: tuple[str, ...]
) -> None:
    """What is forced is taken; another kind's, an unknown one and a local one for a curator are refused."""
    for name in names:
        question = question_of(replace(METRICS[kind], mechanism=name))
        assert question.mechanism == mechanism_for(question).name == name
    for name in {"duchi", "hierarchical", "subset_selection", "discrete_laplace", "gaussian"} - set(names):
        with pytest.raises(ValueError, match="expected"):
            question_of(replace(METRICS[kind], mechanism=name))
    with pytest.raises(ValueError, match="expected discrete_laplace"):
        question_of(replace(METRICS[kind], mechanism=names[0], mode="curator"))


@pytest.mark.parametrize(
    "metric",
    [
        replace(METRICS["mean"], low=None),
        replace(METRICS["sum"], high=None, mode="curator"),
        replace(METRICS["mean"], low=2.0, high=2.0),
        replace(METRICS["mean"], low=float("nan")),
        replace(METRICS["mean"], high=float("inf")),
        replace(METRICS["mean"], epsilon=0.0),
        replace(METRICS["mean"], window_us=0),
        replace(METRICS["quantile"], leaves=1),
        replace(METRICS["quantile"], leaves=5_000),
        replace(METRICS["quantile"], quantiles=()),
        replace(METRICS["quantile"], quantiles=(0.9, 0.5)),
        replace(METRICS["quantile"], quantiles=(0.5, 1.0)),
        replace(METRICS["quantile"], high=None),
        replace(METRICS["histogram"], values=("only",)),
        replace(METRICS["histogram"], values=("only",), mode="curator"),
    ],
)
def test_a_metric_that_makes_no_sense_has_no_question(metric: Metric) -> None:
    """Bounds missing, equal or endless; no epsilon, window, leaves or quantiles; one category."""
    with pytest.raises(ValueError):
        question_of(metric)


def test_the_definition_changes_with_every_parameter_that_makes_the_answer() -> None:
    """Both sides mean the same question, or their definitions differ."""
    mean, quantile, count = METRICS["mean"], METRICS["quantile"], METRICS["count"]
    variants = [
        *METRICS.values(),
        *(replace(metric, mode="curator") for metric in METRICS.values()),
        *(replace(mean, epsilon=2.0), replace(mean, low=-2.0), replace(mean, high=2.0)),
        *(replace(mean, mechanism="piecewise"), replace(mean, read="age"), replace(mean, min_subjects=7)),
        *(replace(mean, of=Ref("activity@2", "spend_7d")), replace(mean, window_us=2 * DAY_US)),
        *(replace(quantile, leaves=128), replace(quantile, quantiles=(0.5,))),
        *(replace(count, where=()), replace(count, experiment="banner")),
    ]
    assert len({definition(metric) for metric in variants}) == len(variants)


@pytest.mark.parametrize("epsilon", [1e-6, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_smallest_and_largest_epsilon_of_a_catalog_have_answers(kind: MetricKind, epsilon: float) -> None:
    """Odds of more than one, answers that move the tally, a variance above nothing."""
    rng = random.Random(6)
    local, curated = (question_of(replace(METRICS[kind], mode=mode, epsilon=epsilon)) for mode in MODES)
    mechanism, curator = mechanism_for(local), curator_for(curated)
    assert 1 < mechanism.odds < 55
    assert mechanism.moves(mechanism.randomize(1, rng.randrange)) is not None
    assert curator.moves(curator.noised([1, 0], rng.randrange)) is not None
    assert curator.variance > 0


def test_what_the_server_alone_uses_is_no_part_of_the_definition() -> None:
    """A drift reference may come later: the devices' answers are the same."""
    histogram = METRICS["histogram"]
    assert definition(replace(histogram, reference=(0.5, 0.3, 0.2), drift_alarm=0.2)) == definition(histogram)


def test_the_chosen_mechanism_named_by_the_author_is_the_same_question() -> None:
    """A choice that changes nothing changes no definition."""
    mean = METRICS["mean"]
    assert definition(replace(mean, mechanism=best_bounded(STEPS, Fraction(1)))) == definition(mean)
