"""What is recognised as whole in one look is what the gate would keep as it is, and nothing else."""

from __future__ import annotations

import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.sync import gate
from edge_runtime.sync.fitting import Fitting
from edge_runtime.sync.gate import Action
from edge_runtime.wire import codec, seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Row

DTYPES = ("bool", "int64", "float32", "float64", "string", "time", "list<string>", "list<float64>")
NESTED = ("map<string,int64>", "map<string,float32>", "float32[3]")
FEATURES = {f"f{n}": {"dtype": dtype} for n, dtype in enumerate((*DTYPES, *NESTED))}
MORE = {
    "bounded": {"dtype": "float64", "range": [0.0, 10.0]},
    "one_of": {"dtype": "string", "values": ["red", "blue"]},
    "class": {"dtype": "int64", "default": 3},
}
VIEW = {"version": 1, "source": "server", "ttl": 0, "owner": "o", "features": FEATURES | MORE}
PERSON = VIEW | {"entity": ["user", "item"], "purpose": "p", "ttl": "1d"}
CATALOG = Catalog.from_dict(
    {
        "catalog": {"name": "c", "version": 1},
        "purposes": {
            "p": {"legal_basis": "consent", "retention": "30d"},
            "q": {"legal_basis": "consent", "retention": "30d"},
        },
        "entities": {"user": {"personal": True}, "item": {}},
        "views": {
            "stats": VIEW | {"entity": "item"},
            "tastes": PERSON,
            "habits": PERSON | {"purpose": "q"},
            "asked": {
                "version": 1,
                "source": "request",
                "owner": "o",
                "features": {"f1": {"dtype": "int64"}},
            },
        },
    }
).model
ALICE = seal.subject_token(bytes(range(16)))
MINE, ALL = gate.channel_of(f"{ALICE}/p"), gate.channel_of("all")

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats()
scalars = numbers | st.booleans() | st.none() | st.text(max_size=3) | st.binary(max_size=2)
values = scalars | st.lists(scalars, max_size=4) | st.dictionaries(st.text(max_size=2), scalars, max_size=3)
fitting_values = {
    "f0": st.booleans(),
    "f1": st.integers(-(2**63), 2**63 - 1),
    "f2": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1),
    "f4": st.text(max_size=4),
    "f6": st.lists(st.text(max_size=2), max_size=3),
    "f8": st.dictionaries(st.text(max_size=2), st.integers(-5, 5), max_size=3),
    "f10": st.lists(st.floats(-1, 1), min_size=3, max_size=3),
    "bounded": st.floats(-5, 15),
    "one_of": st.sampled_from(["red", "blue", "green"]),
}
names = st.sampled_from([*FEATURES, *MORE, "unknown", ""])
bodies = (
    st.fixed_dictionaries({}, optional=fitting_values).map(codec.pack)
    | st.dictionaries(names, values, max_size=5).map(codec.pack)
    | st.dictionaries(names, values, max_size=5).map(lambda body: bytes(msgpack.packb(body)))
    | st.binary(max_size=12)
)
rows = st.builds(
    Row,
    seq=st.just(1),
    entity=st.sampled_from(["item:1", f"{ALICE}|item:1", ALICE, "user:a", "user:a|item:1", "~x", "x"]),
    view=st.sampled_from(["stats", "tastes", "habits", "asked", "nobody"]),
    version=st.sampled_from([1, 1, 1, 2]),
    event_time_us=st.just(1),
    created_us=st.just(1),
    grant=st.sampled_from([0, 0, 7, 8]),
    deleted=st.sampled_from([False, False, False, True]),
    values=bodies,
)
FITTING = Fitting(CATALOG)


@given(row=rows, place=st.sampled_from([(ALL, 0), (MINE, 0), (MINE, 7)]))
def test_laws_1_and_2_what_is_recognised_the_gate_keeps_as_it_is(
    row: Row, place: tuple[gate.Channel, int]
) -> None:
    """The gate is the oracle: no row goes past a refusal, another grant, another purpose, or a wrong type."""
    channel, grant = place
    if FITTING.keeps([row], channel, grant):
        verdict = gate.judge(row, channel, CATALOG, grant)
        assert (verdict.action, verdict.values, verdict.reason) == (Action.KEEP, row.values, "")


