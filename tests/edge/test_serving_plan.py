"""A vector says what each cell is; a matrix row has the bits of its vector."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedRequest
from edge_runtime.serving.plan import Matrix, ServicePlan, Vector, compile_service
from edge_runtime.serving.reads import Missing, ServerRow, SessionValues
from edge_runtime.serving.status import Status
from edge_runtime.serving.value import read_feature
from edge_runtime.session.operators.keyed import CountMap, key_rank
from tests.support.broken_catalog import SHOP, TABLE
from tests.support.held_source import HeldSource

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
CATALOG = Catalog.load(SHOP)
PLAN = compile_service(CATALOG, CATALOG.service("ranker"))
POPULARITY, HOUR, DEPTH, COUNTRY, SEEN, GOES_WITH, TASTE = 2, 3, 4, slice(5, 9), 9, 10, 11
EMBEDDING = [float(n) / 7 for n in range(16)]
TASTE_OF_ALICE = np.linspace(-1, 1, 16)


def session(**changes: object) -> SessionValues:
    """Alice's activity, in the order of the view's features."""
    values: dict[str, object] = {
        "views_5m": 3,
        "spend_7d": 12.5,
        "last_items": ["a", "b", "a"],
        "pace": 1.75,
        "depth": 4,
        "taste": TASTE_OF_ALICE,
        "by_item": CountMap({"a": 2, "b": 1}, 0),
    }
    assert list(values) == list(CATALOG.view("activity").features)
    return SessionValues(tuple({**values, **changes}.values()), NOW_US - HOUR_US)


def shop_source() -> HeldSource:
    source = HeldSource()
    source.sessions["activity@1", "user:alice"] = session()
    source.rows["profile@1", "user:alice"] = row({"country": "DE"})
    source.rows["item_stats@1", "item:a"] = row({"popularity": 0.5, "co_bought": {"b": 0.25, "c": 3.0}})
    source.rows["item_stats@1", "item:b"] = row({"popularity": 0.75, "co_bought": {"c": 0.1}})
    source.rows["item_vec@2", "item:a"] = row({"embedding": EMBEDDING})
    return source


def row(values: dict[str, object], age_us: int = HOUR_US) -> ServerRow:
    return ServerRow(values, NOW_US - age_us, NOW_US - age_us)


def read(source: HeldSource, plan: ServicePlan = PLAN, **ids: str) -> Vector:
    return plan.vector(source, {"user": "alice", **ids}, NOW_US, None, {"ctx:hour": 14})


def service(*columns: object, **views: Any) -> ServicePlan:
    """A plan of other columns over the shop catalog."""
    table = copy.deepcopy(TABLE)
    table["views"].update(views)
    table["services"]["ranker"]["features"] = list(columns)
    catalog = Catalog.from_dict(table)
    return compile_service(catalog, catalog.service("ranker"))


def test_every_cell_of_the_example_is_what_it_says() -> None:
    """All twelve numbers of the example service, each by hand."""
    vector = read(shop_source(), item="a")
    dot = 0.0
    for left, right in zip(TASTE_OF_ALICE.tolist(), EMBEDDING, strict=True):
        dot += left * right
    # last_items is a, b, a: the rows of a have no key "a" and that of b has none either.
    expected = [3, 1.75, 0.5, 14, math.log1p(4), 0, 1, 0, 0, 2, 0, dot]
    assert vector.values.dtype == np.float32
    assert vector.values.tolist() == [float(np.float32(v)) for v in expected]
    assert not vector.status.any()
    assert vector.reason == ("",) * 12
    assert (vector.as_of, vector.names) == (NOW_US, CATALOG.service("ranker").names)


def test_sum_lookup_adds_the_map_of_each_listed_id() -> None:
    """a, b, a were viewed: c goes with them by 3.0 + 0.1 + 3.0."""
    assert read(shop_source(), item="c").values[GOES_WITH] == np.float32(3.0 + 0.1 + 3.0)


def test_a_missing_row_gives_the_default_and_keeps_its_cause() -> None:
    """NOT_FOUND with a default reads DEFAULTED, without one NOT_FOUND and NaN; the reason names the cause."""
    vector = read(shop_source(), item="zzz")
    assert vector.values[POPULARITY] == 0.0
    assert vector.status[POPULARITY] == Status.DEFAULTED
    assert vector.reason[POPULARITY].startswith("NOT_FOUND")
    assert np.isnan(vector.values[TASTE])
    assert vector.status[TASTE] == Status.NOT_FOUND
    assert vector.values[SEEN] == 0.0
    assert vector.status[SEEN] == Status.PRESENT


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        (Status.NULL, Status.DEFAULTED),
        (Status.NOT_FOUND, Status.DEFAULTED),
        (Status.NOT_SYNCED, Status.DEFAULTED),
        (Status.EXPIRED, Status.EXPIRED),
        (Status.REVOKED, Status.REVOKED),
        (Status.WARMING, Status.WARMING),
    ],
)
def test_law_7_a_default_replaces_only_what_it_may(cause: Status, shown: Status) -> None:
    """The declared default stands in every unusable cell; only three causes become DEFAULTED."""
    source = shop_source()
    source.rows["profile@1", "user:alice"] = Missing(cause, "because")
    vector = read(source, item="a")
    assert vector.values[COUNTRY].tolist() == [0, 0, 0, 1]
    assert set(vector.status[COUNTRY].tolist()) == {shown}
    assert vector.reason[5] == f"{cause.name}: because"


def test_law_7_without_permission_every_session_cell_is_revoked() -> None:
    """A revoked subject's session columns, joins too, read REVOKED and hold no number."""
    source = shop_source()
    del source.sessions["activity@1", "user:alice"]
    vector = read(source, item="a")
    for cell in (0, 1, DEPTH, SEEN, GOES_WITH, TASTE):
        assert vector.status[cell] == Status.REVOKED
        assert np.isnan(vector.values[cell])
        assert vector.reason[cell] == "REVOKED: withdrawn"
    assert vector.status[POPULARITY] == Status.PRESENT


