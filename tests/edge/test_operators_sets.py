"""`distinct`, `count_by` and `top_n` at full size: across the cap and back, in any order, within bounds."""

from __future__ import annotations

import copy
import json
import math
import pickle
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.model import Scalar
from edge_runtime.errors import StateUnreadable
from edge_runtime.serving.plain import plain
from edge_runtime.session.admission import Admission, ViewState
from edge_runtime.session.event import make_event
from edge_runtime.session.operators.counts import CountMap, TopList
from edge_runtime.session.operators.distinct import ValueSet, WindowSet
from edge_runtime.session.operators.hyperloglog import REGISTERS, HyperLogLog, value_hash
from edge_runtime.session.plan import compile_catalog
from edge_runtime.session.table import Table
from tests.support.oracle_sets import hyperloglog

SECOND = 1_000_000
START_US = 1_700_000_000 * SECOND
STANDARD_ERROR = 1.04 / math.sqrt(REGISTERS)
CATALOG = Catalog.from_toml("""
[catalog]
name = "sets"
version = 1
[purposes.p]
title = "Tests"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "1h"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64", clicks = "int64", logged_in = "bool" }
[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "p"
ttl = 0
owner = "tests"
allowed_lateness = "60s"
[views.activity.features]
items = { op = "distinct", event = "view", value = "item" }
items_5m = { op = "distinct", event = "view", value = "item", window = "5m" }
items_60 = { op = "distinct", event = "view", value = "item", window = "5m", cap = 60 }
prices = { op = "distinct", event = "view", value = "price" }
states = { op = "distinct", event = "view", value = "logged_in" }
by_item = { op = "count_by", event = "view", by = "item", window = "5m" }
top = { op = "top_n", event = "view", by = "item", n = 3, window = "5m" }
top_9 = { op = "top_n", event = "view", value = "item", n = 9, window = "5m" }
top_few = { op = "top_n", event = "view", by = "item", n = 3, max_keys = 4 }
by_few = { op = "count_by", event = "view", by = "item", max_keys = 4 }
""")
PLAN = compile_catalog(CATALOG).views["activity@1"]

Seen = tuple[int, str]
"""(microseconds after START_US, item)"""


def state_of(views: Iterable[Seen]) -> ViewState:
    state = PLAN.new_state()
    for number, (after_us, item) in enumerate(views):
        see(state, after_us, f"{item}/{after_us}/{number}", item=item)
    return state


def see(state: ViewState, after_us: int, event_id: str, **fields: object) -> None:
    at_us = START_US + after_us
    event = make_event(CATALOG, "view", {"user": "u", "item": "i", **fields}, now_us=at_us)
    now_us = max(at_us, state.newest)
    assert PLAN.offer(state, event, event_id, now_us) is Admission.ACCEPTED


def value(state: ViewState, name: str, after_us: int) -> object:
    return PLAN.read_one(state, name, START_US + after_us)


def estimate(items: Iterable[str]) -> int:
    return hyperloglog({value_hash(item).to_bytes(8, "big") for item in items})


# The HyperLogLog


@pytest.mark.parametrize(("size", "sets"), [(1_000, 64), (10_000, 64), (100_000, 24), (1_000_000, 8)])
def test_the_estimates_error_is_that_of_the_theory(size: int, sets: int) -> None:
    """Over many sets of one size the root mean square error is about 1.04 / sqrt(2^11), the mean about 0."""
    rng, errors = np.random.default_rng(size), []
    for _ in range(sets):
        sketch = HyperLogLog()
        sketch.add_all(rng.integers(0, 1 << 64, size, dtype=np.uint64))
        errors.append(sketch.estimate() / size - 1)
    # The spread of a root mean square over n sets is about 1 / sqrt(2 n) of it: three of those above.
    assert math.sqrt(np.mean(np.square(errors))) < STANDARD_ERROR * (1 + 3 / math.sqrt(2 * sets))
    assert abs(np.mean(errors)) < 3 * STANDARD_ERROR / math.sqrt(sets)


def test_hashes_of_real_values_are_estimated_as_well_as_random_ones() -> None:
    """100,000 item ids through BLAKE2b-64: within three standard errors."""
    sketch = HyperLogLog()
    sketch.add_all(value_hash(f"item-{n}") for n in range(100_000))
    assert abs(sketch.estimate() / 100_000 - 1) < 3 * STANDARD_ERROR


