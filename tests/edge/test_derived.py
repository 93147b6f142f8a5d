"""Derived features: declared in any order, never in a circle; computed as the encodings of services are."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.catalog import Catalog, CatalogLimits, DerivedFeature
from edge_runtime.catalog.model import Encoding, Feature
from edge_runtime.serving.encodings import encoder_for
from edge_runtime.session import encoding as scalar
from edge_runtime.session.event import make_event
from edge_runtime.session.plan import ViewPlan, ViewState, compile_catalog
from tests.support.broken_catalog import Table, faults
from tests.support.clock import ManualClock
from tests.support.features import with_features

PLACE = "views.activity.features"
PLAIN: Table = {
    "views": {"op": "count", "event": "view"},
    "buys": {"op": "count", "event": "buy"},
    "spent": {"op": "sum", "event": "buy", "value": "price"},
    "pieces": {"op": "last", "event": "buy", "value": "quantity"},
    "dearest": {"op": "last", "event": "buy", "value": "price"},
    "items": {"op": "last_n", "event": "view", "value": "item", "n": 3},
}
NO_NUMBER: Table = {"began": {"op": "session_start", "event": "view", "gap": "30m"}}
DERIVED: Table = {
    "basket": {"op": "ratio", "of": ["spent", "buys"]},
    "per_piece": {"op": "ratio", "of": ["dearest", "pieces"]},
    "quick": {"op": "log1p", "of": "spent"},
    "scored": {"op": "zscore", "of": "pieces", "mean": 0.1, "std": 3.0},
    "clipped": {"op": "clip", "of": ["spent"], "low": -1.5, "high": 99.9},
    "floored": {"op": "clip", "of": "pieces", "low": 3},
    "capped": {"op": "clip", "of": "spent", "high": 0.0},
    "band": {"op": "bucketize", "of": "dearest", "edges": [0, 0.1, 10, 1e300]},
    "whole_band": {"op": "bucketize", "of": "pieces", "edges": [0, 2.0**53, 2.0**53 + 4]},
    "deep": {"op": "log1p", "of": "twice"},
    "twice": {"op": "ratio", "of": ["basket", "scored"]},
    "far": {"op": "zscore", "of": "dearest", "mean": 0.0, "std": 1e-300},
    "further": {"op": "ratio", "of": ["dearest", "tiny"]},
    "tiny": {"op": "zscore", "of": "spent", "mean": 0.0, "std": 1e300},
}


def faults_of(**features: Table) -> dict[str, str]:
    return faults(with_features({**PLAIN, **NO_NUMBER, **features}))


def declared(name: str, **more: object) -> Table:
    return {"op": name, **more}


# ---- declared ----------------------------------------------------------------------------------------------


def test_the_order_of_declaration_is_free() -> None:
    """A derived feature may stand before what it is made of; both ways compute the same."""
    one = Catalog.from_dict(with_features({**PLAIN, **DERIVED}))
    other = Catalog.from_dict(with_features({**dict(reversed(DERIVED.items())), **PLAIN}))
    assert dict(one.view("activity").features) == dict(other.view("activity").features)
    assert Catalog.from_json(json.dumps(one.to_dict())) == one


def test_one_operand_may_stand_without_brackets() -> None:
    """`of = "a"` and `of = ["a"]` are the same feature."""
    one = with_features({**PLAIN, "f": declared("log1p", of="spent")})
    other = with_features({**PLAIN, "f": declared("log1p", of=["spent"])})
    assert Catalog.from_dict(one) == Catalog.from_dict(other)


@pytest.mark.parametrize(
    ("features", "circle"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "a -> b -> c -> a"),
        ({"a": ["b", "views"], "b": ["views", "c"], "c": ["a", "buys"]}, "a -> b -> c -> a"),
    ],
)
def test_a_circle_of_any_length_is_named(features: dict[str, list[str]], circle: str) -> None:
    """Each feature on a circle gets the whole way round; one that only leads to it gets none."""
    ways: Table = {k: declared("log1p" if len(v) == 1 else "ratio", of=v) for k, v in features.items()}
    found = faults_of(**ways, outside=declared("log1p", of="a"))
    assert set(found) == {f"{PLACE}.{name}.of" for name in features}
    assert found[f"{PLACE}.a.of"] == f"expected no circle, got {circle}"


@pytest.mark.parametrize(
    ("feature", "key", "reason"),
    [
        (declared("log1p"), "of", "missing: expected a string or a list"),
        (declared("log1p", of=[]), "of", "expected 1 feature of this view, got 0"),
        (declared("log1p", of=["views", "buys"]), "of", "expected 1 feature of this view, got 2"),
        (declared("ratio", of="views"), "of", "expected 2 features of this view, got 1"),
        (declared("ratio", of=["views", "buys", "spent"]), "of", "expected 2 features of this view, got 3"),
        (declared("ratio", of=["views", "views"]), "of[1]", "expected each item once"),
        (declared("ratio", of=["views", 5]), "of[1]", "expected a string, got int 5"),
        (declared("log1p", of="ghost"), "of", "expected features of this view (views buys"),
        (declared("log1p", of="profile:country"), "of", "expected features of this view"),
        (declared("log1p", of="items"), "of", "expected numbers, items is list<string>"),
        (declared("ratio", of=["views", "began"]), "of", "expected numbers, began is time"),
        (declared("log1p", of="views", window="1h"), "window", "unknown key: expected one of op of default"),
        (declared("ratio", of=["views", "buys"], event="view"), "event", "unknown key"),
        (declared("zscore", of="views"), "mean", "missing: expected a finite number"),
        (declared("zscore", of="views", mean=0, std=0), "std", "above 0"),
        (declared("zscore", of="views", mean=math.inf, std=1), "mean", "finite"),
        (declared("clip", of="views"), "low", "missing: expected low, high or both"),
        (declared("clip", of="views", low=2, high=1), "low", "at most high"),
        (declared("bucketize", of="views", edges=[]), "edges", "at least one edge"),
        (declared("bucketize", of="views", edges=[1, 1]), "edges[1]", "more than the item before"),
        (declared("bucketize", of="views", edges=[1], default=0.5), "default", "expected one int64 value"),
        (declared("ratio", of=["views", "buys"], default="x"), "default", "expected one float64 value"),
        (declared("one_hot", of="views"), "op", "expected one of count"),
    ],
)
def test_what_cannot_be_derived_is_named_at_its_place(feature: Table, key: str, reason: str) -> None:
    """A missing operand, one that is no number, a wrong count, a wrong argument."""
    found = faults_of(f=feature)
    assert reason in found[f"{PLACE}.f.{key}"], found


def test_an_operand_with_a_fault_of_its_own_gets_no_second_one() -> None:
    """The operand is there, only wrong: what is made of it is not told that it is missing."""
    found = faults_of(bad=declared("count", event="veiw"), f=declared("log1p", of="bad"))
    assert list(found) == [f"{PLACE}.bad.event"]


def test_law_11_a_chain_of_derived_features_ends_at_a_limit() -> None:
    """Eight deep is legal, nine is not: each is spelled out in the generated code down to the events."""
    chain = {f"d{n}": declared("log1p", of=f"d{n - 1}" if n else "views") for n in range(9)}
    found = faults_of(**chain)
    assert found == {f"{PLACE}.d8.of": "expected at most 8 derived features in one chain, got more"}
    backwards = faults_of(**dict(reversed(chain.items())))
    assert f"{PLACE}.d8.of" in backwards
    del chain["d8"]
    features = {**PLAIN, **chain}
    plan = compile_catalog(Catalog.from_dict(with_features(features))).views["activity@1"]
    assert dict(zip(plan.names, plan.values(plan.new_state(), 0), strict=True))["d7"] == 0.0
    with pytest.raises(er.CatalogError, match="at most 2 derived"):
        Catalog.from_dict(with_features(features), limits=CatalogLimits(derived_depth=2))


GARBAGE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(list(PLAIN)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
KEYS = st.sampled_from(["op", "of", "mean", "std", "low", "high", "edges", "default", "where"])


@given(st.sampled_from(sorted(DERIVED)), st.dictionaries(KEYS, GARBAGE, min_size=1, max_size=3))
@settings(max_examples=200)
def test_law_12_garbage_in_a_derived_feature_loads_or_is_named(name: str, garbage: Table) -> None:
    """Whatever stands in it, the catalog reads back equal and compiles, or says where and why."""
    table = with_features({**PLAIN, **DERIVED, name: {**DERIVED[name], **garbage}})
    found = found_in(table)
    assert all(fault.place.startswith(PLACE) and fault.reason for fault in found)
    if not found:
        catalog = Catalog.from_dict(table)
        assert Catalog.from_dict(catalog.to_dict()) == catalog
        assert name in compile_catalog(catalog).views["activity@1"].names


def found_in(table: Table) -> tuple[er.Fault, ...]:
    """The faults of a table, none when it loads."""
    try:
        Catalog.from_dict(table)
    except er.CatalogError as error:
        return error.faults
    return ()


# ---- computed ----------------------------------------------------------------------------------------------


def oracle(catalog: Catalog, name: str, known: dict[str, object]) -> object:
    """The value by the definition: rationals where a division or a comparison may round."""
    feature = catalog.view("activity").features[name]
    if not isinstance(feature, DerivedFeature):
        return known[name]
    of = [oracle(catalog, source, known) for source in feature.of]
    if any(value is None for value in of):
        return None
    numbers = [float(value) for value in of if isinstance(value, int | float)]
    given = feature.encoding or Encoding("log1p")
    try:
        match feature.op:
            case "ratio":
                return float(Fraction(numbers[0]) / Fraction(numbers[1]))
            case "log1p":
                return math.log1p(numbers[0])
            case "zscore":
                return float(
                    Fraction(float(Fraction(numbers[0]) - Fraction(given.mean))) / Fraction(given.std)
                )
            case "clip":
                low, high = given.low, given.high
                below, above = low is not None and numbers[0] < low, high is not None and numbers[0] > high
                return low if below else high if above else numbers[0]
            case "bucketize":
                return sum(1 for edge in given.edges if Fraction(edge) <= Fraction(numbers[0]))
    except (ZeroDivisionError, OverflowError, ValueError):
        return None


CATALOG = Catalog.from_dict(with_features({**PLAIN, **DERIVED}))
PLAN: ViewPlan = compile_catalog(CATALOG).views["activity@1"]
NOW_US = 1_700_000_000_000_000
PRICES = st.one_of(
    st.none(),
    st.sampled_from([0.0, -0.0, 0.1, -1.0, -1.5, 10.0, 99.9, 2.0**500, -(2.0**500), 5e-324, 1e-200]),
    st.floats(min_value=-1e9, max_value=1e9),
)
PIECES = st.one_of(
    st.none(), st.integers(-3, 3), st.integers(2**53 - 2, 2**53 + 6), st.sampled_from([-(2**63), 2**63 - 1])
)


def fed(buys: list[tuple[float | None, int | None]]) -> ViewState:
    state = PLAN.new_state()
    for number, (price, pieces) in enumerate(buys):
        fields = {"user": "a", "item": "x", "price": price, "quantity": pieces}
        event = make_event(CATALOG, "buy", fields, now_us=NOW_US)
        PLAN.offer(state, event, str(number), NOW_US)
    return state


@given(st.lists(st.tuples(PRICES, PIECES), max_size=4))
@settings(max_examples=300)
def test_law_8_derived_features_equal_the_oracle(buys: list[tuple[float | None, int | None]]) -> None:
    """Every derived feature, alone and among all, has the oracle's bits; none is infinite or NaN."""
    state = fed(buys)
    values = dict(zip(PLAN.names, PLAN.values(state, NOW_US), strict=True))
    for name in DERIVED:
        assert values[name] == oracle(CATALOG, name, values), name
        assert PLAN.read_one(state, name, NOW_US) == values[name]
        assert values[name] is None or math.isfinite(float(str(values[name])))


