"""Days in the life of a link on a clock of its own: the real link, dialogue and server; nobody waits."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import SyncError
from edge_runtime.sync.carrier import Blocked, Cut, Unreachable, Way
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import messages as m
from edge_runtime.wire.refusal import CODES
from tests.support.clock import ManualClock
from tests.support.life import SEED, Life
from tests.support.patient_loop import run_patiently
from tests.support.town import ALICE, Kiosk, P, Town
from tests.support.town_network import Act, Say, Serve

HOUR_S, DAY_S = 3_600, 86_400
CHALLENGE = m.Challenge(nonce=bytes(32), incarnation=bytes(16), server_time_us=0, speaks=[1])


class NoWait(random.Random):
    """Chance that never makes anybody wait."""

    def random(self) -> float:
        return 0.0


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", patterns=("all", "segment:*"))
    yield made
    made.close()


def refusing(code: str, retry_after_us: int = 0) -> Callable[[Way, int], Act]:
    return lambda way, number: Say([CHALLENGE, m.Refusal(code=code, retry_after_us=retry_after_us)])


def most_in(times_s: list[float], span_s: float) -> int:
    """Most attempts in any such span."""
    return max(sum(at <= other < at + span_s for other in times_s) for at in times_s)


# ---- law 11: never a tight loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_law_11_whatever_a_server_says_attempts_are_few(kiosk: Kiosk, code: str) -> None:
    """Three hours of one refusal: fewer for a no that is for good."""
    times_s = Life(kiosk, refusing(code)).live(3 * HOUR_S).network.times_s
    assert most_in(times_s, 60) <= 20
    assert len(times_s) <= (3 * 260 if CODES[code].retry else 60), len(times_s)
    assert len(times_s) >= 3  # and it does come back


@pytest.mark.parametrize("code", CODES)
def test_law_11_not_even_when_chance_says_at_once_every_time(kiosk: Kiosk, code: str) -> None:
    times_s = Life(kiosk, refusing(code), rng=NoWait()).live(600).network.times_s
    assert most_in(times_s, 60) <= 20
    assert len(times_s) <= 10 * 20 + 20


@pytest.mark.parametrize(
    "act",
    [
        Unreachable("nobody there"),
        Blocked("an upgrade? no"),
        Cut("gone"),
        SyncError("other"),
        Serve(cut_after_s=0),
        Say([]),
        Say([CHALLENGE]),
        Say([CHALLENGE, CHALLENGE]),
        Say([m.Lane(base=0, entries=[], upto=1, more=False)]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("rng", [random.Random(SEED), NoWait()], ids=["fair", "no wait"])
def test_law_11_nor_however_a_connection_ends(kiosk: Kiosk, act: Act, rng: random.Random) -> None:
    times_s = Life(kiosk, lambda way, number: act, rng=rng).live(1_200).network.times_s
    assert most_in(times_s, 60) <= 20
    assert len(times_s) <= (20 * 20 + 20 if isinstance(rng, NoWait) else 110)


def test_law_11_a_boot_clock_that_goes_back_again_and_again_makes_no_tight_loop(kiosk: Kiosk) -> None:
    """Each time only a fresh session unlocks: at once the first time, and then at the link's pace."""

    class LongWait(random.Random):
        def random(self) -> float:
            return 0.999

    life = Life(kiosk, rng=LongWait(1))

    async def body() -> None:
        async with life.link:
            for _ in range(16):
                await asyncio.sleep(1)
                kiosk.clock.uptime_us -= 10 * SECOND_US

    run_patiently(kiosk.clock, body())
    assert 3 <= len(life.network.attempts) <= 8


def test_law_11_pausing_and_resuming_is_no_way_around_the_pace(kiosk: Kiosk) -> None:
    life = Life(kiosk, refusing("overloaded", 600 * SECOND_US), rng=NoWait())

    async def body() -> None:
        async with life.link:
            for _ in range(1_000):
                life.link.pause()
                await asyncio.sleep(0.25)
                life.link.resume()
                await asyncio.sleep(0.25)

    run_patiently(kiosk.clock, body())
    assert len(life.network.attempts) == 1


# ---- coming back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["overloaded", "going_away", "internal", "unknown_device"])
def test_a_server_is_left_alone_for_as_long_as_it_asked(kiosk: Kiosk, code: str) -> None:
    times_s = Life(kiosk, refusing(code, 90 * SECOND_US)).live(HOUR_S).network.times_s
    gaps = [after - before for before, after in itertools.pairwise(times_s)]
    assert min(gaps) >= 90
    assert len(gaps) >= 4


def test_law_11_no_server_sends_a_device_away_for_ever(kiosk: Kiosk) -> None:
    """An hour at most is believed."""
    life = Life(kiosk, refusing("overloaded", 2**62), rng=NoWait()).live(3 * HOUR_S + 60)
    assert [round(at / HOUR_S) for at in life.network.times_s] == [0, 1, 2, 3]


