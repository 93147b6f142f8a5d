"""Where there is no room: rows without their values, digests that still add up, and words that say so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import edge_runtime as er
from edge_runtime.cache.records import LET_GO, RowPlace
from edge_runtime.cache.room import Room
from edge_runtime.sync import personal_rows
from edge_runtime.sync.shelf import PersonalShelf
from edge_runtime.wire import digest, seal
from edge_runtime.wire import messages as m
from tests.support.crowded import MIB, held, limited, profiles, put_many, put_profiles
from tests.support.sweeping import QUIET, Kiosk, P
from tests.support.town import Kiosk as TownKiosk
from tests.support.town import Session, Town

# ---- the server's view of it -----------------------------------------------------------------------------


def test_law_10_the_digest_is_the_same_after_letting_go_and_rows_come_back_by_their_channel(
    tmp_path: Path,
) -> None:
    """With a real server: rows and stubs, for room and for want of it; what changes still adds up."""
    town = Town(tmp_path / "town")
    town.put(120, pad=200)
    kiosk = TownKiosk(town, tmp_path / "kiosk")
    low = [False]
    kiosk.replica._room = Room(0, 1, lambda: 0 if low[0] else 1)

    def with_values() -> set[str]:
        return {entity for entity, values in kiosk.rows().items() if len(values) > len(LET_GO)}

    session = Session(kiosk)
    session.settle()
    assert session.device.caught_up
    assert len(with_values()) == 120
    with kiosk.database.write("test") as tx:
        assert tx.let_go_rows(RowPlace(f"item:{n}", "item_stats", 1, "all") for n in range(60)) == 60
    low[0] = True
    kiosk.replica._room.look()
    town.put(60, pad=100, start=40)  # changed: 20 that were let go, 40 that were not
    town.put(40, pad=100, start=120)
    session.settle()
    assert session.device.caught_up, "every checkpoint is equal to what is held"
    assert with_values() == {f"item:{n}" for n in range(100, 120)}
    low[0] = False
    kiosk.replica._room.look()
    town.put(120, pad=50)
    session.settle()
    assert session.device.caught_up
    assert with_values() == {f"item:{n}" for n in range(120)}
    assert not session.heard_of(m.Refusal)
    with kiosk.database.read() as reading:
        state = reading.channel("all")
        total = 0
        for _, row_hash in reading.rows_in_channel("all"):
            total = digest.add(total, added=digest.from_bytes(row_hash))
    assert state is not None
    assert state.digest == total
    session.close()
    kiosk.close()
    town.close()


def test_law_10_a_subjects_digest_is_the_same_after_eviction(tmp_path: Path) -> None:
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_profiles(kiosk, ["ann"])
        key = kiosk.key("ann")
        with kiosk.rt._database.write("test") as tx:
            before = PersonalShelf(tx, key).stand()
        slot = personal_rows.row_slot(
            key, "badge@1", seal.subject_token(kiosk.rt._keyring.pseudonym("user:ann"))
        )
        kiosk.reopen(limited(1))
        kiosk.rt.sweep()
        assert profiles(kiosk, ["ann"]) == set()
        key = kiosk.key("ann")
        with kiosk.rt._database.write("test") as tx:
            assert PersonalShelf(tx, key).stand() == before
            sealed = tx.personal_row(key.handle, slot)
        assert sealed is not None
        held_row = personal_rows.open_delivered(key, slot, sealed)
        assert held_row.hash == bytes(range(16))
        assert held_row.row.values == LET_GO


# ---- room ------------------------------------------------------------------------------------------------


def test_room_says_when_values_are_kept(tmp_path: Path) -> None:
    """Over the limit by up to a sixteenth while the sweeper is on its way; not once it found nothing."""
    called = []
    with Kiosk(tmp_path, settings=limited(0)) as kiosk:
        put_many(kiosk, "lasting", range(500))
        used = kiosk.used_bytes()
        for limit, crowded, keeps, hurries in (
            (0, False, True, 0),
            (used, False, True, 0),
            (used - 1, False, True, 1),
            (used - 1, True, False, 0),
            (used * 16 // 17 - 16, False, False, 1),
            (used, True, True, 0),
        ):
            room = Room(limit, 0, None)
            room.crowded, room.wanted = crowded, lambda: called.append(1)
            called.clear()
            with kiosk.rt._database.read() as tx:
                assert room.keeps(tx) is keeps, (limit, crowded)
            assert len(called) == hurries


def test_a_volume_that_does_not_tell_its_space_is_not_called_full() -> None:
    def broken() -> int:
        raise OSError("gone")

    room = Room(0, 1 << 20, broken)
    room.look()
    assert room.degraded() == []
    assert Room(0, 0, lambda: 0).degraded() == []


def test_little_free_space_is_said_and_values_wait_for_it(tmp_path: Path) -> None:
    """Events and reads go on; what is held stays; from the next round on all is as before."""
    settings = dataclasses.replace(QUIET, free_space_bytes=MIB)
    with Kiosk(tmp_path, settings=settings) as kiosk:
        kiosk.give("ann", P)
        put_many(kiosk, "lasting", range(10))
        kiosk.free_bytes = MIB - 1
        list(kiosk.steps())
        assert kiosk.rt.status()["degraded"] == [
            "less than 1 MiB are free on the volume: server rows are not kept"
        ]
        put_many(kiosk, "lasting", range(10, 20))
        kiosk.track("ann", 3)
        assert kiosk.read("activity:views", user="ann").value == 3
        assert held(kiosk, "lasting") == set(range(10))
        assert kiosk.read("lasting:text", item="15").status is er.Status.NOT_SYNCED
        kiosk.free_bytes = MIB
        list(kiosk.steps())
        assert kiosk.rt.status()["degraded"] == []
        put_many(kiosk, "lasting", range(10, 20))
        assert held(kiosk, "lasting") == set(range(20))
