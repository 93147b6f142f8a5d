"""Every operator as catalogs declare it: what it takes loads and reads back, what it does not is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog, CatalogError, CatalogLimits, SessionFeature
from edge_runtime.catalog.operators import ARGUMENTS, NUMERIC, OPERATORS
from edge_runtime.session.layout import OPERATORS as BUILT
from edge_runtime.session.plan import compile_catalog
from tests.support.broken_catalog import Table, faults
from tests.support.features import arguments, with_features

PLACE = "views.activity.features.f"
MINIMAL: dict[str, Table] = {
    op: {
        "op": op,
        "event": "view",
        **{
            key: {
                "value": "price" if op in NUMERIC else "item",
                "by": "item",
                "n": 5,
                "gap": "30m",
                "half_life": "1h",
                "embedding": "item_vec:embedding",
            }[key]
            for key in spec.required
        },
    }
    for op, spec in OPERATORS.items()
}


def one(declared: Table) -> Catalog:
    return Catalog.from_dict(with_features({"f": declared}))


def feature_of(declared: Table) -> SessionFeature:
    feature = one(declared).view("activity").features["f"]
    assert isinstance(feature, SessionFeature)
    return feature


def faults_of(declared: Table) -> dict[str, str]:
    return faults(with_features({"f": declared}))


@given(st.sampled_from(sorted(OPERATORS)).flatmap(arguments))
@settings(max_examples=300)
def test_every_declaration_reads_back_equal(declared: Table) -> None:
    """Through `to_dict`, JSON and back, each operator with any of its arguments is the same catalog."""
    catalog = one(declared)
    again = Catalog.from_json(json.dumps(catalog.to_dict()))
    assert again == catalog
    assert again.fingerprint == catalog.fingerprint
    assert again.to_dict() == catalog.to_dict()


@pytest.mark.parametrize("op", OPERATORS)
def test_an_operator_lives_on_what_it_requires(op: str) -> None:
    """With its required arguments alone an operator loads; where it is built it compiles."""
    catalog = one(MINIMAL[op])
    if op in BUILT:
        assert "f" in compile_catalog(catalog).views["activity@1"].names


@pytest.mark.parametrize("op", OPERATORS)
def test_every_argument_that_an_operator_requires_is_missed(op: str) -> None:
    """Without one of them there is a fault at that argument, saying what was expected."""
    for key in OPERATORS[op].required:
        declared = {k: v for k, v in MINIMAL[op].items() if k != key}
        assert faults_of(declared)[f"{PLACE}.{key}"].startswith("missing: expected")


@pytest.mark.parametrize("op", OPERATORS)
def test_every_argument_that_an_operator_does_not_take_is_refused(op: str) -> None:
    """A window on a session, a gap on a count: named, with what the operator does take."""
    spec = OPERATORS[op]
    taken = {*spec.required, *spec.optional, *(("value",) if op == "top_n" else ())}
    foreign = set(ARGUMENTS) - taken
    for key in foreign:
        reason = faults_of({**MINIMAL[op], key: "1h"})[f"{PLACE}.{key}"]
        assert reason.startswith(f"{op} takes no {key}: expected op event where default")


@pytest.mark.parametrize("op", sorted(NUMERIC))
def test_a_number_is_asked_for_where_numbers_are_added_or_compared(op: str) -> None:
    """Text, an entity's id or a yes-or-no is no number."""
    for value, got in (("item", "the entity item"), ("category", "category is string")):
        reason = faults_of({**MINIMAL[op], "value": value})[f"{PLACE}.value"]
        assert reason == f"expected a numeric property for {op}, got {got}" or reason.endswith(got)


@pytest.mark.parametrize(
    ("key", "limit", "op"),
    [
        ("n", 1000, "last_n"),
        ("n", 1000, "top_n"),
        ("n", 1000, "decayed_mean_vector"),
        ("cap", 65_536, "distinct"),
        ("cap", 65_536, "session_distinct"),
        ("max_keys", 65_536, "count_by"),
        ("max_keys", 65_536, "top_n"),
    ],
)
def test_law_11_sizes_end_at_a_limit(key: str, limit: int, op: str) -> None:
    """n, cap and max_keys are whole numbers from 1 to the limit."""
    assert getattr(feature_of({**MINIMAL[op], key: limit}), key) == limit
    for wrong in (0, -1, limit + 1, 2.0, True, "5", None):
        expected = f"expected an integer from 1 to {limit}"
        assert faults_of({**MINIMAL[op], key: wrong})[f"{PLACE}.{key}"].startswith(expected)


def test_sizes_that_are_not_given_are_the_documented_ones() -> None:
    """cap 2048, max_keys 256, and 32 ids for a vector."""
    assert feature_of(MINIMAL["distinct"]).cap == 2048
    assert feature_of(MINIMAL["count_by"]).max_keys == 256
    assert feature_of(MINIMAL["decayed_mean_vector"]).n == 32


