"""An older copy of database, keystore or slot put back: noticed, refused or closed, and nobody comes back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.aggregates.budget import Charge, Verdict, judge
from edge_runtime.aggregates.mechanisms import DAY_US
from edge_runtime.consent.rotation import rotate_root
from edge_runtime.errors import EdgeError, KeyMissing, KeystoreMismatch
from tests.support.clock import ManualClock
from tests.support.consent_room import P, Room
from tests.support.forensics import bytes_of

DATABASE, KEYSTORE, SLOT = "cache.db", "cache.db-keys", "device.key"


def yesterday(folder: Path, *, enrolled: bool = True) -> Path:
    """A device with alice and bob, and a copy of all its files from then."""
    device = folder / "device"
    device.mkdir()
    with Room(device, cold_start="lease") as room:
        if enrolled:
            room.enrol().answered()
        for subject in ("alice", "bob"):
            room.consents.give(subject, [P], notice="v1")
            room.plant(f"{subject}-was-here", subject)
        room.leases.keep()
    shutil.copytree(device, folder / "yesterday")
    return device


def put_back(device: Path, *names: str) -> None:
    for name in names:
        shutil.copy(device.parent / "yesterday" / name, device / name)


def later(device: Path, *, withdraw: bool) -> None:
    """A session after the copy."""
    with Room(device, cold_start="lease") as room:
        if withdraw:
            room.consents.withdraw("alice", [P])


@pytest.mark.parametrize("withdraw", [True, False])
def test_law_3_an_older_database_is_noticed_and_closed_until_the_server_has_spoken(
    tmp_path: Path, withdraw: bool
) -> None:
    """Also where nothing was erased since, and where the operator trusts the lease across restarts."""
    device = yesterday(tmp_path)
    later(device, withdraw=withdraw)
    put_back(device, DATABASE)
    clock = ManualClock()
    for _ in range(3):  # no number of restarts opens it
        with Room(device, cold_start="lease", clock=clock) as room:
            assert not room.allowed("bob")
            assert not room.allowed("alice")
            assert room.consents.state("alice", P) == ("withdrawn" if withdraw else "given")
            assert room.found("alice") == ([] if withdraw else ["alice-was-here"] * 3)
            assert room.rows() == (3 if withdraw else 6)
    with Room(device, cold_start="lease", clock=clock) as room:
        assert not room.consents.restored, "it was said at the opening that found it"
        room.answered()
        assert room.allowed("bob")
        assert room.allowed("alice") == (not withdraw)
    with Room(device, cold_start="lease", clock=clock) as room:
        assert room.allowed("bob"), "and once the server has spoken the lease counts again"


def test_an_older_database_is_said_at_the_opening_that_finds_it(tmp_path: Path) -> None:
    device = yesterday(tmp_path, enrolled=False)
    with Room(device) as room:
        assert not room.consents.restored
    put_back(device, DATABASE)
    with Room(device) as room:
        assert room.consents.restored
        assert room.allowed("bob"), "a standalone runtime has nobody to ask: it says so, and goes on"


@pytest.mark.parametrize("names", [[KEYSTORE], [DATABASE, KEYSTORE]])
def test_law_4_an_older_keystore_is_refused_untouched(tmp_path: Path, names: Sequence[str]) -> None:
    device = yesterday(tmp_path)
    later(device, withdraw=True)
    put_back(device, *names)
    refused(device, KeystoreMismatch)


@pytest.mark.parametrize("names", [[SLOT], [SLOT, KEYSTORE]])
def test_law_4_an_older_slot_is_refused_untouched(tmp_path: Path, names: Sequence[str]) -> None:
    """Todays database has counted an erasure that yesterday's slot knows nothing of."""
    device = yesterday(tmp_path)
    later(device, withdraw=True)
    put_back(device, *names)
    refused(device, KeystoreMismatch)


def test_law_4_a_rotation_shuts_out_older_slots_and_keystores_too(tmp_path: Path) -> None:
    device = yesterday(tmp_path)
    with Room(device) as room:
        rotate_root(room.keyring, room.database)
        assert room.keyring.counter == 1
    put_back(device, SLOT, KEYSTORE)
    refused(device, KeystoreMismatch)


def test_law_3_everything_put_back_stays_closed_until_the_server_has_answered(tmp_path: Path) -> None:
    """No file of the device can tell: that is what the cold start at the server is for."""
    device = yesterday(tmp_path)
    later(device, withdraw=True)
    put_back(device, DATABASE, KEYSTORE, SLOT)
    with Room(device) as room:
        assert not room.consents.restored
        assert not room.allowed("alice")
        assert not room.allowed("bob")


def test_everything_put_back_opens_on_the_word_of_the_wall_clock_where_the_operator_chose_that(
    tmp_path: Path,
) -> None:
    """What `cold_start = "lease"` costs: only the server sees it, and the receipts say on what they rest."""
    device, clock = yesterday(tmp_path), ManualClock()
    later(device, withdraw=True)
    put_back(device, DATABASE, KEYSTORE, SLOT)
    with Room(device, cold_start="lease", clock=clock) as room:
        assert room.allowed("alice")
        assert room.consents.withdraw("bob", [P]).receipt.cold_start == "lease"
    put_back(device, DATABASE, KEYSTORE, SLOT)
    clock.set_wall(clock.now_us() + 2 * 86_400_000_000)
    with Room(device, cold_start="lease", clock=clock) as room:
        assert not room.allowed("alice"), "and no longer than that clock says"


def test_a_key_that_outlived_its_database_is_never_used_again(tmp_path: Path) -> None:
    """An app was removed and its keychain entry was not: the new database has new keys."""
    device = yesterday(tmp_path, enrolled=False)
    with Room(device) as room:
        old = room.keyring.slot.page_key, room.keyring.slot.database_id
    for path in device.iterdir():
        if path.name != SLOT:
            path.unlink()
    refused(device, KeyMissing)
    with Room(device, recover="discard") as room:
        slot = room.keyring.slot
        assert slot.page_key != old[0]
        assert slot.database_id != old[1]
        assert room.consents.state("alice", P) == "unknown"
        room.consents.give("alice", [P], notice="v1")
    with Room(device) as room:
        assert room.consents.state("alice", P) == "given"


def refused(device: Path, kind: type[EdgeError]) -> None:
    before = bytes_of(device)
    with pytest.raises(kind):
        Room(device, cold_start="lease")
    assert bytes_of(device) == before


def test_law_9_an_older_database_charges_nobody_until_its_windows_are_over(tmp_path: Path) -> None:
    """T23: what was spent since the copy is not in it; the keystore says that it is a copy."""
    device = yesterday(tmp_path)
    charge = Charge(b"s" * 16, b"r" * 16, closes_day=0, window_days=7, micros=1_000_000)

    def said(folder: Path, days: int) -> Verdict:
        with Room(folder) as room, room.database.read() as tx:
            today = room.clock.now_us() // DAY_US + days
            return judge(tx, replace(charge, closes_day=today + 31), today)

    assert said(device, 0) is Verdict.PAID
    later(device, withdraw=False)
    put_back(device, DATABASE)
    assert [said(device, days) for days in (0, 6)] == [Verdict.UNSURE] * 2
    assert said(device, 7) is Verdict.PAID
    again = tmp_path / "whole"
    shutil.copytree(tmp_path / "yesterday", again)
    assert said(again, 0) is Verdict.PAID, "an image of everything is not noticed: the issuer's cap holds"
