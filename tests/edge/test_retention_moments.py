"""Retention at odd moments: clocks that jump, events on their way, keys that die, thousands of rows."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.pace import MOST_ROWS
from edge_runtime.cache.stored_state import ADDED, COVERED
from edge_runtime.cache.sweep import STEP_ROWS
from edge_runtime.keys.datakey import DataKey
from edge_runtime.sync.shelf import PersonalShelf
from tests.support.sweeping import BASE_US, DAY_US, Kiosk, P

WIDEST = 2 * (STEP_ROWS + MOST_ROWS)
"""SQLite counts a row that is replaced in its place once, a dropped event and its mark apart."""


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path)


# ---- what a clock says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False], ids=["in memory", "on disk only"])
def test_law_6_what_a_sweep_saw_as_over_stays_over(kiosk: Kiosk, live: bool) -> None:
    """As with a read: a clock a year ahead, seen once, ends it; memory and disk say the same."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4)
        if not live:
            kiosk.reopen()
        kiosk.clock.set_wall(BASE_US + 365 * DAY_US)
        kiosk.rt.sweep()
        kiosk.clock.set_wall(BASE_US + DAY_US)
        assert not kiosk.rows("ann")
        for _ in range(2):
            assert kiosk.read("activity:views", user="ann").value == 0
            kiosk.reopen()
        kiosk.track("ann")
        assert kiosk.read("activity:views", user="ann").value == 1


def test_a_clock_set_back_ends_nothing(kiosk: Kiosk) -> None:
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4)
        kiosk.put_personal("profile", "ann", {"country": "UK"})
        before = kiosk.rows("ann")
        kiosk.clock.set_wall(BASE_US - 365 * DAY_US)
        swept = kiosk.rt.sweep()
        assert (swept.handles_ended, swept.rows_let_go, swept.events_dropped) == (0, 0, 0)
        assert kiosk.rows("ann") == before


def test_law_6_an_event_that_only_memory_has_keeps_the_subject(kiosk: Kiosk) -> None:
    """A sweep that comes between an event and its commit sees it; nothing of it is lost."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4)
        kiosk.rt._commit.flush(everything=True)
        kiosk.days(40)
        kiosk.track("ann", flush=False)  # ends the old ones by itself: 40 days of silence
        kiosk.rt.sweep()
        assert kiosk.read("activity:views", user="ann").value == 1
        kiosk.rt.flush()
        kiosk.reopen()
        assert kiosk.read("activity:views", user="ann").value == 1


def test_an_event_that_waits_for_its_time_keeps_its_state(tmp_path: Path) -> None:
    """The newest that was applied is over, the one that waited is not: it is not lost with it."""
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 4)
        kiosk.days(25)
        soon = (kiosk.clock.now_us() + 30_000_000) / 1e6
        assert kiosk.rt.track("view", user="ann", item="x", at=soon) is er.ACCEPTED
        kiosk.reopen()  # nobody looks until its journal row is gone
        kiosk.days(10)
        kiosk.rt.sweep()
        assert "journal" not in kiosk.rows("ann")
        assert kiosk.read("activity:views", user="ann").value == 5


def test_someone_who_only_has_server_rows_comes_back_with_the_event_that_waits(kiosk: Kiosk) -> None:
    """All that rests is over; what was tracked a moment ago is not there yet, and still it counts."""
    with kiosk:
        kiosk.give("ann", P)
        kiosk.put_personal("badge", "ann", {"level": 3})
        kiosk.days(40)
        kiosk.track("ann", flush=False)
        for _ in range(2):
            kiosk.rt.sweep()
            assert kiosk.read("badge:level", user="ann").value == 3
            kiosk.rt.flush()


def test_a_channel_that_comes_back_in_the_middle_keeps_what_it_brings(kiosk: Kiosk) -> None:
    """Its rows are going in units; then a replacing snapshot comes: none of its rows goes with the others."""
    with kiosk:
        kiosk.give("ann", P)
        _plant_rows(kiosk, 1_000)
        kiosk.days(40)
        subjects = kiosk.rt._upkeep.sweeper._subjects
        walk = subjects.walk()
        while kiosk.rows("ann")["personal"] > 800:
            next(walk)
        key = kiosk.key("ann")
        with kiosk.rt._database.write("test") as tx:
            PersonalShelf(tx, key).clear()
        kiosk.put_personal("badge", "ann", {"level": 4})
        list(walk)
        assert kiosk.read("badge:level", user="ann").value == 4
        assert kiosk.rows("ann")["personal"] == 2


def test_law_4_nothing_is_sealed_under_a_key_that_died_meanwhile(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the write an erasure came: its rows are for the eraser, as they are."""
    with kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 3)
        kiosk.put_personal("profile", "ann", {"country": "UK"})
        kiosk.reopen()
        kiosk.days(33)
        key, connection = kiosk.key("ann"), kiosk.rt._database._connection()
        monkeypatch.setattr(key, "alive", False)
        before = connection.total_changes()
        kiosk.rt.sweep()
        assert connection.total_changes() == before
        with kiosk.rt._database.read() as tx:
            slots = [slot for slot, _ in tx.personal_rows(key.handle)]
        rows = kiosk.rt._upkeep.sweeper._subjects.rows
        assert rows.let_go([(key, slot) for slot in slots], lambda row: True) == 0


