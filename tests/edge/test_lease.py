"""Offline is bounded: a lease counts from its asking, on a clock nobody can set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge_runtime.catalog import Catalog
from edge_runtime.consent.lease import CEILING_US
from edge_runtime.sync.lease_renewal import LeaseRenewal
from edge_runtime.sync.settings import SyncSettings
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import LeaseRequest
from tests.support.clock import ManualClock
from tests.support.consent_room import DAY_US, SHOP, M, P, Room

HOUR_US = 3_600_000_000


def enrolled(folder: Path, clock: ManualClock, **named: str) -> Room:
    """An enrolled room with alice's consent to two purposes, answered by its server."""
    room = Room(folder, clock=clock, **named)  # type: ignore[arg-type]
    if not room.keyring.identity.enrolled:
        room.enrol().answered()
        room.consents.give("alice", [P, M], notice="v1")
    return room


def test_a_standalone_runtime_has_no_lease(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
        room.clock.advance(seconds=10**9)
        assert room.allowed()
        assert room.leases.state == "standalone"
        assert room.leases.authority == "standalone"


def test_law_3_consented_features_lock_when_the_lease_ends(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        clock.advance(us=DAY_US - 1)
        assert room.allowed()
        clock.advance(us=1)
        assert not room.allowed()
        assert room.leases.state == "locked"
        assert room.consents.permission("user:alice", P).reason == "the lease has ended"
        assert room.consents.state("alice", P) == "given"


def test_a_purpose_may_have_a_shorter_lease(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        clock.advance(us=HOUR_US)
        assert room.allowed()
        assert not room.allowed(purpose=M)
        assert "purpose" in room.consents.permission("user:alice", M).reason


def test_law_3_a_lease_counts_from_the_sending_of_its_request(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        room.leases.begin_request(b"2" * 16)
        clock.advance(us=HOUR_US)
        room.leases.granted(room.lease(b"2" * 16, 2 * HOUR_US))
        clock.advance(us=HOUR_US - 1)
        assert room.allowed()
        clock.advance(us=1)
        assert not room.allowed()


def test_law_3_setting_the_wall_clock_back_lengthens_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        clock.set_wall(clock.now_us() - 10 * DAY_US)
        clock.advance(us=DAY_US)
        assert not room.allowed()


def test_law_3_suspend_consumes_the_lease(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        clock.uptime_us += DAY_US  # the boot clock runs in suspend; the process saw nothing
        assert not room.allowed()


def test_law_3_a_boot_clock_that_went_back_ends_the_lease_for_good(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        clock.reboot()
        assert not room.allowed()
        clock.uptime_us += DAY_US // 2
        assert not room.allowed()
        assert "boot clock" in room.leases.reason()


@pytest.mark.parametrize("cold_start", ["server", "lease"])
def test_law_3_a_cold_start_waits_for_the_server_unless_the_operator_chose_the_lease(
    tmp_path: Path, cold_start: str
) -> None:
    clock = ManualClock()
    enrolled(tmp_path, clock, cold_start=cold_start).close()
    clock.reboot()
    clock.set_wall(clock.now_us() + HOUR_US)
    with enrolled(tmp_path, clock, cold_start=cold_start) as room:
        assert room.allowed() is (cold_start == "lease")
        assert room.leases.state == ("fresh" if cold_start == "lease" else "locked")
        receipt = room.consents.withdraw("alice", [M])
        assert receipt.receipt.cold_start == cold_start


def test_a_cold_start_is_over_once_the_server_answered_and_granted(tmp_path: Path) -> None:
    clock = ManualClock()
    enrolled(tmp_path, clock).close()
    with enrolled(tmp_path, clock) as room:
        assert "no contact" in room.leases.reason()
        room.leases.begin_request(b"3" * 16)
        room.leases.granted(room.lease(b"3" * 16))
        assert not room.allowed(), "a lease alone does not end a cold start"
        room.leases.opened_by_server()
        assert room.allowed()


def test_law_3_a_stored_lease_is_consumed_by_uptime_and_by_wall_time(tmp_path: Path) -> None:
    clock = ManualClock()
    room = enrolled(tmp_path, clock, cold_start="lease")
    clock.advance(us=10 * HOUR_US)
    room.leases.keep()
    room.close()
    clock.reboot()
    clock.set_wall(clock.now_us() + 10 * HOUR_US)
    with enrolled(tmp_path, clock, cold_start="lease") as room:
        assert room.leases.remaining_us() == 4 * HOUR_US
        clock.set_wall(clock.now_us() + 4 * HOUR_US)  # set forward: consumed as well
        assert not room.allowed()


def test_law_3_a_stored_lease_does_not_open_on_a_clock_that_was_set_back(tmp_path: Path) -> None:
    clock = ManualClock()
    room = enrolled(tmp_path, clock, cold_start="lease")
    clock.advance(us=HOUR_US)
    room.leases.keep()
    room.close()
    clock.reboot()
    clock.set_wall(clock.now_us() - HOUR_US)
    with enrolled(tmp_path, clock, cold_start="lease") as room:
        assert not room.allowed()
        assert "set back" in room.leases.reason()


def test_law_3_only_a_signed_answer_to_our_own_request_is_a_lease(tmp_path: Path) -> None:
    with enrolled(tmp_path, ManualClock()) as room:
        with pytest.raises(WireFailure) as failure:
            room.leases.granted(room.lease(b"never asked" + b"." * 5))
        assert failure.value.code == "bad_nonce"
        with pytest.raises(WireFailure) as failure:
            room.leases.granted(room.lease(b"r" * 16))
        assert failure.value.code == "bad_nonce", "each request is answered once"
        room.leases.begin_request(b"4" * 16)
        forged = msgspec.structs.replace(room.lease(b"4" * 16), duration_us=2 * DAY_US)
        with pytest.raises(WireFailure) as failure:
            room.leases.granted(forged)
        assert failure.value.code == "bad_signature"
        assert room.leases.remaining_us() == DAY_US


def test_law_3_a_lease_for_less_of_the_lane_than_we_stood_at_is_refused(tmp_path: Path) -> None:
    with enrolled(tmp_path, ManualClock()) as room:
        room.consents.apply_lane([room.entry(5, "given", grant=5, subject="bob")], 5)
        room.leases.begin_request(b"5" * 16)
        with pytest.raises(WireFailure) as failure:
            room.leases.granted(room.lease(b"5" * 16, upto=4))
        assert failure.value.code == "lane_behind"
        room.leases.granted(room.lease(b"5" * 16, upto=5))


def test_no_lease_outlasts_the_ceiling_and_requests_are_bounded(tmp_path: Path) -> None:
    with enrolled(tmp_path, ManualClock()) as room:
        for n in range(20):
            room.leases.begin_request(bytes([n]) * 16)
        room.leases.granted(room.lease(bytes([19]) * 16, 400 * DAY_US))
        assert room.leases.remaining_us() == CEILING_US
        with pytest.raises(WireFailure):
            room.leases.granted(room.lease(bytes([3]) * 16))


def test_an_overtaken_answer_does_not_shorten_the_newer_lease(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        room.leases.begin_request(b"6" * 16)
        clock.advance(us=HOUR_US)
        room.leases.begin_request(b"7" * 16)
        room.leases.granted(room.lease(b"7" * 16))
        room.leases.granted(room.lease(b"6" * 16))
        assert room.leases.remaining_us() == DAY_US


def granted(room: Room, id: bytes, **said: Any) -> None:
    room.leases.begin_request(id)
    room.leases.granted(room.lease(id, **said))


def test_law_3_what_the_lease_says_of_a_purpose_ends_it_whatever_the_catalog_says(tmp_path: Path) -> None:
    """The server counts on it: it need not know which catalog a device has."""
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        granted(room, b"8" * 16, limits={P: 2 * HOUR_US, M: 5 * HOUR_US})
        clock.advance(us=HOUR_US)
        assert not room.allowed(purpose=M), "the catalog's own hour is shorter"
        clock.advance(us=HOUR_US - 1)
        assert room.allowed()
        clock.advance(us=1)
        assert not room.allowed()
        assert room.leases.state == "fresh"
        granted(room, b"9" * 16)
        assert room.allowed(), "a newer lease says nothing of it any more"


def test_law_3_a_limit_that_somebody_took_out_does_not_verify(tmp_path: Path) -> None:
    with enrolled(tmp_path, ManualClock()) as room:
        room.leases.begin_request(b"8" * 16)
        longer = msgspec.structs.replace(room.lease(b"8" * 16, limits={P: HOUR_US}), limits={})
        with pytest.raises(WireFailure, match="signature"):
            room.leases.granted(longer)


def test_law_3_a_stored_lease_keeps_its_limits_under_a_later_catalog(tmp_path: Path) -> None:
    """Restarted without contact, with an app whose catalog leases the purpose for longer."""
    clock = ManualClock()
    room = enrolled(tmp_path, clock, cold_start="lease")
    granted(room, b"8" * 16, limits={M: HOUR_US // 2})
    room.leases.keep()
    room.close()
    longer = SHOP.to_dict()
    longer["purposes"]["measurement"]["lease"] = "24h"
    with Room(tmp_path, clock=clock, cold_start="lease", catalog=Catalog.from_dict(longer)) as room:
        clock.advance(us=HOUR_US // 2 - 1)
        assert room.allowed(purpose=M)
        clock.advance(us=1)
        assert not room.allowed(purpose=M)
        assert room.allowed()


def test_law_3_a_request_in_flight_over_a_suspend_is_counted_from_its_sending(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        room.leases.begin_request(b"8" * 16)
        clock.uptime_us += 10 * HOUR_US  # suspended, and awake again; then the answer
        room.leases.granted(room.lease(b"8" * 16))
        assert room.leases.remaining_us() == 14 * HOUR_US


def test_law_3_a_request_answered_after_its_whole_lease_unlocks_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        room.leases.begin_request(b"8" * 16)
        clock.uptime_us += DAY_US
        room.leases.granted(room.lease(b"8" * 16))
        assert room.leases.remaining_us() == 0
        assert not room.allowed()


@pytest.mark.parametrize("cold_start", ["server", "lease"])
def test_law_3_a_wall_clock_set_forward_consumes_only_a_lease_that_trusts_it(
    tmp_path: Path, cold_start: str
) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock, cold_start=cold_start) as room:
        clock.set_wall(clock.now_us() + 2 * DAY_US)
        assert room.allowed() is (cold_start == "server")


def test_law_3_a_purpose_kept_in_memory_is_under_the_lease_as_well(tmp_path: Path) -> None:
    clock = ManualClock()
    with enrolled(tmp_path, clock) as room:
        room.consents.give("guest", ["guest"], notice="v1")
        assert room.allowed("guest", "guest")
        clock.advance(us=DAY_US)
        assert not room.allowed("guest", "guest")
    with enrolled(tmp_path, clock) as room:
        room.answered()
        assert room.consents.state("guest", "guest") == "unknown", "and over with the process"


def test_a_request_says_whether_the_wall_clock_is_trusted(tmp_path: Path) -> None:
    for cold_start in ("server", "lease"):
        with enrolled(tmp_path, ManualClock(), cold_start=cold_start) as room:
            settings, chance = SyncSettings(), bytes
            renewal = LeaseRenewal(room.leases, room.position, settings, chance)
            (request,) = renewal.due(room.clock.boot_us() + DAY_US)
            assert isinstance(request, LeaseRequest)
            assert request.cold_start == cold_start


class OvertakenClock(ManualClock):
    """While one thread reads the boot clock, another reads it later and is done first."""

    def __init__(self) -> None:
        super().__init__()
        self.other_thread: Callable[[], object] | None = None

    def boot_us(self) -> int:
        read_us = super().boot_us()
        other, self.other_thread = self.other_thread, None
        if other is not None:
            self.advance(us=1)
            other()
        return read_us


def test_a_reader_overtaken_by_another_thread_does_not_lose_the_lease(tmp_path: Path) -> None:
    """Two threads that read the boot clock at nearly the same time are no restart."""
    clock = OvertakenClock()
    with enrolled(tmp_path, clock) as room:
        clock.other_thread = room.allowed
        assert room.allowed()
        assert room.leases.state == "fresh"
