"""The end of a lease locks; only after the grace do the server's rows under consent go."""

from __future__ import annotations

import pytest

import edge_runtime as er
from edge_runtime.consent.grace import Grace
from tests.edge.test_held_rows import enrolled, grant_lease
from tests.support.clock import ManualClock
from tests.support.consent_room import P, Room
from tests.support.held_shop import DAY_US, Shop, shop
from tests.support.shop import BASE_US

GRACE_US = DAY_US
"""With the lease before it still within the retention of the catalog, three days."""


def rows_of(one: Shop, purpose: str = "ads") -> int:
    key = one.rt._keyring.key("user:alice", purpose)
    assert key is not None
    with one.rt._database.read() as tx:
        return len(tx.personal_rows(key.handle))


def test_law_3_after_the_grace_and_not_before_the_servers_rows_go() -> None:
    clock = ManualClock(BASE_US)
    with shop(clock, grace_us=GRACE_US) as one:
        enrolled(one)
        one.put_profile("alice", {"country": "UK"})
        one.rt.track("view", user="alice", item="a", price=1.0)
        one.rt.flush()
        visits = one.rt.read("habits:visits", user="alice").value
        clock.advance(us=DAY_US)
        one.rt.sweep()
        clock.advance(us=GRACE_US - 1)
        one.rt.sweep()
        assert rows_of(one) == 1, "locked, and still there"
        assert one.rt.read("profile:country", user="alice").status is er.Status.REVOKED
        clock.advance(us=1)
        one.rt.sweep()
        assert rows_of(one) == 0
        assert one.rt.consent.state("alice", "ads") == "given"
        grant_lease(one)
        assert "not received yet" in one.rt.read("profile:country", user="alice").reason
        assert one.rt.read("habits:visits", user="alice").value == visits, "what was collected here stays"


def test_law_3_a_lease_within_the_grace_begins_it_anew() -> None:
    clock = ManualClock(BASE_US)
    with shop(clock, grace_us=GRACE_US // 2) as one:
        enrolled(one)
        one.put_profile("alice", {"country": "UK"})
        clock.advance(us=DAY_US)
        for _ in range(2):
            one.rt.sweep()
            clock.advance(us=GRACE_US // 2 - 1)
            one.rt.sweep()
            grant_lease(one, 1_000_000)
            one.rt.sweep()
            clock.advance(seconds=1)
        assert rows_of(one) == 1


@pytest.mark.parametrize("set_us", [-400 * DAY_US, 400 * DAY_US])
def test_law_3_setting_the_wall_clock_neither_shortens_nor_lengthens_the_grace(set_us: int) -> None:
    clock = ManualClock(BASE_US + 500 * DAY_US)
    with shop(clock) as one:
        enrolled(one)
        clock.advance(us=DAY_US)
        grace = Grace(one.rt._leases, one.rt._database, clock, GRACE_US)
        grace.look()
        clock.set_wall(clock.now_us() + set_us)
        clock.uptime_us += GRACE_US - 1
        grace.look()
        assert not grace.over
        clock.uptime_us += 1
        grace.look()
        assert grace.over


def test_time_switched_off_counts_too_unless_the_clock_was_set_back() -> None:
    clock = ManualClock(BASE_US)
    with shop(clock) as one:
        enrolled(one)
        clock.advance(us=DAY_US)
        first = Grace(one.rt._leases, one.rt._database, clock, GRACE_US)
        first.look()
        clock.reboot()
        stopped_us = clock.now_us()
        clock.set_wall(stopped_us - 30 * DAY_US)
        back = Grace(one.rt._leases, one.rt._database, clock, GRACE_US)
        back.look()
        assert not back.over
        clock.set_wall(stopped_us + GRACE_US)
        again = Grace(one.rt._leases, one.rt._database, clock, GRACE_US)
        again.look()
        assert again.over


def test_a_standalone_runtime_has_no_grace_to_run_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Room(tmp_path_factory.mktemp("alone")) as room:
        room.consents.give("alice", [P], notice="v1")
        grace = Grace(room.leases, room.database, room.clock, 1)
        room.clock.advance(seconds=10**9)
        grace.look()
        assert not grace.over
