"""The newest change as one write: what the session would have said, and only when that is all there is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.sync.web_frames import framed
from tests.support.town import ALICE, Kiosk, Session, Town
from tests.support.warm import warm_catalog


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town")
    made.put(3)
    yield made
    made.close()


def live(town: Town, folder: Path) -> Session:
    session = Session(Kiosk(town, folder))
    session.settle()
    return session


def woken(session: Session) -> bytes | None:
    """What the pump would write at once; the flag is lowered only when it takes it."""
    channel = session.subscription.wake.channel
    step = None if channel is None else session.server.step(channel)
    if step is not None:
        session.subscription.wake.clear()
    return step


def said(session: Session) -> bytes:
    frames = []
    while (frame := session.next()) is not None:
        frames.append(frame)
    return b"".join(framed(frame) for frame in frames)


def split(wire: bytes) -> list[bytes]:
    """The frames in WebSocket frames of less than 64 KiB."""
    frames = []
    while wire:
        size, start = (wire[1], 2) if wire[1] < 126 else (int.from_bytes(wire[2:4], "big"), 4)
        frames.append(wire[start : start + size])
        wire = wire[start + size :]
    return frames


def test_a_step_is_what_the_session_would_have_said_and_is_shared(town: Town, tmp_path: Path) -> None:
    one, two, three = (live(town, tmp_path / f"k{n}") for n in range(3))
    town.put(1)
    step = woken(one)
    assert step is not None
    assert woken(two) is step
    assert said(three) == step
    for frame in split(step):
        one.hand_over(frame)
    assert one.kiosk.stand() == town.head()
    assert said(one) == b""
    assert one.device.caught_up


def test_law_2_a_denial_goes_before_a_step(town: Town, tmp_path: Path) -> None:
    """Also when it comes between the hint and the turn, and when its own hint was lost."""
    session = live(town, tmp_path / "k")
    town.put(1)
    town.decide(ALICE, "withdrawn")
    assert session.subscription.wake.channel is None
    assert session.step()
    assert isinstance(session.heard[-1], m.Lane)
    session.settle()
    town.put(1)
    town.decide(ALICE, "withdrawn")
    assert session.server.step("all") is None
    assert session.step()
    assert isinstance(session.heard[-1], m.Lane)


def test_a_step_waits_for_what_else_there_is_to_say(town: Town, tmp_path: Path) -> None:
    """An answer, another standing, a second channel, a round: then the session is asked in full."""
    session = live(town, tmp_path / "k")
    town.put(1)
    session.server.hear(codec.encode(m.Follow(channel="all", cursor=0)))
    assert session.server.step("all") is None
    session.settle()
    wake = session.subscription.wake
    wake.moved("all")
    wake.moved("segment:gold")
    assert wake.channel is None
    wake.clear()
    wake.moved("all")
    wake.set()
    assert wake.channel is None
    wake.clear()
    wake.set()
    wake.moved("all")
    assert wake.channel is None
    session.settle()
    assert session.server.step("nobody") is None


def test_law_7_a_step_says_whole_only_to_devices_for_whom_it_is(town: Town, tmp_path: Path) -> None:
    """Whose catalog the server does not know hears the same rows, and a checkpoint of its own."""
    session = live(town, tmp_path / "k")
    town.catalog = warm_catalog(9)
    assert not whole(town, session)
    town.catalog = session.kiosk.catalog
    assert whole(town, session)


def whole(town: Town, session: Session) -> bool:
    """What the step to a new row says of the channel."""
    town.put(1)
    step = woken(session)
    assert step is not None
    told = codec.decode(split(step)[-1])
    assert isinstance(told, m.Checkpoint)
    return told.whole


def test_law_7_two_devices_at_one_place_each_hear_whether_the_channel_is_whole_for_them(
    town: Town, tmp_path: Path
) -> None:
    """One string of bytes is kept for each of the two."""
    old, new = live(town, tmp_path / "old"), live(town, tmp_path / "new")
    old.server._following._catalog, town.catalog = "unknown@1", new.kiosk.catalog
    town.put(1)
    steps = [woken(session) for session in (old, new, old, new)]
    checkpoints = [codec.decode(split(step)[-1]) for step in steps[:2] if step is not None]
    assert [told.whole for told in checkpoints if isinstance(told, m.Checkpoint)] == [False, True]


def test_an_acknowledgement_of_the_lane_asks_for_nothing_more(town: Town, tmp_path: Path) -> None:
    """Thousands come after a denial; a session that had nothing to say has nothing to say after it."""
    session = live(town, tmp_path / "k")
    town.decide(ALICE, "withdrawn")
    frame = session.next()
    assert frame is not None
    assert session.next() is None
    assert session.server.quiet
    ack, *_ = session.device.hear(frame, session.kiosk.clock.boot_us())
    assert isinstance(codec.decode(ack), m.LaneAck)
    session.server.hear(ack)
    town.put(1)
    session.subscription.wake.clear()
    session.subscription.wake.moved("all")
    assert woken(session) is not None


def test_a_large_change_and_a_device_further_behind_take_more_than_a_step(town: Town, tmp_path: Path) -> None:
    near, far = live(town, tmp_path / "near"), live(town, tmp_path / "far")
    town.put(1, pad=9_000, start=7)
    assert woken(near) is None
    near.settle()
    far.subscription.wake.clear()
    town.put(1)
    step, behind = woken(near), woken(far)
    assert step is not None
    assert behind is None  # its delta holds the large row too
    far.subscription.wake.set()
    far.settle()
    for frame in split(step):
        near.hand_over(frame)
    assert near.kiosk.stand() == far.kiosk.stand() == town.head()


def test_after_a_floor_was_raised_nobody_below_it_takes_a_step(town: Town, tmp_path: Path) -> None:
    """What left without a delete must not stay: a replacing snapshot is due."""
    session = live(town, tmp_path / "k")
    with town.store.write("delete") as tx:
        tx.put_row("all", m.Row(0, "item:2", "item_stats", 1, 1, 1, 0, True, b""))
        tx.drop_deletes(town.clock.now_us())
    town.put(1)
    assert session.server.step("all") is None
    session.settle()
    replacing = [said.replacing for said in session.heard if isinstance(said, m.Delta)]
    assert replacing[-1]
    assert session.kiosk.stand() == town.head()


@pytest.mark.parametrize("seed", range(6))
def test_devices_that_take_steps_and_devices_that_are_asked_end_alike(
    town: Town, tmp_path: Path, seed: int
) -> None:
    """A random day of publishes, decisions, re-follows and turns; at its end every digest is the server's."""
    print("seed", seed)
    chance = random.Random(seed)
    sessions = [live(town, tmp_path / f"k{n}") for n in range(4)]
    steps = 0
    for _ in range(120):
        session = chance.choice(sessions)
        match chance.choice(("put", "put", "decide", "follow", "turn", "turn", "turn", "turn")):
            case "put":
                town.put(chance.randrange(1, 4), start=chance.randrange(6), pad=chance.choice((0, 0, 6_000)))
            case "decide":
                town.decide(ALICE, chance.choice(("given", "withdrawn")))
            case "follow":
                cursor = session.kiosk.stand()[0] if chance.random() < 0.5 else 0
                session.device._channels.matches["all"] = False
                session.server.hear(codec.encode(m.Follow(channel="all", cursor=cursor)))
            case _:
                step = woken(session)
                if step is None:
                    session.settle()
                else:
                    steps += 1
                    for frame in split(step):
                        session.hand_over(frame)
    for session in sessions:
        session.settle()
        assert session.kiosk.stand() == town.head()
        assert session.device.caught_up
    assert steps > 3
