"""What flows is the app's to say: channels that come and go at run time, pauses, and a byte budget."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.errors import MalformedRequest
from edge_runtime.sync.applying import Applied
from edge_runtime.sync.link import Link
from edge_runtime.sync.settings import SECOND_US, SyncSettings
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from tests.support.life import Life
from tests.support.town import ALICE, Kiosk, P, Town
from tests.support.town_network import Serve

GOLD = "segment:gold"
HOUR_S = 3_600


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=20))
    yield made
    made.close()


@pytest.fixture
def kiosk(town: Town, tmp_path: Path) -> Iterator[Kiosk]:
    made = Kiosk(town, tmp_path / "kiosk", patterns=("all", "segment:*"))
    yield made
    made.close()


async def rested() -> None:
    """A few ticks."""
    await asyncio.sleep(3)


# ---- channels at run time ----------------------------------------------------------------------------------


def test_a_channel_comes_and_goes_while_the_link_runs(town: Town, kiosk: Kiosk) -> None:
    """Followed: its rows come. Unfollowed: rows and cursor are gone when the call returns, and stay gone."""
    town.put(5)
    town.put(30, channel=GOLD, start=100)

    async def work(link: Link) -> None:
        await link.caught_up()
        assert len(kiosk.rows()) == 5
        link.follow(GOLD)
        await rested()
        assert len(kiosk.rows()) == 35
        assert kiosk.stand(GOLD) == town.head(GOLD)
        assert link.state == "fresh"
        link.unfollow(GOLD)
        assert len(kiosk.rows()) == 5
        assert kiosk.stand(GOLD) == (0, 0)
        town.put(1, channel=GOLD, start=200)
        await rested()
        assert len(kiosk.rows()) == 5
        assert link.state == "fresh"
        link.follow(GOLD)
        await rested()
        assert kiosk.stand(GOLD) == town.head(GOLD)
        assert len(kiosk.rows()) == 36

    Life(kiosk).during(work)


def test_law_6_a_wish_is_durable_when_the_call_returns(town: Town, tmp_path: Path) -> None:
    """For and against, over a restart: also against a channel that the enrolment names."""
    town.put(5)
    town.put(7, channel=GOLD, start=100)
    kiosk = Kiosk(town, tmp_path / "kiosk", patterns=("all", "segment:*"))
    link = Life(kiosk).link  # never run
    link.follow(GOLD)
    link.unfollow("all")
    kiosk.close()
    again = Kiosk(town, tmp_path / "kiosk")
    Life(again).live(5)
    assert (again.stand("all"), again.stand(GOLD)) == ((0, 0), town.head(GOLD))
    again.close()
    third = Kiosk(town, tmp_path / "kiosk")
    life = Life(third)
    life.link.follow("all")
    life.live(5)
    assert third.stand("all") == town.head("all")
    third.close()


def test_a_channel_unfollowed_in_mid_snapshot_leaves_nothing_behind(town: Town, kiosk: Kiosk) -> None:
    """From another thread, between two frames of its snapshot."""
    town.put(500, channel=GOLD)

    async def work(link: Link) -> None:
        await link.caught_up()
        link.follow(GOLD)
        for _ in range(1_000):
            await asyncio.sleep(0)
            if kiosk.stand(GOLD)[0] > 100:
                break
        assert 100 < kiosk.stand(GOLD)[0] < 500
        thread = threading.Thread(target=link.unfollow, args=(GOLD,))
        thread.start()
        thread.join()
        heard.clear()
        await rested()
        assert kiosk.stand(GOLD) == (0, 0)
        assert kiosk.rows() == {}
        assert link.state == "fresh"
        assert [type(codec.decode(frame)) for frame in heard] == [m.Unfollow]

    life, heard = Life(kiosk), list[bytes]()
    life.network.heard = heard.append
    life.during(work)


def test_a_delta_that_was_being_applied_when_its_channel_was_unfollowed_leaves_nothing(
    town: Town, kiosk: Kiosk
) -> None:
    """Its rows are written after the deletion; the next tick deletes them too."""
    town.put(10, channel=GOLD)
    life, apply, late = Life(kiosk), kiosk.replica.apply, list[int]()

    def applied_late(delta: m.Delta) -> Applied:
        if delta.channel == GOLD:
            life.link.unfollow(GOLD)
            done = apply(delta)
            late.append(len(kiosk.rows()))
            return done
        return apply(delta)

    kiosk.replica.apply = applied_late  # type: ignore[method-assign]

    async def work(link: Link) -> None:
        await link.caught_up()
        link.follow(GOLD)
        await rested()
        assert late == [10]
        assert kiosk.rows() == {}
        assert kiosk.stand(GOLD) == (0, 0)

    life.during(work)


def test_a_channel_that_the_server_does_not_give_is_asked_for_once_a_session(
    town: Town, tmp_path: Path
) -> None:
    kiosk = Kiosk(town, tmp_path / "kiosk", patterns=("all",))

    async def work(link: Link) -> int:
        await link.caught_up()
        link.follow(GOLD)
        kiosk.give(ALICE)  # an acknowledged decision is no reason to ask again
        link.poke()
        await asyncio.sleep(60)
        assert link.state == "fresh"
        return sum(isinstance(said, m.Follow) and said.channel == GOLD for said in heard)

    life, heard = Life(kiosk), list[m.Message]()
    life.network.heard = lambda frame: heard.append(codec.decode(frame))
    assert life.during(work) == 1
    kiosk.close()


@pytest.mark.parametrize("channel", ["", "~token/personalization", "x" * 513, "\ud800", None, 7])
def test_law_12_a_wish_that_makes_no_sense_changes_nothing(kiosk: Kiosk, channel: str) -> None:
    link = Life(kiosk).link
    for wish in (link.follow, link.unfollow):
        with pytest.raises(MalformedRequest):
            wish(channel)
    assert link.memory.wanted == ()


def test_law_11_wishes_are_bounded(kiosk: Kiosk) -> None:
    link = Life(kiosk, settings=SyncSettings(channels=3)).link
    for n in range(3):
        link.follow(f"segment:{n}")
    with pytest.raises(MalformedRequest):
        link.follow("segment:3")
    link.follow("segment:1")
    assert link.memory.wanted == ("segment:0", "segment:1", "segment:2")


# ---- pauses ------------------------------------------------------------------------------------------------


def test_a_pause_lets_nothing_flow_and_leases_end_by_themselves(town: Town, kiosk: Kiosk) -> None:
    """Paused for two days: no attempt, no row; locked when the lease was over; afterwards all is made up."""
    kiosk.give(ALICE)
    life = Life(kiosk)

    async def work(link: Link) -> None:
        await link.caught_up()
        link.pause()
        await asyncio.sleep(0.01)
        assert link.standing == ("stale", "paused by the app")
        town.put(3)
        kiosk.give("user:bob")
        link.poke()
        await asyncio.sleep(23 * HOUR_S)
        assert kiosk.consents.permission(ALICE, P).allowed
        await asyncio.sleep(25 * HOUR_S)
        assert link.standing.state == "locked"
        assert not kiosk.consents.permission(ALICE, P).allowed
        assert kiosk.stand() == (0, 0)
        assert town.lane_head() == 1
        assert len(life.network.attempts) == 1
        link.resume()
        await link.caught_up()
        assert kiosk.stand() == town.head()
        assert town.lane_head() == 2
        assert link.state == "fresh"

    life.during(work)
    assert [state for state in life.states if state in ("stale", "locked")][-2:] == ["stale", "stale"]
    assert ("locked", "the lease has ended") in [told[1:] for told in life.said]


def test_law_6_a_pause_that_is_over_at_once_loses_nothing_that_was_decided(town: Town, kiosk: Kiosk) -> None:
    """What the pause held back is told in the next session, forty times."""

    async def work(link: Link) -> None:
        await link.caught_up()
        for n in range(40):
            kiosk.give(f"user:u{n}")
            link.poke()
            link.pause()
            if n % 3:
                await asyncio.sleep(0)
            link.resume()
            await asyncio.sleep(4)
        await link.caught_up()
        assert town.lane_head() == 40
        assert kiosk.outbox.empty

    Life(kiosk).during(work)


def test_no_frame_leaves_after_a_pause_though_one_was_just_due(town: Town, kiosk: Kiosk) -> None:
    """A poke, and the pause in the same breath: what was due waits for the next session."""
    life, heard = Life(kiosk), list[bytes]()
    life.network.heard = heard.append

    async def work(link: Link) -> None:
        for n in range(10):
            await link.caught_up()
            heard.clear()
            kiosk.give(f"user:u{n}")
            link.poke()
            link.pause()
            await asyncio.sleep(2)
            assert heard == []
            link.resume()
        await link.caught_up()
        assert town.lane_head() == 10

    life.during(work)


def test_a_link_may_be_paused_before_it_runs_and_closed_while_it_is(kiosk: Kiosk) -> None:
    life = Life(kiosk)
    life.link.pause()
    life.live(600)
    assert life.network.attempts == []


# ---- the byte budget ---------------------------------------------------------------------------------------


def test_a_spent_budget_stops_rows_and_nothing_else(town: Town, kiosk: Kiosk) -> None:
    """Decisions, leases and receipts flow; rows wait for the next hour, and the state says why."""
    kiosk.give(ALICE)
    life = Life(kiosk, settings=SyncSettings(bytes_per_hour=200_000, tick_us=20 * SECOND_US))

    async def work(link: Link) -> None:
        link.metered = True
        await link.caught_up()
        town.put(600, pad=1_000)
        await asyncio.sleep(30)
        assert link.standing == (
            "stale",
            "the byte budget is spent: only decisions, leases and receipts flow",
        )
        rows = len(kiosk.rows())
        assert 50 < rows < 400
        assert life.network.sessions[-1].follows == ()
        kiosk.give("user:bob")
        town.decide(ALICE, "withdrawn")
        link.poke()
        await asyncio.sleep(5)
        assert kiosk.keyring.key(ALICE, P) is None
        assert kiosk.outbox.empty  # the decision and the receipt
        assert town.lane_head() == 3
        assert len(kiosk.rows()) == rows
        assert len(life.network.attempts) == 1
        await asyncio.sleep(13 * HOUR_S)  # also a lease's half life
        assert kiosk.leases.state == "fresh"
        assert kiosk.stand() == town.head()
        assert link.state == "fresh"
        hour, day = link.status()["metered_bytes_hour"], link.status()["metered_bytes_day"]
        assert isinstance(hour, int)
        assert isinstance(day, int)
        assert hour < 10_000 < 400_000 < day

    life.during(work)


def test_a_budget_holds_only_while_the_network_is_metered(town: Town, kiosk: Kiosk) -> None:
    """Switched at run time: rows flow as soon as the app says that the network is free again."""
    life = Life(kiosk, settings=SyncSettings(bytes_per_day=20_000))

    async def work(link: Link) -> None:
        town.put(300, pad=1_000)
        await link.caught_up()  # not metered: nothing counts
        assert link.status()["metered_bytes_day"] == 0
        link.metered = True
        town.put(300, pad=1_000, start=300)
        await asyncio.sleep(30)
        assert link.state == "stale"
        assert len(kiosk.rows()) < 600
        link.metered = False
        await link.caught_up()
        assert len(kiosk.rows()) == 600
        link.metered = True  # what was spent is not forgotten
        await rested()
        assert link.state == "stale"

    life.during(work)


def test_law_6_what_was_spent_survives_a_restart(town: Town, tmp_path: Path) -> None:
    """And a wall clock set back gives nothing back."""
    settings = SyncSettings(bytes_per_hour=100_000)
    town.put(600, pad=1_000)
    rows = 0
    for wall_us in (None, 0, None):
        kiosk = Kiosk(town, tmp_path / "kiosk")
        if wall_us is not None:
            town.clock.set_wall(wall_us)
        life = Life(kiosk, settings=settings)
        life.link.metered = True
        hellos = list[m.Hello]()
        life.network.heard = lambda frame, to=hellos: to.extend(  # type: ignore[misc]
            said for said in [codec.decode(frame)] if isinstance(said, m.Hello)
        )
        life.live(20)
        assert life.states[-2:] == ["stale", "stale"]
        assert rows in (0, len(kiosk.rows()))
        assert [hello.cursors for hello in hellos] == [{"all": 0} if rows == 0 else {}]
        rows = len(kiosk.rows())
        kiosk.close()
        town.clock.reboot()
    assert 0 < rows < 200
    kiosk = Kiosk(town, tmp_path / "kiosk")
    town.clock.advance(seconds=HOUR_S)
    life = Life(kiosk, settings=settings)
    life.link.metered = True
    life.live(20)
    assert len(kiosk.rows()) > rows
    kiosk.close()


def test_in_any_hour_no_more_than_the_budget_flows_and_what_was_under_way(town: Town, kiosk: Kiosk) -> None:
    """Six hours of more than fits: each hour's bytes, counted outside the link."""
    budget, flowed = 300_000, list[tuple[int, int]]()
    town.put(3_000, pad=1_000)
    life = Life(kiosk, settings=SyncSettings(bytes_per_hour=budget), act=lambda way, number: Serve())
    spend = life.link._meter.spend

    def counted(size: int) -> None:
        flowed.append((kiosk.clock.boot_us(), size))
        spend(size)

    life.link._meter.spend = counted  # type: ignore[method-assign]
    life.link.metered = True
    life.live(6 * HOUR_S)
    hour_us = HOUR_S * SECOND_US
    most = max(sum(s for at, s in flowed if from_us <= at < from_us + hour_us) for from_us, _ in flowed)
    assert budget * 0.8 < most < budget * 1.1 + 2 * 64 * 1024, most
    assert sum(size for _, size in flowed) > 5 * budget
