"""A disk that takes nothing for as long as it likes: no event fails, memory is bounded, nothing is lost."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.cache.commit_timer import RETRY_US
from edge_runtime.cache.group_commit import WHOLE_AT_ONCE
from tests.support.full_disk import FullDisk
from tests.support.sweeping import CATALOG, QUIET, Kiosk, P

SMALL = dataclasses.replace(QUIET, pending_events=10)
STATES = dataclasses.replace(QUIET, pending_events=10, live_states=4)


def kiosk_on_a_disk(folder: Path, settings: er.Settings = SMALL) -> Kiosk:
    return Kiosk(folder, settings=settings, disk=FullDisk())


def fill(kiosk: Kiosk) -> None:
    assert kiosk.disk is not None
    kiosk.disk.room = 0


def empty(kiosk: Kiosk) -> None:
    assert kiosk.disk is not None
    kiosk.disk.room = None


def views(kiosk: Kiosk, user: str = "ann") -> object:
    return kiosk.read("activity:views", user=user).value


def reasons(kiosk: Kiosk) -> list[str]:
    found = kiosk.rt.status()["degraded"]
    assert isinstance(found, list)
    return found


def test_law_11_tracking_into_a_full_disk_never_raises_and_stays_bounded(tmp_path: Path) -> None:
    """A hundred queues full: every event counts at once, no more than one queue waits, status says why."""
    with kiosk_on_a_disk(tmp_path) as kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 5)
        assert reasons(kiosk) == []
        fill(kiosk)
        for n in range(500):
            kiosk.track("ann", flush=False)
            assert kiosk.rt._commit.size < 10
            assert views(kiosk) == 6 + n
        many = ({"type": "view", "user": "ann", "item": "x", "price": 1.0, "id": f"m{n}"} for n in range(500))
        assert kiosk.rt.track_many(many).accepted == 500
        waiting = kiosk.rt._commit.size
        assert waiting < 10
        with pytest.raises(er.StorageFull):
            kiosk.rt.flush()
        assert reasons(kiosk) == [
            f"the disk is full: {waiting} events wait in memory for the next commit",
            "too many events waited: the states of 2 keys are to be stored whole",
        ]
        assert views(kiosk) == 1_005


def test_law_6_once_there_is_room_all_of_it_is_stored_and_survives_a_kill(tmp_path: Path) -> None:
    """Exactly once: a second sending is a DUPLICATE; before that, what was acknowledged earlier survived."""
    here = tmp_path / "here"
    here.mkdir()
    with kiosk_on_a_disk(here) as kiosk:
        kiosk.give("ann")
        kiosk.track("ann", 5)
        fill(kiosk)
        for n in range(95):
            assert kiosk.rt.track("view", user="ann", item="x", price=1.0, id=f"e{n}") is er.ACCEPTED
        shutil.copytree(here, tmp_path / "killed while full")
        empty(kiosk)
        kiosk.rt.flush()
        assert reasons(kiosk) == []
        shutil.copytree(here, tmp_path / "killed after the flush")
        clock = kiosk.clock
    for moment, count in (("killed while full", 5), ("killed after the flush", 100)):
        with Kiosk(tmp_path / moment, clock=clock) as kiosk:
            assert views(kiosk) == count, moment
            assert kiosk.read("habits:visits", user="ann").value == count
            assert kiosk.rt.track("view", user="ann", item="x", price=1.0, id="e40") is (
                er.DUPLICATE if count == 100 else er.ACCEPTED
            )


def test_law_7_a_folded_journal_does_not_call_itself_whole(tmp_path: Path) -> None:
    """Reads in the past say so, before the states are stored and after; a feature added later is WARMING."""
    grown = CATALOG.replace("version = 1", "version = 2", 1).replace(
        "spend_7d = {", 'looks_1d = { op = "count", event = "view", window = "1d" }\nspend_7d = {'
    )
    with kiosk_on_a_disk(tmp_path) as kiosk:
        kiosk.give("ann")
        kiosk.give("bob")
        for user in ("ann", "bob"):
            kiosk.track(user, 5)
        past = kiosk.clock.now_us() / 1e6
        kiosk.clock.advance(seconds=12 * 3600)
        fill(kiosk)
        for _ in range(25):
            kiosk.track("ann", flush=False)
        for n in range(2):
            with pytest.raises(er.ReadInPast):
                kiosk.rt.read("activity:views", user="ann", at=past)
            if n == 0:
                empty(kiosk)
                kiosk.rt.flush()
                kiosk.track("bob")
                kiosk.track("ann")
        assert kiosk.rt.read("activity:views", user="bob", at=past).value == 5
        # what was journalled before the gap lies before the window, the gap within it
        kiosk.clock.advance(seconds=13 * 3600)
        kiosk.catalog = er.Catalog.from_toml(grown)
        kiosk.reopen()
        assert kiosk.read("activity:looks_1d", user="bob").value == 1
        assert kiosk.read("activity:looks_1d", user="ann").status is er.Status.WARMING
        assert views(kiosk) == 31
        kiosk.days(1)
        assert kiosk.read("activity:looks_1d", user="ann").status is er.Status.PRESENT


@pytest.mark.parametrize("room", [1, 4, 9, 15, 22, 40])
def test_law_6_a_disk_that_fills_again_in_the_middle_loses_and_doubles_nothing(
    tmp_path: Path, room: int
) -> None:
    """More keys than one transaction stores whole; wherever the room ends, the rest waits."""
    users = [f"u{n}" for n in range(2 * WHOLE_AT_ONCE + 3)]
    with kiosk_on_a_disk(tmp_path) as kiosk:
        for user in users:
            kiosk.give(user, P)
            kiosk.track(user)
        assert kiosk.disk is not None
        fill(kiosk)
        for user in users * 2:
            kiosk.track(user, flush=False)
        kiosk.disk.room = room
        with pytest.raises(er.StorageFull):
            kiosk.rt.flush()
        assert reasons(kiosk)
        for user in users[:3]:
            kiosk.track(user, flush=False)
        empty(kiosk)
        kiosk.rt.flush()
        assert reasons(kiosk) == []
        kiosk.rt._states.forget({kiosk.key(user).handle for user in users})  # as a kill would
        assert [views(kiosk, user) for user in users] == [4] * 3 + [3] * (len(users) - 3)


def test_law_2_a_withdrawal_takes_what_was_folded_with_it(tmp_path: Path) -> None:
    """Its states are not stored when room is back, and nothing waits for them."""
    with kiosk_on_a_disk(tmp_path) as kiosk:
        kiosk.give("ann", P)
        kiosk.give("bob", P)
        kiosk.track("ann", 5)
        fill(kiosk)
        for _ in range(30):
            kiosk.track("ann", flush=False)
            kiosk.track("bob", flush=False)
        empty(kiosk)
        assert kiosk.rt._commit.keys_folded == 2
        kiosk.rt.consent.withdraw("ann")
        assert kiosk.rt._commit.keys_folded == 1
        kiosk.rt.flush()
        assert reasons(kiosk) == []
        with kiosk.rt._database.read() as tx:
            assert tx.handles() == {kiosk.key("bob").handle}
        kiosk.reopen()
        assert views(kiosk, "bob") == 30


def test_law_11_states_stay_bounded_and_an_event_that_finds_no_room_changes_nothing(tmp_path: Path) -> None:
    """Items without end on a full disk: some are refused with a reason, and taken once there is room."""
    with kiosk_on_a_disk(tmp_path, STATES) as kiosk:
        kiosk.give("ann", P)
        kiosk.track("ann", 3)
        fill(kiosk)
        said = Counter[er.Admission]()
        for n in range(1_000):
            said[kiosk.rt.track("view", user="ann", item=f"i{n}", price=1.0, id=f"{n}")] += 1
            assert len(kiosk.rt._states) <= 2 * 4 + 512 + 2
        assert set(said) == {er.ACCEPTED, er.NO_ROOM}
        assert kiosk.rt._states.over
        assert not kiosk.rt._states.full, "where nothing can go, not every event goes through all of them"
        taken = said[er.ACCEPTED]
        assert views(kiosk) == 3 + taken
        assert kiosk.rt.track("view", user="ann", item="x", price=1.0) is er.ACCEPTED  # its states are there
        summary = kiosk.rt.track_many(
            {"type": "view", "user": "ann", "item": f"i{n}", "price": 1.0, "id": f"{n}"} for n in range(1_000)
        )
        assert (summary.duplicate, summary.refused, summary.accepted) == (taken, 1_000 - taken, 0)
        assert summary.reasons[0][1].startswith("no room")
        assert "no room for one more state in memory: events that need one are not taken" in reasons(kiosk)
        empty(kiosk)
        kiosk.rt.flush()
        assert reasons(kiosk) == []
        assert kiosk.rt.track("view", user="ann", item="i999", price=1.0, id="999") is er.ACCEPTED
        kiosk.rt.sweep()  # states beyond their limit leave memory
        assert len(kiosk.rt._states) <= 4
        kiosk.reopen()
        assert views(kiosk) == 3 + taken + 2


def test_states_that_are_stored_leave_memory_on_a_full_disk_too(tmp_path: Path) -> None:
    """Reads of many subjects do not pile up behind the few that changed."""
    with kiosk_on_a_disk(tmp_path, STATES) as kiosk:
        users = [f"u{n}" for n in range(40)]
        for user in users:
            kiosk.give(user, P)
            kiosk.track(user)
        kiosk.rt._commit.flush(everything=True, then=kiosk.rt._states.let_go)
        fill(kiosk)
        for user in users:
            assert views(kiosk, user) == 1
        assert len(kiosk.rt._states) > 30
        kiosk.track("u0", 10, flush=False)
        assert len(kiosk.rt._states) <= 5
        assert views(kiosk, "u0") == 11


def test_a_subject_whose_key_cannot_be_made_is_told_so_and_reads_as_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a contract the key is made at the first use, and must rest first: `track` does not raise."""
    contract = CATALOG.replace('legal_basis = "consent"', 'legal_basis = "contract"').replace(
        'terminal_access = "consent"', 'terminal_access = "strictly_necessary"'
    )
    with Kiosk(tmp_path, catalog=er.Catalog.from_toml(contract)) as kiosk:

        def full(*_: object, **__: object) -> None:
            raise er.StorageFull("no room")

        with monkeypatch.context() as patched:
            patched.setattr(kiosk.rt._keyring, "create", full)
            assert kiosk.rt.track("view", user="ann", item="x", price=1.0) is er.NO_ROOM
            summary = kiosk.rt.track_many([{"type": "view", "user": "ann", "item": "x", "price": 1.0}])
            assert summary.refused == 1
            for _ in range(3):
                assert kiosk.read("activity:views", user="ann").value == 0
                assert kiosk.read("activity:views", user="ann").status is er.Status.PRESENT
                assert kiosk.read("badge:level", user="ann").status is er.Status.NOT_SYNCED
                assert kiosk.rt.vector("ranker", user="ann").values[0] == 0
        kiosk.track("ann")
        assert views(kiosk) == 1
        assert kiosk.rt.vector("ranker", user="ann").values[0] == 1


