"""A held row at the very ends of things: tiles, ttl, retention, a NULL that passes, a value that warms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edge_runtime as er
from tests.support.clock import ManualClock
from tests.support.held_shop import DAY_US, Shop, shop
from tests.support.shop import BASE_US

IDS = {"user": "alice", "item": "a"}
HEAD = """
[catalog]
name = "held-ends"
version = 1
[purposes.p]
legal_basis = "consent"
lease = "24h"
retention = "30d"
keep_events = "2d"
[entities.user]
personal = true
[entities.item]
[events.view]
entities = ["user", "item"]
properties = { price = "float64" }
[events.buy]
entities = ["user"]
"""


def held_is_cold(one: Shop, service: str = "all") -> None:
    """The next read, which a held row answers if it can, is what a cold source would say."""
    ids = IDS if service == "all" else {"user": "alice"}
    vector = one.rt.vector(service, request={"ctx:hour": 7}, **ids)
    found = vector.values.tobytes(), vector.status.tolist(), list(vector.reason)
    assert found == one.slowly(service, ids, {"ctx:hour": 7})


def begun(one: Shop) -> None:
    """Alice has looked at and bought `a`, and her rows are held."""
    one.rt.consent.give("alice", ["ads", "stats"], notice="n")
    one.put("stock", "item:a", {"popularity": 0.5, "pairs": {"a": 2.0}})
    one.put("vec", "item:a", {"look": [1.0, 2.0]})
    one.put("words", "item:a", {"text": [1.0, 2.0, 3.0]})
    one.rt.track("view", user="alice", item="a", price=1.5, kind="k")
    one.rt.track("buy", user="alice", item="a", price=2.25)
    for _ in range(3):
        held_is_cold(one)
        held_is_cold(one, "mine")
    assert any(row is not None for row in one.rt._reader._held.values())


def test_law_7_a_held_row_turns_in_the_microsecond_in_which_a_tile_ends() -> None:
    """Read around every tile's end until all windows are empty; joins follow their lists."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        begun(one)
        for minute in range(1, 63):
            for at_us in (minute * 60_000_000 - 1, minute * 60_000_000, minute * 60_000_000 + 1):
                clock.set_wall(BASE_US + at_us)
                held_is_cold(one)
                held_is_cold(one, "mine")


def test_law_7_a_held_row_that_turned_does_not_answer_for_the_tile_before() -> None:
    """The clock is set back across the tile's end."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        begun(one)
        for second in (299, 300, 299, 301, 3599, 3600, 3599, 3660, 3599):
            clock.set_wall(BASE_US + second * 1_000_000)
            held_is_cold(one)
            held_is_cold(one, "mine")


@pytest.mark.parametrize("end_us", [3_600_000_000, 3 * 3_600_000_000, DAY_US, 3 * DAY_US, 30 * DAY_US])
def test_law_7_a_held_row_ends_in_the_microsecond_in_which_a_ttl_or_retention_does(end_us: int) -> None:
    """Of pushed rows, of session views, and of what retention lets go."""
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        begun(one)
        clock.set_wall(BASE_US + end_us - 1)
        for _ in range(4):
            for _ in range(2):
                held_is_cold(one)
                held_is_cold(one, "mine")
            clock.advance(us=1)


def test_law_7_a_number_that_was_null_and_is_one_again_is_seen() -> None:
    """log1p of a sum that decays from under -1 to over it: nothing but time has passed."""
    catalog = er.Catalog.from_toml(
        HEAD
        + """
[views.v]
entity = "user"
source = "session"
purpose = "p"
ttl = 0
[views.v.features]
debt = { op = "decayed_sum", event = "view", value = "price", half_life = "10s" }
deep = { op = "log1p", of = "debt" }
[services.s]
features = ["v:deep", "v:debt"]
"""
    )
    clock = ManualClock(BASE_US)
    with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory(), clock=clock) as rt:
        rt.consent.give("alice", ["p"], notice="n")
        rt.track("view", user="alice", item="a", price=-3.0)
        seen = []
        for _ in range(12):
            clock.advance(seconds=2)
            vector = rt.vector("s", user="alice")
            value = rt.read("v:deep", user="alice")
            assert int(vector.status[0]) == int(value.status)
            assert value.value is None or vector.values[0] == pytest.approx(value.value, rel=1e-6)
            seen.append(int(vector.status[0]))
        assert seen == sorted(seen, reverse=True)
        assert set(seen) == {er.Status.NULL, er.Status.PRESENT}


def test_law_7_a_number_of_two_windows_follows_the_shorter_tile() -> None:
    """A ratio of a window cut into seconds and one cut into minutes, read at every second."""
    catalog = er.Catalog.from_toml(
        HEAD
        + """
