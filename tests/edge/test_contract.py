"""A service's contract says what each number is; a model that does not take such rows is told why."""

from __future__ import annotations

import json
import math

import pytest

import edge_runtime as er
from edge_runtime.catalog import Catalog
from edge_runtime.catalog.contract import Contract
from edge_runtime.catalog.model_inputs import Mismatch, ModelInput
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.binding import Binding
from tests.support.broken_catalog import SHOP, TABLE, Table, changed, faults, put
from tests.support.features import with_features

CATALOG = Catalog.load(SHOP)
RANKER = Contract.of(CATALOG, "ranker")

FEATURES: Table = {
    "views": {"op": "count", "event": "view"},
    "buys": {"op": "count", "event": "buy"},
    "spent": {"op": "sum", "event": "buy", "value": "price", "default": 2.0},
    "idle": {"op": "since_last", "event": "view", "default": -1},
    "rate": {"op": "ratio", "of": ["views", "buys"]},
    "per_euro": {"op": "ratio", "of": ["views", "spent"]},
    "clipped": {"op": "clip", "of": "views", "high": 9.0},
    "quick": {"op": "log1p", "of": "clipped"},
    "band": {"op": "bucketize", "of": "quick", "edges": [-1, 0, 1, 5], "default": 4},
    "scored": {"op": "zscore", "of": "clipped", "mean": 3, "std": 2},
    "by_item": {"op": "count_by", "event": "view", "by": "item"},
}


def contract_of(*columns: Table | str) -> Contract:
    table = with_features(FEATURES)
    table["services"] = {"s": {"features": list(columns)}}
    return Contract.of(Catalog.from_dict(table), "s")


def bounds(*columns: Table | str) -> list[tuple[float | None, float | None]]:
    return [(number.low, number.high) for number in contract_of(*columns).numbers]


def test_the_contract_of_the_shop() -> None:
    """Names and order are the service's; each number knows its source, range, default and encoding."""
    assert RANKER.service == "ranker@2"
    assert RANKER.names == CATALOG.service("ranker").names
    assert RANKER.shape == (None, 12)
    assert [n.position for n in RANKER.numbers] == list(range(12))
    by_name = {n.name: n.to_dict() for n in RANKER.numbers}
    assert by_name["item_stats:popularity"] == {
        "name": "item_stats:popularity",
        "position": 2,
        "dtype": "float32",
        "range": [0.0, 1.0],
        "default": 0.0,
        "source": "item_stats@1:popularity",
        "join": None,
        "encoding": None,
    }
    assert by_name["activity:depth"]["encoding"] == {"kind": "log1p"}
    assert by_name["activity:depth"]["range"] == [0.0, None]
    assert by_name["profile:country=other"]["default"] == 1.0
    assert by_name["profile:country=UK"]["default"] == 0.0
    assert by_name["ctx:hour"]["range"] == [0.0, 23.0]
    assert by_name["seen_this"]["join"] == "lookup"
    assert by_name["seen_this"]["range"] == [0.0, None]
    assert by_name["goes_with"]["source"] == "item_stats@1:co_bought[activity@1:last_items][item]"
    assert by_name["taste_match"]["source"] == "activity@1:taste . item_vec@2:embedding"