def test_a_ttl_is_judged_at_the_time_of_the_read() -> None:
    """item_stats lives 2 h: usable at exactly 2 h, expired a microsecond later; ttl 0 never expires."""
    for age_us, status in ((2 * HOUR_US, Status.PRESENT), (2 * HOUR_US + 1, Status.EXPIRED)):
        source = shop_source()
        source.rows["item_stats@1", "item:a"] = row({"popularity": 0.5}, age_us)
        source.rows["item_vec@2", "item:a"] = row({"embedding": EMBEDDING}, 10**15)
        vector = read(source, item="a")
        assert vector.status[POPULARITY] == status
        assert vector.status[TASTE] == Status.PRESENT
    later = PLAN.vector(shop_source(), {"user": "alice", "item": "a"}, NOW_US, NOW_US + 2 * HOUR_US)
    assert later.status[POPULARITY] == Status.EXPIRED


def test_a_session_view_expires_until_retention_forgets_it() -> None:
    """Between ttl and retention old values read EXPIRED; past the retention nothing is left to expire."""
    table = copy.deepcopy(TABLE)
    table["views"]["activity"]["ttl"] = "1d"
    table["services"]["ranker"]["features"] = ["activity:views_5m"]
    catalog = Catalog.from_dict(table)
    plan = compile_service(catalog, catalog.service("ranker"))
    source = HeldSource()
    day_us = 24 * HOUR_US
    for age_us, status in ((day_us, 0), (day_us + 1, 3), (30 * day_us, 3), (30 * day_us + 1, 0)):
        values = tuple(0 for _ in catalog.view("activity").features)
        source.sessions["activity@1", "user:alice"] = SessionValues(values, NOW_US - age_us)
        assert plan.vector(source, {"user": "alice"}, NOW_US).status.tolist() == [status]


def test_an_entity_not_given_is_not_found() -> None:
    """Without an item the item's columns say so; the others are read."""
    vector = read(shop_source())
    assert vector.status[POPULARITY] == Status.DEFAULTED
    assert vector.reason[POPULARITY] == "NOT_FOUND: no item was given"
    assert vector.status[SEEN] == vector.status[GOES_WITH] == Status.NOT_FOUND
    assert vector.status[0] == Status.PRESENT


