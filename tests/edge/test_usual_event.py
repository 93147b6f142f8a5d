"""The short way to read an event gives the event of the long way, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.errors import MalformedEvent
from edge_runtime.history.replay import replay
from edge_runtime.session.event import LAST_US, Event, content_id, event_from_dict, make_event, to_bytes
from edge_runtime.session.event_reader import EventReader
from edge_runtime.session.usual_event import usual_readers

CATALOG = Catalog.from_toml("""
[catalog]
name = "all"
version = 1
[purposes.p]
title = "P"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[entities.user]
personal = true
[entities.item]
[events.one]
entities = ["user"]
properties = { price = "float64", n = "int64", yes = "bool", text = "string", when = "time" }
[events.two]
entities = ["user", "item"]
[views.activity]
version = 1
source = "session"
entity = ["user"]
purpose = "p"
ttl = 0
[views.activity.features]
count = { op = "count", event = ["one", "two"] }
items = { op = "last_n", event = "two", value = "item", n = 5 }
""")
READERS = usual_readers(CATALOG.events)
TEXTS = st.sampled_from(["a", "bob", "", "é", "\ud800", "x" * 512, "x" * 513, "y" * 4097])
NUMBERS = st.sampled_from([0, -0.0, 1.5, 2**63, -(2**63), 1e200, float("nan"), float("inf"), np.float64(2.5)])
TIMES = st.one_of(
    st.integers(-(10**12), 10**12), st.floats(-1e5, 1e12), st.sampled_from([16383.5, 253402300799, 1e300])
)
VALUES = st.one_of(TEXTS, NUMBERS, TIMES, st.booleans(), st.none(), st.just([1]), st.just({}))
ONE: dict[str, Any] = {"type": "one", "user": "a", "at": 1.7e9 + 0.123456, "price": 2.5, "n": 3}


@settings(max_examples=400)
@given(
    st.sampled_from(["one", "two"]),
    st.fixed_dictionaries({"at": st.one_of(TIMES, VALUES), "user": st.one_of(TEXTS, VALUES)}),
    st.dictionaries(st.sampled_from(["item", "price", "n", "yes", "text", "when", "id", "ghost"]), VALUES),
)
def test_the_usual_reader_says_what_the_meaning_says_or_nothing(
    kind: str, needed: dict[str, Any], further: dict[str, Any]
) -> None:
    """Whatever the fields hold: the same bytes, or None; always None where the event is malformed."""
    flat = {"type": kind, **needed, **further}
    for _ in range(2):  # the second time from what was held of the first
        read = READERS[kind](flat)
        try:
            meant = event_from_dict(CATALOG, flat, now_us=LAST_US)
        except MalformedEvent:
            assert read is None
        else:
            assert read is None or to_bytes(read) == to_bytes(meant)


@settings(max_examples=400)
@given(
    st.sampled_from(["one", "two"]),
    st.dictionaries(
        st.sampled_from(["at", "user", "item", "price", "n", "yes", "text", "when", "id", "type"]), VALUES
    ),
    st.one_of(TIMES, st.none()),
    st.sampled_from([0, 1_700_000_000_000_000]),
)
def test_the_live_reader_says_what_the_meaning_says(
    kind: str, fields: dict[str, Any], at: object, now_us: int
) -> None:
    """By name and as a flat dict, with `at` or now: the same bytes, or the same error with the same words."""
    fields = {"user": "a", **fields} if at is None else {"user": "a", **fields, "at": at}
    reader = EventReader(CATALOG)
    by_name = meaning(lambda: make_event(CATALOG, kind, fields, now_us=now_us))
    assert meaning(lambda: reader.named(kind, fields, now_us)) == by_name
    flat = {**fields, "type": kind}
    whole = meaning(lambda: event_from_dict(CATALOG, flat, now_us=now_us))
    assert meaning(lambda: reader.given(flat, now_us)) == whole


def meaning(read: Callable[[], Event]) -> bytes | str:
    try:
        return to_bytes(read())
    except MalformedEvent as error:
        return str(error)


def test_law_4_live_events_leave_no_text_in_their_reader() -> None:
    """What an erasure must reach is not held where it does not look."""
    reader = EventReader(CATALOG)
    reader.named("one", {"user": "somebody-rare", "text": "said-once"}, 1_700_000_000_000_000)
    held = [read.__globals__ for read in reader._usual.values()]
    assert held
    assert "somebody-rare" not in repr(held)
    assert "said-once" not in repr(held)


def test_usual_events_take_the_short_way() -> None:
    """All dtypes, whole and float seconds, with an id and without."""
    full = {**ONE, "yes": True, "text": "", "when": 1_700_000_000}
    for flat in (ONE, full, {**full, "id": "e1"}, {"type": "one", "user": "b", "at": 20_000}):
        assert READERS["one"](flat) == event_from_dict(CATALOG, flat, now_us=LAST_US)
    assert READERS["two"]({"type": "two", "user": "a", "item": "x", "at": 20_000}) is not None
    assert READERS["two"]({"type": "two", "user": "a", "item": "x", "at": 20_000, "received": 1}) is None


def test_events_of_one_time_stand_in_the_order_of_their_ids_given_or_not() -> None:
    """An id that was given and equals one that another event gets: it is the same event, told twice."""
    at = 1_700_000_000
    flats: list[dict[str, Any]] = [{"type": "two", "user": "a", "item": f"i{n}", "at": at} for n in range(4)]
    ids = [content_id(event_from_dict(CATALOG, flat, now_us=LAST_US), 0) for flat in flats]
    order = [f"i{n}" for n in sorted(range(4), key=ids.__getitem__)]
    asked = [{"user": "a", "at": at}]
    for events in (
        flats,
        flats[::-1],
        [*flats, {**flats[0], "id": ids[0]}],
        [{**flats[1], "id": ids[1]}, *flats],
    ):
        told = replay(CATALOG, events, points=asked, refs=["activity:items", "activity:count"])
        named = sum(
            "id" in e for e in events[:1]
        )  # before its like that has no id, that gets the next ordinal
        assert told.column("activity:count") == [4 + named]
        if not named:
            assert told.column("activity:items") == [order]