def test_a_contract_is_json() -> None:
    """Nothing in it is NaN or infinite: what is not known is null."""
    text = json.dumps(RANKER.to_dict(), allow_nan=False)
    assert json.loads(text)["shape"] == [None, 12]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("activity:views", (0.0, None)),
        ("activity:spent", (None, None)),
        ("activity:idle", (0.0, None)),
        ("activity:rate", (0.0, None)),
        ("activity:per_euro", (None, None)),
        ("activity:clipped", (0.0, 9.0)),
        ("activity:quick", (0.0, 2.302585092994046)),
        ("activity:band", (2.0, 3.0)),
        ("activity:scored", (-1.5, 3.0)),
        ("ctx:hour", (0.0, 23.0)),
        ({"ref": "activity:spent", "encode": {"kind": "clip", "low": -1, "high": 1}}, (-1.0, 1.0)),
        ({"ref": "activity:spent", "encode": {"kind": "clip", "low": -1}}, (-1.0, None)),
        ({"ref": "activity:views", "encode": {"kind": "clip", "low": -1, "high": 50}}, (0.0, 50.0)),
        ({"ref": "activity:spent", "encode": {"kind": "bucketize", "edges": [1, 2, 3]}}, (0.0, 3.0)),
        ({"ref": "ctx:hour", "encode": {"kind": "bucketize", "edges": [6, 12, 30]}}, (0.0, 2.0)),
        ({"ref": "ctx:hour", "encode": {"kind": "hash", "buckets": 16}}, (0.0, 15.0)),
        ({"ref": "ctx:hour", "encode": {"kind": "zscore", "mean": 12, "std": 4}}, (-3.0, 2.75)),
        ({"lookup": "activity:by_item", "key": "item"}, (0.0, None)),
        ({"lookup": "item_stats:co_bought", "key": "item"}, (None, None)),
    ],
)
def test_ranges_follow_declarations_and_encodings(
    column: Table | str, expected: tuple[float | None, float | None]
) -> None:
    """What an operator or a declaration bounds goes through derived features and encodings."""
    assert bounds(column) == [expected]


def test_a_default_is_the_number_that_stands_in_the_row() -> None:
    """A column's own default, else the feature's through the encoding: what the runtime fills in."""
    columns: list[Table | str] = [
        "activity:spent",
        {"ref": "activity:spent", "name": "a", "encode": "log1p"},
        {"ref": "activity:spent", "name": "b", "default": 7},
        {"ref": "activity:spent", "name": "c", "encode": {"kind": "clip", "high": 1}},
        {"ref": "activity:band", "name": "d", "encode": {"kind": "hash", "buckets": 8}},
        {"ref": "profile:country", "name": "e", "encode": "one_hot"},
        {"ref": "activity:idle", "name": "f", "encode": "log1p", "default": 0},
        "activity:views",
    ]
    table = with_features(FEATURES)
    table["services"] = {"s": {"features": columns}}
    catalog = Catalog.from_dict(table)
    found = [n.default for n in Contract.of(catalog, "s").numbers]
    filled: list[float | None] = []
    for column in Binding(catalog.views, catalog.purposes, catalog.service("s")).columns:
        numbers = column.fallback.numbers  # type: ignore[attr-defined]
        filled += [None if number != number else number for number in numbers]
    assert found == filled
    assert found[:4] == [2.0, math.log1p(2.0), 7.0, 1.0]


def test_a_default_that_the_encoding_has_no_number_for_is_a_fault() -> None:
    """`idle` is -1 where it was never seen; log1p has no number for that."""
    table = with_features(FEATURES)
    table["services"] = {"s": {"features": [{"ref": "activity:idle", "encode": "log1p"}]}}
    reason = faults(table)["services.s.features[0].encode"]
    assert reason == "the default int -1 of idle has no number under log1p: give the column a default"


def test_two_versions_of_a_service_have_two_contracts() -> None:
    """A bare name is the highest version; an unknown one is the caller's error."""
    old = {"features": TABLE["services"]["ranker"]["features"][:3]}
    catalog = Catalog.from_dict(changed(put("services/ranker@1", old)))
    assert Contract.of(catalog, "ranker").service == "ranker@2"
    assert Contract.of(catalog, "ranker@1").shape == (None, 3)
    with pytest.raises(MalformedRequest, match="one of ranker@2 ranker@1"):
        Contract.of(catalog, "ranker@3")


@pytest.mark.parametrize("batch", [None, 1, "batch", "N"])
@pytest.mark.parametrize("width", [12, None, "features"])
def test_one_input_of_the_whole_row_is_taken(batch: int | str | None, width: int | str | None) -> None:
    """The batch is open or 1; an open width takes the twelve."""
    assert RANKER.mismatches([ModelInput("X", "float32", (batch, width))]) == []


