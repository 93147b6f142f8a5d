"""Retention over months: what is over goes by itself, in small steps, and nothing revives it."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.pace import MOST_ROWS
from edge_runtime.cache.stored_state import ADDED, COVERED
from edge_runtime.cache.sweep import STEP_ROWS
from edge_runtime.sync.personal_rows import stand_slot
from tests.support.sweeping import Kiosk, M, P

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