@given(st.one_of(PRICES, PIECES))
@settings(max_examples=300)
def test_law_8_a_derived_feature_has_the_bits_of_the_encoding(value: float | None) -> None:
    """Derived or encoded in a service, one at a time or many: one definition, and NULL where it has none."""
    for feature in CATALOG.view("activity").features.values():
        if isinstance(feature, DerivedFeature) and feature.encoding is not None and value is not None:
            derived = _derive(feature, value)
            column = encoder_for(_plain("pieces"), feature.encoding)
            (many,) = column.many([value]).tolist()[0]
            if derived is None:
                assert math.isnan(many)
                with pytest.raises(ValueError, match="expected a number"):
                    column.one(value)
            else:
                assert column.one(value) == (derived,) == (many,)
                assert math.copysign(1, many) == math.copysign(1, derived)


def _plain(name: str) -> Feature:
    return CATALOG.view("activity").features[name]


def _derive(feature: DerivedFeature, value: float) -> float | None:
    given = feature.encoding
    assert given is not None
    match feature.op:
        case "log1p":
            return scalar.log1p(value)
        case "zscore":
            return scalar.zscore(value, given.mean, given.std)
        case "clip":
            return scalar.clip(value, given.low, given.high)
        case _:
            return scalar.bucketize(value, given.edges)