def test_a_request_feature_not_given_is_null() -> None:
    """hour is given at the read; when it is not, its cell is NULL."""
    vector = PLAN.vector(shop_source(), {"user": "alice", "item": "a"}, NOW_US)
    assert vector.status[HOUR] == Status.NULL


@pytest.mark.parametrize(
    "request_",
    [
        {"ctx:hour": 24},
        {"ctx:hour": -1},
        {"ctx:hour": 1.5},
        {"ctx:hour": True},
        {"ctx:hour": "3"},
        {"hour": 3},
    ],
)
def test_a_bad_request_value_is_refused(request_: dict[str, object]) -> None:
    """A value out of range, of a wrong type or of an unknown name is the caller's error."""
    with pytest.raises(MalformedRequest) as caught:
        PLAN.vector(shop_source(), {"user": "alice", "item": "a"}, NOW_US, None, request_)
    assert caught.value.place.startswith("request")


def test_a_request_may_name_the_version() -> None:
    """`ctx@1:hour` is `ctx:hour`."""
    ids = {"user": "alice", "item": "a"}
    assert PLAN.vector(shop_source(), ids, NOW_US, None, {"ctx@1:hour": 7}).values[HOUR] == 7


@pytest.mark.parametrize("ids", [{"users": "alice"}, {"user": ""}, {"user": 5}, {"user": None}])
def test_bad_entities_are_refused(ids: dict[str, Any]) -> None:
    """An entity type that the catalog does not know, or an id that is no text, is the caller's error."""
    with pytest.raises(MalformedRequest):
        PLAN.vector(shop_source(), ids, NOW_US)


@pytest.mark.parametrize(
    ("ids", "candidates"),
    [
        ({"user": "alice"}, ("shop", ["a"])),
        ({"user": "alice", "item": "a"}, ("item", ["a"])),
        ({"user": "alice"}, ("item", ["a", 7])),
        ({"user": "alice"}, ("item", [""])),
    ],
)
def test_bad_candidates_are_refused(ids: dict[str, str], candidates: tuple[str, list[Any]]) -> None:
    """Unknown types, a type given twice and ids that are no texts are the caller's error."""
    with pytest.raises(MalformedRequest):
        PLAN.matrix(shop_source(), ids, candidates, NOW_US)


def test_a_truncated_map_does_not_call_what_it_dropped_zero() -> None:
    """A key that a full `count_by` may have dropped is NULL; one that it would have kept is 0."""
    keys = sorted((f"k{n}" for n in range(200)), key=key_rank)
    source = shop_source()
    kept = CountMap(dict.fromkeys(keys[1:100], 1), 5)
    source.sessions["activity@1", "user:alice"] = session(by_item=kept)
    statuses = [read(source, item=key).status[SEEN] for key in (keys[0], keys[50], keys[150])]
    assert statuses == [Status.PRESENT, Status.PRESENT, Status.NULL]
    rows = PLAN.matrix(source, {"user": "alice"}, ("item", [keys[0], keys[50], keys[150]]), NOW_US)
    assert rows.status[:, SEEN].tolist() == statuses


def test_a_sum_is_not_whole_when_a_listed_row_may_not_be_used() -> None:
    """One expired row among the listed ids: the sum would be too small, so the cell says EXPIRED."""
    source = shop_source()
    source.rows["item_stats@1", "item:b"] = row({"co_bought": {"c": 1.0}}, 3 * HOUR_US)
    assert read(source, item="c").status[GOES_WITH] == Status.EXPIRED


def test_a_row_of_a_foreign_dtype_is_null() -> None:
    """A text where a number is declared, or a vector of another size, never becomes a number."""
    source = shop_source()
    source.rows["item_stats@1", "item:a"] = row({"popularity": "0.5"})
    source.rows["item_vec@2", "item:a"] = row({"embedding": [1.0] * 15})
    vector = read(source, item="a")
    assert (vector.status[POPULARITY], vector.values[POPULARITY]) == (Status.DEFAULTED, 0.0)
    assert vector.status[TASTE] == Status.NULL


