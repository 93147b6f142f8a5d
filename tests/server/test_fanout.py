"""Frames are read and encoded once, and never say what was no longer true when they were read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_runtime.wire import codec, seal
from edge_runtime.wire import messages as m
from sync_server.consent.decisions import API, Proposal
from sync_server.store.sqlite import SqliteStore
from sync_server.sync.fanout import DeltaFrame, Fanout
from sync_server.sync.pages import Pages
from tests.support.town import ALICE, P, Town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", settings=lambda s: replace(s, frame_rows=10))
    yield made
    made.close()


def delta_of(built: DeltaFrame) -> m.Delta:
    delta = codec.decode(built.frame)
    assert isinstance(delta, m.Delta)
    return delta


def test_the_same_bytes_go_to_every_follower(town: Town) -> None:
    """Two asks for the same place are one read, one encoding and one bytes object."""
    town.put(25)
    fanout = town.node.fanout
    first = fanout.delta("all", 0, replacing=True)
    assert fanout.delta("all", 0, replacing=True).frame is first.frame
    assert fanout.built == 1
    assert first.more
    assert delta_of(first).replacing


def test_frames_join_up_to_the_head_whatever_their_size(town: Town) -> None:
    """From 0 to the head, each frame starts where the last ended, within the limit; every row comes once."""
    town.put(30, pad=20_000)
    town.put(30, start=30)
    head, _ = town.head()
    base, seen, frames = 0, [], 0
    while base < head:
        built = town.node.fanout.delta("all", base, replacing=base == 0)
        delta = delta_of(built)
        assert len(built.frame) <= codec.FRAME_LIMIT_BYTES
        assert delta.base == base < delta.upto
        assert built.more == (delta.upto < head)
        seen += [row.entity for row in delta.rows]
        base, frames = delta.upto, frames + 1
    assert seen == [f"item:{n}" for n in range(60)]
    assert frames > 10


def test_frames_about_nobody_are_packed_and_frames_about_a_subject_are_not(town: Town) -> None:
    """What a subject's rows have in common must not show in the size of a frame."""
    with town.store.write("publish") as tx:
        for n in range(10):
            tx.put_row("all", town.item_row(n, values={"co_bought": {"same" * 50: 1.0}}))
    town.decide(ALICE, "given")
    for country in ("DE" * 400, "FR" * 400):
        town.put_profile(ALICE, country)
    shared = town.node.fanout.delta("all", 0, replacing=True)
    assert len(shared.frame) < 600
    assert len(delta_of(shared).rows) == 10
    channel = seal.personal_channel(town.pseudonym(ALICE), P)
    assert len(town.node.fanout.delta(channel, 0, replacing=True).frame) > 800


def test_a_frame_that_ended_at_the_head_is_read_again_when_the_head_moved(town: Town) -> None:
    """A slow follower gets the newer state in one frame, not the older one first."""
    town.put(5)
    fanout = town.node.fanout
    early = fanout.delta("all", 2, replacing=False)
    town.put(1, start=5)
    late = fanout.delta("all", 2, replacing=False)
    assert (early.upto, late.upto) == (5, 6)
    assert fanout.delta("all", 2, replacing=False).frame is late.frame


def test_a_frame_keeps_the_epoch_at_which_its_rows_were_read(town: Town) -> None:
    """A cached frame does not claim a newer epoch than its rows have."""
    town.put(25)
    first = town.node.fanout.delta("all", 0, replacing=True)
    town.decide(ALICE, "withdrawn")
    assert delta_of(town.node.fanout.delta("all", 0, replacing=True)).epoch == 0 == first.epoch
    assert town.node.fanout.delta("all", 10, replacing=False).epoch == 1


def test_a_raised_floor_outdates_cached_frames(town: Town) -> None:
    """A delete may have been forgotten: a snapshot is read anew."""
    town.put(25)
    fanout = town.node.fanout
    old = fanout.delta("all", 0, replacing=True)
    town.forget(3)
    assert fanout.head("all").floor > 0
    new = fanout.delta("all", 0, replacing=True)
    assert new.frame is not old.frame
    assert "item:3" not in [row.entity for row in delta_of(new).rows]


def test_law_4_frames_about_a_subject_are_never_cached(town: Town) -> None:
    """After an erasure no encoded frame of the subject is left to be sent."""
    town.decide(ALICE, "given")
    town.put_profile(ALICE)
    channel = seal.personal_channel(town.pseudonym(ALICE), P)
    fanout = town.node.fanout
    for _ in range(2):
        assert len(delta_of(fanout.delta(channel, 0, replacing=True)).rows) == 1
    assert fanout.built == 2, "the same frame was kept"
    town.decide(ALICE, "withdrawn")
    assert delta_of(fanout.delta(channel, 0, replacing=True)).rows == []