@pytest.mark.parametrize(
    ("price", "pieces", "name", "value"),
    [
        (2.0**500, 1, "far", None),  # 2^500 / 1e-300 is beyond float64
        (2.0**500, 0, "per_piece", None),
        (1.0, 2**53 + 1, "whole_band", 2),  # the nearest float64 is 2^53
        (1.0, 2**53 + 3, "whole_band", 3),  # the nearest float64 is 2^53 + 4
        (-1.0, 1, "quick", None),
        (-1.0 + 2**-53, 1, "quick", math.log1p(-1.0 + 2**-53)),
        (-0.0, 1, "capped", 0.0),
        (5e-324, 1, "further", None),  # the denominator is 0: under the smallest float64
        (None, 1, "band", None),
        (1.0, None, "floored", None),
    ],
)
def test_at_the_edges_of_numbers(price: float | None, pieces: int | None, name: str, value: object) -> None:
    """Beyond float64, at a division by 0 and out of log1p's domain: NULL; ints count as their float64."""
    assert PLAN.read_one(fed([(price, pieces)]), name, NOW_US) == value


# ---- served ------------------------------------------------------------------------------------------------

SERVICE: list[Table | str] = [
    "activity:basket",
    {"ref": "activity:basket", "name": "basket_log", "encode": "log1p"},
    {"ref": "activity:basket", "name": "basket_or", "default": -1},
    "activity:safe",
    "activity:band",
    {"ref": "activity:band", "name": "band_hash", "encode": {"kind": "hash", "buckets": 8}},
]


