"""The grammar of metrics: every kind reads back as it was, each fault stands at its exact place."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import question_of
from edge_runtime.catalog import Catalog, CatalogError
from edge_runtime.catalog.hidden import is_hidden
from edge_runtime.catalog.limits import CatalogLimits
from edge_runtime.catalog.metrics import CURATOR_MECHANISMS, KINDS, LOCAL_MECHANISMS
from edge_runtime.catalog.model import Where
from edge_runtime.catalog.statuses import COUNTED
from tests.edge.test_catalog_faults import faults_or_none
from tests.support.broken_catalog import Change, drop, faults, put

FILE = Path(__file__).parents[2] / "examples" / "catalogs" / "measured.toml"
TABLE: dict[str, Any] = tomllib.loads(FILE.read_text())


def changed(*changes: Change) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    for change in changes:
        change(table)
    return table


def loaded(*changes: Change) -> Catalog:
    return Catalog.from_dict(changed(*changes))


def both(*changes: Change) -> Change:
    def change(table: dict[str, Any]) -> None:
        for one in changes:
            one(table)

    return change


COUNTRY, BAND, SPEND = "metrics/customers_by_country", "metrics/views_band", "metrics/spend"
BUYERS, BASKET, SUM = "metrics/buyers", "metrics/basket", "metrics/pace_sum"
STATUS, AGE = "metrics/profile_status", "metrics/profile_age"
SHARES = [0.25, 0.25, 0.25, 0.25]

MEMORY_ONLY = [put("purposes/measurement/retention", "session")]
FEATURES = {k: v for k, v in TABLE["views"]["activity"]["features"].items() if k == "views_7d"} | {
    "pace": {"op": "decayed_count", "event": "view", "half_life": "1d"}
}

CASES: list[tuple[Change, str, str]] = [
    # what is read
    (drop(f"{SPEND}/of"), "metrics.spend.of", "missing"),
    (put(f"{SPEND}/of", 5), "metrics.spend.of", "view:feature or a session feature in place, got int 5"),
    (put(f"{SPEND}/of", "metrics.spend@1:value"), "metrics.spend.of", "no view metrics.spend@1"),
    (put(f"{COUNTRY}/read", "when"), "metrics.customers_by_country.read", "one of value status age"),
    (put(f"{SPEND}/read", "status"), "metrics.spend.read", "status is for histogram"),
    (put(f"{BUYERS}/read", "age"), "metrics.buyers.read", "age is for histogram mean quantile"),
    (put(f"{SUM}/read", "age"), "metrics.pace_sum.read", "age is for histogram mean quantile"),
    (put(f"{STATUS}/values", ["PRESENT", "NULL"]), "metrics.profile_status.values", "categories of a status"),
    (put(f"{STATUS}/edges", [1]), "metrics.profile_status.edges", "categories of a status are PRESENT NULL"),
    (put(f"{STATUS}/buckets", [1]), "metrics.profile_status.buckets", "categories of a status"),
    (put(f"{AGE}/kind", "histogram"), "metrics.profile_age.bounds", "a histogram takes no bounds"),
    (put(f"{COUNTRY}/read", "age"), "metrics.customers_by_country.values", "missing"),
    (drop(f"{AGE}/bounds"), "metrics.profile_age.bounds", "the age of country declares no range"),
    # features declared in place
    (drop(f"{SPEND}/of/entity"), "metrics.spend.of.entity", "missing"),
    (put(f"{SPEND}/of/entity", "item"), "metrics.spend.of.entity", "one personal entity"),
    (put(f"{SPEND}/of/entity", ["user", "item"]), "metrics.spend.of.entity", "one personal entity"),
    (put(f"{SPEND}/of/entity", "ghost"), "metrics.spend.of.entity", "declared entity type"),
    (drop(f"{SPEND}/of/op"), "metrics.spend.of.op", "missing"),
    (put(f"{SPEND}/of/op", "ratio"), "metrics.spend.of.op", "one of count sum"),
    (put(f"{SPEND}/of/op", ["sum"]), "metrics.spend.of.op", "one of count sum"),
    (drop(f"{SPEND}/of/value"), "metrics.spend.of.value", "missing"),
    (put(f"{SPEND}/of/event", "click"), "metrics.spend.of.event", "declared event"),
    (put(f"{SPEND}/of/window", "31d"), "metrics.spend.of.window", "retention of 30d"),
    (put(f"{SPEND}/of/default", 0.0), "metrics.spend.of.default", "not the subject's value"),
    (put(f"{SPEND}/of/colour", "red"), "metrics.spend.of.colour", "unknown key"),
    (put(f"{SPEND}/of/where", {"price": {"near": 1}}), "metrics.spend.of.where.price.near", "unknown test"),
    (put(f"{SPEND}/of/op", "last_n"), "metrics.spend.of.n", "missing"),
    (
        both(put(f"{SPEND}/of/op", "last_n"), put(f"{SPEND}/of/n", 3)),
        "metrics.spend.of",
        "a number for mean, value is list<float64>",
    ),
    # bounds
    (drop(f"{SPEND}/bounds"), "metrics.spend.bounds", "mean needs bounds"),
    (put(f"{SPEND}/bounds", [1]), "metrics.spend.bounds", "[low, high]"),
    (put(f"{SPEND}/bounds", [1, 1]), "metrics.spend.bounds", "low < high"),
    (put(f"{SPEND}/bounds", [0, "x"]), "metrics.spend.bounds[1]", "finite number"),
    (put(f"{SPEND}/bounds", [0, float("inf")]), "metrics.spend.bounds[1]", "finite number"),
    (put(f"{BUYERS}/bounds", [0, 1]), "metrics.buyers.bounds", "a count takes no bounds"),
    # conditions of a count
    (put(f"{BUYERS}/where", {}), "metrics.buyers.where", "at least one of eq ne"),
    (put(f"{BUYERS}/where", 3), "metrics.buyers.where", "expected a table"),
    (put(f"{BUYERS}/where", {"ge": "x"}), "metrics.buyers.where.ge", "expected a int64 value"),
    (put(f"{BUYERS}/where", {"in": []}), "metrics.buyers.where.in", "at least one"),
    (put(f"{BUYERS}/where", {"near": 3}), "metrics.buyers.where.near", "unknown test"),
    (put(f"{SPEND}/where", {"ge": 3}), "metrics.spend.where", "only a count takes where: this is a mean"),
    (
        both(put(f"{BUYERS}/of", "profile:country"), put(f"{BUYERS}/where", {"ge": "UK"})),
        "metrics.buyers.where.ge",
        "country is string, which has no order",
    ),
    (
        both(put(f"{BUYERS}/of/op", "last_n"), put(f"{BUYERS}/of/n", 3), put(f"{BUYERS}/of/value", "price")),
        "metrics.buyers.where",
        "value is list<float64>, which has no tests",
    ),
    # quantiles
    (put(f"{BASKET}/quantiles", []), "metrics.basket.quantiles", "at least one"),
    (put(f"{BASKET}/quantiles", 0.5), "metrics.basket.quantiles", "expected a list"),
    (put(f"{BASKET}/quantiles", [0, 0.5]), "metrics.basket.quantiles[0]", "more than 0 and under 1, got 0"),
    (put(f"{BASKET}/quantiles", [0.5, 1]), "metrics.basket.quantiles[1]", "more than 0 and under 1, got 1"),
    (put(f"{BASKET}/quantiles", [0.5, 0.5]), "metrics.basket.quantiles[1]", "more than the item before"),
    (put(f"{BASKET}/leaves", 63), "metrics.basket.leaves", "power of two from 4 to 4096, got 63"),
    (put(f"{BASKET}/leaves", 2), "metrics.basket.leaves", "integer from 4 to 4096"),
    (put(f"{BASKET}/leaves", 8_192), "metrics.basket.leaves", "integer from 4 to 4096"),
    (put(f"{BASKET}/leaves", 64.0), "metrics.basket.leaves", "integer from 4 to 4096"),
    (put(f"{SPEND}/quantiles", [0.5]), "metrics.spend.quantiles", "only a quantile"),
    (put(f"{BUYERS}/leaves", 64), "metrics.buyers.leaves", "only a quantile"),
    # mode and mechanism
    (put(f"{SPEND}/mode", "central"), "metrics.spend.mode", "one of local curator"),
    (put(f"{SPEND}/mechanism", "unary_encoding"), "metrics.spend.mechanism", "duchi piecewise for a mean"),
    (put(f"{BAND}/mechanism", "duchi"), "metrics.views_band.mechanism", "subset_selection unary_encoding"),
    (put(f"{BUYERS}/mechanism", "hierarchical"), "metrics.buyers.mechanism", "for a count in mode local"),
    (put(f"{BASKET}/mechanism", "discrete_laplace"), "metrics.basket.mechanism", "one of hierarchical"),
    (
        put(f"{SUM}/mechanism", "duchi"),
        "metrics.pace_sum.mechanism",
        "discrete_laplace for a sum in mode",
    ),
    (put(f"{SUM}/mechanism", 7), "metrics.pace_sum.mechanism", "expected a string"),
    # reference and alarm
    (put(f"{COUNTRY}/reference", [0.5, 0.5]), "metrics.customers_by_country.reference", "each of 4 categ"),
    (
        put(f"{COUNTRY}/reference", [0.5, 0.5, 0.1, -0.1]),
        "metrics.customers_by_country.reference[3]",
        "more than 0, got -0.1",
    ),
    (
        put(f"{COUNTRY}/reference", [0.5, 0, 0.25, 0.25]),
        "metrics.customers_by_country.reference[1]",
        "empty category",
    ),
    (
        put(f"{COUNTRY}/reference", [0.25, 0.25, 0.25, 0.25 + 3e-9]),
        "metrics.customers_by_country.reference",
        "sum to 1",
    ),
    (put(f"{COUNTRY}/reference", "even"), "metrics.customers_by_country.reference", "expected a list"),
    (put(f"{SPEND}/reference", SHARES), "metrics.spend.reference", "only a histogram"),
    (put(f"{COUNTRY}/drift_alarm", 0), "metrics.customers_by_country.drift_alarm", "more than 0"),
    (drop(f"{COUNTRY}/reference"), "metrics.customers_by_country.drift_alarm", "reference beside it"),
    (put(f"{BUYERS}/drift_alarm", 0.2), "metrics.buyers.drift_alarm", "only a histogram"),
    # categories
    (put(f"{BAND}/values", ["a", "b"]), "metrics.views_band.values", "expected values or edges, got both"),
    (put(f"{BAND}/edges", []), "metrics.views_band.edges", "at least one edge"),
    (put(f"{BAND}/edges", [2, 1]), "metrics.views_band.edges[1]", "more than the item before"),
    (put(f"{COUNTRY}/values", ["UK"]), "metrics.customers_by_country.values", "at least two"),
    (put(f"{SPEND}/values", ["a", "b"]), "metrics.spend.values", "only a histogram takes values"),
    (put(f"{SPEND}/edges", [1]), "metrics.spend.edges", "only a histogram takes edges"),
    (
        put("views/profile/features/country/values", ["UK"]),
        "metrics.customers_by_country.values",
        "at least two categories",
    ),
    # what can never be answered
    (both(*MEMORY_ONLY), "metrics.spend.purpose", "measurement is kept in memory only"),
    (
        both(put("purposes/personalization/retention", "session"), put("views/activity/features", FEATURES)),
        "metrics.customers_by_country.of",
        "personalization is kept in memory only",
    ),
    # the rest
    (put(f"{SPEND}/epsilon", 9e-7), "metrics.spend.epsilon", "at least 1e-06"),
    (put(f"{SPEND}/epsilon", -1), "metrics.spend.epsilon", "at least 1e-06"),
    (put(f"{SPEND}/colour", 1), "metrics.spend.colour", "unknown key: expected one of kind purpose epsilon"),
    (drop(f"{SPEND}/kind"), "metrics.spend.kind", "missing: expected one of count sum mean"),
    (put("metrics/at", TABLE["metrics"]["spend"]), "metrics.at", "reserved name"),
    (put("metrics/a.b", TABLE["metrics"]["spend"]), "metrics.a.b", "letters"),
]


@pytest.mark.parametrize(
    ("change", "place", "reason"), CASES, ids=[f"{n}-{c[1]}" for n, c in enumerate(CASES)]
)
def test_a_fault_is_named_at_its_place(change: Change, place: str, reason: str) -> None:
    """One broken thing gives a fault at exactly its place, saying what was expected."""
    found = faults(changed(change))
    assert place in found, found
    assert reason in found[place]


def test_one_wrong_word_is_one_fault() -> None:
    """A fault does not drag others behind it."""
    for change, place, reason in CASES:
        if place == "metrics.profile_age.bounds":  # another kind: each key of the old one is a fault
            continue
        if reason.endswith("memory only"):  # of a purpose that all metrics need
            continue
        extra = set(faults(changed(change))) - {place}
        assert len(extra) <= 1, (place, extra)


def test_no_view_can_bear_the_name_of_a_hidden_one() -> None:
    view = TABLE["views"]["activity"]
    found = faults(changed(put("views/metrics.spend", view)))
    assert "letters, digits, _ and -" in found["views.metrics.spend"]


def test_every_kind_of_metric_reads_back_as_it_was() -> None:
    catalog = Catalog.load(FILE)
    table = catalog.to_dict()
    assert Catalog.from_dict(table) == catalog
    assert Catalog.from_dict(table).to_dict() == table
    assert Catalog.from_dict(table).fingerprint == catalog.fingerprint


def test_the_canonical_table_writes_every_default_out_and_a_feature_where_it_was_declared() -> None:
    metrics = Catalog.load(FILE).to_dict()["metrics"]
    assert metrics["spend"] == {
        "purpose": "measurement",
        "kind": "mean",
        "of": {"entity": "user", "event": ["buy"], "op": "sum", "value": "price", "window": "7d"},
        "read": "value",
        "mode": "local",
        "epsilon": 1.0,
        "min_subjects": 100,
        "window": "7d",
        "bounds": [0.0, 500.0],
    }
    assert metrics["profile_age"]["leaves"] == 64
    assert "values" not in metrics["profile_status"]
    assert set(Catalog.load(FILE).to_dict()["views"]) == {"activity@1", "profile@1"}


def test_what_is_not_written_has_a_default() -> None:
    catalog = loaded(drop(f"{BASKET}/quantiles"), drop(f"{BASKET}/leaves"))
    basket = catalog.metrics["basket"]
    assert (basket.quantiles, basket.leaves, basket.mode, basket.read) == ((0.5,), 64, "local", "value")
    assert basket.mechanism is None
    assert catalog.metrics["buyers"].where == (Where("value", "ge", 1),)
    assert catalog.metrics["profile_status"].categories == COUNTED
    assert (catalog.metrics["spend"].low, catalog.metrics["spend"].high) == (0.0, 500.0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_author_may_name_each_mechanism_of_a_kind(kind: str) -> None:
    metric = {"histogram": BAND, "count": BUYERS, "mean": SPEND, "sum": SUM, "quantile": BASKET}[kind]
    for mode, names in (("local", LOCAL_MECHANISMS[kind]), ("curator", CURATOR_MECHANISMS)):
        for name in names:
            found = loaded(put(f"{metric}/mode", mode), put(f"{metric}/mechanism", name))
            read = found.metrics[metric.removeprefix("metrics/")]
            assert (read.kind, read.mode, read.mechanism) == (kind, mode, name)


def test_a_reference_may_be_rounded_and_its_alarm_absent() -> None:
    catalog = loaded(
        put(f"{COUNTRY}/reference", [1 / 3, 1 / 3, 1 / 6, 1 / 6]), drop(f"{COUNTRY}/drift_alarm")
    )
    assert catalog.metrics["customers_by_country"].drift_alarm is None
    assert loaded(put(f"{COUNTRY}/reference", [0.1, 0.2, 0.3, 0.4 + 9e-10]))


def test_the_ceiling_of_epsilon_holds_for_every_kind() -> None:
    """Also under other limits: what a device was built with counts."""
    for name in TABLE["metrics"]:
        table = changed(put(f"metrics/{name}/epsilon", 4.5))
        assert "at most 4" in faults(table)[f"metrics.{name}.epsilon"]
    with pytest.raises(CatalogError, match=r"at most 0\.1"):
        Catalog.from_dict(TABLE, limits=CatalogLimits(epsilon=0.1))


@pytest.mark.parametrize("epsilon", [1e-6, 0.1, 4.0])
def test_every_metric_that_loads_can_be_asked(epsilon: float) -> None:
    """Its question has a mechanism, at the least epsilon and at the most."""
    for name in TABLE["metrics"]:
        question_of(loaded(put(f"metrics/{name}/epsilon", epsilon)).metrics[name])


# ---- hidden views ------------------------------------------------------------------------------------------


def hidden(catalog: Catalog) -> dict[str, str]:
    return {v.name: v.key for v in catalog.views.values() if is_hidden(v)}


def test_a_hidden_view_is_the_metrics_own() -> None:
    catalog = Catalog.load(FILE)
    of_metrics = {name for name in hidden(catalog) if name.startswith("metrics.")}
    assert of_metrics == {"metrics.spend", "metrics.buyers", "metrics.basket"}
    view = catalog.views[catalog.metrics["spend"].of.view]
    assert (view.source, view.purpose, view.entity, view.ttl_us) == ("session", "measurement", ("user",), 0)
    assert set(view.features) == {"value"}


@pytest.mark.parametrize(
    "change",
    [
        put(f"{SPEND}/of/window", "8d"),
        put(f"{SPEND}/of/value", "quantity"),
        put(f"{SPEND}/of/event", "view"),
        put(f"{SPEND}/of/where", {"price": {"gt": 1.0}}),
        put(f"{SPEND}/purpose", "personalization"),
    ],
)
def test_another_definition_is_another_version(change: Change) -> None:
    """So that its state starts anew; what is asked of it moves nothing, nor does the catalog around it."""
    assert hidden(loaded(change))["metrics.spend"] != hidden(loaded())["metrics.spend"]
    assert hidden(loaded(change))["metrics.buyers"] == hidden(loaded())["metrics.buyers"]
    asked = loaded(put(f"{SPEND}/bounds", [0, 9]), put(f"{SPEND}/epsilon", 0.1), put("catalog/version", 2))
    assert hidden(asked) == hidden(loaded())


PATHS = [
    "of",
    "of/op",
    "of/entity",
    "of/event",
    "where",
    "quantiles",
    "leaves",
    "bounds",
    "mode",
    "mechanism",
]
PATHS += ["reference", "drift_alarm", "read", "edges", "values", "kind", "epsilon"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)
words = st.sampled_from(["status", "age", "curator", "histogram", "count", "quantile", "sum", "user", [0.5]])


@given(st.sampled_from(sorted(TABLE["metrics"])), st.sampled_from(PATHS), json_values | words)
def test_garbage_anywhere_in_a_metric_loads_or_is_named(name: str, path: str, garbage: object) -> None:
    table = changed()
    place: Callable[..., object] = put(f"metrics/{name}/{path}", garbage)
    if path.startswith("of/") and not isinstance(table["metrics"][name]["of"], dict):
        return
    place(table)
    found = faults_or_none(table)
    if found is None:
        catalog = Catalog.from_dict(table)
        assert Catalog.from_dict(catalog.to_dict()) == catalog
    else:
        assert all(f.place.startswith(f"metrics.{name}") and f.reason for f in found)