@settings(max_examples=60)
@given(st.lists(st.integers(0, (1 << 64) - 1), max_size=60), st.integers(0, 60))
def test_the_estimate_is_the_oracles_and_union_is_addition(hashes: list[int], cut: int) -> None:
    """One by one, all at once or in two parts: the registers are the same, the estimate is the slow one's."""
    one, two, three = HyperLogLog(), HyperLogLog(), HyperLogLog()
    for each in hashes:
        one.add(each)
    two.add_all(hashes[:cut])
    three.add_all(hashes[cut:])
    two.absorb(three)
    assert one.registers == two.registers
    assert one.estimate() == two.estimate() == hyperloglog(h.to_bytes(8, "big") for h in hashes)


def test_ends_of_the_scale() -> None:
    """Nothing is 0; a hash of zeros fills its register to the last rank; all registers full is no error."""
    assert HyperLogLog().estimate() == 0
    full = HyperLogLog()
    full.add(0)
    assert full.registers[0] == 54
    full.add_all(register << 53 for register in range(REGISTERS))
    assert set(full.registers) == {54}
    assert full.estimate() == 1 << 62


def test_a_hash_is_of_the_value_and_its_kind() -> None:
    """Equal numbers hash alike, whatever their type; a text, a number and a truth never do."""
    assert value_hash(1) == value_hash(1.0)
    assert value_hash(0.0) == value_hash(-0.0) == value_hash(0)
    assert value_hash(2**500) == value_hash(2.0**500)
    different: list[Scalar] = [
        1,
        "1",
        True,
        1.5,
        "b1",
        "i1",
        "",
        0,
        False,
        -1,
        (1 << 63) - 1,
        2.0**63,
        "\x00",
        "é",
        "e\u0301",
    ]
    assert len({value_hash(v) for v in different}) == len(different)
    assert value_hash("85123A") == 0x7B90259CC4079D33, "a stored state must be read by every later release"


# distinct


def test_one_more_than_the_cap_is_estimated_in_any_order() -> None:
    """2048 values are counted, 2049 estimated; neither depends on the order, nor on what came twice."""
    items = [f"item-{n}" for n in range(2049)]
    for count in (2048, 2049):
        wanted = count if count == 2048 else max(2049, estimate(items))
        for seed in range(3):
            shuffled = random.Random(seed).sample(items[:count], count)
            state = state_of([(n, item) for n, item in enumerate([*shuffled, *shuffled[:100]])])
            assert (value(state, "items", 9_999), value(state, "items_5m", 9_999)) == (wanted, wanted)


def test_a_window_that_shrinks_below_the_cap_is_exact_again() -> None:
    """3,000 values, then 40 of them again later: estimated, then, the first having left, exactly 40."""
    state = state_of((n * 1_000, f"item-{n}") for n in range(3_000))
    everything = estimate(f"item-{n}" for n in range(3_000))
    assert value(state, "items_5m", 3 * SECOND) == everything
    for n in range(40):
        see(state, 200 * SECOND + n, f"again-{n}", item=f"item-{n * 70}")
    assert value(state, "items_5m", 201 * SECOND) == everything
    assert value(state, "items_5m", 310 * SECOND) == 40
    assert value(state, "items_5m", 600 * SECOND) == 0
    assert value(state, "items", 600 * SECOND) == everything, "without a window it does not shrink"
    see(state, 310 * SECOND, "new", item="new")
    assert value(state, "items_5m", 310 * SECOND) == 41