def test_the_thread_tries_again_less_and_less_often_until_there_is_room(tmp_path: Path) -> None:
    """So a full disk does not keep the processor busy; with room it is as quick as before."""
    settings = dataclasses.replace(QUIET, commit_interval_us=1_000)
    with kiosk_on_a_disk(tmp_path, settings) as kiosk:
        kiosk.rt._upkeep.stop()
        timer = kiosk.rt._upkeep._timer
        kiosk.give("ann", P)
        fill(kiosk)
        kiosk.track("ann", 3, flush=False)
        pauses = []
        for _ in range(16):
            timer._flush()
            pauses.append(timer._retry_us)
            assert "disk is full" in str(kiosk.rt.status()["trouble"])
        assert pauses[0] == 2_000
        assert pauses == sorted(pauses)
        assert pauses[-1] == RETRY_US
        empty(kiosk)
        timer._flush()
        assert timer._retry_us == 1_000
        assert kiosk.rt.status()["trouble"] is None
        assert reasons(kiosk) == []


USERS = ("ann", "bob", "cid")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("track"), st.sampled_from(USERS), st.sampled_from(["x", "y", "z"])),
        st.tuples(st.just("room"), st.sampled_from([None, 0, 3, 12]), st.none()),
        st.tuples(st.just("flush"), st.none(), st.none()),
        st.tuples(st.just("kill"), st.none(), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=40)
