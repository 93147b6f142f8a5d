"""The gatekeeper by itself: budgets apart, a line that moves at the rate, and slots that come back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.wire import messages as m
from sync_server.settings import SECOND_US, Settings
from sync_server.sync.admission import Admission, Claim, Kind, Line, Stage, Turned, Visit

RESUME, SNAPSHOT = Claim(snapshot=False, behind=False), Claim(snapshot=True, behind=False)
BEHIND = Claim(snapshot=False, behind=True)
SEED = 20261130


def gate(**limits: Any) -> Admission:
    """Small limits; whatever is not said cannot be reached."""
    rates = {"resume_admissions_per_s": 200, "snapshot_admissions_per_s": 100}
    small = {"sessions": 1_000, "openings": 1_000, "admissions_burst": 1_000, **rates}
    return Admission(Settings(Path("nowhere"), **{**small, **limits}))


def enter(admission: Admission, claim: Claim, now_us: int = 0) -> Visit:
    visit = admission.knock(now_us, 0.0)
    try:
        admission.judge(visit, claim, now_us, 0.0)
    except Turned:
        admission.leave(visit, now_us)
        raise
    return visit


def turned(admission: Admission, claim: Claim, now_us: int = 0) -> int:
    """How long it is asked to stay away."""
    with pytest.raises(Turned) as caught:
        enter(admission, claim, now_us)
    assert caught.value.code == "overloaded"
    return caught.value.retry_after_us


# ---- getting in --------------------------------------------------------------------------------------------


def test_sockets_that_say_nothing_are_bounded_and_make_room_when_they_go() -> None:
    """The third socket is refused until one of the two speaks or leaves."""
    admission = gate(openings=2)
    first, second = admission.knock(0, 0.0), admission.knock(0, 0.0)
    with pytest.raises(Turned):
        admission.knock(0, 0.0)
    admission.judge(first, RESUME, 0, 0.0)
    third = admission.knock(0, 0.0)
    admission.leave(second, 0)
    admission.leave(third, 0)
    admission.leave(third, 0)  # twice is once
    assert admission.standing() | {"streaming_most": 0} == {
        "opening": 0,
        "in": 1,
        "guest": 0,
        "streaming": 0,
        "streaming_most": 0,
        "waiting": 0,
    }
    assert admission.refused == {"opening": 1}


@pytest.mark.parametrize("claim", [RESUME, SNAPSHOT])
def test_a_spent_budget_leaves_the_others_alone(claim: Claim) -> None:
    """A burst of one kind is refused after its burst; the other kind and the reserve still get in."""
    admission = gate(admissions_burst=5, resume_admissions_per_s=10, snapshot_admissions_per_s=10)
    for _ in range(5):
        enter(admission, claim)
    assert turned(admission, claim) == 100_000
    other = SNAPSHOT if claim is RESUME else RESUME
    assert enter(admission, other).stage is Stage.IN
    assert enter(admission, BEHIND).stage is (Stage.GUEST if claim is RESUME else Stage.IN)


def test_law_2_the_reserve_of_revocations_is_not_taken_by_others() -> None:
    """With all places taken, devices behind in the lane get in as guests, so many and no more."""
    admission = gate(sessions=3, revocation_sessions=2)
    for claim in (RESUME, SNAPSHOT, BEHIND):
        assert enter(admission, claim).stage is Stage.IN
    turned(admission, RESUME)
    turned(admission, SNAPSHOT)
    guests = [enter(admission, BEHIND) for _ in range(2)]
    assert [g.stage for g in guests] == [Stage.GUEST] * 2
    with pytest.raises(Turned):  # not even a socket: nobody could get in by it
        admission.knock(0, 0.0)
    admission.leave(guests[0], 0)
    assert enter(admission, BEHIND).stage is Stage.GUEST


def test_law_11_guests_are_counted_also_while_places_are_free() -> None:
    """A rate that is spent fills the reserve too."""
    admission = gate(revocation_sessions=2, resume_admissions_per_s=1, admissions_burst=4)
    stages = [enter(admission, BEHIND).stage for _ in range(6)]
    assert stages == [Stage.IN] * 4 + [Stage.GUEST] * 2
    turned(admission, BEHIND)


def test_a_guest_takes_the_first_room_that_comes_free_or_goes_when_its_time_is_over() -> None:
    """No rows while it is a guest; then all of it, or a word when to come back."""
    admission = gate(sessions=1, revocation_sessions=2, guest_us=10)
    inside = enter(admission, RESUME)
    lucky, late = enter(admission, BEHIND), enter(admission, BEHIND)
    woken: list[str] = []
    parted: list[m.Refusal] = []
    lucky.wake, late.part = (lambda: woken.append("lucky")), parted.append
    assert not admission.may_stream(lucky, 1)
    admission.tick(5)
    assert (lucky.stage, woken) == (Stage.GUEST, [])
    admission.leave(inside, 6)
    admission.tick(7)
    assert (lucky.stage, woken, late.stage) == (Stage.IN, ["lucky"], Stage.GUEST)
    admission.tick(10)
    assert [p.retry_after_us for p in parted] == [5_000]
    admission.tick(11)
    assert len(parted) == 1, "told once"


def test_the_refused_come_back_at_the_rate_at_which_they_can_be_taken() -> None:
    """A thousand devices at once: each is told another time, and whoever keeps to it gets in."""
    rate = 50
    admission = gate(resume_admissions_per_s=rate, admissions_burst=10)
    due = []
    for _ in range(1_000):
        try:
            enter(admission, RESUME)
        except Turned as turned_away:
            due.append(turned_away.retry_after_us)
    assert len(due) == 990
    assert max(due) == 990 * SECOND_US // rate
    for second in range(19):
        came = [at for at in due if second * SECOND_US < at <= (second + 1) * SECOND_US]
        assert len(came) == rate
    for at in due:
        enter(admission, RESUME, at)


def test_a_line_at_its_longest_is_spread_and_not_longer() -> None:
    """Beyond the longest wait nobody is told more than it, and chance keeps them apart."""
    line, rng = Line(1, 1, 10 * SECOND_US), random.Random(SEED)
    told = [line.wait_us(0, rng.random()) for _ in range(200)]
    assert told[:10] == [n * SECOND_US for n in range(1, 11)]
    assert all(5 * SECOND_US <= wait <= 10 * SECOND_US for wait in told[10:])
    assert len(set(told)) > 190
    assert line.wait_us(100 * SECOND_US, 0.0) == SECOND_US, "an hour later nobody waits any more"


def test_law_12_a_clock_set_back_or_ahead_shuts_nobody_out_for_long() -> None:
    """After any jump at most one step passes until the next gets in, and no more than a burst at once."""
    for jump_us in (-(10**15), -1, 10**15):
        line = Line(10, 3, 60 * SECOND_US)
        start = 2 * 10**15
        while line.take(start):
            pass
        later = start + jump_us
        taken = sum(line.take(later) for _ in range(100))
        assert taken <= 3
        assert line.take(later + 100_000)
        assert line.wait_us(later, 0.0) <= 60 * SECOND_US


# ---- snapshots ---------------------------------------------------------------------------------------------


def test_law_11_so_many_snapshots_flow_at_once_and_the_rest_wait_in_the_order_of_asking() -> None:
    """A slot goes to the first in line when it comes back: sent, gone, or given up."""
    admission = gate(snapshots=2)
    visits = [enter(admission, SNAPSHOT) for _ in range(6)]
    woken: list[int] = []
    for n, visit in enumerate(visits):
        visit.wake = lambda n=n: woken.append(n)  # type: ignore[misc]
    assert [admission.may_stream(v, 1) for v in visits] == [True, True, False, False, False, False]
    assert [admission.may_stream(v, 1) for v in visits] == [True, True, False, False, False, False]
    admission.leave(visits[3], 2)
    admission.streamed(visits[0], 3)
    assert woken == [2]
    assert admission.may_stream(visits[2], 3)
    admission.leave(visits[1], 4)
    assert woken == [2, 4]
    admission.streamed(visits[0], 4)  # it holds none: nothing is handed out
    assert (admission.standing()["streaming"], admission.most_slots) == (2, 2)
    assert not admission.may_stream(visits[0], 5)
    admission.streamed(visits[5], 5)  # it wants none any more
    admission.streamed(visits[4], 6)
    assert woken == [2, 4, 0]


def test_a_holder_that_stalls_or_takes_too_long_gives_way_and_goes_on_later() -> None:
    """Only when others wait; the rest of its snapshot comes after theirs."""
    admission = gate(snapshots=1, snapshot_stall_us=10, snapshot_turn_us=100)
    slow, next_one = enter(admission, SNAPSHOT), enter(admission, SNAPSHOT)
    assert admission.may_stream(slow, 0)
    admission.tick(50)
    assert admission.may_stream(slow, 50), "nobody waits: it keeps its slot"
    assert not admission.may_stream(next_one, 55)
    admission.tick(59)
    assert admission.may_stream(slow, 59)
    admission.tick(69)
    assert admission.reclaimed == {"stalled": 1}
    assert next_one.slot_us == 69
    assert not admission.may_stream(slow, 70)
    for now_us in range(70, 169, 5):
        assert admission.may_stream(next_one, now_us)
        admission.tick(now_us)
    admission.tick(169)
    assert admission.reclaimed == {"stalled": 1, "turn": 1}
    assert admission.may_stream(slow, 170)


def test_law_11_a_full_line_for_snapshots_lets_no_more_of_them_in() -> None:
    """Those who resume are not concerned."""
    admission = gate(snapshots=1, snapshots_waiting=2)
    for n in range(3):
        assert admission.may_stream(enter(admission, SNAPSHOT), 0) == (n == 0)
    turned(admission, SNAPSHOT)
    assert enter(admission, RESUME).stage is Stage.IN


# ---- whatever comes ----------------------------------------------------------------------------------------


def random_life(rng: random.Random) -> Iterator[tuple[str, float]]:
    verbs = ["knock", "judge", "stream", "streamed", "leave", "tick"]
    while True:
        yield rng.choices(verbs, [5, 5, 8, 2, 3, 2])[0], rng.random()


@pytest.mark.parametrize("seed", range(SEED, SEED + 20))
def test_law_11_no_budget_is_ever_passed_whatever_comes(seed: int) -> None:
    """Against an obvious count: places, guests, openings and slots; nobody who asked is forgotten."""
    rng = random.Random(seed)
    admission = gate(
        sessions=8,
        revocation_sessions=3,
        openings=4,
        snapshots=2,
        snapshots_waiting=3,
        admissions_burst=3,
        resume_admissions_per_s=100,
        snapshot_admissions_per_s=100,
        snapshot_stall_us=30_000,
        snapshot_turn_us=50_000,
        guest_us=40_000,
    )
    now_us = 0
    here: list[Visit] = []
    gone: list[Visit] = []
    told: list[Visit] = []
    for verb, chance in [step for step, _ in zip(random_life(rng), range(3_000), strict=False)]:
        now_us += rng.choice([0, 1, 1_000, 20_000])
        chosen = rng.choice(here) if here else None
        try:
            match verb:
                case "knock":
                    visit = admission.knock(now_us, chance)
                    visit.part = lambda _, v=visit: told.append(v)  # type: ignore[misc]
                    here.append(visit)
                case "judge" if chosen is not None and chosen.stage is Stage.OPENING:
                    admission.judge(chosen, rng.choice([RESUME, SNAPSHOT, BEHIND]), now_us, chance)
                case "stream" if chosen is not None:
                    got = admission.may_stream(chosen, now_us)
                    assert got == (chosen.slot_us is not None)
                    assert not got or chosen.stage is Stage.IN
                case "streamed" if chosen is not None:
                    admission.streamed(chosen, now_us)
                case "leave" if chosen is not None:
                    gone.append(chosen)
                case "tick":
                    admission.tick(now_us)
        except Turned:
            if verb == "judge" and chosen is not None:
                gone.append(chosen)
        for visit in (*gone, *told):
            admission.leave(visit, now_us)
        here = [v for v in here if v not in gone and v not in told]
        gone.clear()
        told.clear()
        stages = [v.stage for v in here]
        standing = admission.standing()
        assert standing["opening"] == stages.count(Stage.OPENING) <= 4
        assert standing["in"] == stages.count(Stage.IN) <= 8
        assert standing["guest"] == stages.count(Stage.GUEST) <= 3
        assert standing["streaming"] == sum(v.slot_us is not None for v in here) <= 2
        assert standing["streaming"] == 2 or standing["waiting"] == 0
    assert sum(admission.admitted[k] for k in Kind) > 50
    assert admission.reclaimed["stalled"] > 0, seed
