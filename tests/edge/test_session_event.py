"""What may enter as an event, and what each refusal says."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import MalformedEvent
from edge_runtime.session.event import (
    Event,
    check_event,
    content_id,
    event_from_dict,
    from_bytes,
    instant_us,
    make_event,
    to_bytes,
)
from tests.support.streams import START_US, every_operator

CATALOG = every_operator()


def view(**fields: object) -> Event:
    return make_event(CATALOG, "view", {"user": "alice", "item": "a", **fields}, now_us=START_US)


@pytest.mark.parametrize(
    ("fields", "place", "got"),
    [
        ({"price": float("nan")}, "view.price", "NaN"),
        ({"price": float("inf")}, "view.price", "a larger one or infinity"),
        ({"price": -(2.0**501)}, "view.price", "a larger one or infinity"),
        ({"price": 10**400}, "view.price", "a larger one or infinity"),
        ({"price": "2.5"}, "view.price", "str"),
        ({"price": True}, "view.price", "bool"),
        ({"clicks": 1.0}, "view.clicks", "float"),
        ({"clicks": True}, "view.clicks", "bool"),
        ({"clicks": 1 << 63}, "view.clicks", "a larger one"),
        ({"logged_in": 1}, "view.logged_in", "int"),
        ({"category": b"x"}, "view.category", "bytes"),
        ({"category": "\ud800"}, "view.category", "a lone surrogate"),
        ({"category": "x" * 5000}, "view.category", "at least 5000 bytes"),
        ({"user": ""}, "view.user", "an empty string"),
        ({"user": None}, "view.user", "nothing"),
        ({"user": 17850}, "view.user", "int"),
        ({"user": "\udfff"}, "view.user", "a lone surrogate"),
        ({"user": "x" * 1_000_000}, "view.user", "at least 1000000 bytes"),
        ({"user": "é" * 257}, "view.user", "514 bytes"),
        ({"id": ""}, "view.id", "an empty string"),
        ({"id": 7}, "view.id", "int"),
        ({"id": "x" * 513}, "view.id", "at least 513 bytes"),
        ({"at": datetime(2026, 1, 1)}, "view.at", "a naive datetime"),
        ({"at": "2026-01-01"}, "view.at", "str"),
        ({"at": float("nan")}, "view.at", "NaN or infinity"),
        ({"at": 1e300}, "view.at", "a time outside them"),
        ({"at": START_US / 1e6 + 61}, "view.at", "61 s ahead"),
        ({"colour": "red"}, "view", "a field not declared"),
    ],
)
def test_law_12_malformed_input_names_its_place(fields: dict[str, object], place: str, got: str) -> None:
    """Each kind of bad input is refused with its place and what came, never with the value itself."""
    with pytest.raises(MalformedEvent) as caught:
        view(**fields)
    assert (caught.value.place, caught.value.got) == (place, got)


def test_law_12_unknown_type_and_missing_entity() -> None:
    """An undeclared type and an entity left out have messages of their own."""
    with pytest.raises(MalformedEvent, match=r"type: expected one of the declared events \(buy, view\)"):
        make_event(CATALOG, "veiw", {}, now_us=START_US)
    with pytest.raises(MalformedEvent, match=r"view\.item: expected an id, got nothing; nothing changed"):
        make_event(CATALOG, "view", {"user": "alice"}, now_us=START_US)


@pytest.mark.parametrize(
    "odd", ["\x00", "a\x00b", "\U0001f6d2", "\u202eabc", "x" * 512, "é" * 256, "' OR 1=1--"]
)
def test_odd_ids_are_ids(odd: str) -> None:
    """NUL, emoji, bidirectional marks and quotes are legal in ids and survive the journal's form."""
    event = view(user=odd, id=odd)
    assert event.entities["user"] == odd
    assert from_bytes(to_bytes(event)) == event


def test_there_is_one_zero_and_ints_are_numbers() -> None:
    """-0.0 becomes 0.0 and an int is taken for a float."""
    assert str(view(price=-0.0).properties["price"]) == "0.0"
    price = view(price=3).properties["price"]
    assert (price, type(price)) == (3.0, float)


def test_a_property_that_is_none_is_not_known() -> None:
    """None leaves a property out."""
    assert view(price=None).properties == {}


def test_times_come_in_three_forms() -> None:
    """Nothing means now; Unix seconds and aware datetimes mean themselves."""
    aware = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert view().at_us == START_US
    assert instant_us(1_600_000_000) == 1_600_000_000_000_000
    assert instant_us(aware) == 1_767_261_600_000_005


@given(st.integers(0, 2**41), st.integers(0, 999_999))
def test_float_seconds_round_half_to_even_exactly(seconds: int, micros: int) -> None:
    """The float's exact value is rounded, not its product with a million."""
    from fractions import Fraction

    at = seconds + micros / 1_000_000
    if at < 2e11:
        assert instant_us(at) == round(Fraction(at) * 1_000_000)


def test_half_a_microsecond_goes_to_the_even_one() -> None:
    """2^-7 s is 7812.5 µs: 7812; 3 * 2^-7 s is 23437.5 µs: 23438."""
    assert instant_us(2.0**-7) == 7812
    assert instant_us(3 * 2.0**-7) == 23438
    assert instant_us(20_000 + 2.0**-7) == 20_000_007_812


def test_content_ids_differ_by_ordinal_only_where_content_is_equal() -> None:
    """Identical events get distinct ids by ordinal; the order of properties does not matter."""
    one = Event("view", {"user": "a", "item": "b"}, {"price": 1.0, "category": "c"}, START_US)
    two = Event("view", {"item": "b", "user": "a"}, {"category": "c", "price": 1.0}, START_US)
    assert content_id(one, 0) == content_id(two, 0) != content_id(one, 1)


def test_an_event_built_by_hand_is_checked_alike() -> None:
    """`check_event` refuses what `make_event` would, and normalises what it would."""
    made = check_event(
        CATALOG, Event("view", {"user": "a", "item": "b"}, {"price": -0.0}, START_US), now_us=START_US
    )
    assert str(made.properties["price"]) == "0.0"
    for bad in (
        Event("view", {"user": "a"}, {}, START_US),
        Event("view", {"user": "a", "item": "b"}, {"item": "b"}, START_US),
        Event("view", {"user": "a", "item": "b", "price": "1"}, {}, START_US),
        Event("view", {"user": "a", "item": "b"}, {}, START_US + 60_000_001),
    ):
        with pytest.raises(MalformedEvent):
            check_event(CATALOG, bad, now_us=START_US)


def test_a_flat_dict_is_an_event() -> None:
    """Type, at, id, entities and properties stand side by side."""
    flat = {"type": "view", "user": "alice", "item": "x", "price": 2.5, "at": 1.6e9, "id": "one"}
    event = event_from_dict(CATALOG, flat, now_us=START_US)
    assert event == Event(
        "view", {"user": "alice", "item": "x"}, {"price": 2.5}, 1_600_000_000_000_000, "one"
    )
    with pytest.raises(MalformedEvent, match="type"):
        event_from_dict(CATALOG, {"user": "alice"}, now_us=START_US)


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x01", b"\x95\x01\x02\x03\x04\x05"])
def test_bytes_that_are_no_event_are_refused(raw: bytes) -> None:
    """The journal's form is checked when it is read."""
    with pytest.raises(ValueError):
        from_bytes(raw)
