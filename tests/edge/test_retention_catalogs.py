"""Retention over files of an earlier release and over catalogs that changed: what cannot be known says so."""

from __future__ import annotations

from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.sweeping import CATALOG, DAY_US, QUIET, Kiosk, P


def test_states_without_a_day_are_stamped_first(tmp_path: Path) -> None:
    """As an earlier release stored them: the day of their newest event is found under the key."""
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.give("bob", P)
        kiosk.track("ann", 3)
        day = kiosk.clock.now_us() // DAY_US
        kiosk.days(20)
        kiosk.track("bob", 3)
        kiosk.reopen()
        handles = [kiosk.key(user).handle for user in ("ann", "bob")]
        with kiosk.rt._database.write("test") as tx:
            for handle in handles:
                for slot, _ in tx.states(handle):
                    tx.stamp_state(handle, slot, 0)
        kiosk.rt.sweep()
        with kiosk.rt._database.read() as tx:
            assert [set(tx.days(handle)["state"]) for handle in handles] == [{0, day}, {0, day + 20}]
        kiosk.days(13)
        kiosk.rt.sweep()
        assert not kiosk.rows("ann")
        assert kiosk.read("activity:views", user="bob").value == 3


def test_law_7_what_was_added_later_still_says_so_after_its_state_ended(tmp_path: Path) -> None:
    """The catalog grew a month after the last event: what it cannot know stays WARMING until it can."""
    more = 'looks_20d = { op = "count", event = "view", window = "20d" }'
    grown = CATALOG.replace("version = 1", "version = 2", 1).replace("spend_7d = {", f"{more}\nspend_7d = {{")
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 3)
        kiosk.days(10)
        kiosk.track("ann", 3)
        kiosk.days(8)
        kiosk.rt.sweep()  # the journal of the first days is gone
        kiosk.days(12)
        kiosk.catalog = er.Catalog.from_toml(grown)
        kiosk.reopen()
        assert kiosk.read("activity:looks_20d", user="ann").status is er.Status.WARMING
        kiosk.days(12)
        assert kiosk.rt.sweep().states_ended == 2
        handle = kiosk.key("ann").handle
        with kiosk.rt._database.read() as tx:
            assert tx.holds(handle)
        statuses = {}
        for day in range(1, 40):
            statuses[day] = kiosk.read("activity:looks_20d", user="ann").status
            kiosk.reopen()
            assert kiosk.read("activity:looks_20d", user="ann").status is statuses[day]
            kiosk.days(1)
            kiosk.rt.sweep()
        assert statuses[1] is er.Status.WARMING
        assert statuses[39] is er.Status.PRESENT
        assert not kiosk.rows("ann")


@pytest.mark.parametrize("seen", [True, False], ids=["with a state", "without"])
def test_law_7_events_that_nobody_listened_to_are_not_taken_for_none(tmp_path: Path, seen: bool) -> None:
    """Seen a month ago; then the catalog begins to listen to purchases: of those before nobody can tell."""
    buys = 'buys_20d = { op = "count", event = "buy", window = "20d" }'
    grown = CATALOG.replace("version = 1", "version = 2", 1).replace("spend_7d = {", f"{buys}\nspend_7d = {{")
    grown = grown.replace("[events.restock]", '[events.buy]\nentities = ["user", "item"]\n[events.restock]')
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        if seen:
            kiosk.track("ann", 3)
        kiosk.put_personal("badge", "ann", {"level": 3})
        kiosk.days(35)
        kiosk.catalog = er.Catalog.from_toml(grown)
        kiosk.reopen()
        kiosk.rt.sweep()
        handle = kiosk.key("ann").handle
        for day in range(60):
            kiosk.reopen()
            status = kiosk.read("activity:buys_20d", user="ann").status
            assert status is (er.Status.WARMING if day < 20 else er.Status.PRESENT)
            kiosk.rt.sweep()
            kiosk.days(1)
        with kiosk.rt._database.read() as tx:
            assert not tx.holds(handle)


def test_a_purpose_that_the_catalog_dropped_is_not_judged(tmp_path: Path) -> None:
    """Nobody says how long it may stay; an erasure still takes it."""
    without = CATALOG[: CATALOG.index("[purposes.measurement]")]
    without += CATALOG[CATALOG.index("[entities.user]") : CATALOG.index("[views.habits]")]
    with Kiosk(tmp_path) as kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 3)
        kiosk.catalog = er.Catalog.from_toml(without)
        kiosk.reopen(QUIET)
        kiosk.days(400)
        kiosk.rt.sweep()
        assert not any(kiosk.rt._keyring.key("user:ann", P) is None for _ in "x")
        with kiosk.rt._database.read() as tx:
            assert not tx.holds(kiosk.key("ann", P).handle)