def test_a_session_that_was_open_a_minute_starts_the_backoff_over_and_a_shorter_one_does_not(
    kiosk: Kiosk,
) -> None:
    """Cut after 61 s each time: back within a second. After 30 s: the waits grow."""
    healthy = Life(kiosk, lambda way, number: Serve(cut_after_s=61)).live(2 * HOUR_S).network.times_s
    assert max(b - a for a, b in itertools.pairwise(healthy)) <= 61 + 1.1
    short = Life(kiosk, lambda way, number: Serve(cut_after_s=30)).live(2 * HOUR_S).network.times_s
    assert max(b - a for a, b in itertools.pairwise(short)) > 30 + 16


# ---- which way ---------------------------------------------------------------------------------------------


def ways(life: Life) -> list[Way]:
    return [way for _, way in life.network.attempts]


def test_long_polls_take_over_where_no_websocket_lives(town: Town, kiosk: Kiosk) -> None:
    """Three cut within 5 s; polls from then on. After ten minutes one says its first word and is believed,
    and one failure is enough to go back."""
    town.put(5)
    life = Life(kiosk, lambda way, number: Serve(cut_after_s=2 if way == "websocket" else None))
    life.live(31 * 60)
    assert ways(life) == ["websocket"] * 3 + ["poll", "websocket", "websocket"] * 3 + ["poll"]
    assert kiosk.stand() == town.head()
    polled = [at for at, way in life.network.attempts if way == "poll"]
    again = [at for at, way in life.network.attempts[4:] if way == "websocket"][::2]
    assert all(590 <= (b - a) / SECOND_US <= 610 for a, b in zip(polled, again, strict=False))


def test_a_blocked_upgrade_is_enough_and_a_websocket_that_lives_again_stays(kiosk: Kiosk) -> None:
    def act(way: Way, number: int) -> Act:
        return Blocked("no upgrade here") if way == "websocket" and number == 1 else Serve()

    assert ways(Life(kiosk, act).live(2 * HOUR_S)) == ["websocket", "poll", "websocket", "websocket"]


@pytest.mark.parametrize(
    "never", [Serve(mute_after_s=0), Blocked("no"), Cut("gone"), Say([]), Say([m.LaneAck(upto=1)])], ids=repr
)
def test_a_websocket_is_tried_beside_the_polls_which_go_on(kiosk: Kiosk, never: Act) -> None:
    """Where it hangs or fails, six tries an hour are not noticed: fresh all the time, in one session."""

    def act(way: Way, number: int) -> Act:
        return Serve() if way == "poll" else Blocked("no upgrade here") if number == 1 else never

    life = Life(kiosk, act).live(2 * HOUR_S)
    assert ways(life) == ["websocket", "poll", *["websocket"] * (len(life.network.attempts) - 2)]
    assert 11 <= len(life.network.attempts) - 2 <= 12
    assert life.states[-2:] == ["fresh", "stale"]
    assert life.states.count("fresh") == 1


@pytest.mark.parametrize(
    "act",
    [*[refusing(code)("websocket", 1) for code in CODES], Unreachable("nobody"), Say([m.LaneAck(upto=1)])],
    ids=repr,
)
def test_a_server_that_refuses_is_no_reason_to_poll(kiosk: Kiosk, act: Act) -> None:
    assert set(ways(Life(kiosk, lambda way, number: act).live(HOUR_S))) == {"websocket"}


def test_a_server_that_goes_away_in_the_middle_is_no_reason_to_poll(town: Town, kiosk: Kiosk) -> None:
    """A rolling restart: every session is told to go after a second, and a fourth one lives."""
    life = Life(kiosk, lambda way, number: Serve(cut_after_s=1 if number > 2 else 0))
    life.network.act = lambda way, number: Serve() if number > 6 else refusing("going_away")(way, number)
    life.live(HOUR_S)
    assert ways(life) == ["websocket"] * 7


def test_polls_that_fare_no_better_give_way_again(kiosk: Kiosk) -> None:
    """Blocked both ways: neither is believed to be the better one."""
    tried = ways(Life(kiosk, lambda way, number: Blocked("by everything")).live(HOUR_S))
    assert tried[:6] == ["websocket", "poll"] * 3


def test_a_server_that_refuses_polls_is_no_reason_to_leave_them(kiosk: Kiosk) -> None:
    """Busy for five attempts, then it serves: all of them polls."""

    def act(way: Way, number: int) -> Act:
        if way == "websocket":
            return Blocked("no upgrade here")
        return refusing("overloaded")(way, number) if number <= 6 else Serve()

    assert ways(Life(kiosk, act).live(300)) == ["websocket"] + ["poll"] * 6


def test_three_short_lives_do_not_add_up_over_a_long_one(kiosk: Kiosk) -> None:
    lives = {1: 2.0, 2: 2.0, 3: 6.0, 4: 2.0, 5: 2.0, 6: 6.0}
    life = Life(kiosk, lambda way, number: Serve(cut_after_s=lives.get(number)))
    assert set(ways(life.live(HOUR_S))) == {"websocket"}


# ---- states ------------------------------------------------------------------------------------------------