def test_explain_names_every_number() -> None:
    """One record a number, with its source and cause."""
    records = read(shop_source(), item="zzz").explain()
    assert [r["name"] for r in records] == list(PLAN.names)
    assert records[POPULARITY] == {
        "name": "item_stats:popularity",
        "value": 0.0,
        "status": "DEFAULTED",
        "reason": "NOT_FOUND: no such row",
        "source": "item_stats@1:popularity",
        "feature": "item_stats@1:popularity",
        "version": 1,
        "event_time": None,
        "raw": None,
    }
    assert records[DEPTH]["source"] == "activity@1:depth log1p"


def test_explain_says_when_and_from_what() -> None:
    """The value before encoding, the event behind it; of a join every input and the oldest of their times."""
    source = shop_source()
    source.rows["item_vec@2", "item:a"] = row({"embedding": EMBEDDING}, 5 * HOUR_US)
    records = read(source, item="a").explain()
    depth, taste, goes = records[DEPTH], records[TASTE], records[GOES_WITH]
    assert (depth["value"], depth["raw"]) == (float(np.float32(math.log1p(4))), 4)
    assert (depth["feature"], depth["version"]) == ("activity@1:depth", 1)
    assert depth["event_time"] == NOW_US - HOUR_US
    assert taste["feature"] == "activity@1:taste item_vec@2:embedding"
    assert taste["event_time"] == NOW_US - 5 * HOUR_US
    assert np.float32(taste["raw"]) == np.float32(taste["value"])
    assert goes["feature"] == "item_stats@1:co_bought activity@1:last_items"
    assert [records[n]["raw"] for n in range(5, 9)] == ["DE"] * 4
    assert (records[HOUR]["raw"], records[HOUR]["event_time"]) == (14, None)


def test_a_matrix_explains_each_row_when_asked() -> None:
    """Reasons and records are those of the candidate's own vector; there is no row beyond the last."""
    source = shop_source()
    matrix = PLAN.matrix(source, {"user": "alice"}, ("item", ["a", "zzz"]), NOW_US, None, {"ctx:hour": 14})
    source.rows.clear()  # what came after the read changes nothing
    source.sessions.clear()
    for n, item in enumerate(("a", "zzz")):
        vector = read(shop_source(), item=item)
        assert matrix.reason[n] == vector.reason
        assert repr(matrix.explain(n)) == repr(vector.explain())
    assert repr(matrix.explain(-1)) == repr(matrix.explain(1))
    with pytest.raises(IndexError):
        matrix.explain(2)


def test_law_7_a_feature_that_is_warming_is_warming_alone() -> None:
    """Plain, encoded, looked up, summed and multiplied: each says WARMING, its neighbours stay."""
    warm = Missing(Status.WARMING, "added later")
    source = shop_source()
    source.sessions["activity@1", "user:alice"] = session(
        pace=warm, depth=warm, by_item=warm, last_items=warm, taste=warm
    )
    vector = read(source, item="a")
    cold = [1, DEPTH, SEEN, GOES_WITH, TASTE]
    assert [n for n, status in enumerate(vector.status) if status] == cold
    assert {int(vector.status[n]) for n in cold} == {Status.WARMING}
    assert {vector.reason[n] for n in cold} == {"WARMING: added later"}
    assert np.isnan(vector.values[cold]).all()
    found = read_feature(source, CATALOG.view("activity"), "pace", {"user": "alice"}, NOW_US)
    assert (found.value, found.status, found.reason) == (None, Status.WARMING, "WARMING: added later")


def test_a_plain_vector_feature_fills_its_cells() -> None:
    """A float32[16] feature is sixteen numbers under indexed names."""
    plan = service("item_vec:embedding", "activity:pace")
    vector = read(shop_source(), plan, item="a")
    assert plan.names[:2] == ("item_vec:embedding[0]", "item_vec:embedding[1]")
    assert vector.values.tolist() == [float(np.float32(v)) for v in (*EMBEDDING, 1.75)]


def test_a_column_default_stands_before_the_features() -> None:
    """`default` at the column wins over the feature's."""
    plan = service({"ref": "item_stats:popularity", "default": -1}, {"ref": "activity:pace", "default": 9})
    source = shop_source()
    del source.sessions["activity@1", "user:alice"]
    vector = read(source, plan, item="zzz")
    assert vector.values.tolist() == [-1.0, 9.0]
    assert vector.status.tolist() == [Status.DEFAULTED, Status.REVOKED]