def test_a_checkpoint_is_signed_once_per_head(town: Town) -> None:
    """The same bytes for all, made anew when the head moves, and it verifies under the pinned key."""
    town.put(5)
    fanout = town.node.fanout
    frame = fanout.checkpoint("all", fanout.head("all"))
    assert fanout.checkpoint("all", fanout.head("all")) is frame
    checkpoint = codec.decode(frame)
    assert isinstance(checkpoint, m.Checkpoint)
    key = town.authority.public_key
    seal.verify(key, seal.CHECKPOINT, seal.checkpoint_bytes(checkpoint), checkpoint.signature)
    town.put(1, start=9)
    assert fanout.checkpoint("all", fanout.head("all")) is not frame


def test_law_11_cached_frames_stay_within_their_bytes(town: Town, tmp_path: Path) -> None:
    """The least recently used frame goes first, and what goes is read again."""
    town.put(100, pad=1_000)
    limit = 60_000
    fanout = Fanout(town.store, town.authority.signing, 10, Pages(limit, 0, tmp_path))
    places = list(range(0, 100, 10))
    sizes = [len(fanout.delta("all", base, replacing=base == 0).frame) for base in places]
    assert sum(sizes) > limit
    built = fanout.built
    fanout.delta("all", places[-1], replacing=False)
    assert fanout.built == built
    fanout.delta("all", 0, replacing=True)
    assert fanout.built == built + 1


def test_one_row_always_fits_a_frame(town: Town) -> None:
    """The largest row that a publisher may send goes alone."""
    with town.store.write("publish") as tx:
        for n in range(3):
            row = town.item_row(n, pad=codec.ROW_LIMIT_BYTES - 2_000)
            assert len(seal.canonical(row)) <= codec.ROW_LIMIT_BYTES
            tx.put_row("all", msgspec.structs.replace(row, entity="item:" + "é" * 200 + str(n)))
    base = 0
    for _ in range(3):
        built = town.node.fanout.delta("all", base, replacing=base == 0)
        assert len(delta_of(built).rows) == 1
        base = built.upto
    assert base == town.head()[0]


def test_hints_reach_only_those_who_listen(town: Town) -> None:
    """A channel's hint wakes its followers, a lane's everybody; nobody left over keeps a channel alive."""
    hints = town.node.hints
    one, two = hints.subscribe(), hints.subscribe()
    hints.follow(one, "all")
    hints.channel_moved("all")
    assert (one.wake.is_set(), two.wake.is_set()) == (True, False)
    hints.lane_moved()
    assert two.wake.is_set()
    hints.rounds_moved()
    assert one.rounds
    assert two.rounds
    one.close()
    two.close()
    assert tuple(hints.followed) == ()
    hints.lane_moved()


def test_the_lane_is_read_once_for_all_and_superseded_decisions_are_not_sent(town: Town) -> None:
    """Pages join up to the head; a pair's older decision is never sent after a newer one."""
    for n in range(25):
        town.decide(f"user:u{n}", "given")
    lane = town.node.lane
    position, entries = 0, []
    while position < lane.head:
        page = lane.after(position)
        assert lane.after(position).frame is page.frame
        message = codec.decode(page.frame)
        assert isinstance(message, m.Lane)
        entries += message.entries
        position = page.upto
    assert [entry.seq for entry in entries] == list(range(1, 26))
    town.decide("user:u0", "withdrawn")
    first = codec.decode(lane.after(0).frame)
    assert isinstance(first, m.Lane)
    assert first.entries[0].seq == 2


def test_law_2_a_drain_is_never_made_of_frames_of_two_heads(town: Town) -> None:
    """A denial that another node restricts meanwhile, without a hint, is not lost between two frames."""
    for n in range(25):
        town.decide(f"user:u{n}", "withdrawn")
    lane = town.node.lane
    assert [lane.after(position).upto for position in (1, 11, 21)] == [11, 21, 25]  # somebody at 1 drains
    denied, keys = town.pseudonym("user:u3"), town.settings.key_database
    digest_key = town.authority.digest_key
    other = SqliteStore(town.settings.database, keys, digest_key=digest_key, entropy=town.entropy)
    with other.write("elsewhere") as tx:
        town.office.decide(tx, Proposal(denied, P, "restricted", "2026-11", 25, 1, API))
    other.close()
    position, more, heard = 0, True, list[bytes]()
    while more:
        frame = lane.after(position)
        message = codec.decode(frame.frame)
        assert isinstance(message, m.Lane)
        heard += [entry.subject for entry in message.entries]
        position, more = frame.upto, frame.more
    assert denied in heard
    assert position == 26
