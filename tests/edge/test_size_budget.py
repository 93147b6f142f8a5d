"""The size budget: what goes for room, in the stated order, and what never does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.records import RowPlace
from edge_runtime.cache.stored_state import COVERED, open_covered
from edge_runtime.wire import messages as m
from tests.support.crowded import MIB, held, limited, profiles, put_many, put_profiles
from tests.support.sweeping import DAY_US, Kiosk, P

# ---- under the limit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("entities", "size"), [(2_700, 4_000), (4_000, 600), (600, 3_000)])
def test_law_11_the_file_stays_under_its_limit_while_ten_times_as_much_arrives(
    tmp_path: Path, entities: int, size: int
) -> None:
    """With half of the limit as slack for what comes between two sweeps, and the newest always readable.

    Ever new entities, or the same ones again and again.
    """
    limit = MIB
    with Kiosk(tmp_path, settings=limited(limit)) as kiosk:
        at_once = limit * 10 // size // 50
        for part in range(50):
            numbers = [n % entities for n in range(part * at_once, (part + 1) * at_once)]
            put_many(kiosk, "lasting", numbers, size)
            list(kiosk.steps())
            assert kiosk.used_bytes() <= limit
            assert (tmp_path / "cache.db").stat().st_size <= limit * 3 // 2
            assert numbers[-1] in held(kiosk, "lasting")
            assert kiosk.rt.status()["degraded"] == []
            kiosk.days(0.1)
        assert len(held(kiosk, "lasting")) * size < limit


def test_a_cache_without_a_limit_keeps_all(tmp_path: Path) -> None:
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_many(kiosk, "lasting", range(2_000))
        assert kiosk.rt.sweep().rows_let_go == 0
        assert len(held(kiosk, "lasting")) == 2_000


def test_holes_are_closed_before_anything_goes(tmp_path: Path) -> None:
    """Half of the rows became short: the pages were full of holes, and no value had to go."""
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_many(kiosk, "lasting", range(2_000), 300)
        with kiosk.rt._database.write("test") as tx:
            tx.let_go_rows(RowPlace(f"item:{n}", "lasting", 1, "all") for n in range(0, 2_000, 2))
        used = kiosk.used_bytes()
        kiosk.reopen(limited(used * 9 // 10))
        swept = kiosk.rt.sweep()
        assert swept.rows_let_go == 0
        assert kiosk.used_bytes() <= used * 81 // 100
        assert len(held(kiosk, "lasting")) == 1_000


def test_law_11_each_step_of_making_room_is_bounded(tmp_path: Path) -> None:
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_many(kiosk, "lasting", range(4_000), 300)
        kiosk.reopen(limited(kiosk.used_bytes() // 2))
        steps = list(kiosk.steps())
        # a packed row is deleted and inserted
        assert max(steps) <= 2 * (512 + 256)
        assert len(steps) > 10
        assert kiosk.used_bytes() <= kiosk.settings.cache_limit_bytes


# ---- in which order --------------------------------------------------------------------------------------


def test_what_has_expired_goes_first_and_reads_say_so(tmp_path: Path) -> None:
    """Rows that were read today but are past their ttl go before those that nobody has read for a month."""
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_many(kiosk, "lasting", range(1_000))
        kiosk.days(30)
        put_many(kiosk, "stock", range(1_000))
        kiosk.clock.advance(seconds=7_201)
        kiosk.reopen(limited(kiosk.used_bytes() - 1))
        assert kiosk.rt.sweep().rows_let_go == 1_000
        assert held(kiosk, "stock") == set()
        assert held(kiosk, "lasting") == set(range(1_000))
        assert kiosk.read("stock:text", item="5").status is er.Status.EXPIRED


def test_the_least_recently_used_day_goes_first_then_the_oldest(tmp_path: Path) -> None:
    """Three days of rows; those of the first day are read on the last one, some from memory all the time."""
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        for day in range(3):
            put_many(kiosk, "lasting", range(day * 500, (day + 1) * 500))
            kiosk.days(1)
        used = kiosk.used_bytes()
        kiosk.reopen(limited(used))  # more than half of it is used: from now on it is noted what is read
        list(kiosk.steps())
        for _ in range(3):
            for n in range(500):
                assert kiosk.read("lasting:text", item=str(n)).status is er.Status.PRESENT
            kiosk.days(1)
            list(kiosk.steps())
        kiosk.reopen(limited(used * 9 // 10))  # down to 81 %: some 20 % of the rows must go
        kiosk.rt.sweep()
        gone = set(range(1_500)) - held(kiosk, "lasting")
        assert gone
        assert max(gone) < 1_000, "the second day's are the coldest"
        assert min(gone) == 500
        assert gone == set(range(500, 500 + len(gone))), "of one day the oldest first"
        found = kiosk.read("lasting:text", item="500")
        assert (found.status, found.value) == (er.Status.NOT_SYNCED, None)
        assert found.event_time is not None
        assert kiosk.read("lasting:text", item="499").status is er.Status.PRESENT


def test_a_row_that_memory_answers_day_after_day_does_not_look_cold(tmp_path: Path) -> None:
    """Its decoded row is forgotten once a day, so the first use of each day is noted."""
    with Kiosk(tmp_path, settings=limited(MIB)) as kiosk:
        put_many(kiosk, "lasting", range(1_000))
        list(kiosk.steps())
        for _ in range(5):
            kiosk.days(1)
            list(kiosk.steps())
            assert kiosk.read("lasting:text", item="7").status is er.Status.PRESENT
        list(kiosk.steps())
        today = kiosk.clock.now_us() // DAY_US
        with kiosk.rt._database.read() as tx:
            days = {row.place.entity: row.used_day for row in tx.row_sizes(None, 2_000)}
        assert days["item:7"] == today
        assert days["item:8"] == today - 5


def test_rows_about_nobody_go_before_those_of_subjects_and_those_before_events(tmp_path: Path) -> None:
    """And of subjects the oldest day first; reads say NOT_SYNCED, the past is told less far."""
    users = [f"u{n}" for n in range(300)]
    settings = dataclasses.replace(limited(0), snapshot_every_events=1)
    with Kiosk(tmp_path, settings=settings) as kiosk:
        put_many(kiosk, "lasting", range(500))
        for part in range(3):
            put_profiles(kiosk, users[part * 100 : (part + 1) * 100])
            kiosk.days(0.9)
        for n in range(60):
            kiosk.rt.track_many(
                {"type": "view", "user": "u0", "item": f"{n}", "price": 1.0, "id": f"{n}-{k}"}
                for k in range(20)
            )
            kiosk.rt.flush()
        kiosk.rt._commit.flush(everything=True)
        used = kiosk.used_bytes()

        def shrunk(part: float) -> None:
            kiosk.reopen(dataclasses.replace(settings, cache_limit_bytes=int(used * part)))
            list(kiosk.steps())

        events = kiosk.rows("u0")["journal"]
        assert events > 50
        shrunk(0.85)
        assert 0 < len(held(kiosk, "lasting")) < 500
        assert profiles(kiosk, users) == set(users)
        shrunk(0.57)
        assert held(kiosk, "lasting") == set()
        left = profiles(kiosk, users)
        assert 0 < len(left) < 300
        days = {user: int(user[1:]) // 100 for user in users}
        assert max(days[u] for u in set(users) - left) <= min(days[u] for u in left), "the oldest day first"
        assert kiosk.rows("u0")["journal"] == events
        shrunk(0.2)
        assert profiles(kiosk, users) == set()
        assert kiosk.rows("u0")["journal"] < events
        assert kiosk.read("activity:views", user="u0").value == 1_200
        with kiosk.rt._database.read() as tx:
            assert tx.events_dropped(kiosk.key("u0").handle)
        with pytest.raises(er.ReadInPast):
            kiosk.rt.read("activity:views", user="u0", at=kiosk.clock.now_us() / 1e6 - 86_400)


def test_what_memory_still_has_goes_with_its_row(tmp_path: Path) -> None:
    """So a read says the same before a restart and after it."""
    with Kiosk(tmp_path, settings=limited(10 * MIB)) as kiosk:
        put_many(kiosk, "lasting", range(50))
        put_profiles(kiosk, ["ann"])
        list(kiosk.steps())
        assert kiosk.read("lasting:text", item="1").status is er.Status.PRESENT
        assert profiles(kiosk, ["ann"]) == {"ann"}
        kiosk.rt._upkeep.room.limit_bytes = 1
        kiosk.rt.sweep()
        for _ in range(2):
            assert kiosk.read("lasting:text", item="1").status is er.Status.NOT_SYNCED
            assert profiles(kiosk, ["ann"]) == set()
            kiosk.reopen()


# ---- what never goes -------------------------------------------------------------------------------------


def test_law_6_receipts_decisions_states_and_uncovered_events_never_go(tmp_path: Path) -> None:
    """With a limit that nothing could meet: all of them are there after it, and `degraded` says so."""
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        for n in range(50):
            kiosk.give(f"u{n}", P)
            kiosk.track(f"u{n}", 3)
        kiosk.rt._commit.flush(everything=True)
        for n in range(50):
            kiosk.track(f"u{n}", 2)  # uncovered
        with kiosk.rt._database.write("test") as tx:
            for n in range(200):
                tx.enqueue("receipt", n.to_bytes(16, "big"), bytes(500))
                tx.enqueue("report", n.to_bytes(16, "big"), bytes(500))
                tx.enqueue("decision", n.to_bytes(16, "big"), bytes(500))
                tx.put_denial(n.to_bytes(16, "big"), bytes(500), open=False)
                tx.put_lane([m.LaneEntry(n + 1, n.to_bytes(16, "big"), P, "given", n + 1, 0)])
                tx.debit(n.to_bytes(16, "big"), 1, 5)
        put_many(kiosk, "lasting", range(500))
        never = ("outbox", "denial", "lane", "budget", "state", "channel", "meta")
        before = _counts(kiosk, never)
        kiosk.settings = limited(100_000)
        kiosk.rt._upkeep.room.limit_bytes = 100_000  # without closing, which would store the states
        kiosk.rt.sweep()
        assert held(kiosk, "lasting") == set()
        assert _counts(kiosk, never) == before
        for n in range(50):
            key = kiosk.key(f"u{n}")
            with kiosk.rt._database.read() as tx:
                covered = open_covered(key, tx.state(key.handle, COVERED))
                assert [n > covered for n, _ in tx.events(key.handle)] == [True]
        reasons = kiosk.rt.status()["degraded"]
        assert isinstance(reasons, list)
        assert len(reasons) == 1
        assert "over the limit of 0.0953674 MiB" in reasons[0]
        for n in range(50):
            assert kiosk.read("activity:views", user=f"u{n}").value == 5
        kiosk.rt._upkeep.room.limit_bytes = 10 * MIB
        list(kiosk.steps())
        assert kiosk.rt.status()["degraded"] == []


def _counts(kiosk: Kiosk, tables: Iterable[str]) -> dict[str, object]:
    connection = kiosk.rt._database._connection()
    return {table: connection.execute(f"SELECT count(*) FROM {table}").get for table in tables}


def test_a_cache_that_nothing_can_help_is_not_gone_through_again_and_again(tmp_path: Path) -> None:
    with Kiosk(tmp_path, settings=limited(100_000)) as kiosk:
        kiosk.give("ann", P)
        with kiosk.rt._database.write("test") as tx:
            for n in range(300):
                tx.enqueue("receipt", n.to_bytes(16, "big"), bytes(500))
        list(kiosk.steps())
        writes = kiosk.rt._database.writes.copy()
        for _ in range(5):
            list(kiosk.steps())
        assert kiosk.rt._database.writes == writes
        assert kiosk.rt.status()["degraded"]