def test_a_matrix_of_no_candidates_has_no_rows() -> None:
    """Nobody to rank: shape (0, n)."""
    matrix = PLAN.matrix(shop_source(), {"user": "alice"}, ("item", []), NOW_US)
    assert matrix.values.shape == matrix.status.shape == (0, 12)


ids = st.sampled_from(["a", "b", "c", "d", "e"])
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
odd = st.one_of(finite, st.none(), st.just("text"), st.just(math.nan), st.booleans())
huge = st.sampled_from([math.inf, -math.inf, 1e300])
maps = st.one_of(st.dictionaries(ids, st.one_of(finite, huge), max_size=4), st.none())
rows = st.one_of(
    st.builds(
        lambda p, m, age: row({"popularity": p, "co_bought": m}, age),
        odd,
        maps,
        st.sampled_from([0, 3 * HOUR_US]),
    ),
    st.sampled_from([Missing(s, "x") for s in (Status.NOT_FOUND, Status.NOT_SYNCED, Status.EXPIRED)]),
)
embeddings = st.one_of(st.lists(finite, min_size=16, max_size=16), st.none(), st.just([1.0]))
warming = st.just(Missing(Status.WARMING, "added later"))
sessions = st.one_of(
    st.builds(
        lambda listed, taste, by_item, depth, pace: session(
            last_items=listed, taste=taste, by_item=by_item, depth=depth, pace=pace
        ),
        st.one_of(st.lists(ids, max_size=5), warming),
        st.one_of(st.just(TASTE_OF_ALICE), st.none(), warming),
        st.one_of(
            st.builds(CountMap, st.dictionaries(ids, st.integers(1, 9), max_size=3), st.sampled_from([0, 3])),
            warming,
        ),
        st.one_of(st.sampled_from([0, 7, -5]), warming),
        st.one_of(st.just(1.5), warming),
    ),
    st.just(SessionValues((), None, Status.WARMING, "new")),
)
WIDE = service(
    *TABLE["services"]["ranker"]["features"],
    {"name": "z", "ref": "item_stats:popularity", "encode": {"kind": "zscore", "mean": 0.5, "std": 0.1}},
    {"name": "logged", "ref": "item_stats:popularity", "encode": "log1p", "default": -2},
    {"name": "own", "lookup": "item_stats:co_bought", "key": "item"},
    {"name": "by_user", "lookup": "item_stats:co_bought", "key": "user"},
    {"name": "norm", "dot": ["item_vec:embedding", "item_vec:embedding"]},
    "item_vec:embedding",
)


@given(
    st.dictionaries(ids, rows),
    st.dictionaries(ids, embeddings),
    sessions,
    st.lists(ids, max_size=6),
    st.sampled_from([{}, {"user": "alice"}]),
)
def test_law_8_a_matrix_row_has_the_bits_of_its_vector(
    stats: dict[str, Any],
    vectors: dict[str, Any],
    activity: SessionValues,
    candidates: list[str],
    entities: dict[str, str],
) -> None:
    """For every candidate, whatever is missing, odd or truncated: values and statuses are equal."""
    source = HeldSource()
    source.sessions["activity@1", "user:alice"] = activity
    for bare, found in stats.items():
        source.rows["item_stats@1", f"item:{bare}"] = found
    for bare, embedding in vectors.items():
        source.rows["item_vec@2", f"item:{bare}"] = row({"embedding": embedding})
    request = {"ctx:hour": 3}
    matrix: Matrix = WIDE.matrix(source, entities, ("item", candidates), NOW_US, None, request)
    assert matrix.candidates == tuple(candidates)
    for n, bare in enumerate(candidates):
        vector = WIDE.vector(source, {**entities, "item": bare}, NOW_US, None, request)
        assert matrix.values[n].tobytes() == vector.values.tobytes()
        assert matrix.status[n].tobytes() == vector.status.tobytes()
        assert matrix.reason[n] == vector.reason
        assert repr(matrix.explain(n)) == repr(vector.explain())
