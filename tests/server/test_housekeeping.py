"""What a server does by itself is done in short steps, none of which keeps another waiting."""

from __future__ import annotations

import sqlite3

from edge_runtime.wire.messages import Row
from sync_server.access.chain import AuditEntry
from sync_server.housekeeping import Housekeeping
from sync_server.settings import DAY_US
from tests.support.town import Town


class Counting:
    """A chore of so many steps."""

    def __init__(self, steps: int) -> None:
        self.left, self.taken = steps, 0

    def step(self, now_us: int) -> bool:
        self.taken += 1
        self.left -= 1
        return self.left > 0


def keeper_of(town: Town, *chores: Counting) -> Housekeeping:
    return Housekeeping(town.store, town.node.admission, town.clock, town.settings, chores)


def test_law_11_a_long_chore_takes_turns_with_the_others(town: Town) -> None:
    """One step of each in a turn, and another turn at once while any of them has more."""
    long, short = Counting(50), Counting(1)
    keeper = keeper_of(town, long, short)
    turns = 1
    while keeper.turn():
        turns += 1
    assert (turns, long.taken, short.taken) == (50, 50, 50)


def test_old_deletes_are_swept_in_bounded_steps_once_an_hour(town: Town) -> None:
    """Twelve hundred deletes, five hundred a turn; then nothing for an hour."""
    with town.store.write("deletes") as tx:
        for n in range(1_200):
            tx.put_row("all", Row(0, f"item:{n}", "item_stats", 1, 1, 1, 0, True, b""))
    town.clock.advance(us=town.settings.delete_kept_us + DAY_US)
    keeper, turns = keeper_of(town), 1
    while keeper.turn():
        turns += 1
    assert turns == 5, "their places first, then the rows"
    with town.store.read() as tx:
        assert tx.rows_after(0, 9) == []
    sweeps = town.store.transactions()["sweep"]
    keeper.turn()
    assert town.store.transactions()["sweep"] == sweeps


def test_the_audit_log_is_swept_in_bounded_steps_and_its_newest_row_stays(town: Town) -> None:
    at_us = town.clock.now_us()
    words = ("nobody", "", "GET", "/v1/devices", "refused", 401, "unauthorized", "")
    with town.store.write("audit") as tx:
        tx.audit.append([AuditEntry(at_us, at_us, 1, *words)] * 1_200)
    town.clock.advance(us=town.settings.audit_kept_us + DAY_US)
    keeper, turns = keeper_of(town), 1
    while keeper.turn():
        turns += 1
    assert turns == 3
    with town.store.read() as tx:
        assert [row.seq for row in tx.audit.after(0, 9)] == [1_200]


def test_a_store_that_takes_no_writes_is_tried_again(town: Town) -> None:
    """A turn that fails says nothing more is to do now, and the next one does it."""

    class Failing(Counting):
        def step(self, now_us: int) -> bool:
            if super().step(now_us):
                raise sqlite3.OperationalError("database or disk is full")
            return False

    chore = Failing(2)
    keeper = keeper_of(town, chore)
    assert not keeper.turn()
    assert not keeper.turn()
    assert chore.taken == 2
