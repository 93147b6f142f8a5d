"""Everything at once, with a sweeper that never rests: nothing waits for it, is lost or comes back."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import edge_runtime as er
from tests.support.sweeping import QUIET, Kiosk, P

ROUNDS = 60
BUSY = dataclasses.replace(
    QUIET,
    commit_interval_us=1,
    sweep_interval_us=1,
    sweep_step_us=200,
    cache_limit_bytes=400_000,
    snapshot_every_events=4,
    pending_events=16,
    live_states=6,
)


def test_law_11_tracking_reading_deciding_and_rows_go_on_while_everything_is_swept(tmp_path: Path) -> None:
    """Sixty days in sixty rounds: in each of them all threads work, and the clock moves between two."""
    with Kiosk(tmp_path, settings=BUSY) as kiosk:
        rt, errors = kiosk.rt, list[BaseException]()
        regulars, passing = ["r0", "r1"], [f"p{n}" for n in range(ROUNDS)]
        for user in regulars:
            kiosk.give(user, P)
        counts = dict.fromkeys(regulars, 0)

        def track(day: int) -> None:
            for user in regulars:
                for n in range(20):
                    assert rt.track("view", user=user, item=f"i{n % 3}", price=1.0) is er.ACCEPTED
                    counts[user] += 1

        def pass_by(day: int) -> None:
            rt.consent.give(passing[day], [P], notice="n")
            for n in range(5):
                assert rt.track("view", user=passing[day], item=f"i{n}", price=1.0) is er.ACCEPTED
            kiosk.put_personal("badge", passing[day], {"level": day})

        def withdraw(day: int) -> None:
            if day >= 10 and day % 2:
                rt.consent.withdraw(passing[day - 10])

        def read(day: int) -> None:
            for user in regulars:
                for _ in range(20):
                    rt.vector("ranker", user=user)
                    rt.read("lasting:text", item=f"{day}")

        def bring(day: int) -> None:
            for n in range(20):
                kiosk.put("lasting", f"{day}-{n}", "x" * 700)
                kiosk.put("stock", f"{n}", "x" * 100)

        def sweep(day: int) -> None:
            rt.sweep()

        work = (track, pass_by, withdraw, read, bring, sweep)
        for day in range(ROUNDS):
            threads = [threading.Thread(target=_guarded, args=(one, day, errors)) for one in work]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive(), "somebody waits for ever"
            assert not errors, errors
            kiosk.days(1)
        rt.flush()
        rt.sweep()
        assert rt.status()["trouble"] is None
        assert rt.status()["degraded"] == []
        for _ in range(2):
            for user in regulars:
                assert kiosk.read("activity:views", user=user).value == counts[user]
            for day, user in enumerate(passing):
                withdrawn = day < ROUNDS - 10 and (day + 10) % 2
                state = kiosk.rt.consent.state(user, P)
                assert state == ("withdrawn" if withdrawn else "given")
                if not withdrawn:
                    assert bool(kiosk.rows(user)) is (ROUNDS - day <= 31), user
                    expected = 5 if ROUNDS - day <= 30 else 0
                    assert kiosk.read("activity:views", user=user).value == expected
            assert kiosk.used_bytes() <= BUSY.cache_limit_bytes
            with kiosk.rt._database.read() as tx:
                held = tx.handles()
            ring = kiosk.rt._keyring
            assert held <= {key.handle for key in (*ring.every_key(), ring.device_key())}
            kiosk.reopen()


def _guarded(work: Callable[[int], None], day: int, errors: list[BaseException]) -> None:
    try:
        work(day)
    except BaseException as error:  # noqa: BLE001 -- told to the thread that runs the test
        errors.append(error)


def test_law_11_no_lock_is_held_between_two_units(tmp_path: Path) -> None:
    """At every point where a unit ends, others can track, read, commit and decide from another thread."""
    settings = dataclasses.replace(QUIET, cache_limit_bytes=1)
    with Kiosk(tmp_path, settings=settings) as kiosk:
        for user in ("ann", "bob"):
            kiosk.give(user)
            kiosk.track(user, 3)
            kiosk.put_personal("badge", user, {"level": 1})
        for n in range(50):
            kiosk.put("lasting", f"{n}", "x" * 500)
        kiosk.days(70)
        units = 0
        for _ in kiosk.rt._upkeep.sweeper._steps(full=True):
            units += 1
            others = threading.Thread(target=_others, args=(kiosk, units), daemon=True)
            others.start()
            others.join(60)
            assert not others.is_alive(), f"a lock is held after unit {units}"
        assert units > 10


def _others(kiosk: Kiosk, number: int) -> None:
    kiosk.rt.consent.give(f"new{number}", [P], notice="n")
    assert kiosk.rt.track("view", user=f"new{number}", item="x", price=1.0) is er.ACCEPTED
    kiosk.rt.flush()
    kiosk.rt.read("activity:views", user=f"new{number}")
    kiosk.rt.consent.withdraw(f"new{number}")
