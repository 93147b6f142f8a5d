"""A value's input: exact, inside the bounds, and None for what is none; what is read of a subject."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import (
    STEPS,
    Question,
    curator_for,
    input_of,
    mechanism_for,
    question_of,
)
from edge_runtime.aggregates.reading import read_input, what_is_read
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import Metric, MetricKind, MetricRead, Ref, Where
from edge_runtime.catalog.statuses import COUNTED
from edge_runtime.serving.status import Status
from tests.support.aggregate_ends import Value

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)


def asked(kind: MetricKind, **parts: object) -> Question:
    base = {"kind": kind, "mode": "local", "epsilon": "1", "mechanism": "any"}
    return Question(**base | parts)  # type: ignore[arg-type]  # the test's own keywords


@given(NUMBERS, st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_a_step_is_the_nearest_one_and_clipped(value: float, low: float, reach: float) -> None:
    """Against the plain definition, in exact arithmetic."""
    high = low + reach
    question = asked("mean", low=str(Fraction(low)), high=str(Fraction(high)))
    clipped = min(max(Fraction(value), Fraction(low)), Fraction(high))
    width = (Fraction(high) - Fraction(low)) / STEPS
    step = input_of(question, value)
    assert step is not None
    assert 0 <= step <= STEPS
    assert abs(clipped - (Fraction(low) + step * width)) <= width / 2


@given(NUMBERS, st.integers(2, 4_096))
def test_a_leaf_holds_its_value(value: float, leaves: int) -> None:
    low, high = Fraction(-7, 3), Fraction(100)
    question = asked("quantile", low=str(low), high=str(high), leaves=leaves)
    leaf = input_of(question, value)
    assert leaf is not None
    assert 0 <= leaf < leaves
    width = (high - low) / leaves
    begin, end = low + leaf * width, low + (leaf + 1) * width
    clipped = min(max(Fraction(value), low), high)
    assert begin <= clipped
    assert clipped < end or (leaf == leaves - 1 and clipped <= high)


@given(
    st.floats(allow_nan=False) | st.integers(),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True),
)
def test_a_bucket_is_what_bisect_says_of_the_floats(value: float, edges: list[float]) -> None:
    edges.sort()
    question = asked("histogram", edges=tuple(str(Fraction(e)) for e in edges), categories=("any", "other"))
    assert input_of(question, value) == bisect_right(edges, value)


def test_an_edge_that_is_no_short_binary_number_belongs_to_the_bucket_above() -> None:
    question = asked("histogram", edges=(str(Fraction(0.3)),))
    assert [input_of(question, v) for v in (0.3, math.nextafter(0.3, 0), 0.1 + 0.2)] == [1, 0, 1]


@pytest.mark.parametrize("value", [math.nan, np.float64("nan"), None, "7", [1.0], {"a": 1}])
@pytest.mark.parametrize(
    "question",
    [
        asked("mean", low="0", high="1"),
        asked("sum", low="0", high="1"),
        asked("quantile", low="0", high="1", leaves=4),
        asked("histogram", edges=("1",)),
        asked("histogram", categories=("UK", "DE")),
    ],
    ids=lambda q: q.kind,
)
def test_what_is_no_number_or_no_category_is_no_input(question: Question, value: object) -> None:
    assert input_of(question, value) is None


def test_infinite_values_are_clipped() -> None:
    mean, tree = asked("mean", low="0", high="1"), asked("quantile", low="0", high="1", leaves=8)
    assert [input_of(mean, v) for v in (-math.inf, math.inf)] == [0, STEPS]
    assert [input_of(tree, v) for v in (-math.inf, math.inf)] == [0, 7]


def test_numbers_of_numpy_and_truths_are_numbers() -> None:
    question = asked("mean", low="0", high="1")
    assert [input_of(question, v) for v in (np.float32(0.5), np.int64(1), True, False)] == [
        STEPS // 2,
        STEPS,
        STEPS,
        0,
    ]
    assert input_of(asked("histogram", edges=("1",)), True) == 1


def test_a_category_is_found_by_its_text() -> None:
    question = asked("histogram", categories=("UK", "7", "True"))
    assert [input_of(question, v) for v in ("UK", 7, True, "uk", 8)] == [0, 1, 2, None, None]


@pytest.mark.parametrize(
    ("where", "yes", "no"),
    [
        ((), [0, "", False, -1.5], [None, math.nan]),
        ((Where("value", "ge", 3),), [3, 3.0, 4], [2, 2.999, None, math.nan, "3"]),
        ((Where("value", "ge", 3), Where("value", "lt", 5)), [3, 4.5], [5, 2, None]),
        ((Where("value", "in", ("DE", "FR")),), ["DE"], ["UK", None, 3]),
        ((Where("value", "ne", "UK"),), ["DE"], ["UK", None]),
        ((Where("value", "eq", True),), [True], [False, None]),
        ((Where("value", "ne", 3),), [4], [3, math.nan, None]),
    ],
)
def test_a_count_says_yes_where_all_tests_hold(
    where: tuple[Where, ...], yes: list[object], no: list[object]
) -> None:
    question = asked("count", categories=("no", "yes"), where=where)
    assert [input_of(question, v) for v in yes] == [1] * len(yes)
    assert [input_of(question, v) for v in no] == [0] * len(no)


# ---- what is read ------------------------------------------------------------------------------------------


def metric(kind: MetricKind = "histogram", read: MetricRead = "value", **parts: object) -> Metric:
    given = {"name": "m", "purpose": "measurement", "kind": kind, "of": Ref("profile@1", "country")}
    rest = {"epsilon": 1.0, "min_subjects": 50, "window_us": 86_400_000_000, "read": read}
    return Metric(**given | rest | parts)  # type: ignore[arg-type]  # the test's own keywords


def test_the_counted_statuses_are_those_of_serving_but_one() -> None:
    assert list(COUNTED) == [s.name for s in Status if s is not Status.REVOKED]


@pytest.mark.parametrize("status", list(Status))
def test_a_status_is_read_whatever_it_is_but_of_nobody_without_permission(status: Status) -> None:
    completeness = metric(read="status", values=COUNTED)
    answer = read_input(completeness, Value(None, status), 0)
    assert answer == (None if status is Status.REVOKED else COUNTED.index(status.name))


def test_an_age_is_in_seconds_since_the_value_was_true() -> None:
    seen = what_is_read(metric(read="age"), Value("DE", Status.PRESENT, 10_000_000), 12_500_000)
    assert seen == Fraction(5, 2)
    age = metric(read="age", edges=(1.0, 2.5, 60.0))
    assert read_input(age, Value("DE", Status.PRESENT, 10_000_000), 12_500_000) == 2
    assert read_input(age, Value("DE", Status.PRESENT, None), 12_500_000) is None
    assert read_input(age, Value(None, Status.EXPIRED, 10_000_000), 12_500_000) is None


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.PRESENT])
def test_only_a_present_value_is_read(status: Status) -> None:
    assert read_input(metric(values=("UK", "DE")), Value("DE", status), 0) is None


@pytest.mark.parametrize(
    ("status", "reason", "answer"),
    [
        (Status.NULL, "NULL", 0),
        (Status.NOT_FOUND, "NOT_FOUND", 0),
        (Status.EXPIRED, "EXPIRED", 0),
        (Status.DEFAULTED, "NULL: no event yet", 0),
        (Status.DEFAULTED, "NOT_FOUND", 0),
        (Status.DEFAULTED, "NOT_SYNCED: its channel was not received yet", None),
        (Status.NOT_SYNCED, "NOT_SYNCED", None),
        (Status.WARMING, "WARMING", None),
        (Status.REVOKED, "REVOKED", None),
    ],
)
def test_law_7_to_a_count_it_says_no_where_nothing_is_there_and_nothing_where_that_is_not_known(
    status: Status, reason: str, answer: int | None
) -> None:
    many = metric("count", where=(Where("value", "ge", 3),))
    assert read_input(many, Value(5, status, reason=reason), 0) == answer


# ---- with the mechanism ------------------------------------------------------------------------------------

MEASURED = Catalog.load(Path(__file__).parents[2] / "examples" / "catalogs" / "measured.toml")


@pytest.mark.parametrize("name", list(MEASURED.metrics))
@given(value=NUMBERS | st.sampled_from(["UK", "other", "PRESENT", "WARMING"]))
def test_every_input_is_one_that_the_mechanism_takes(name: str, value: object) -> None:
    """Of each kind that a catalog may declare, in its mode."""
    question = question_of(MEASURED.metrics[name])
    found = input_of(question, value)
    if found is not None:
        noised = mechanism_for(question) if question.mode == "local" else curator_for(question)
        assert 0 <= found < noised.inputs
