"""Damage met by a running runtime: it says so, what is in memory goes on, nothing acknowledged is lost."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge_runtime as er
from tests.support.damaged import SECOND, USERS, Kiosk, P, begun, disagreements, harm, unplugged, whole_share

SEED = 20_261_202


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Kiosk:
    folder = tmp_path_factory.mktemp("kiosk")
    return unplugged(begun(folder / "closed", SEED), folder / "original", SEED)


@pytest.fixture
def kiosk(original: Kiosk, tmp_path: Path) -> Kiosk:
    return original.copied(tmp_path / "kiosk")


@pytest.fixture
def rt(kiosk: Kiosk) -> Iterator[er.Runtime]:
    with kiosk.open(snapshot_every=1_000_000) as rt:
        yield rt


def pages(original: Kiosk, *tables: str) -> list[int]:
    return [page for name, found in original.pages().items() if name.split()[0] in tables for page in found]


def tracked(kiosk: Kiosk, rt: er.Runtime, user: str) -> None:
    kiosk.clock.advance(us=SECOND)
    event = er.Event(
        "view", {"user": user, "item": "i1"}, {"price": 1.0}, kiosk.clock.now_us(), f"x{len(kiosk.taken)}"
    )
    assert rt.track_many([event]).accepted == 1
    kiosk.taken.append(event)


def test_a_runtime_that_is_well_says_nothing(rt: er.Runtime) -> None:
    assert rt.status()["damaged"] is None


@pytest.mark.parametrize("table", ["journal_by_handle", "state"])
def test_law_7_what_cannot_be_read_raises_and_is_told_and_what_is_in_memory_goes_on(
    original: Kiosk, kiosk: Kiosk, rt: er.Runtime, table: str
) -> None:
    before = rt.read("activity:views", user="ann").value
    harm(kiosk, rt, *pages(original, table))
    with pytest.raises(er.DatabaseUnreadable):
        rt.read("activity:views", user="bob")
    assert "damaged" in str(rt.status()["damaged"])
    assert rt.read("activity:views", user="ann").value == before
    kiosk.clock.advance(us=SECOND)
    with pytest.raises(er.DatabaseUnreadable):
        rt.track("view", user="bob", item="i1", price=1.0)


def test_law_6_damage_among_states_does_not_keep_events_from_being_acknowledged(
    original: Kiosk, kiosk: Kiosk
) -> None:
    """States cannot be stored, so the journal alone has the events; a rebuilt database applies them."""
    with kiosk.open(snapshot_every=1) as rt:
        for user in USERS:
            tracked(kiosk, rt, user)
            rt.read("habits:visits", user=user)
        rt.flush()
        harm(kiosk, rt, *pages(original, "state"))
        for user in USERS:
            tracked(kiosk, rt, user)
            rt.flush()
        assert rt.status()["damaged"]
        assert disagreements_of_memory(kiosk, rt) == []
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        with rt._database.read() as tx:
            key = rt._keyring.key("user:ann", P)
            assert key is not None
            assert len(tx.events(key.handle)) > 0


def disagreements_of_memory(kiosk: Kiosk, rt: er.Runtime) -> list[str]:
    wrong = []
    for user in USERS:
        want = sum(e.type == "view" and e.entities["user"] == user for e in kiosk.taken)
        got = rt.read("activity:views", user=user)
        if got.status is er.Status.PRESENT and got.value != want:
            wrong.append(f"{user}: got {got.value}, want {want}")
    return wrong


@pytest.mark.parametrize("table", ["sqlite_sequence", "journal"])
def test_law_6_where_events_cannot_be_written_flush_says_so_and_keeps_them(
    original: Kiosk, kiosk: Kiosk, table: str
) -> None:
    """Again and again, and the thread that commits lives on; what was acknowledged before is there after."""
    with kiosk.open(snapshot_every=1_000_000) as rt:
        for user in USERS:
            tracked(kiosk, rt, user)
        rt.flush()
        acknowledged = list(kiosk.taken)
        harm(kiosk, rt, *pages(original, table))
        tracked(kiosk, rt, "ann")
        for _ in range(3):
            with pytest.raises(er.DatabaseUnreadable):
                rt.flush()
        assert rt._commit.size >= 1
        assert rt._upkeep._timer._thread.is_alive()
        with pytest.raises(er.DatabaseUnreadable):
            rt.close()
    kiosk.taken = acknowledged
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        kiosk.live(rt, random.Random(SEED), 9)
        assert disagreements(kiosk, rt) == []


def test_law_6_a_batch_is_not_lost_when_states_that_are_due_cannot_be_read(
    original: Kiosk, kiosk: Kiosk
) -> None:
    """A crash left states in the journal alone; bringing them to be stored meets the damage."""
    with kiosk.open(snapshot_every=1) as rt:
        rt.read("activity:views", user="ann")
        harm(kiosk, rt, *pages(original, "state"))
        kiosk.clock.advance(us=SECOND)
        for target in ("pair:seen", "habits:visits"):
            with pytest.raises(er.DatabaseUnreadable):
                rt.read(target, **({"user": "bob", "item": "i0"} if "pair" in target else {"user": "bob"}))
        rt.flush()
        rt.flush()
        assert rt._commit.size == 0
    with kiosk.open(rebuild=True) as rt:
        assert disagreements(kiosk, rt) == []
        assert whole_share(kiosk, rt) > 0


def test_closed_and_rebuilt_all_that_was_readable_is_there(original: Kiosk, kiosk: Kiosk) -> None:
    with kiosk.open(snapshot_every=1_000_000) as rt:
        harm(kiosk, rt, pages(original, "journal")[-1], pages(original, "state")[-1])
        with pytest.raises(er.DatabaseUnreadable):
            [rt.read("activity:views", user=user) for user in USERS]
    with kiosk.open(rebuild=True) as rt:
        assert rt.status()["damaged"] is None
        assert disagreements(kiosk, rt) == []
        assert all(rt.consent.state(user, P) == "given" for user in USERS)
