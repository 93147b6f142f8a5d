"""The denial journal: what it holds, how it fails, and that nobody waits for it in vain."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_server.errors import JournalAhead, NotRestored, Problem
from sync_server.journal.folder import FolderReading, segments
from sync_server.journal.record import Begin, Known, Revoked, Signed, Step
from tests.support.night import JournalledTown, Night
from tests.support.town import ALICE, BOB, Kiosk, P


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    made = Night(tmp_path)
    yield made
    made.close()


def reading(night: Night, n: int = 0) -> FolderReading:
    return FolderReading(night.journals[n], night.town.authority.incarnation)


def newest(night: Night) -> Path:
    return segments(night.journals[0] / night.town.authority.incarnation.hex())[-1]


def steps(night: Night) -> list[int]:
    """Seqs of the ledger steps that the journal holds."""
    found = reading(night)
    return [entry.evidence.seq for entry in found.entries() if isinstance(entry, Step)]


def test_law_6_every_step_is_in_the_journal_before_its_write_returns(night: Night) -> None:
    """Gives, denials with their revocation, devices; a signed head after each; and no raw id anywhere."""
    night.town.decide(ALICE, "given")
    night.town.decide(ALICE, "withdrawn")
    with night.town.store.write("enrol") as tx:
        tx.add_device("dev", b"k" * 32, ["all"], 1)
    entries = list(reading(night).entries())
    kinds = [type(entry) for entry in entries]
    assert kinds == [Begin, Step, Signed, Step, Revoked, Signed, Known]
    head = entries[-2]
    assert isinstance(head, Signed)
    assert head.head.size == night.town.lane_head()
    raw = b"".join(path.read_bytes() for path in newest(night).parent.glob("*"))
    assert b"alice" not in raw
    assert night.town.pseudonym(ALICE) in raw


def test_one_turn_waits_for_the_journal_once(night: Night) -> None:
    before = night.town.journal.syncs
    with night.town.store.together():
        for n in range(20):
            night.town.decide(f"user:p-{n}", "given")
    assert night.town.journal.syncs == before + 1
    assert steps(night) == list(range(1, 21))


def test_a_torn_tail_is_cut_and_what_it_lost_is_told_again(night: Night) -> None:
    """As a kill between the commit and the journal leaves it."""
    for n in range(3):
        night.town.decide(f"user:p-{n}", "given")
    path = newest(night)
    whole = path.read_bytes()
    night.town.close()
    for cut in (1, 30, 200, len(whole) - 5, len(whole)):
        path.write_bytes(whole[: len(whole) - cut])
        again = JournalledTown(night.town.folder, night.clock, night.journals)
        again.close()
        assert steps(night) == [1, 2, 3], cut
        assert reading(night).fault is None
    night.town = JournalledTown(night.town.folder, night.clock, night.journals)


def test_damage_in_the_middle_is_named_and_is_no_whole_journal(night: Night, tmp_path: Path) -> None:
    kiosk = Kiosk(night.town, tmp_path / "kiosk")
    night.back_up()
    for n in range(3):
        night.town.decide(f"user:p-{n}", "withdrawn")
    path = newest(night)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    found = reading(night)
    assert len(list(found.entries())) < 6
    assert found.fault is not None
    night.lose()
    done = night.restore(journals=night.journals[:1])
    assert not done.whole
    assert "does not follow" in done.why or "none of ours" in done.why
    kiosk.close()


def test_a_second_whole_journal_makes_good_for_a_damaged_one(tmp_path: Path) -> None:
    night = Night(tmp_path, journals=2)
    kiosk = Kiosk(night.town, tmp_path / "kiosk")
    night.back_up()
    for n in range(3):
        night.town.decide(f"user:p-{n}", "withdrawn")
    path = newest(night)
    path.write_bytes(path.read_bytes()[:400])
    night.lose()
    done = night.restore(journals=night.journals)
    assert (done.whole, done.kept) == (True, 3)
    night.close()
    kiosk.close()


def test_an_older_store_put_back_by_hand_is_not_opened(night: Night) -> None:
    """The journal knows more than the ledger; and another ledger of the same length is another."""
    night.town.decide(ALICE, "given")
    folder = night.town.folder
    night.town.close()
    old = (folder / "server.db").read_bytes()
    town = JournalledTown(folder, night.clock, night.journals)
    town.decide(ALICE, "withdrawn")
    town.close()
    (folder / "server.db").write_bytes(old)
    with pytest.raises(JournalAhead, match="knows 2 ledger steps, the store 1"):
        JournalledTown(folder, night.clock, night.journals)
    town = JournalledTown(folder, night.clock)
    town.decide(BOB, "given")
    town.close()
    with pytest.raises(JournalAhead, match="another ledger than the store at step 2"):
        JournalledTown(folder, night.clock, night.journals)
    night.journals = []
    night.town = JournalledTown(folder, night.clock)


def test_law_2_a_full_disk_stops_gives_and_no_denial(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so; and once there is room everything that was missed is told, devices too."""
    night.town.decide(ALICE, "given")
    room = [150]
    write = os.write

    def bounded(handle: int, content: bytes | memoryview) -> int:
        if room[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = write(handle, content[: room[0]])
        room[0] -= count
        return count

    monkeypatch.setattr(os, "write", bounded)
    night.town.decide(ALICE, "withdrawn")
    assert night.state(ALICE, P) == "withdrawn"
    assert set(night.town.journal.standing.values()) == {"No space left on device"}
    assert reading(night).alive_us is None
    with pytest.raises(Problem, match="journal"):
        night.town.decide(BOB, "given")
    with night.town.store.write("enrol") as tx:
        tx.add_device("dev", b"k" * 32, ["all"], 1)
    night.town.decide(BOB, "objected")
    room[0] = 1 << 30
    night.town.journal.beat()
    assert set(night.town.journal.standing.values()) == {"No space left on device"}  # not at once
    night.clock.advance(seconds=6)
    night.town.journal.beat()
    assert set(night.town.journal.standing.values()) == {"whole"}
    assert steps(night) == [1, 2, 3]
    entries = list(reading(night).entries())
    assert [e.device.device_id for e in entries if isinstance(e, Known)] == ["dev"]
    assert sum(isinstance(e, Revoked) for e in entries) == 2
    assert reading(night).alive_us is not None
    assert night.town.decide("user:carol", "given").outcome == "recorded"


def test_a_journal_that_was_behind_when_the_server_was_lost_is_not_whole(
    night: Night, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kiosk = Kiosk(night.town, tmp_path / "kiosk")
    night.back_up()

    def full(handle: int, content: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        night.town.decide(ALICE, "withdrawn")
    night.lose()
    done = night.restore(journals=night.journals)
    assert (done.whole, done.why) == (False, "a journal was behind, or is not there")
    kiosk.close()


def test_law_11_pieces_go_once_two_backups_hold_what_they_tell(night: Night) -> None:
    """And a restore from the newest backup needs none of those that went."""
    from sync_server.restore.upkeep import RestoreUpkeep

    def keep_up() -> int:
        town = night.town
        chore = RestoreUpkeep(town.node.catching_up, town.journal, town.authority.incarnation, town.settings)
        chore.step(night.clock.now_us())
        return len(segments(newest(night).parent))

    for n in range(30):
        night.town.decide(f"user:p-{n}", "given")
    pieces = len(segments(newest(night).parent))
    assert pieces > 3
    night.back_up()
    assert keep_up() == pieces
    night.town.decide(ALICE, "withdrawn")
    night.back_up()
    assert keep_up() < pieces
    night.town.decide(BOB, "withdrawn")
    head = night.town.lane_head()
    night.lose()
    done = night.restore(journals=night.journals)
    assert (done.whole, done.kept, done.steps) == (True, head, 1)


def test_a_gap_between_backup_and_journal_is_no_whole_journal_but_its_denials_hold(night: Night) -> None:
    """An old backup, and a journal that began later: what lies between is lost, and says so."""
    night.back_up()
    for n in range(30):
        night.town.decide(f"user:p-{n}", "given")
    night.town.decide(ALICE, "withdrawn")
    for path in segments(newest(night).parent)[:2]:
        path.unlink()
    head = night.town.lane_head()
    night.lose()
    done = night.restore(journals=night.journals)
    assert not done.whole
    assert "lacks ledger step" in done.why
    assert done.kept < head < done.lane
    assert night.state(ALICE, P) == "withdrawn"
    assert night.audit().fault is None


def test_backups_keep_store_and_keys_apart(night: Night, tmp_path: Path) -> None:
    from sync_server.restore.backup import back_up, back_up_keys

    with pytest.raises(NotRestored, match="file system"):
        back_up_keys(night.town.settings, tmp_path / "k", None, force=False)
    back_up(night.town.settings, tmp_path / "b", 1)
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["manifest.json", "server.db"]
    with pytest.raises(NotRestored, match="empty"):
        back_up(night.town.settings, tmp_path / "b", 1)
    with sqlite3.connect(tmp_path / "b" / "server.db") as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
    copy.close()
