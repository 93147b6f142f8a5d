"""What tracking keeps in memory: the right states for each event, nothing of the erased, all that failed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import edge_runtime as er
from edge_runtime.cache.journal_entry import JournalRow
from edge_runtime.cache.stored_state import Snapshot
from tests.support.clock import ManualClock
from tests.support.grown import P, activity, given, open_with, view
from tests.support.shop import BASE_US

VIEWS, BUYS = 'views = { op = "count", event = "view" }', 'buys = { op = "count", event = "buy" }'
TWO = activity(VIEWS, more=view("other", BUYS, 'seen = { op = "count", event = "view" }'))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def event(kind: str, user: str = "alice") -> Mapping[str, object]:
    return {"type": kind, "user": user, "item": "x", "price": 1.0}


def values(rt: er.Runtime) -> list[object]:
    return [rt.read(ref, user="alice").value for ref in ("activity:views", "other:seen", "other:buys")]


def test_kinds_of_events_in_one_batch_go_each_into_its_own_views(tmp_path: Path, clock: ManualClock) -> None:
    """Whatever kind came first of a subject."""
    with open_with(tmp_path, clock, TWO) as rt:
        given(rt, "alice")
        assert rt.track_many([event(kind) for kind in ("buy", "view", "buy", "view", "buy")]).accepted == 5
        assert values(rt) == [2, 2, 3]
    with open_with(tmp_path, clock, TWO) as rt:
        assert values(rt) == [2, 2, 3]


def test_states_that_were_let_go_between_two_batches_are_found_again(
    tmp_path: Path, clock: ManualClock
) -> None:
    """No event goes into a state that is no longer the one in memory."""
    settings = er.Settings(live_states=1, commit_interval_us=3_600_000_000)
    key = er.KeyFile(tmp_path / "k")
    with er.Runtime.open(tmp_path / "c", catalog=TWO, key=key, clock=clock, settings=settings) as rt:
        given(rt, "alice", "bob")
        for _ in range(3):
            for user in ("alice", "bob", "alice"):
                assert rt.track_many([event("view", user), event("buy", user)]).accepted == 2
        assert values(rt) == [6, 6, 6]
    with er.Runtime.open(tmp_path / "c", catalog=TWO, key=key, clock=clock, settings=settings) as rt:
        assert values(rt) == [6, 6, 6]


def test_law_4_nothing_of_the_erased_stays_with_the_tracker(tmp_path: Path, clock: ManualClock) -> None:
    """Not the state, not the name of its slot, not the row that waited for its next entry."""
    with open_with(tmp_path, clock, TWO) as rt:
        given(rt, "alice")
        rt.track_many([event("view"), event("buy")])
        handles = {key.handle for key in rt._keyring.keys_of("user:alice")}
        lives = [live for live in rt._states._live.values() if live.key.handle in handles]
        assert any(live.state.newest_us is not None for live in lives)
        rt.consent.withdraw("user:alice", [P])
        assert all(live.plan.dump(live.state) == live.plan.dump(live.plan.new_state()) for live in lives)
        assert not any("user:alice" in target.slots for target in rt._tracker._by_view.values())
        assert not handles & rt._commit._open.keys()
        assert rt._commit.size == 0


def test_a_read_in_the_past_sees_what_is_on_its_way_to_the_disk(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the batch is written it is neither pending nor in the journal."""
    with open_with(tmp_path, clock, TWO) as rt:
        given(rt, "alice")
        for _ in range(3):
            clock.advance(seconds=1)
            rt.track("view", user="alice", item="x")
        write, seen = rt._commit._write, []

        def reading(batch: list[JournalRow], snapshots: list[Snapshot]) -> None:
            seen.append(rt.read("activity:views", user="alice", at=BASE_US / 1e6 + 2).value)
            write(batch, snapshots)

        monkeypatch.setattr(rt._commit, "_write", reading)
        rt.flush()
        assert seen == [2]


def test_law_6_states_that_could_not_be_stored_are_stored_with_the_next(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that the next event does not touch: the journal before them is let go then."""
    with open_with(tmp_path, clock, TWO, snapshot_every=1) as rt:
        given(rt, "alice")
        rt.track("view", user="alice", item="x")

        def full(batch: list[JournalRow], snapshots: list[Snapshot]) -> None:
            assert snapshots
            raise er.StorageFull("no room")

        with monkeypatch.context() as patched:
            patched.setattr(rt._commit, "_write", full)
            with pytest.raises(er.StorageFull):
                rt.flush()
        rt.track("buy", user="alice", item="x")  # of one of the two states only
        rt.flush()
        rt._states.forget({key.handle for key in rt._keyring.keys_of("user:alice")})  # as a kill would
        assert values(rt) == [1, 1, 1]
