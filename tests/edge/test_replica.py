"""The device's copy: rows, cursor and digest move together, or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge_runtime.errors import DatabaseUnreadable, NotEnrolled
from edge_runtime.sync import personal_rows
from edge_runtime.sync.replica import Replica
from edge_runtime.wire import digest
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support.consent_room import Room
from tests.support.shop import shop_catalog
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town


def delta(town: Town, base: int, *numbers: int, replacing: bool = False, **row: object) -> m.Delta:
    rows = [
        msgspec.structs.replace(town.item_row(n), seq=base + at + 1, **row) for at, n in enumerate(numbers)
    ]
    return m.Delta(
        channel="all",
        base=base,
        upto=base + len(rows),
        epoch=0,
        replacing=replacing,
        more=False,
        rows=rows,
    )


def total(town: Town, *rows: m.Row) -> int:
    key = town.authority.digest_key
    return sum(digest.row_hash(key, "all", row) for row in rows) % digest.MODULUS


def test_the_digest_is_the_sum_of_what_stands(town: Town, kiosk: Kiosk) -> None:
    """New rows add, changed rows swap, deleted rows take away, a replacing frame starts from nothing."""
    first = delta(town, 0, 1, 2, 3)
    kiosk.replica.apply(first)
    assert kiosk.stand() == (3, total(town, *first.rows))
    change = delta(town, 3, 2)
    kiosk.replica.apply(change)
    assert kiosk.stand() == (4, total(town, first.rows[0], first.rows[2], change.rows[0]))
    kiosk.replica.apply(delta(town, 4, 1, deleted=True, values=b""))
    assert kiosk.stand() == (5, total(town, first.rows[2], change.rows[0]))
    kiosk.replica.apply(delta(town, 5, 99, deleted=True, values=b""))
    assert kiosk.stand() == (6, total(town, first.rows[2], change.rows[0]))
    snapshot = delta(town, 0, 7, replacing=True)
    kiosk.replica.apply(snapshot)
    assert kiosk.stand() == (1, total(town, *snapshot.rows))
    assert set(kiosk.rows()) == {"item:7"}


def test_law_6_a_delta_that_fails_in_its_last_row_changed_nothing(town: Town, kiosk: Kiosk) -> None:
    """Rows, cursor and digest are as before; nobody is told of a change."""
    kiosk.replica.apply(delta(town, 0, 1, 2))
    before, rows = kiosk.stand(), kiosk.rows()
    kiosk.changes.clear()
    bad = delta(town, 2, 3, 4, 5)
    bad.rows[-1] = msgspec.structs.replace(bad.rows[-1], entity="user:alice")
    with pytest.raises(WireFailure, match="no_permission"):
        kiosk.replica.apply(bad)
    with pytest.raises(WireFailure, match="stale_delta"):
        kiosk.replica.apply(delta(town, 1, 3))
    with pytest.raises(WireFailure, match="lane_behind"):
        kiosk.replica.apply(msgspec.structs.replace(delta(town, 2, 3), epoch=1))
    assert (kiosk.stand(), kiosk.rows()) == (before, rows)
    assert kiosk.changes == []


def test_applying_the_same_delta_twice_is_refused_the_second_time(town: Town, kiosk: Kiosk) -> None:
    """Exactly once: the cursor has moved."""
    kiosk.replica.apply(delta(town, 0, 1))
    with pytest.raises(WireFailure, match="stale_delta"):
        kiosk.replica.apply(delta(town, 0, 1))


def test_changes_are_told_by_the_names_that_readers_use(town: Town, kiosk: Kiosk) -> None:
    """A row by (view@version, entity); a subject by its typed id; a replaced channel as a whole."""
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    kiosk.changes.clear()
    town.put(1)
    town.put_profile(ALICE)
    session.settle()
    assert ("item_stats@1", "item:0") in kiosk.changes
    assert ("profile@1", ALICE) in kiosk.changes
    kiosk.changes.clear()
    kiosk.replica.drop_channel("all")
    assert kiosk.changes == [(None, "all")]
    assert kiosk.rows() == {}
    assert kiosk.stand() == (0, 0)


def test_law_5_personal_rows_rest_sealed_with_their_cursor(town: Town, kiosk: Kiosk) -> None:
    """Row, cursor and digest hang on one random handle; a row moved to another slot does not open."""
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    town.put_profile(ALICE, "FR")
    session.settle()
    key = kiosk.keyring.key(ALICE, P)
    assert key is not None
    with kiosk.database.read() as tx:
        rows = tx.personal_rows(key.handle)
        assert tx.channels().keys() == {"all"}
    token = kiosk.personal_channel(ALICE).partition("/")[0]
    slot = personal_rows.row_slot(key, "profile@1", token)
    sealed = dict(rows)[slot]
    opened = personal_rows.open_row(key, slot, sealed)
    assert opened is not None
    assert opened.entity == token
    assert b"FR" not in sealed
    assert b"profile" not in sealed
    with pytest.raises(DatabaseUnreadable):
        personal_rows.open_row(key, personal_rows.stand_slot(key), sealed)


def test_law_1_a_personal_delta_without_a_key_or_a_lease_is_refused(town: Town, kiosk: Kiosk) -> None:
    """Unknown means no: neither an unknown subject nor a locked device takes a row."""
    channel = kiosk.personal_channel(BOB)
    rows = [town.profile_row(BOB, 1, seq=1)]
    said = m.Delta(channel=channel, base=0, upto=1, epoch=0, replacing=True, more=False, rows=rows)
    with pytest.raises(WireFailure, match="no_permission"):
        kiosk.replica.apply(said)
    kiosk.give(BOB)  # no lease yet
    with pytest.raises(WireFailure, match="no_permission"):
        kiosk.replica.apply(said)
    assert kiosk.sealed_rows(BOB) == 0


def test_law_7_a_stub_says_nothing(town: Town, kiosk: Kiosk) -> None:
    """A row of another grant is held by its hash alone: there is no value to read."""
    kiosk.give(ALICE)
    session = Session(kiosk)
    session.settle()
    town.put_profile(ALICE, "FR", grant=77)
    session.settle()
    key = kiosk.keyring.key(ALICE, P)
    assert key is not None
    token = kiosk.personal_channel(ALICE).partition("/")[0]
    slot = personal_rows.row_slot(key, "profile@1", token)
    with kiosk.database.read() as tx:
        sealed = tx.personal_row(key.handle, slot)
    assert sealed is not None
    assert personal_rows.open_row(key, slot, sealed) is None
    assert session.device.caught_up


def test_a_lane_that_does_not_go_on_from_here_changes_nothing(town: Town, kiosk: Kiosk) -> None:
    """Backwards or out of order is malformed, a gap and a repeat are stale; the position stays."""
    kiosk.replica.apply_lane(lane_of(0, 5))
    alice = kiosk.replica.pseudonym(ALICE)
    old, new = (m.LaneEntry(seq, alice, P, "withdrawn", 0, seq) for seq in (5, 9))
    bad = [(lane_of(5, 6, old), "malformed"), (lane_of(5, 4), "malformed")]
    bad += [(lane_of(8, 9, new), "stale_delta"), (lane_of(0, 9, new), "stale_delta")]
    for lane, code in bad:
        with pytest.raises(WireFailure, match=code):
            kiosk.replica.apply_lane(lane)
    assert kiosk.replica.lane_position() == 5


def test_law_2_the_position_moves_only_with_the_last_frame_of_a_drain(town: Town, kiosk: Kiosk) -> None:
    """Bob's denial stands behind his later state: before that frame nobody may say that it is enforced."""
    session = Session(kiosk)
    kiosk.give(ALICE)
    session.settle()
    session.close()
    start = kiosk.replica.lane_position()
    alice, bob = kiosk.replica.pseudonym(ALICE), kiosk.replica.pseudonym(BOB)
    first = m.LaneEntry(start + 2, alice, P, "withdrawn", 0, start + 2)
    last = m.LaneEntry(start + 3, bob, P, "given", start + 3, start + 1)
    kiosk.replica.apply_lane(msgspec.structs.replace(lane_of(start, start + 2, first), more=True))
    assert kiosk.keyring.key(ALICE, P) is None
    assert kiosk.replica.lane_position() == start
    kiosk.replica.apply_lane(lane_of(start + 2, start + 3, last), start + 2)
    assert kiosk.replica.lane_position() == start + 3


def lane_of(base: int, upto: int, *entries: m.LaneEntry) -> m.Lane:
    return m.Lane(base=base, entries=list(entries), upto=upto, more=False)


def test_a_runtime_that_never_enrolled_has_nothing_to_sync(tmp_path: Path) -> None:
    """`NotEnrolled`, before any socket is opened."""
    room = Room(tmp_path)
    replica = Replica(
        shop_catalog(),
        room.database,
        room.keyring,
        room.consents,
        room.leases,
        lambda places: None,
        room.clock,
    )
    with pytest.raises(NotEnrolled):
        _ = replica.identity
    room.database.close()
