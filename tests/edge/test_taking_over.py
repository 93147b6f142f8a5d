"""What hangs on no key, and what a server sent: after damage it is whole, or it starts over; never half."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_runtime.aggregates.budget import Charge, Verdict, judge, pay
from edge_runtime.aggregates.remembered import Remembered, recall, remember
from edge_runtime.cache.cipher import PAGE_BYTES
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.records import ChannelState
from edge_runtime.cache.untouched import untouched
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyFile
from edge_runtime.keys.slot import decode
from edge_runtime.recovery.rebuild import Rebuilt, rebuild
from edge_runtime.sync import personal_rows
from edge_runtime.sync.shelf import PersonalShelf, PlainShelf, personal_stand
from edge_runtime.wire.messages import Row
from tests.support.consent_room import DAY_US, M, P, Room
from tests.support.logged import flipped

ROWS = 60
CHARGE = Charge(b"s" * 16, b"r" * 16, closes_day=0, window_days=7, micros=1_000_000)


SAID = Remembered(b"d" * 16, [(2, bytes(32))])


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """An enrolled device that heard decisions, rows about nobody and about two subjects, and spent budget."""
    room = Room(tmp_path).enrol().answered()
    for subject in ("alice", "bob"):
        room.consents.give(subject, [P, M], notice="n")
    entries = [room.entry(seq, "withdrawn", denial=seq, subject=f"other{seq}") for seq in range(1, 200)]
    room.consents.apply_lane([*entries, room.entry(200, "restricted", subject="bob")], 200)
    with room.database.write("test") as tx:
        shelf = PlainShelf(tx, "all", room.clock.now_us())
        for n in range(ROWS):
            shelf.put([row(n, f"item:{n}")], [bytes([n]) * 16])
        shelf.move(ROWS, 1234)
        for subject in ("alice", "bob"):
            personal = PersonalShelf(tx, room.key(subject))
            for n in range(ROWS):
                personal.put([row(n, f"~{subject}{n}")], [bytes([n]) * 16])
            personal.move(ROWS, 99)
        today = room.clock.now_us() // DAY_US
        charge = replace(CHARGE, closes_day=today + 3)
        assert pay(tx, charge, room.clock.now_us() // DAY_US) is Verdict.PAID
        for n in range(300):
            tx.debit(n.to_bytes(16, "big"), today, 1)
        tx.set_meta("sync.incarnation", b"i" * 16)
        for subject in ("alice", "bob"):
            remember(tx, "countries", [room.key(subject, M), room.key(subject)], SAID)
        tx.put_answer(b"g" * 16, bytes(16), b"g" * 16, b"g" * 16, b"under a key that is gone")
    room.close()
    return room


def row(n: int, entity: str) -> Row:
    return Row(n + 1, entity, "stats", 1, 1_000 + n, 2_000 + n, 0, False, b"\x81\xa1v" + bytes([n % 100]))


def pages(room: Room, *tables: str) -> list[int]:
    """The leaves of these tables."""
    page_key = decode((room.folder / "device.key").read_bytes()).page_key
    with untouched(str(room.folder / "cache.db"), page_key) as connection:
        marks = ", ".join("?" * len(tables))
        sql = f"SELECT pageno FROM dbstat WHERE pagetype = 'leaf' AND name IN ({marks}) ORDER BY path"
        return [int(str(number)) for (number,) in connection.execute(sql, tables)]


def rebuilt(room: Room, *damaged: int) -> tuple[Room, Rebuilt]:
    """The device with a database rebuilt after damage to these pages."""
    path = room.folder / "cache.db"
    path.write_bytes(flipped(path.read_bytes(), *((page - 1) * PAGE_BYTES + 2_000 for page in damaged)))
    with closing(Keyring.open(KeyFile(room.folder / "device.key"), f"{path}-keys", True)) as keyring:
        report = rebuild(str(path), keyring.load(), "test", room.clock.now_us())
    return Room(room.folder, clock=room.clock), report


def test_law_6_what_is_whole_is_taken_over_as_it_is(room: Room) -> None:
    again, report = rebuilt(room, *pages(room, "state"))
    with again, again.database.read() as tx:
        assert tx.lane_position() == 200
        assert len(tx.lane_in_state(P, ["withdrawn"])) == 199
        assert tx.channels() == {"all": ChannelState(ROWS, 1234)}
        assert sum(1 for _ in tx.rows()) == ROWS
        assert len(tx.outbox("receipt")) == 199
        assert tx.meta("sync.incarnation") == b"i" * 16
        assert [e.seq for e in tx.lane_in_state(P, ["restricted"])] == [200]
        for subject in ("alice", "bob"):
            assert personal_stand(tx, again.key(subject)) == (ROWS, 99)
            assert len(tx.personal_rows(again.key(subject).handle)) == ROWS + 1
    assert report.kept["lane"] == 200
    assert report.kept["feature"] == ROWS
    assert report.unread == ("state",)
    assert again.consents.restored  # it counts no opening, so it is as suspect as an older copy


@pytest.mark.parametrize("table", ["lane", "outbox", "sqlite_autoindex_outbox_1", "denial", "meta"])
def test_law_2_a_lane_that_is_not_whole_is_told_again_from_its_start(room: Room, table: str) -> None:
    """Also where only receipts may be lost: told again, each denial is answered again."""
    again, report = rebuilt(room, *pages(room, table)[:1])
    with again, again.database.read() as tx:
        whole = table in ("denial", "sqlite_autoindex_outbox_1")
        assert tx.lane_position() == (200 if whole else 0)
        assert tx.meta("authority") == again.keyring.authority
    assert any("lane" in note for note in report.notes) != whole


def test_law_1_what_is_readable_of_the_lane_still_bars(room: Room) -> None:
    """The position is lost, a restriction is not."""
    barred: list[bool] = []
    for page in pages(room, "lane"):
        path = room.folder / "cache.db"
        before = path.read_bytes()
        again, _ = rebuilt(room, page)
        with again:
            with again.database.read() as tx:
                entry = tx.lane_entry(again.keyring.pseudonym("user:bob"), P)
            assert again.consents.state("bob", P) == ("given" if entry is None else "restricted")
            barred.append(entry is not None)
        for leftover in room.folder.glob("cache.db*"):
            if not leftover.name.endswith("-keys"):
                leftover.unlink()
        path.write_bytes(before)
    assert barred.count(False) == 1  # the one page on which it stood


def test_law_7_rows_about_nobody_are_whole_or_not_there(room: Room) -> None:
    """Half of them would answer NOT_FOUND for the others, as if the server had sent none."""
    again, report = rebuilt(room, pages(room, "feature")[0])
    with again, again.database.read() as tx:
        assert tx.channels() == {}
        assert not list(tx.rows())
    assert any("about nobody" in note for note in report.notes)


def test_law_7_a_subject_whose_rows_are_not_whole_is_sent_all_of_them_again(room: Room) -> None:
    """What is there is kept; what is missing reads NOT_SYNCED, for the channel starts over."""
    leaves = pages(room, "personal")
    again, _ = rebuilt(room, leaves[0])
    with again, again.database.read() as tx:
        stands = {subject: personal_stand(tx, again.key(subject)) for subject in ("alice", "bob")}
        kept = {s: len(tx.personal_rows(again.key(s).handle)) for s in stands}
    assert (0, 0) in stands.values()
    for subject, stand in stands.items():
        if stand == (0, 0):
            assert 0 < kept[subject] < ROWS
        else:
            assert kept[subject] == ROWS + 1


def test_cursors_without_their_facts_are_not_believed(room: Room) -> None:
    """Under which catalog and server they count is lost: all channels start over."""
    again, _ = rebuilt(room, *pages(room, "meta"))
    with again, again.database.read() as tx:
        assert tx.channels() == {}
        assert personal_stand(tx, again.key("alice")) == (0, 0)
        assert len(tx.personal_rows(again.key("alice").handle)) == ROWS
        slots = [slot for slot, _ in tx.personal_rows(again.key("alice").handle)]
        assert personal_rows.stand_slot(again.key("alice")) not in slots


def test_what_another_authority_said_is_not_taken_over(room: Room) -> None:
    path = room.folder / "cache.db"
    keyring = Keyring.open(KeyFile(room.folder / "device.key"), f"{path}-keys", True).load()
    with closing(keyring):
        keyring._vault._trunk = msgspec.structs.replace(keyring._vault.trunk, authority=b"a" * 16)
        report = rebuild(str(path), keyring, "test", room.clock.now_us())
    assert not report.kept.keys() & {"lane", "denial", "outbox", "feature", "channel"}


# ---- budget ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["budget", "meta"])
def test_law_9_after_a_loss_of_spent_budget_nothing_is_paid_that_it_could_be_about(
    room: Room, table: str
) -> None:
    again, report = rebuilt(room, *pages(room, table)[:1])
    now_us = again.clock.now_us()
    today = now_us // DAY_US
    assert any("budget" in note for note in report.notes)
    with again, again.database.write("test") as tx:

        def said(days: int, closes_in: int, window: int = 7) -> Verdict:
            charge = Charge(b"x" * 16, b"y" * 16, today + days + closes_in, window, 1)
            return judge(tx, charge, today + days)

        assert said(0, 3) is Verdict.UNSURE
        assert said(6, 32) is Verdict.UNSURE  # the window still holds the day of the damage
        assert said(20, 3) is Verdict.UNSURE  # the round may have been open on that day, and answered
        assert said(7, 25) is Verdict.PAID
        assert said(29, 3) is Verdict.PAID
        assert said(30, 25, window=31) is Verdict.UNSURE
        assert said(31, 25, window=31) is Verdict.PAID


def test_law_9_a_whole_ledger_is_believed(room: Room) -> None:
    again, report = rebuilt(room, *pages(room, "state"))
    now_us = again.clock.now_us()
    today = now_us // DAY_US
    assert not any("budget" in note for note in report.notes)
    with again, again.database.read() as tx:
        assert judge(tx, replace(CHARGE, closes_day=today + 3), today) is Verdict.ANSWERED
        other = replace(CHARGE, closes_day=today + 3)
        other = Charge(other.subject, b"z" * 16, other.closes_day, 7, 3_500_000)
        assert judge(tx, other, today) is Verdict.OVER_BUDGET
        assert judge(tx, replace(other, micros=1), today) is Verdict.PAID


def remembered(room: Room, tx: ReadTransaction, subject: str) -> Remembered:
    return recall(tx, "countries", SAID.definition, [room.key(subject, M), room.key(subject)])


def test_law_9_answers_are_remembered_after_a_rebuild(room: Room) -> None:
    """So that nothing is drawn anew; what hangs on no living key is not taken along."""
    again, report = rebuilt(room, *pages(room, "state"))
    with again, again.database.read() as tx:
        assert [remembered(again, tx, subject) for subject in ("alice", "bob")] == [SAID, SAID]
        assert b"g" * 16 not in tx.handles()
    assert "answer" not in report.unread


def test_answers_that_cannot_be_read_are_said_to_be_lost(room: Room) -> None:
    """They are drawn anew, and paid for: the ledger is whole."""
    again, report = rebuilt(room, *pages(room, "answer"))
    with again, again.database.read() as tx:
        assert all(remembered(again, tx, subject).answers == [] for subject in ("alice", "bob"))
    assert "answer" in report.unread
    assert not any("budget" in note for note in report.notes)


def test_law_9_a_second_damage_does_not_shorten_the_first_ones_silence(room: Room) -> None:
    again, _ = rebuilt(room, *pages(room, "budget")[:1])
    again.close()
    again.clock.set_wall(again.clock.now_us() - 5 * DAY_US)
    third, _ = rebuilt(again, *pages(again, "budget")[:1])
    with third, third.database.read() as tx:
        charge = Charge(b"x" * 16, b"y" * 16, third.clock.now_us() // DAY_US + 35, 7, 1)
        assert judge(tx, charge, third.clock.now_us()) is Verdict.UNSURE