@pytest.mark.parametrize("window", ["999ms", "1us", "999999us"])
def test_a_window_that_no_tile_fits_is_a_fault(window: str) -> None:
    """A tile is at least one second long, so a window shorter than that holds none."""
    reason = faults_of({**MINIMAL["count"], "window": window})[f"{PLACE}.window"]
    assert reason == f"expected at least 1s, the shortest tile, got {window}"


@pytest.mark.parametrize(
    ("window", "hop_s", "tiles"),
    [("1s", 1, 1), ("1500ms", 1, 2), ("60s", 1, 60), ("61s", 2, 31), ("5m", 5, 60), ("30d", 43_200, 60)],
)
def test_any_longer_window_is_cut_into_whole_seconds(window: str, hop_s: int, tiles: int) -> None:
    """Hop: a sixtieth rounded up to a second; tiles: as many as cover the window, never fewer."""
    feature = feature_of({**MINIMAL["count"], "window": window})
    assert (feature.hop_us, feature.tiles) == (hop_s * 1_000_000, tiles)
    assert hop_s * 1_000_000 * tiles >= (feature.window_us or 0)


def test_windows_and_gaps_end_at_the_retention() -> None:
    """Exactly the purpose's retention is legal, a microsecond more is not; zero is none."""
    for key, op in (("window", "sum"), ("gap", "session_count")):
        feature_of({**MINIMAL[op], key: "30d"})
        assert "retention of 30d" in faults_of({**MINIMAL[op], key: "2592000000001us"})[f"{PLACE}.{key}"]
        for zero in (0, "0s", "0d"):
            assert "longer than 0" in faults_of({**MINIMAL[op], key: zero})[f"{PLACE}.{key}"]


def test_top_n_counts_by_or_by_value_never_both() -> None:
    """`by` and `value` mean the same for top_n; its result is a list of keys."""
    by = {"op": "top_n", "event": "view", "by": "item", "n": 3}
    value = {"op": "top_n", "event": "view", "value": "item", "n": 3}
    assert feature_of(by) == feature_of(value)
    assert str(feature_of(by).dtype) == "list<string>"
    assert "got both" in faults_of({**by, "value": "item"})[f"{PLACE}.value"]
    assert "missing" in faults_of({"op": "top_n", "event": "view", "n": 3})[f"{PLACE}.by"]
    assert "string property" in faults_of({**value, "value": "price"})[f"{PLACE}.value"]


@pytest.mark.parametrize("op", OPERATORS)
def test_a_default_is_of_the_results_dtype(op: str) -> None:
    """A default that the model could not tell from a value of that dtype is legal, any other is a fault."""
    dtype = feature_of(MINIMAL[op]).dtype
    right: dict[str, object] = {"int64": -1, "float64": 0, "string": "none", "time": 0}
    wrong: dict[str, object] = {"int64": 0.5, "float64": "0", "string": 0, "time": 1.5}
    if str(dtype) in right:
        assert feature_of({**MINIMAL[op], "default": right[str(dtype)]}).default == right[str(dtype)]
        assert (
            f"one {dtype} value"
            in faults_of({**MINIMAL[op], "default": wrong[str(dtype)]})[f"{PLACE}.default"]
        )
    else:
        assert "is not one value" in faults_of({**MINIMAL[op], "default": 0})[f"{PLACE}.default"]


@pytest.mark.parametrize("op", ["median", "Count", "", "ratio ", 5, None, ["count"]])
def test_an_unknown_operator_is_told_the_known_ones(op: object) -> None:
    """Nothing is guessed; what else the feature declares is not called unknown for it."""
    found = faults_of({"op": op, "event": "view", "value": "price", "window": "1h", "of": "views_5m"})
    assert list(found) == [f"{PLACE}.op"]
    assert found[f"{PLACE}.op"].startswith("expected one of count sum mean")


def test_an_event_or_property_that_is_not_declared_is_told_the_declared_ones() -> None:
    """Of several events each must carry the value."""
    assert "(view buy)" in faults_of({"op": "count", "event": ["view", "veiw"]})[f"{PLACE}.event"]
    lacking = faults_of({"op": "last", "event": ["view", "buy"], "value": "category"})
    assert "property or entity of buy (price quantity user item)" in lacking[f"{PLACE}.value"]
    assert "list" in faults_of({"op": "count", "event": 5})[f"{PLACE}.event"]
    assert "at least one" in faults_of({"op": "count", "event": []})[f"{PLACE}.event"]
    assert "again" in faults_of({"op": "count", "event": ["view", "view"]})[f"{PLACE}.event[1]"]


def test_limits_are_settings() -> None:
    """A deployment may draw them closer."""
    table = with_features({"f": {**MINIMAL["last_n"], "n": 11}})
    with pytest.raises(CatalogError, match="from 1 to 10"):
        Catalog.from_dict(table, limits=CatalogLimits(last_n=10))