def served_catalog() -> Catalog:
    """The same features, one with a default, in a service."""
    safe = {"safe": {"op": "ratio", "of": ["spent", "buys"], "default": 0.25}}
    table = with_features({**PLAIN, **DERIVED, **safe})
    table["services"] = {"ranker": {"features": SERVICE}}
    return Catalog.from_dict(table)


def test_a_runtime_serves_derived_features_with_encodings_and_defaults() -> None:
    """NULL before a purchase, DEFAULTED where a default is declared; afterwards numbers."""
    clock = ManualClock()
    with er.Runtime.open(":memory:", catalog=served_catalog(), key=er.KeyMemory(), clock=clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        before = rt.vector("ranker", user="alice")
        assert [er.Status(s).name for s in before.status] == [
            *("NULL", "NULL", "DEFAULTED", "DEFAULTED", "NULL", "NULL")
        ]
        assert before.values.tolist()[2:4] == [-1.0, 0.25]
        assert rt.read("activity:basket", user="alice").status.name == "NULL"
        for price in (3.0, 4.5):
            rt.track("buy", user="alice", item="x", price=price, quantity=2)
        after = rt.vector("ranker", user="alice")
        assert set(after.status.tolist()) == {0}
        assert after.values.tolist()[:5] == [3.75, as_float32(math.log1p(3.75)), 3.75, 3.75, 2.0]
        assert (
            rt.matrix("ranker", user="alice", item=["x", "y"]).values[1].tobytes() == after.values.tobytes()
        )
        assert rt.read("activity:twice", user="alice").value == 3.75 / ((2 - 0.1) / 3.0)


def as_float32(number: float) -> float:
    return float(np.float32(number))