@pytest.mark.parametrize("part", ["walk", "relief"])
def test_a_key_that_is_destroyed_in_the_middle_does_not_end_the_round(
    kiosk: Kiosk, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Who uses a destroyed key is told that it is closed: the others have their turn, it is no trouble."""
    with kiosk:
        for user in ("ann", "bob", "cid"):
            kiosk.give(user, P)
            kiosk.track(user, 3)
            kiosk.put_personal("profile", user, {"country": "UK"})
        kiosk.rt._commit.flush(everything=True)
        destroyed, opens = kiosk.key("bob").handle, DataKey.open

        def opened(key: DataKey, table: str, row: bytes, sealed: bytes) -> bytes:
            if key.handle == destroyed:
                raise er.RuntimeClosed("the key was destroyed")
            return opens(key, table, row, sealed)

        monkeypatch.setattr(DataKey, "open", opened)
        if part == "relief":
            kiosk.rt._upkeep.room.limit_bytes = 1
        kiosk.days(8)
        assert kiosk.rt.sweep().rows_let_go == 2
        assert kiosk.rows("ann")["journal"] == kiosk.rows("cid")["journal"] == 0
        assert kiosk.rows("bob")["journal"] == 1
        assert kiosk.rt.status()["trouble"] is None
        monkeypatch.undo()


def test_nothing_of_ended_states_stays_in_memory(kiosk: Kiosk) -> None:
    """Neither they, nor the numbers of a row held between reads."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4)
        kiosk.rt._commit.flush(everything=True)
        for _ in range(3):
            assert kiosk.rt.vector("ranker", user="ann").values[0] == 4
        held = next(h for h in kiosk.rt._reader._held.values() if h is not None)
        lives = [live for live in kiosk.rt._states._live.values() if live.state.newest_us is not None]
        assert lives
        kiosk.days(70)
        kiosk.rt.sweep()
        assert not any(held.numbers)
        assert all(live.state.newest_us is None for live in lives)
        assert kiosk.rt.vector("ranker", user="ann").values[0] == 0


def test_nothing_of_ended_rows_stays_in_memory(kiosk: Kiosk) -> None:
    """Neither decoded, nor as a number of a row held between reads."""
    with kiosk:
        kiosk.give("ann", P)
        kiosk.put_personal("badge", "ann", {"level": 3})
        assert kiosk.read("badge:level", user="ann").value == 3
        for _ in range(3):
            assert kiosk.rt.vector("badges", user="ann").values[0] == 3
        held = next(h for h in kiosk.rt._reader._held.values() if h is not None)
        kiosk.days(70)
        kiosk.rt.sweep()
        assert not any(held.numbers)
        assert ("badge@1", "user:ann") not in kiosk.rt._source._rows
        assert kiosk.read("badge:level", user="ann").status is er.Status.NOT_SYNCED


# ---- small steps -----------------------------------------------------------------------------------------


def test_law_11_a_subject_with_thousands_of_rows_goes_in_bounded_steps(tmp_path: Path) -> None:
    """3,000 states and 3,000 server rows of one; others are tracked and read between any two steps."""
    settings = er.Settings(commit_interval_us=3_600_000_000, sweep_interval_us=0, snapshot_every_events=1)
    with Kiosk(tmp_path, settings=settings) as kiosk:
        kiosk.give("ann", P)
        kiosk.give("bob", P)
        kiosk.rt.track_many(
            {"type": "view", "user": "ann", "item": f"i{n}", "price": 1.0, "id": f"{n}"} for n in range(3_000)
        )
        kiosk.rt._commit.flush(everything=True)
        _plant_rows(kiosk, 3_000)
        assert kiosk.rows("ann")["state"] > 3_000
        assert kiosk.rows("ann")["personal"] > 3_000
        kiosk.days(33)
        seen = []
        for changed in kiosk.steps():
            assert changed <= WIDEST
            seen.append(sum(kiosk.rows("ann").values()))
            kiosk.track("bob", flush=False)
            assert kiosk.read("activity:views", user="bob").value == len(seen)
            assert kiosk.read("activity:views", user="ann").value == 0
        assert len(seen) > 10
        assert seen == sorted(seen, reverse=True)
        assert seen[-1] == 0


def _plant_rows(kiosk: Kiosk, count: int) -> None:
    key = kiosk.key("ann")
    kiosk.put_personal("badge", "ann", {"level": 1})
    day = kiosk.clock.now_us() // DAY_US
    with kiosk.rt._database.write("test") as tx:
        for n in range(count):
            slot = n.to_bytes(2, "big") * 8
            tx.put_personal_row(key.handle, slot, day, key.seal("personal_rows", slot, b"row"))


def test_a_damaged_row_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """A stored fact of one key does not open: that key waits with a word of trouble, the next is swept."""
    with Kiosk(tmp_path) as kiosk:
        for user in ("ann", "bob", "cid"):
            kiosk.give(user, P)
            kiosk.track(user, 3)
        kiosk.rt._commit.flush(everything=True)
        with kiosk.rt._database.write("test") as tx:
            tx.put_state(kiosk.key("bob").handle, COVERED, 0, b"damaged" * 9)
        kiosk.days(33)
        with pytest.raises(er.EdgeError, match="damaged"):
            kiosk.rt.sweep()
        assert not kiosk.rows("ann")
        assert not kiosk.rows("cid")
        assert "damaged" in str(kiosk.rt.status()["trouble"])
        list(kiosk.steps())
        assert "damaged" in str(kiosk.rt.status()["trouble"])
        kiosk.rt.consent.withdraw("bob")
        kiosk.days(1)
        list(kiosk.steps())
        assert kiosk.rt.status()["trouble"] is None


def test_a_damaged_state_whose_time_is_over_just_goes(tmp_path: Path) -> None:
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 3)
        kiosk.reopen()
        handle = kiosk.key("ann").handle
        with kiosk.rt._database.write("test") as tx:
            for slot, day in tx.state_days(handle, ADDED, 10):
                tx.put_state(handle, slot, day, b"damaged" * 9)
        kiosk.days(33)
        kiosk.rt.sweep()
        assert not kiosk.rows("ann")