[views.v]
entity = "user"
source = "session"
purpose = "p"
ttl = 0
[views.v.features]
short = { op = "count", event = "view", window = "30s" }
long = { op = "count", event = "view", window = "1h" }
share = { op = "ratio", of = ["short", "long"] }
[services.s]
features = ["v:share"]
"""
    )
    clock = ManualClock(BASE_US)
    with er.Runtime.open(":memory:", catalog=catalog, key=er.KeyMemory(), clock=clock) as rt:
        rt.consent.give("alice", ["p"], notice="n")
        for seconds in range(45):
            if seconds < 3:
                rt.track("view", user="alice", item="a")
            expected = min(seconds + 1, 3) - max(seconds - 29, 0)
            for _ in range(3):
                value = rt.vector("s", user="alice").values[0]
                assert value == np.float32(max(expected, 0) / min(seconds + 1, 3))
            clock.advance(seconds=1)


def test_law_7_a_row_with_a_warming_number_says_so_at_every_read(tmp_path: Path) -> None:
    """Through many reads and ends of tiles, until the window is whole."""
    clock = ManualClock(BASE_US)
    view = """
[views.v]
entity = "user"
source = "session"
purpose = "p"
ttl = 0
[views.v.features]
all = { op = "count", event = "view" }
"""
    added = 'buys_5m = { op = "count", event = "buy", window = "5m" }\n'
    service = '[services.s]\nfeatures = ["v:all"NEW]\n'

    def opened(text: str) -> er.Runtime:
        catalog, key = er.Catalog.from_toml(text), er.KeyFile(tmp_path / "k")
        return er.Runtime.open(tmp_path / "c.db", catalog=catalog, key=key, clock=clock)

    before = HEAD.replace('keep_events = "2d"\n', "")
    with opened(before + view + service.replace("NEW", "")) as rt:
        rt.consent.give("alice", ["p"], notice="n")
        for _ in range(3):
            clock.advance(seconds=1)
            rt.track("view", user="alice", item="a", price=2.0)
        rt.leave("alice")
    clock.advance(seconds=1)
    with opened(before + view + added + service.replace("NEW", ', "v:buys_5m"')) as rt:
        statuses = []
        for _ in range(100):
            clock.advance(seconds=5)
            vector, value = rt.vector("s", user="alice"), rt.read("v:buys_5m", user="alice")
            assert int(vector.status[1]) == int(value.status)
            statuses.append(int(value.status))
        assert statuses == sorted(statuses, reverse=True)
        assert set(statuses) == {er.Status.WARMING, er.Status.PRESENT}


def test_law_1_a_row_of_pushed_values_alone_is_judged_at_every_read() -> None:
    """Without a decision, with one, and after its withdrawal."""
    text = """
[views.profile]
entity = "user"
source = "server"
purpose = "p"
ttl = 0
[views.profile.features]
age = { dtype = "float64" }
[services.s]
features = ["profile:age"]
"""
    key, clock = er.KeyMemory(), ManualClock(BASE_US)
    with er.Runtime.open(":memory:", catalog=er.Catalog.from_toml(HEAD + text), key=key, clock=clock) as rt:

        def seen() -> set[int]:
            return {int(rt.vector("s", user="alice").status[0]) for _ in range(4)}

        assert seen() == {er.Status.REVOKED}
        rt.consent.give("alice", ["p"], notice="n")
        assert seen() == {er.Status.NOT_SYNCED}
        rt.consent.withdraw("alice", ["p"])
        assert seen() == {er.Status.REVOKED}