@pytest.mark.parametrize("seed", range(3))
def test_parts_merged_after_the_cap_are_the_whole(seed: int) -> None:
    """Two states of alternating halves, each over the cap, merged or stored: the set's value, also later."""
    rng = random.Random(seed)
    views = [(n * 20_000, f"item-{rng.randrange(4_000)}") for n in range(12_000)]
    whole, parts = state_of(views), [state_of(views[0::2]), state_of(views[1::2])]
    for merged in (PLAN.merge(*parts), PLAN.merge(*parts[::-1]), PLAN.load(PLAN.dump(whole))):
        for after_us in (240 * SECOND, 290 * SECOND, 310 * SECOND, 420 * SECOND, 480 * SECOND, 539 * SECOND):
            inside = {item for at_us, item in views if at_us // (5 * SECOND) > after_us // (5 * SECOND) - 60}
            wanted = len(inside) if len(inside) <= 2048 else max(2049, estimate(inside))
            assert value(whole, "items_5m", after_us) == wanted
            assert value(merged, "items_5m", after_us) == wanted
            small = len(inside) if len(inside) <= 60 else max(61, estimate(inside))
            assert value(merged, "items_60", after_us) == value(whole, "items_60", after_us) == small


@settings(max_examples=200)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0, 0, 0, 1, 3]), st.integers(0, 5), st.integers(0, 8), st.booleans()),
        min_size=4,
        max_size=40,
    ),
    cap=st.integers(1, 4),
    reads=st.lists(st.integers(0, 6), min_size=1, max_size=2),
)
def test_a_window_of_values_is_a_function_of_their_set(
    steps: list[tuple[int, int, int, bool]], cap: int, reads: list[int]
) -> None:
    """Tiles that pass, late values, reads in between, two halves merged: always what the set alone says."""
    tiles, head = 5, 100
    whole, halves = WindowSet(cap, tiles), (WindowSet(cap, tiles), WindowSet(cap, tiles))
    seen: list[tuple[int, int]] = []
    for number, (ahead, behind, item, half) in enumerate(steps):
        for one in (whole, *halves) if ahead else ():
            one.roll(head, head + ahead)
        head += ahead
        for one in (whole, halves[half]):
            one.late(head - behind, head, item)
        seen.append((head - behind, item))
        tile = head + reads[number % len(reads)]
        assert whole.count_at(head, tile) == _of_set(seen, tile, tiles, cap)
        assert len(whole.kept) <= cap + 1
        assert sum(map(len, whole.by_tile.values())) == len(whole.kept)
        assert all(head - tiles < at <= head for at in (*whole.by_tile, *whole.sketches))
    halves[0].absorb(WindowSet.unpack(cap, tiles, msgpack.unpackb(msgpack.packb(halves[1].pack()))))
    for later in range(tiles + 1):
        assert halves[0].count_at(head, head + later) == _of_set(seen, head + later, tiles, cap)


def _of_set(seen: Sequence[tuple[int, int]], tile: int, tiles: int, cap: int) -> int:
    inside = {item for at, item in seen if at > tile - tiles}
    if len(inside) <= cap:
        return len(inside)
    return max(cap + 1, hyperloglog(value_hash(item).to_bytes(8, "big") for item in inside))


def test_numbers_and_truths_are_values_too() -> None:
    """A price of 0.0 and -0.0 is one; what an event does not carry is none."""
    state = PLAN.new_state()
    for number, price in enumerate([0.0, -0.0, None, 1, 1.0, 2.5]):
        see(state, number, f"p{number}", price=price)
    for number, logged_in in enumerate([True, None, False, True]):
        see(state, 10 + number, f"l{number}", logged_in=logged_in)
    assert (value(state, "prices", 20), value(state, "states", 20)) == (3, 2)


def test_law_11_a_distinct_of_ever_new_values_stays_bounded() -> None:
    """At most cap + 1 hashes and 2 KiB a tile, however many values come; the dump says as much."""
    window, sizes = WindowSet(2048, 60), []
    for number in range(200_000):
        tile = number // 1_000
        if number % 1_000 == 0:
            window.roll(tile - 1, tile)
        window.put(tile, number * 0x9E37_79B9_7F4A_7C15 % (1 << 64))
        if number in (99_999, 199_999):
            sizes.append(len(msgpack.packb(window.pack())))
            assert (len(window.kept), len(window.sketches)) == (2049, 58)
    assert sizes[1] - sizes[0] < 100
    assert sizes[1] < 2049 * 8 + 60 * 2060


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: [packed[0][:-1], packed[1]],
        lambda packed: [packed[0], bytes(2047)],
        lambda packed: [packed[0], b"\xff" * 2048],
    ],
)
def test_damaged_sets_are_not_loaded(damage: object) -> None:
    """Half a hash, a register too few, a rank that no hash has: ValueError, which `load` names."""
    packed = ValueSet(9, ["a", "b"]).pack()
    assert callable(damage)
    with pytest.raises(ValueError, match=r"."):
        ValueSet.unpack(9, damage(packed))
    raw = PLAN.dump(state_of([(0, "a")]))
    hashed = value_hash("a").to_bytes(8, "big")
    with pytest.raises(StateUnreadable):
        PLAN.load(raw.replace(b"\xc4\x08" + hashed, b"\xc4\x07" + hashed[1:]))


# count_by and top_n


def test_top_n_is_by_count_then_key() -> None:
    """Equal counts stand in the order of their UTF-8 bytes, whatever came first."""
    keys = ["é", "b", "\U0001f600", "a", "\uffee", "b", "é"]
    for order in (keys, keys[::-1]):
        state = state_of(enumerate(order))
        assert value(state, "top_9", 9) == ["b", "é", "a", "\uffee", "\U0001f600"]
        assert value(state, "top", 9) == ["b", "é", "a"]
        assert value(state, "top", 400 * SECOND) == []


