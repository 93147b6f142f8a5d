"""After an event a held row is renewed in part, where that is all that the event can have changed."""

from __future__ import annotations

from typing import Any

from edge_runtime.serving.held import Held
from edge_runtime.serving.plan import ServicePlan
from tests.support.clock import ManualClock
from tests.support.held_shop import CATALOG, DAY_US, Shop, shop, told
from tests.support.shop import BASE_US


def test_an_event_renews_only_the_parts_of_its_views() -> None:
    """The row stays held while events come, one late, one that makes a NULL a number; one ahead ends it."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.put("stock", "item:a", {"popularity": 0.25, "pairs": {"a": 1.0}})
        asked: dict[str, Any] = {"user": "alice", "item": "a"}
        for kind in ("view", "buy"):
            one.rt.track(kind, price=1.5, **asked)
        clock.advance(us=600_000_000)
        for _ in range(2):
            one.rt.vector("all", **asked)
        held = list(one.rt._reader._held.values())
        assert isinstance(held[0], Held)
        for kind, late_us in (("view", 0), ("view", 50_000_000), ("buy", 0)):
            clock.advance(us=61_000_000)
            at_s = (clock.now_us() - late_us) / 1e6
            more = {"kind": "k"} if kind == "view" else {}
            one.rt.track(kind, price=2.25, at=at_s, **asked, **more)
            vector = one.rt.vector("all", **asked)
            expected = one.slowly("all", asked, {})
            assert (vector.values.tobytes(), vector.status.tolist(), list(vector.reason)) == expected
            assert list(one.rt._reader._held.values()) == held
        one.rt.track("view", at=clock.now_us() / 1e6 + 2, **asked)
        one.rt.vector("all", **asked)
        assert list(one.rt._reader._held.values()) != held


def same_as_cold(one: Shop) -> bool:
    """Whether the next read of alice's row is what a cold read is, and explained as one."""
    cold = ServicePlan(CATALOG, CATALOG.service("mine"))
    vector, expected = one.rt.vector("mine", user="alice"), one.slowly("mine", {"user": "alice"}, {})
    now_us = one.clock.now_us()
    explained = told(cold.vector(one.cold(), {"user": "alice"}, now_us).explain())
    return expected[0] == vector.values.tobytes() and told(vector.explain()) == explained


def test_a_row_held_before_the_first_event_ends_with_the_ttl_that_began_with_it() -> None:
    """Nothing was there whose age could end; from the event on there is."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        assert all(same_as_cold(one) for _ in range(3))
        one.rt.track("view", user="alice", item="a")
        assert same_as_cold(one)
        for us in (DAY_US, 1, 2 * DAY_US):
            clock.advance(us=us)
            assert same_as_cold(one)


def test_a_clock_set_back_before_an_event_does_not_show_it() -> None:
    """The row was held before the event, and the clock went back to a time between the two."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.rt.track("view", user="alice", item="a")
        assert all(same_as_cold(one) for _ in range(3))
        clock.advance(us=10_000_000)
        one.rt.track("view", user="alice", item="a")
        clock.set_wall(BASE_US + 5_000_000)
        assert same_as_cold(one)
        assert one.rt.vector("mine", user="alice").values[0] == 1


def test_a_row_that_an_event_made_a_join_look_up_ends_with_its_own_ttl() -> None:
    """`goes` sums over the rows of the newest items; the one of the item just seen ends first of all."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        one.put("stock", "item:a", {"popularity": 0.25, "pairs": {"a": 1.0}})
        one.put("stock", "item:b", {"popularity": 0.25, "pairs": {"a": 4.0}}, age_us=3_000_000_000)
        asked: dict[str, Any] = {"user": "alice", "item": "a"}
        one.rt.track("view", **asked)
        goes = CATALOG.service("all").names.index("goes")
        for _ in range(3):
            assert one.rt.vector("all", **asked).values[goes] == 1.0
        one.rt.track("view", user="alice", item="b")
        for wait_us in (0, 600_000_000, 1):
            clock.advance(us=wait_us)
            vector = one.rt.vector("all", **asked)
            expected = one.slowly("all", asked, {})
            assert (vector.values.tobytes(), vector.status.tolist(), list(vector.reason)) == expected
        assert vector.reason[goes].startswith("EXPIRED")


def test_law_7_a_row_that_arrives_or_goes_is_seen_by_the_next_read_of_a_held_row() -> None:
    """No event and no time passes: the server's word alone changes the numbers; a foreign row does not."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        one.rt.consent.give("alice", ["ads", "stats"], notice="n")
        asked: dict[str, Any] = {"user": "alice", "item": "a"}
        seen = []
        for popularity in (0.25, 0.75, None):
            values = None if popularity is None else {"popularity": popularity, "pairs": {"a": 1.0}}
            one.put("stock", "item:a", values)
            for _ in range(3):
                vector = one.rt.vector("all", **asked)
                expected = one.slowly("all", asked, {})
                assert (vector.values.tobytes(), vector.status.tolist(), list(vector.reason)) == expected
            seen.append(vector.values.tobytes())
            held = list(one.rt._reader._held.values())
            assert isinstance(held[0], Held)
            one.put("stock", "item:foreign", {"popularity": 0.5, "pairs": {}})
            one.rt.vector("all", **asked)
            assert list(one.rt._reader._held.values()) == held
        assert len(set(seen)) == 3
