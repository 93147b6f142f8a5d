"""A disk that runs full in the middle of anything: a clear error, and nothing acknowledged is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.consent.opening import open_cache
from tests.support.clock import ManualClock
from tests.support.full_disk import FullDisk
from tests.support.shop import BASE_US, shop_catalog

P = "personalization"
SETTINGS = er.Settings(snapshot_every_events=8, commit_interval_us=3_600_000_000)


class Kiosk:
    """A runtime on a disk that can run full."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ManualClock(BASE_US)
        self.disk = FullDisk()
        self.rt = self.open()
        self.tracked = 0

    def open(self) -> er.Runtime:
        key = er.KeyFile(self.folder / "device.key")
        keyring, database = open_cache(str(self.folder / "cache.db"), key, vfs=self.disk.name)
        return er.Runtime(shop_catalog(), database, keyring, self.clock, SETTINGS)

    def reopen(self) -> None:
        """Close with room, and open again."""
        self.disk.room = None
        self.rt.close()
        self.rt = self.open()

    def give(self, user: str) -> None:
        self.rt.consent.give(user, [P], notice="n")

    def track(self, times: int, user: str = "alice") -> None:
        for _ in range(times):
            self.clock.advance(seconds=1)
            event = f"e{self.tracked}"
            assert self.rt.track("view", user=user, item="i1", price=0.5, id=event) is er.ACCEPTED
            self.tracked += 1

    def views(self, user: str = "alice") -> object:
        return self.rt.read("activity:views", user=user).value


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(tmp_path)
    made.give("alice")
    yield made
    made.disk.room = None
    made.rt.close()


@pytest.mark.parametrize("room", range(12))
def test_law_6_a_flush_without_room_loses_nothing(kiosk: Kiosk, room: int) -> None:
    """Wherever in the writing the room ends, also with states to store: the events wait, once."""
    kiosk.track(20)
    kiosk.rt.flush()
    kiosk.track(20)
    kiosk.disk.room = room
    try:
        kiosk.rt.flush()
    except er.StorageFull:
        kiosk.track(3)  # in memory it goes on
    assert kiosk.views() == kiosk.tracked
    kiosk.disk.room = None
    kiosk.rt.flush()
    kiosk.reopen()
    assert kiosk.views() == kiosk.tracked
    assert kiosk.rt.track("view", user="alice", item="i1", price=0.5, id="e39") is er.DUPLICATE


def test_law_6_a_state_that_could_not_be_stored_is_stored_later(kiosk: Kiosk) -> None:
    """Another state of the same key, stored in between, must not let go of its journal."""
    kiosk.track(9)
    kiosk.disk.room = 0
    with pytest.raises(er.StorageFull):
        kiosk.rt.flush()
    kiosk.disk.room = None
    kiosk.rt.flush()
    kiosk.clock.advance(seconds=9 * 86_400)
    kiosk.track(9)
    kiosk.reopen()
    assert kiosk.views() == 18


def test_law_6_closing_without_room_says_so_and_keeps_what_was_flushed(kiosk: Kiosk) -> None:
    kiosk.track(5)
    kiosk.rt.flush()
    kiosk.track(5)
    kiosk.disk.room = 0
    with pytest.raises(er.StorageFull):
        kiosk.rt.close()
    kiosk.disk.room = None
    kiosk.rt = kiosk.open()
    assert kiosk.views() == 5


@pytest.mark.parametrize("room", range(14))
def test_law_2_a_withdrawal_without_room_stands_or_changed_nothing(kiosk: Kiosk, room: int) -> None:
    kiosk.track(3)
    kiosk.rt.flush()
    kiosk.disk.room = room
    try:
        kiosk.rt.consent.withdraw("alice")
        done = True
    except er.StorageFull:
        done = kiosk.rt.consent.state("alice", P) != "given"
    kiosk.disk.room = None
    found = kiosk.rt.read("activity:views", user="alice")
    assert (found.status, found.value) == ((er.Status.REVOKED, None) if done else (er.Status.PRESENT, 3))
    kiosk.reopen()
    assert kiosk.rt.read("activity:views", user="alice").status is found.status
    receipt = kiosk.rt.consent.withdraw("alice").receipt
    assert kiosk.rt.consent.state("alice", P) == "withdrawn"
    assert receipt.keys_destroyed == 1
    kiosk.give("alice")
    assert kiosk.views() == 0


@pytest.mark.parametrize("room", range(8))
def test_law_1_a_give_without_room_stands_or_changed_nothing(kiosk: Kiosk, room: int) -> None:
    kiosk.disk.room = room
    with suppress(er.StorageFull):
        kiosk.give("bob")
    state = kiosk.rt.consent.state("bob", P)
    kiosk.reopen()
    assert kiosk.rt.consent.state("bob", P) == state
    kiosk.give("bob")
    kiosk.track(1, "bob")
    assert kiosk.views("bob") == 1
