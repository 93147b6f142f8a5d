"""One subject's state takes the same memory after N events and after ten times N."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from bench.memory import catalog_text, deep_bytes, states
from edge_runtime.catalog import Catalog
from edge_runtime.session.event import Event
from edge_runtime.session.plan import ViewPlan, compile_catalog

STEADY, TENFOLD, SAMPLES = 1_500, 15_000, 20
GAP_US = 30_000_000
FEATURES = {
    "count": 'op = "count", window = "1h"',
    "count_all": 'op = "count"',
    "sum": 'op = "sum", value = "price", window = "1h"',
    "mean": 'op = "mean", value = "price", window = "5m"',
    "std": 'op = "std", value = "price", window = "1h"',
    "min": 'op = "min", value = "price", window = "1h"',
    "max": 'op = "max", value = "price", window = "1h"',
    "first": 'op = "first", value = "item", window = "1h"',
    "last": 'op = "last", value = "item"',
    "last_n": 'op = "last_n", value = "item", n = 20',
    "distinct": 'op = "distinct", value = "item", window = "1h", cap = 32',
    "distinct_all": 'op = "distinct", value = "item", cap = 64',
    "count_by": 'op = "count_by", by = "item", window = "1h", max_keys = 16',
    "by_all": 'op = "count_by", by = "item", max_keys = 16',
    "top_n": 'op = "top_n", by = "category", n = 3, window = "1h"',
    "since_last": 'op = "since_last"',
    "since_first": 'op = "since_first", window = "1h"',
    "decayed_count": 'op = "decayed_count", half_life = "1m"',
    "decayed_sum": 'op = "decayed_sum", value = "price", half_life = "1m"',
    "session_count": 'op = "session_count", gap = "5m"',
    "session_sum": 'op = "session_sum", value = "price", gap = "5m"',
    "session_distinct": 'op = "session_distinct", value = "item", gap = "5m", cap = 16',
    "session_start": 'op = "session_start", gap = "5m"',
}
"""Every operator but the mean of vectors, whose state is that of `last_n`; bounds that are soon reached."""


def _events(count: int) -> Iterator[Event]:
    """The same 211 items over and over, with a pause that ends a session now and then."""
    at_us = 1_700_000_000_000_000
    for number in range(count):
        at_us += GAP_US if number % 50 else 10 * GAP_US
        properties: dict[str, bool | int | float | str] = {
            "price": number % 13 + 0.25,
            "category": f"category-{number % 7}",
        }
        yield Event("view", {"user": "alice", "item": f"item-{number % 211}"}, properties, at_us)


def _plan() -> ViewPlan:
    return compile_catalog(Catalog.from_toml(catalog_text(FEATURES))).views["activity@1"]


def test_law_11_ten_times_the_events_leave_a_state_as_large_as_it_was() -> None:
    """In memory and as stored, at the largest of many moments; sums of all time may grow by some digits."""
    plan = _plan()
    moments = [count - 7 * sample for count in (STEADY, TENFOLD) for sample in range(SAMPLES)]
    deep: dict[int, int] = {}
    stored: dict[int, int] = {}
    for number, state in states(plan, _events(TENFOLD), moments):
        deep[number], stored[number] = deep_bytes(state), len(plan.dump(state))
    early, late = moments[:SAMPLES], moments[SAMPLES:]
    digits = 8 * len(FEATURES)
    assert max(deep[n] for n in late) <= max(deep[n] for n in early) + digits
    assert max(stored[n] for n in late) <= max(stored[n] for n in early) + digits


def test_the_deep_size_counts_each_object_once_and_all_that_it_holds() -> None:
    """A list of one string twice is a list and a string; slots and attributes are followed."""
    text = "x" * 1000
    assert deep_bytes([text, text]) == sys.getsizeof([text, text]) + sys.getsizeof(text)
    plan = _plan()
    empty, (_, full) = plan.new_state(), next(iter(states(plan, _events(100), [100])))
    assert deep_bytes(full) > deep_bytes(empty) > sys.getsizeof(empty.cells)
