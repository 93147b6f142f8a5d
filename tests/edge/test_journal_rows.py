"""Events of one key share sealed rows of the journal: bounded, of one day, in order, never half covered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.cache.journal_entry import DAY_US, ROW_LIMIT_BYTES, JournalEntry, open_entries
from edge_runtime.cache.working_set import HANDLES_AT_ONCE
from edge_runtime.consent.opening import open_cache
from tests.support.clock import ManualClock
from tests.support.full_disk import FullDisk
from tests.support.shop import BASE_US, shop_catalog

P = "personalization"
SETTINGS = er.Settings(
    commit_interval_us=3_600_000_000, snapshot_every_events=8, string_limit_bytes=2 * ROW_LIMIT_BYTES
)


class Kiosk:
    """A runtime in a folder of its own, on a disk that can run full."""

    def __init__(self, folder: Path, clock: ManualClock) -> None:
        self.folder, self.clock, self.disk = folder, clock, FullDisk()
        key = er.KeyFile(folder / "device.key")
        keyring, database = open_cache(str(folder / "cache.db"), key, vfs=self.disk.name)
        self.rt = er.Runtime(shop_catalog(), database, keyring, clock, SETTINGS)

    def track(self, user: str, id: str, category: str = "c") -> None:
        verdict = self.rt.track("view", user=user, item="x", price=0.5, category=category, id=id)
        assert verdict is er.ACCEPTED

    def rows(self, user: str) -> list[list[JournalEntry]]:
        """The opened rows under a user's key."""
        key = self.rt._keyring.key(f"user:{user}", P)
        assert key is not None
        with self.rt._database.read() as tx:
            return [open_entries(key, row) for _, row in tx.events(key.handle)]

    def ids(self, user: str) -> list[str]:
        return [entry.event_id for row in self.rows(user) for entry in row]

    def views(self, user: str) -> object:
        return self.rt.read("activity:views", user=user).value

    def crash(self, into: Path) -> Kiosk:
        """What is left when the power goes now, opened elsewhere; this one is closed."""
        shutil.copytree(self.folder, into)
        self.rt.close()
        return Kiosk(into, self.clock)


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(tmp_path, ManualClock(BASE_US))
    for user in ("ann", "bob"):
        made.rt.consent.give(user, [P], notice="n")
    yield made
    made.disk.room = None
    made.rt.close()


def test_events_of_one_key_and_commit_share_a_row_in_order(kiosk: Kiosk) -> None:
    """However subjects take turns, each has one row a commit, with its events as they came."""
    for n in range(50):
        kiosk.track(("ann", "bob")[n % 2], f"{n}")
    kiosk.rt.flush()
    kiosk.track("ann", "last")
    kiosk.rt.flush()
    assert [len(row) for row in kiosk.rows("ann")] == [25, 1]
    assert [len(row) for row in kiosk.rows("bob")] == [25]
    assert kiosk.ids("ann") == [f"{n}" for n in range(0, 50, 2)] + ["last"]


def test_a_row_never_mixes_days_of_receipt(kiosk: Kiosk) -> None:
    """Retention drops rows by their day; a clock set back begins a row again too."""
    midnight_us = (BASE_US // DAY_US + 1) * DAY_US
    for n, wall_us in enumerate([midnight_us - 2, midnight_us - 1, midnight_us, midnight_us + 1, BASE_US]):
        kiosk.clock.set_wall(wall_us)
        kiosk.track("ann", f"{n}")
    kiosk.rt.flush()
    assert [[e.event_id for e in row] for row in kiosk.rows("ann")] == [["0", "1"], ["2", "3"], ["4"]]
    for row in kiosk.rows("ann"):
        assert len({entry.received_us // DAY_US for entry in row}) == 1


def test_law_11_a_row_is_bounded_in_bytes(kiosk: Kiosk) -> None:
    """Big entries fill rows up to the limit; one that is larger than the limit has a row of its own."""
    for n in range(60):
        kiosk.track("ann", f"{n}", category="x" * 4_000)
    kiosk.track("ann", "huge", category="x" * (ROW_LIMIT_BYTES + 1))
    kiosk.track("ann", "small")
    kiosk.rt.flush()
    rows = kiosk.rows("ann")
    assert [len(row) for row in rows] == [16, 16, 16, 12, 1, 1]
    assert kiosk.ids("ann") == [*(f"{n}" for n in range(60)), "huge", "small"]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["ann", "ann", "ann", "bob", "flush", "crash"]), min_size=20, max_size=60))
