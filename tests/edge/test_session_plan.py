"""A compiled plan: its source, its routes, its stored states."""

from __future__ import annotations

import traceback

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.errors import CatalogError, StateUnreadable
from edge_runtime.session.event import Event
from edge_runtime.session.plan import compile_catalog
from tests.support.streams import CATALOG, SECOND, START_US, every_operator

PLAN = compile_catalog(every_operator())
VIEW = PLAN.views["activity@1"]


def test_features_of_one_stream_share_their_state() -> None:
    """The same count asked twice, or a shorter list of the same values, costs no slot and no line."""
    first = 'count_all = { op = "count", event = ["view", "buy"] }\n'
    again = first.replace("count_all", "again")
    shorter = 'last_2 = { op = "last_n", event = "view", value = "item", n = 2 }\n'
    more = CATALOG.replace(first, first + again + shorter)
    wider = compile_catalog(Catalog.from_toml(more)).views["activity@1"]
    assert len(wider.new_state().cells) == len(VIEW.new_state().cells)
    assert len(wider.names) == len(VIEW.names) + 2


def test_tracebacks_point_into_the_generated_source() -> None:
    """A failure inside the generated function shows its line."""
    broken = Event("view", {"user": "a"}, {}, START_US, "x")
    with pytest.raises(KeyError) as caught:
        VIEW.update(VIEW.new_state(), broken, "x")
    lines = "".join(traceback.format_tb(caught.value.__traceback__))
    assert "session plan activity@1" in lines
    assert "event.entities['item']" in lines


def test_catalog_texts_cannot_become_code() -> None:
    """Quotes, line ends and odd letters in conditions stay literals."""
    odd = "'); raise SystemExit  # \\n\\u2028"
    text = CATALOG.replace('in = ["a", "b"]', f'in = ["{odd}", "b"]')
    plan = compile_catalog(Catalog.from_toml(text)).views["activity@1"]
    state = plan.new_state()
    event = Event(
        "view",
        {"user": "a", "item": "b"},
        {"category": "'); raise SystemExit  # \n\u2028", "clicks": 1},
        START_US,
    )
    plan.offer(state, event, "x", START_US)
    assert plan.read_one(state, "count_named", START_US) == 1


def test_routes_name_the_view_and_the_typed_entity() -> None:
    """Every event type knows the views it feeds."""
    (route,) = PLAN.routes["view"]
    event = Event("view", {"user": "alice", "item": "b"}, {}, START_US)
    assert (route.view_key, route.entity_of(event)) == ("activity@1", "user:alice")


def test_a_composite_key_joins_its_typed_ids() -> None:
    """A view of (user, item) keeps one state for each pair."""
    text = CATALOG.replace('entity = "user"', 'entity = ["user", "item"]')
    (route,) = compile_catalog(Catalog.from_toml(text)).routes["view"]
    assert route.entity_of(Event("view", {"user": "a", "item": "x"}, {}, START_US)) == "user:a|item:x"


def test_lateness_beyond_the_retention_is_a_catalog_error() -> None:
    """What retention has ended, a late event cannot bring back."""
    text = CATALOG.replace('allowed_lateness = "60s"', 'allowed_lateness = "3h"')
    with pytest.raises(CatalogError, match="allowed_lateness"):
        compile_catalog(Catalog.from_toml(text))


def test_sums_beyond_64_bits_are_stored() -> None:
    """A state with a sum of 2^500 goes through bytes unchanged."""
    state = VIEW.new_state()
    for number, price in enumerate([2.0**500, -(2.0**499)]):
        event = Event("view", {"user": "a", "item": "b"}, {"price": price}, START_US)
        VIEW.offer(state, event, str(number), START_US)
    loaded = VIEW.load(VIEW.dump(state))
    assert VIEW.read_one(loaded, "sum_all", START_US) == 2.0**499
    assert VIEW.dump(loaded) == VIEW.dump(state)


def test_a_state_of_other_definitions_is_refused() -> None:
    """A dump that lacks what a plan needs is carried over, never loaded as whole."""
    other = Catalog.from_toml(CATALOG.replace('half_life = "10s"', 'half_life = "11s"'))
    raw = compile_catalog(other).views["activity@1"].dump(VIEW.new_state())
    with pytest.raises(StateUnreadable, match="other definitions"):
        VIEW.load(raw)


@given(st.binary(max_size=40))
def test_law_12_foreign_bytes_are_refused(raw: bytes) -> None:
    """Bytes that are no state are refused with one error."""
    with pytest.raises(StateUnreadable):
        VIEW.load(raw)


@given(st.data())
def test_law_12_damaged_states_are_refused_or_load(data: st.DataObject) -> None:
    """A state with one part replaced never raises anything else."""
    state = VIEW.new_state()
    VIEW.offer(state, Event("view", {"user": "a", "item": "b"}, {}, START_US), "x", START_US)
    parts = msgpack.unpackb(VIEW.dump(state), strict_map_key=False)
    parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(
        st.none() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(-9, 9), max_size=3)
    )
    try:
        loaded = VIEW.load(msgpack.packb(parts))
    except StateUnreadable:
        return
    assert len(loaded.cells) == len(state.cells)


def test_merging_an_empty_state_changes_nothing() -> None:
    """The empty state is neutral on both sides."""
    state, empty = VIEW.new_state(), VIEW.new_state()
    VIEW.offer(state, Event("view", {"user": "a", "item": "b"}, {"price": 2.5}, START_US), "x", START_US)
    t_us = START_US + SECOND
    for merged in (VIEW.merge(state, empty), VIEW.merge(empty, state)):
        assert VIEW.values(merged, t_us) == VIEW.values(state, t_us)
