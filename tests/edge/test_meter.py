"""The byte budget by itself: windows that slide, room that comes back, clocks that jump, restarts."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.sync.meter import DAY_US, HOUR_US, STEPS, Meter, Window
from edge_runtime.sync.settings import MINUTE_US, SECOND_US, SyncSettings
from tests.support.clock import ManualClock
from tests.support.town import Kiosk, Town

SETTINGS = SyncSettings(bytes_per_hour=1_000, bytes_per_day=5_000)
SEED = 24


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    town = Town(tmp_path / "town")
    made = Kiosk(town, tmp_path / "kiosk", clock=ManualClock())
    yield made
    made.close()
    town.close()


def meter_of(kiosk: Kiosk, *, metered: bool = True) -> Meter:
    meter = Meter(kiosk.database, kiosk.clock, SETTINGS)
    meter.metered = metered
    return meter


def lean(meter: Meter) -> bool:
    return meter.lean


def test_a_window_never_forgets_what_is_within_its_span() -> None:
    """Against a list of everything (seed 24): at least the last hour, at most one step more."""
    rng, window, all_of_it, now_us = random.Random(SEED), Window(HOUR_US), list[tuple[int, int]](), 0
    for _ in range(3_000):
        now_us += rng.randrange(4 * MINUTE_US)
        size = rng.randrange(1, 1_000)
        window.add(now_us, size)
        all_of_it.append((now_us, size))
        exact = sum(n for at, n in all_of_it if at > now_us - HOUR_US)
        most = sum(n for at, n in all_of_it if at >= now_us - HOUR_US - 2 * (HOUR_US // STEPS))
        assert exact <= window.total(now_us) <= most
        assert len(window.steps()) <= STEPS + 2


def test_rows_flow_again_when_a_tenth_is_free_and_not_before(kiosk: Kiosk) -> None:
    meter = meter_of(kiosk)
    for size in (50, 50, 850):
        meter.spend(size)
        assert not lean(meter)
        kiosk.clock.advance(seconds=600)
    meter.spend(50)
    assert lean(meter)
    kiosk.clock.advance(seconds=31 * 60)  # the first 50 are an hour ago
    assert meter.spent[0] == 950
    assert lean(meter)
    kiosk.clock.advance(seconds=10 * 60)  # and the second: 900
    assert meter.spent[0] == 900
    assert lean(meter)
    meter.metered = False
    assert not lean(meter)
    meter.metered = True
    assert not lean(meter)  # not spent, as one sees it who was not waiting for room


def test_the_day_has_a_budget_of_its_own(kiosk: Kiosk) -> None:
    meter = meter_of(kiosk)
    for _ in range(5):
        meter.spend(999)
        kiosk.clock.advance(us=2 * HOUR_US)
    assert not lean(meter)
    meter.spend(5)
    assert lean(meter)
    kiosk.clock.advance(us=DAY_US + HOUR_US)
    assert meter.spent == (0, 0)
    assert not lean(meter)


def test_what_flows_while_it_is_not_metered_is_not_counted(kiosk: Kiosk) -> None:
    meter = meter_of(kiosk, metered=False)
    meter.spend(10**9)
    assert meter.spent == (0, 0)


@pytest.mark.parametrize(
    ("moved_us", "left"),
    [(0, 1_000), (-(10**15), 1_000), (30 * MINUTE_US, 1_000), (2 * HOUR_US, 0), (10**15, 0)],
)
def test_law_6_a_restart_forgets_nothing_and_a_clock_set_back_gives_nothing(
    kiosk: Kiosk, moved_us: int, left: int
) -> None:
    """Boot time begins again; only wall time that passed lets what was spent grow old."""
    before = meter_of(kiosk)
    before.spend(1_000)
    before.keep()
    kiosk.clock.reboot()
    kiosk.clock.set_wall(kiosk.clock.now_us() + moved_us)
    assert meter_of(kiosk).spent[0] == left


def test_a_wall_clock_that_jumps_while_it_runs_changes_nothing(kiosk: Kiosk) -> None:
    meter = meter_of(kiosk)
    meter.spend(1_000)
    for wall_us in (0, 2_208_988_800 * SECOND_US, -1):
        kiosk.clock.set_wall(wall_us)
        assert meter.spent == (1_000, 1_000)
    kiosk.clock.reboot()  # boot time back, in the same process
    assert meter.spent == (1_000, 1_000)
    kiosk.clock.advance(us=2 * HOUR_US)
    assert meter.spent == (0, 1_000)