@given(STEPS)
def test_law_6_whatever_the_disk_does_an_acknowledged_event_counts_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object, object]]
) -> None:
    """Any order of events, full disks and flushes. After a kill, all that was flushed is there; whoever sends
    everything once more counts each event once."""
    limits = dataclasses.replace(QUIET, pending_events=3, live_states=2, snapshot_every_events=4)
    folder = tmp_path_factory.mktemp("disk")
    with kiosk_on_a_disk(folder / "here", limits) as kiosk:
        assert kiosk.disk is not None
        for user in USERS:
            kiosk.give(user, P)
        events, flushed = list[dict[str, object]](), 0
        for n, (what, one, other) in enumerate(steps):
            match what:
                case "track":
                    events.append({"type": "view", "user": one, "item": other, "price": 1.0, "id": f"{n}"})
                    assert kiosk.rt.track_many(events[-1:]).accepted == 1
                case "room":
                    kiosk.disk.room = one if isinstance(one, int) else None
                case "flush":
                    with suppress(er.StorageFull):
                        kiosk.rt.flush()
                        flushed = len(events)
                case _:
                    copy = folder / f"kill{n}"
                    shutil.copytree(folder / "here", copy)
                    _check_after_a_kill(copy, events, flushed)
            for user in USERS:
                assert views(kiosk, user) == _count(events, user)
        empty(kiosk)
        kiosk.rt.flush()
        assert reasons(kiosk) == []
        kiosk.reopen()
        for user in USERS:
            assert views(kiosk, user) == _count(events, user)


def _check_after_a_kill(folder: Path, events: list[dict[str, object]], flushed: int) -> None:
    with Kiosk(folder) as kiosk:
        for user in USERS:
            assert _count(events[:flushed], user) <= cast(int, views(kiosk, user)) <= _count(events, user)
        kiosk.rt.track_many(events)
        for user in USERS:
            assert views(kiosk, user) == _count(events, user)


def _count(events: list[dict[str, object]], user: str) -> int:
    return sum(event["user"] == user for event in events)
