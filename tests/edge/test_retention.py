"""Retention over months: what is over goes by itself, in small steps, and nothing revives it."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.pace import MOST_ROWS
from edge_runtime.cache.stored_state import ADDED, COVERED
from edge_runtime.cache.sweep import STEP_ROWS
from edge_runtime.sync.personal_rows import stand_slot
from edge_runtime.sync.shelf import PersonalShelf
from tests.support.sweeping import BASE_US, DAY_US, Kiosk, M, P

WIDEST = 2 * (STEP_ROWS + MOST_ROWS)
"""SQLite counts a row that is replaced in its place once, a dropped event and its mark apart."""


@pytest.fixture
def kiosk(tmp_path: Path) -> Kiosk:
    return Kiosk(tmp_path)


def held(kiosk: Kiosk, user: str) -> set[str]:
    """Tables in which a subject has rows."""
    return set(kiosk.rows(user))


# ---- months ----------------------------------------------------------------------------------------------


def test_law_11_subjects_who_never_come_back_leave_no_row(kiosk: Kiosk) -> None:
    """Three months of a kiosk: everyone comes for two days; only those of the last two months are known."""
    with kiosk:
        kiosk.put("lasting", "x", "about nobody")
        for day in range(90):
            kiosk.give(f"u{day}")
            kiosk.track(f"u{day}", 3)
            kiosk.put_personal("profile", f"u{day}", {"country": "UK"})
            if day:
                kiosk.track(f"u{day - 1}", 2, item="y")
            kiosk.days(1)
            for changed in kiosk.steps():
                assert changed <= WIDEST
        for day in range(90):
            age = 90 - day  # days since they first came
            assert bool(kiosk.rows(f"u{day}")) is (age <= 62), f"u{day}"
            under_30 = kiosk.key(f"u{day}", P).handle
            with kiosk.rt._database.read() as tx:
                assert tx.holds(under_30) is (age <= 32)
        assert kiosk.read("lasting:text", item="x").status is er.Status.PRESENT
        assert kiosk.rt.consent.state("u0", P) == "given"


def test_law_7_each_goes_at_its_time_and_not_a_day_before(kiosk: Kiosk) -> None:
    """A subject seen once: the journal after a week, the profile's values too, the rest after 30 and 60."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 5)
        kiosk.put_personal("profile", "ann", {"country": "UK"})
        kiosk.put_personal("badge", "ann", {"level": 3})
        gone: dict[str, int] = {}
        for day in range(1, 70):
            kiosk.days(1)
            kiosk.rt.sweep()
            with kiosk.rt._database.read() as tx:
                p, m = kiosk.key("ann", P).handle, kiosk.key("ann", M).handle
                facts = {
                    "journal of 7 days": bool(tx.events(p)),
                    "journal of 2 days": bool(tx.events(m)),
                    "states of 30 days": day < 8 or len(tx.states(p)) > 1,  # stored when their journal goes
                    "states of 60 days": day < 8 or len(tx.states(m)) > 1,
                    "rows": bool(tx.personal_rows(p)),
                    "all of 30 days": tx.holds(p),
                    "all of 60 days": tx.holds(m),
                }
            status = kiosk.read("profile:country", user="ann").status
            facts["profile readable"] = status is er.Status.PRESENT
            gone |= {name: day for name, there in facts.items() if not there and name not in gone}
            if day < 31:
                assert status is (er.Status.PRESENT if day <= 7 else er.Status.EXPIRED)
                assert kiosk.read("badge:level", user="ann").value == 3
        assert gone == {
            "journal of 2 days": 3,
            "profile readable": 8,
            "journal of 7 days": 8,
            "states of 30 days": 32,  # the day itself, 30 of retention, one of slack (and lateness)
            "rows": 32,
            "all of 30 days": 32,
            "states of 60 days": 62,
            "all of 60 days": 62,
        }
        assert kiosk.read("badge:level", user="ann").status is er.Status.NOT_SYNCED


def test_law_7_someone_who_comes_back_in_time_is_kept_but_for_old_states(
    kiosk: Kiosk,
) -> None:
    """A state of an item not looked at for a month goes; the subject's others stay whole."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4, item="old")
        for _ in range(20):
            kiosk.days(4)
            kiosk.track("ann", item="new")
            kiosk.rt.sweep()
        assert kiosk.read("activity:views", user="ann").value == 24
        assert kiosk.read("pairs:views", user="ann", item="new").value == 20
        assert kiosk.read("pairs:views", user="ann", item="old").value == 0
        handle = kiosk.key("ann").handle
        with kiosk.rt._database.read() as tx:
            assert len([slot for slot, _ in tx.states(handle) if slot not in (COVERED, ADDED)]) == 2
        kiosk.reopen()
        assert kiosk.read("activity:views", user="ann").value == 24


def test_someone_who_comes_back_too_late_begins_anew(kiosk: Kiosk) -> None:
    """The key and the consent are there; the channel starts at 0."""
    with kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 4)
        kiosk.put_personal("badge", "ann", {"level": 3})
        kiosk.days(33)
        assert kiosk.rt.sweep().handles_ended == 1
        key = kiosk.key("ann")
        with kiosk.rt._database.read() as tx:
            assert tx.personal_row(key.handle, stand_slot(key)) is None
            assert not tx.events_dropped(key.handle)
        kiosk.track("ann")
        assert kiosk.read("activity:views", user="ann").value == 1
        kiosk.reopen()
        assert kiosk.read("activity:views", user="ann").value == 1


def test_without_any_event_the_decision_counts(kiosk: Kiosk) -> None:
    """A channel that was followed and brought nothing leaves no row either."""
    with kiosk:
        kiosk.give("ann")
        key = kiosk.key("ann")
        kiosk.put_personal("badge", "ann", {"level": 3})
        with kiosk.rt._database.write("test") as tx:
            for slot, _ in tx.personal_rows(key.handle):
                if slot != stand_slot(key):
                    tx.delete_personal_row(key.handle, slot)
        kiosk.days(30)
        kiosk.rt.sweep()
        assert held(kiosk, "ann") == {"personal"}
        kiosk.days(2)
        assert kiosk.rt.sweep().handles_ended == 1
        assert not held(kiosk, "ann")


def test_events_about_nobody_are_stored_in_states_the_next_day(kiosk: Kiosk) -> None:
    """They are kept for nobody's backfill; their states have no retention."""
    with kiosk:
        for _ in range(5):
            assert kiosk.rt.track("restock", item="x") is er.ACCEPTED
            kiosk.clock.advance(us=1)
        kiosk.rt.flush()
        assert kiosk.rows() == {"journal": 1}
        kiosk.days(1)
        kiosk.rt.sweep()
        assert kiosk.rows() == {"state": 2, "trimmed": 1}
        kiosk.days(1000)
        kiosk.rt.sweep()
        assert kiosk.read("traffic:restocks", item="x").value == 5


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
        monkeypatch.setattr(kiosk.rt._commit, "lives", lambda _: False)
        before = connection.total_changes()
        kiosk.rt.sweep()
        assert connection.total_changes() == before
        with kiosk.rt._database.read() as tx:
            slots = [slot for slot, _ in tx.personal_rows(key.handle)]
        rows = kiosk.rt._upkeep.sweeper._subjects.rows
        assert rows.let_go([(key, slot) for slot in slots], lambda row: True) == 0


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
