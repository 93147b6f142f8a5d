"""Who takes part: with `absent` it depends on nobody's value, without it having a value shows."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.aggregates.mechanisms import STEPS, definition, input_of, question_of
from edge_runtime.aggregates.reading import read_input
from edge_runtime.catalog import Catalog, CatalogError
from edge_runtime.catalog.model import Metric
from edge_runtime.serving.status import Status
from tests.support.aggregate_ends import Kiosk, Value, metric_catalog

FILE = Path(__file__).parents[2] / "examples" / "catalogs" / "measured.toml"
KNOWN = [status for status in Status if status not in (Status.REVOKED, Status.WARMING, Status.NOT_SYNCED)]
VALUES = [Value(value, status) for status in KNOWN for value in ("UK", "DE", "other", "ES", "", None, 7)]


def metric(name: str, **changes: object) -> Metric:
    table: dict[str, Any] = copy.deepcopy(tomllib.loads(FILE.read_text()))
    changed = table["metrics"][name] | changes
    table["metrics"][name] = {key: value for key, value in changed.items() if value is not None}
    return Catalog.from_dict(table).metrics[name]


@pytest.mark.parametrize("absent", ["other", "none of these"])
def test_with_absent_everybody_who_may_is_asked_for_whatever_the_value(absent: str) -> None:
    """The server sees who asks for a ticket: all values look the same to it, and cost the same."""
    kiosk = Kiosk(len(VALUES), of=metric_catalog(absent=absent))
    kiosk.values = {f"user:u{i}": value for i, value in enumerate(VALUES)}
    request = kiosk.reporter.on_offer(kiosk.offer())
    assert request is not None
    assert len(request.subjects) == len(VALUES)
    assert len(kiosk.answer(kiosk.offer())) == len(VALUES)
    assert kiosk.spent() == len(VALUES) * 1_000_000


def test_without_it_asking_for_a_ticket_says_that_a_value_of_these_categories_is_there() -> None:
    """Why `of` and `values` of such a metric are signed: of two subjects one asks, free and without noise."""
    kiosk = Kiosk(2)
    kiosk.values["user:u1"] = Value("ES")
    request = kiosk.reporter.on_offer(kiosk.offer())
    assert request is not None
    assert request.subjects == [kiosk.keyring.pseudonym("user:u0")]


@pytest.mark.parametrize("status", [Status.REVOKED, Status.WARMING, Status.NOT_SYNCED])
def test_without_permission_or_while_it_is_not_known_nobody_answers_as_absent(status: Status) -> None:
    kiosk = Kiosk(1, of=metric_catalog(absent="other"))
    kiosk.values["user:u0"] = Value("UK", status)
    assert kiosk.reporter.on_offer(kiosk.offer()) is None


def test_an_absent_category_is_one_of_the_declared_or_one_more() -> None:
    plain = {"reference": None, "drift_alarm": None}
    declared, more = (metric("customers_by_country", absent=name, **plain) for name in ("other", "x"))
    assert declared.categories == ("UK", "DE", "FR", "other")
    assert more.categories == ("UK", "DE", "FR", "other", "x")
    assert question_of(more).categories == more.categories
    buckets = metric("views_band", absent="never")
    assert buckets.categories == ("[-inf, 1)", "[1, 10)", "[10, inf)", "never")
    assert read_input(buckets, Value(None, Status.NULL), 0) == 3
    assert read_input(buckets, Value(float("nan")), 0) == 3
    assert read_input(buckets, Value(5.0), 0) == 1


def test_an_absent_number_is_answered_as_if_it_were_the_value() -> None:
    spend = metric("spend", absent=125)
    assert read_input(spend, Value(None, Status.NULL), 0) == input_of(question_of(spend), 125) == STEPS // 4
    assert read_input(metric("spend"), Value(None, Status.NULL), 0) is None
    assert read_input(metric("basket", absent=511), Value(None, Status.EXPIRED), 0) == 63
    aged = metric("profile_age", absent=604_800)
    assert read_input(aged, Value("DE"), 0) == 63  # of no known time


def test_another_absent_is_another_question() -> None:
    made = [metric("spend"), metric("spend", absent=0), metric("spend", absent=1)]
    assert len({definition(one) for one in made}) == 3


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("buyers", 0),
        ("profile_status", "NULL"),
        ("spend", 501),
        ("spend", "none"),
        ("customers_by_country", 7),
        ("customers_by_country", ""),
        ("customers_by_country", "x"),  # the reference has no share for it
    ],
)
def test_an_absent_that_does_not_fit_is_a_fault(name: str, absent: object) -> None:
    with pytest.raises(CatalogError):
        metric(name, absent=absent)


def test_no_two_buckets_have_one_name() -> None:
    """A release lists numbers by name: of two buckets with one name, one would be lost."""
    near = metric("views_band", edges=[1_000_000, 1_000_001, 1_000_002])
    assert len(set(near.categories)) == len(near.categories) == 4