@pytest.mark.parametrize("shape", [(), (None,), (None, 1), (1, 1), ("n",)])
def test_one_input_for_each_number_is_taken(shape: tuple[int | str | None, ...]) -> None:
    """By name, in any order."""
    inputs = [ModelInput(name, "float32", shape) for name in reversed(RANKER.names)]
    assert RANKER.mismatches(inputs) == []


@pytest.mark.parametrize(
    ("one", "reasons"),
    [
        (ModelInput("X", "float32", (None, 13)), ["X: expected shape [batch, 12], got shape [batch, 13]"]),
        (ModelInput("X", "float64", (None, 12)), ["X: expected dtype float32, got float64"]),
        (ModelInput("X", "float32", (12,)), ["X: expected shape [batch, 12], got shape [12]"]),
        (ModelInput("X", "float32", (32, 12)), ["X: expected shape [batch, 12], got shape [32, 12]"]),
        (ModelInput("X", "float32", (1, 1, 12)), ["X: expected shape [batch, 12], got shape [1, 1, 12]"]),
        (
            ModelInput("X", "string", (None, 3)),
            [
                "X: expected dtype float32, got string",
                "X: expected shape [batch, 12], got shape [batch, 3]",
            ],
        ),
    ],
)
def test_a_row_that_does_not_fit_is_told_why(one: ModelInput, reasons: list[str]) -> None:
    """Expected and got, for dtype and shape apart."""
    assert [str(m) for m in RANKER.mismatches([one])] == reasons


def test_named_inputs_that_do_not_fit_are_each_told_why() -> None:
    """One missing, one too many, one of another dtype, one of another shape."""
    inputs = {name: ModelInput(name, "float32", (None, 1)) for name in RANKER.names}
    del inputs["ctx:hour"]
    inputs["ctx:minute"] = ModelInput("ctx:minute", "float32", (None, 1))
    inputs["activity:pace"] = ModelInput("activity:pace", "int64", (None, 1))
    inputs["seen_this"] = ModelInput("seen_this", "float32", (None, 2))
    assert RANKER.mismatches(list(inputs.values())) == [
        Mismatch("activity:pace", "dtype float32", "int64"),
        Mismatch("ctx:hour", "an input of this name", "none"),
        Mismatch("seen_this", "shape [], [batch] or [batch, 1]", "shape [batch, 2]"),
        Mismatch("ctx:minute", "a name of ranker@2", "an input that no number of it feeds"),
    ]


@pytest.mark.parametrize("inputs", [[], [ModelInput(name, "float32", (None, 1)) for name in "ab"]])
def test_inputs_that_have_nothing_to_do_with_it_get_one_answer(inputs: list[ModelInput]) -> None:
    """Not twelve missing names: what would have been taken, and what came."""
    (only,) = RANKER.mismatches(inputs)
    assert only.place == "inputs"
    assert only.expected == "one input float32 [batch, 12], or 12 inputs by the names of ranker@2"
    assert only.got == ("a b" if inputs else "none")


def test_the_contract_is_what_a_runtime_gives() -> None:
    """Names, width and dtype of `vector` are the contract's; every usable number lies in its range."""
    contract = contract_of("activity:views", "activity:quick", "activity:scored", "activity:band")
    table = with_features(FEATURES)
    table["services"] = {"s": {"features": [n.name for n in contract.numbers]}}
    with er.Runtime.open(":memory:", catalog=Catalog.from_dict(table), key=er.KeyMemory()) as rt:
        rt.consent.give("a", ["personalization"], notice="n")
        for _ in range(12):
            row = rt.vector("s", user="a")
            assert (row.names, str(row.values.dtype)) == (contract.names, "float32")
            for number, value in zip(contract.numbers, row.values.tolist(), strict=True):
                assert number.low is None or value >= number.low
                assert number.high is None or value <= number.high + 1e-6
            rt.track("view", user="a", item="x")