def test_top_n_shares_the_counts_of_count_by() -> None:
    """One state serves every count_by and top_n of the same keys, window and room."""
    assert len({PLAN.statistics_of(name) for name in ("by_item", "top", "top_9")}) == 1
    assert PLAN.statistics_of("top_few") == PLAN.statistics_of("by_few") != PLAN.statistics_of("top")


def test_top_n_of_more_keys_than_are_kept_says_so() -> None:
    """The order is that of the kept keys, the same in any order of arrival; `truncated` warns."""
    views = [f"k{n % 7}" for n in range(40)]
    for seed in range(3):
        state = state_of(enumerate(random.Random(seed).sample(views, 40)))
        counts, top = value(state, "by_few", 99), value(state, "top_few", 99)
        assert isinstance(counts, CountMap)
        assert isinstance(top, TopList)
        assert len(counts) == 4
        assert counts.overflow == top.overflow == 40 - sum(counts.values())
        assert top.truncated
        assert counts.truncated
        assert (
            list(top) == [k for k, _ in sorted(Counter(counts).items(), key=lambda kc: (-kc[1], kc[0]))][:3]
        )
        assert all(counts[key] == views.count(key) for key in counts)
    assert not TopList(["a"]).truncated


def test_a_count_map_is_a_dict_that_nobody_changes() -> None:
    """It reads like a dict and prints like one; no method of dict changes it."""
    found = value(state_of([(0, "a"), (1, "b"), (2, "a")]), "by_item", 5)
    assert isinstance(found, CountMap)
    assert found == {"a": 2, "b": 1}
    assert (found["a"], found.get("c"), found.overflow, found.truncated) == (2, None, 0, False)
    with pytest.raises(TypeError, match="cannot be changed"):
        found["a"] = 3
    for change in ("clear", "pop", "popitem", "setdefault", "update", "__delitem__", "__ior__"):
        with pytest.raises(TypeError, match="cannot be changed"):
            getattr(found, change)({"a": 1})
    assert found == {"a": 2, "b": 1}
    assert str(plain(found)) == "{'a': 2, 'b': 1}"
    assert json.loads(json.dumps(plain(found))) == msgpack.unpackb(msgpack.packb(found)) == {"a": 2, "b": 1}


def test_count_maps_are_equal_with_their_overflow() -> None:
    """Two CountMaps compare what was left out too; a plain dict has nothing left out to compare."""
    assert CountMap({"a": 1}, 2) == CountMap({"a": 1}, 2)
    assert CountMap({"a": 1}, 2) != CountMap({"a": 1}, 3)
    assert CountMap({"a": 1}, 2) == {"a": 1}
    assert CountMap({"a": 1}) != {"a": 2}
    assert CountMap() != []
    for again in (pickle.loads(pickle.dumps(CountMap({"a": 1}, 2))), copy.deepcopy(CountMap({"a": 1}, 2))):  # noqa: S301 — our own
        assert again == CountMap({"a": 1}, 2)


def test_a_table_of_maps_and_lists_goes_into_pandas_arrow_and_numpy() -> None:
    """Maps, lists, vectors, numbers and NULL: each in the shape that the library has for it."""
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    maps, lists = [CountMap({"b": 1, "a": 2}, 3), None, CountMap()], [TopList(["a", "b"]), TopList(), ["c"]]
    vectors = [np.array([1.0, 2.0]), None, np.array([3.0, 4.0])]
    columns: dict[str, Sequence[object]] = {
        "maps": maps,
        "lists": lists,
        "vectors": vectors,
        "numbers": [1, None, 2.5],
    }
    table = Table(columns, {name: [0, 0, 0] for name in columns})
    arrow = table.to_arrow()
    assert arrow.schema.field("maps").type == pyarrow.map_(pyarrow.string(), pyarrow.int64())
    assert arrow.column("maps").to_pylist() == [[("b", 1), ("a", 2)], None, []]
    assert arrow.column("lists").to_pylist() == [["a", "b"], [], ["c"]]
    assert arrow.column("vectors").to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]
    frame = table.to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["maps"].tolist() == [{"b": 1, "a": 2}, None, {}]
    assert frame["lists"].tolist() == [["a", "b"], [], ["c"]]
    arrays = table.to_numpy()
    assert isinstance(arrays, dict)
    assert arrays["maps"].tolist() == maps
    assert arrays["lists"].shape == (3,)
    assert np.array_equal(arrays["numbers"], [1.0, np.nan, 2.5], equal_nan=True)