def test_law_6_a_stored_state_lies_between_rows_wherever_the_power_goes(steps: list[str]) -> None:
    """With a snapshot every 8 events: after every crash what was flushed is there, once."""
    with TemporaryDirectory() as folder:
        clock, generation = ManualClock(BASE_US), 0
        kiosk = Kiosk(folder_of(folder, 0), clock)
        for user in ("ann", "bob"):
            kiosk.rt.consent.give(user, [P], notice="n")
        held = {"ann": 0, "bob": 0}
        safe = dict(held)
        for n, step in enumerate(steps):
            if step == "flush":
                kiosk.rt.flush()
                safe = dict(held)
            elif step == "crash":
                generation += 1
                kiosk = kiosk.crash(Path(folder) / f"{generation}")
                held = dict(safe)
                assert {user: kiosk.views(user) for user in held} == held
            else:
                kiosk.track(step, f"{generation}-{n}")
                held[step] += 1
        assert {user: kiosk.views(user) for user in held} == held
        kiosk.rt.close()


def folder_of(parent: str, number: int) -> Path:
    made = Path(parent) / f"{number}"
    made.mkdir()
    return made


@pytest.mark.parametrize("room", [0, 1, 3, 5, 9, 14, 20, 27, 35])
def test_law_6_a_disk_that_fills_in_the_middle_of_a_flush_loses_and_doubles_nothing(
    kiosk: Kiosk, room: int, tmp_path: Path
) -> None:
    """Many rows and states on their way: all of them, or none and all again, in the same order."""
    users = [f"u{n}" for n in range(12)]
    for user in users:
        kiosk.rt.consent.give(user, [P], notice="n")
    for n in range(240):
        kiosk.track(users[n % 12], f"{n}", category="x" * 700)
    kiosk.disk.room = room
    with pytest.raises(er.StorageFull):
        kiosk.rt.flush()
    for n in range(240, 264):
        kiosk.track(users[n % 12], f"{n}")
    with pytest.raises(er.StorageFull):
        kiosk.rt.flush()
    kiosk.disk.room = None
    kiosk.rt.flush()
    for n, user in enumerate(users):
        assert kiosk.ids(user) == [f"{k}" for k in range(n, 264, 12)]
    kiosk.rt._upkeep.stop()
    again = kiosk.crash(tmp_path.with_name(f"{tmp_path.name}-again"))
    assert [again.views(user) for user in users] == [22] * 12
    again.rt.close()


def test_law_2_whoever_withdraws_while_a_batch_waits_for_room_is_left_out_of_it(kiosk: Kiosk) -> None:
    """A flush failed and its rows wait: a withdrawal takes the subject's out of them, nobody else's."""
    for n in range(20):
        kiosk.track(("ann", "bob")[n % 2], f"{n}")
    ann = kiosk.rt._keyring.key("user:ann", P)
    assert ann is not None
    kiosk.disk.room = 0
    with pytest.raises(er.StorageFull):
        kiosk.rt.flush()
    kiosk.disk.room = None
    kiosk.rt.consent.withdraw("ann", [P])
    assert kiosk.rt._commit.size == 10
    kiosk.rt.flush()
    with kiosk.rt._database.read() as tx:
        assert tx.events(ann.handle) == []
    assert kiosk.ids("bob") == [f"{n}" for n in range(1, 20, 2)]
    assert kiosk.views("bob") == 10


def test_a_read_in_the_past_sees_rows_written_and_rows_that_wait(kiosk: Kiosk) -> None:
    """What the journal holds and what is still on its way there are one history."""
    for n in range(30):
        kiosk.clock.advance(seconds=1)
        kiosk.track("ann", f"{n}")
        if n == 11:
            kiosk.rt.flush()
    for n in (5, 11, 12, 25):
        at = BASE_US / 1e6 + n + 1
        assert kiosk.rt.read("activity:views", user="ann", at=at).value == n + 1


def test_more_states_are_due_than_one_commit_stores_and_the_rest_follow(kiosk: Kiosk) -> None:
    """So that nobody waits long for the lock a few keys have their turn at each commit; none is forgotten."""
    users = [f"u{n}" for n in range(30)]
    for user in users:
        kiosk.rt.consent.give(user, [P], notice="n")
        for n in range(9):
            kiosk.track(user, f"{n}")
    turns = 0
    kiosk.rt.flush()
    while kiosk.rt._commit.work.is_set():  # what wakes the timer again
        kiosk.rt.flush()
        turns += 1
    assert turns == len(users) // HANDLES_AT_ONCE
    with kiosk.rt._database.read() as tx:
        for user in users:
            key = kiosk.rt._keyring.key(f"user:{user}", P)
            assert key is not None
            live = kiosk.rt._states.find(kiosk.rt._tracker._by_view["activity@1"].slots[f"user:{user}"])
            assert live is not None
            assert tx.state(key.handle, live.slot) is not None