@given(some=st.lists(rows, min_size=1, max_size=5), place=st.sampled_from([(ALL, 0), (MINE, 0), (MINE, 7)]))
def test_rows_asked_in_one_go_are_whole_when_each_is(
    some: list[Row], place: tuple[gate.Channel, int]
) -> None:
    each = [FITTING.keeps([row], *place) for row in some]
    assert FITTING.keeps(some, *place) == all(each)
    whole = [row for row, kept in zip(some, each, strict=True) if kept]
    assert not whole or FITTING.keeps(whole, *place)


def test_values_that_are_whole_only_when_put_together_are_not_recognised() -> None:
    raw = codec.pack({"f1": 7})
    for first, second in ((raw + raw, b""), *((raw[:cut], raw[cut:]) for cut in range(1, len(raw)))):
        pair = [Row(1, "item:1", "stats", 1, 1, 1, 0, False, one) for one in (first, second)]
        assert not FITTING.keeps(pair, ALL, 0)


@given(body=st.fixed_dictionaries({}, optional=fitting_values))
def test_what_a_server_packs_of_fitting_values_is_recognised(body: dict[str, object]) -> None:
    """Otherwise every row would go the long way, and nobody would notice."""
    for entity, view, channel, grant in (("item:1", "stats", ALL, 0), (f"{ALICE}|item:1", "tastes", MINE, 7)):
        row = Row(1, entity, view, 1, 1, 1, grant, False, codec.pack(body))
        kept = gate.judge(row, channel, CATALOG, grant)
        assert FITTING.keeps([row], channel, grant) == (kept.values == row.values and not kept.reason)


def test_every_kind_of_row_that_the_gate_keeps_is_recognised_and_no_other() -> None:
    """All that is asked of a row besides its values, crossed."""
    entities = ("item:1", f"{ALICE}|item:1", ALICE, "user:a", "user:a|item:1", "~x", "x")
    kinds = itertools.product(
        entities, ("stats", "tastes", "habits", "asked", "nobody"), (0, 7, 8), (True, False)
    )
    seen = 0
    places = ((ALL, 0), (MINE, 0), (MINE, 7))
    for (entity, view, row_grant, deleted), (channel, grant) in itertools.product(kinds, places):
        row = Row(1, entity, view, 1, 1, 1, row_grant, deleted, b"\x80")
        try:
            kept = gate.judge(row, channel, CATALOG, grant).action is Action.KEEP
        except WireFailure:
            kept = False
        assert FITTING.keeps([row], channel, grant) == kept, row
        seen += kept
    assert seen > 3


@pytest.mark.parametrize("number", [-(2**63), 2**63 - 1, 2**63, -1.7e308, 1.7976931348623157e308])
def test_numbers_at_the_edge_of_a_dtype_are_judged_alike(number: float) -> None:
    for name in FEATURES:
        row = Row(1, "item:1", "stats", 1, 1, 1, 0, False, codec.pack({name: number}))
        assert FITTING.keeps([row], ALL, 0) == (gate.judge(row, ALL, CATALOG, 0).reason == ""), name


@pytest.mark.parametrize(
    "raw",
    [
        b"\x82\xa2f1\x01\xa2f1\x02",  # a doubled name
        b"\x81\xa2f1\xcd\x00\x01",  # 1 in three bytes
        b"\x82\xa2f4\xa1x\xa2f1\x01",  # another order
        b"\x81\xa2f1\x01\xc0",  # a byte more
        b"\x81\xa2f4\xa3\xed\xa0\x80",  # a lone surrogate
        b"\x81\xa2f1",
        b"",
    ],
)
def test_bytes_that_no_server_packs_are_left_to_the_gate(raw: bytes) -> None:
    assert not FITTING.keeps([Row(1, "item:1", "stats", 1, 1, 1, 0, False, raw)], ALL, 0)


def test_law_5_a_person_in_a_shared_channel_is_left_to_the_gate_which_refuses() -> None:
    for entity, view in (("user:a", "stats"), ("~x", "stats"), ("item:1", "tastes"), ("user:a", "tastes")):
        row = Row(1, entity, view, 1, 1, 1, 0, False, b"\x80")
        assert not FITTING.keeps([row], ALL, 0)
        with pytest.raises(WireFailure, match="no_permission"):
            gate.judge(row, ALL, CATALOG, 0)


def test_law_11_views_that_a_stranger_names_are_not_remembered() -> None:
    fitting = Fitting(CATALOG)
    for n in range(100):
        assert not fitting.keeps([Row(1, "item:1", f"v{n}", 1, 1, 1, 0, False, b"\x80")], ALL, 0)
    assert fitting._forms == {}