def test_a_device_that_is_cut_off_says_so_at_once_and_why(kiosk: Kiosk) -> None:
    """Not a poll or a timer later; and fresh again when it is back."""
    life = Life(kiosk, lambda way, number: Serve(cut_after_s=100 if number == 1 else None)).live(300)
    began = life.network.attempts[0][0]
    cut, state, reason = next(told for told in life.said if told[0] > began + 10 * SECOND_US)
    assert (state, reason) == ("stale", "the link broke: ConnectionResetError")
    assert abs(cut - began - 100 * SECOND_US) < SECOND_US // 10
    assert life.states[-2:] == ["fresh", "stale"]  # the last is its closing


def test_a_connection_that_fell_silent_is_noticed_by_the_pings_that_do_not_come(kiosk: Kiosk) -> None:
    """Nobody says that it broke: 90 s after the last sign of life the device says stale."""
    life = Life(kiosk, lambda way, number: Serve(mute_after_s=70) if number == 1 else Cut("gone")).live(400)
    began = life.network.attempts[0][0]
    cut = next(at for at, state, reason in life.said if "TimeoutError" in reason)
    assert 90 <= (cut - began) / SECOND_US <= 70 + 90 + 1


def test_law_3_a_lease_that_ends_while_nobody_answers_is_told_within_a_tick(kiosk: Kiosk) -> None:
    """Stale from the cut, locked from the lease's end, though nothing happens at that moment."""
    kiosk.give(ALICE)
    life = Life(kiosk, lambda way, number: Serve(cut_after_s=60) if number == 1 else Unreachable("nobody"))
    life.live(25 * HOUR_S)
    began = life.network.attempts[0][0]
    locked = next(at for at, state, reason in life.said if state == "locked" and at > began + SECOND_US)
    assert 0 <= locked - began - DAY_S * SECOND_US <= 2 * SECOND_US
    assert not kiosk.consents.permission(ALICE, P).allowed
    assert life.said[-1][2] == "the lease has ended"


# ---- law 3: the wall clock does not matter -----------------------------------------------------------------

WALLS = {"1970": 0, "2040": 2_208_988_800_000_000}
TICK_S = 20


@pytest.mark.parametrize("wall_us", WALLS.values(), ids=WALLS)
def test_law_3_leases_are_renewed_at_half_life_and_end_whatever_the_wall_clock_says(
    town: Town, tmp_path: Path, wall_us: int
) -> None:
    """Three days connected: renewals, never locked. Then alone: locked a lease after the last request."""
    clock = ManualClock(now_us=wall_us)
    kiosk = Kiosk(town, tmp_path / "kiosk", clock=clock)
    kiosk.give(ALICE)
    check_leases(kiosk, town, lambda: None)
    kiosk.close()


def test_law_3_nor_when_it_jumps_every_ten_minutes(town: Town, tmp_path: Path) -> None:
    """Between 1970 and 2040, to and fro (seed 20261130)."""
    rng, clock = random.Random(SEED), ManualClock()
    kiosk = Kiosk(town, tmp_path / "kiosk", clock=clock)
    kiosk.give(ALICE)
    check_leases(kiosk, town, lambda: clock.set_wall(rng.choice([*WALLS.values(), 1_700_000_000_000_000])))
    kiosk.close()


def check_leases(kiosk: Kiosk, town: Town, jump: Callable[[], None]) -> None:
    life = Life(kiosk, settings=SyncSettings(tick_us=TICK_S * SECOND_US))
    requests: list[int] = []
    begin = kiosk.leases.begin_request

    def noted(id: bytes, boot_us: int | None = None) -> int:
        requests.append(kiosk.clock.boot_us())
        return begin(id, boot_us)

    kiosk.leases.begin_request = noted  # type: ignore[method-assign]

    async def body() -> None:
        async with life.link:
            await asyncio.sleep(1)
            for _ in range(3 * 24 * 6):
                jump()
                await asyncio.sleep(600)
                assert kiosk.consents.permission(ALICE, P).allowed
            life.network.act = lambda way, number: Unreachable("nobody")
            life.link.pause()
            life.link.resume()  # the session ends, and no other begins
            alone_s = (kiosk.clock.boot_us() - requests[-1]) / SECOND_US
            for _ in range(int((DAY_S - alone_s) / 600)):
                jump()
                assert kiosk.consents.permission(ALICE, P).allowed
                await asyncio.sleep(600)
            jump()
            await asyncio.sleep(1_200)
            assert not kiosk.consents.permission(ALICE, P).allowed
            assert life.link.state == "locked"
            for _ in range(12):
                jump()
                await asyncio.sleep(600)
                assert not kiosk.consents.permission(ALICE, P).allowed

    run_patiently(kiosk.clock, body())
    gaps = [(b - a) / SECOND_US for a, b in itertools.pairwise(requests)]
    assert len(gaps) in (5, 6), gaps
    assert all(DAY_S / 2 <= gap <= DAY_S / 2 + 2 * TICK_S for gap in gaps), gaps
