"""An erasure ends before or after, never between, wherever it is killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from edge_runtime.consent.erasure import POINTS
from edge_runtime.errors import KeystoreMismatch, StorageFull
from edge_runtime.keys import files
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.seal import public_bytes
from tests.support.consent_room import M, P, Room, die, die_at, killed

BEFORE = "begin"
"""The one point at which the denial is not committed yet."""


def prepared(folder: Path, *, enrolled: bool) -> None:
    """Alice with two purposes and bob with one, each with rows."""
    folder.mkdir(exist_ok=True)
    with Room(folder) as room:
        if enrolled:
            room.enrol().answered()
        for subject, purposes in (("alice", [P, M]), ("bob", [P])):
            decisions = room.consents.give(subject, purposes, notice="v1").decisions
            for grant, decision in enumerate(decisions, start=10):
                room.consents.recorded(decision, grant, "recorded", grant)
            for purpose in purposes:
                room.plant(f"{subject}-{purpose}", subject, purpose)
        room.consents.apply_lane([], 20)


def untouched_others(room: Room) -> None:
    assert room.found("alice", M) == [f"alice-{M}"] * 3
    assert room.found("bob", P) == [f"bob-{P}"] * 3


def withdraw(room: Room) -> None:
    room.consents.withdraw("alice", [P])


def revoke(room: Room) -> None:
    room.consents.apply_lane([room.entry(22, "revoked", denial=22)], 22)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("how", ["standalone", "enrolled", "lane"])
def test_law_4_killed_at_any_point_it_ends_before_or_after(tmp_path: Path, point: str, how: str) -> None:
    folder = tmp_path / "device"
    prepared(folder, enrolled=how != "standalone")
    act = revoke if how == "lane" else withdraw
    assert killed(lambda: act(Room(folder, step=die_at(point))))
    with Room(folder) as room:
        untouched_others(room)
        if point == BEFORE:
            assert room.found() == [f"alice-{P}"] * 3
            assert room.consents.state("alice", P) == "given"
            return
        assert room.consents.state("alice", P) in ("withdrawn", "revoked")
        assert room.found() == []
        assert room.rows() == 6
        assert not room.allowed()
        assert room.keyring.counter >= 1
        (denial,) = map(room.consents._eraser.proven, room.keyring.denials())
        assert denial.evidence is not None
        assert (denial.evidence.keys_destroyed, denial.evidence.canary_unreadable) == (1, True)
        if how == "enrolled":
            assert [d.state for d in room.decisions()] == ["withdrawn"]
        if how == "lane":
            revoke(room)  # the server sends again what was not acknowledged
            answers = {(r.kind, tuple(r.denials)) for r in room.receipts()}
            assert answers == {("erased", (22,))}
            assert len(room.receipts()) == 1
    with Room(folder) as room:
        assert room.found() == []
        untouched_others(room)


def test_law_4_killed_at_any_durable_write_of_slot_and_keystore_it_ends_before_or_after(
    tmp_path: Path,
) -> None:
    prepared(tmp_path / "origin", enrolled=False)
    for nth in range(1, 60):
        folder = tmp_path / str(nth)
        shutil.copytree(tmp_path / "origin", folder)
        done = not killed(lambda f=folder, n=nth: _withdraw_and_die(f, n))  # type: ignore[misc]
        with Room(folder) as room:
            untouched_others(room)
            assert room.consents.state("alice", P) == "withdrawn"
            assert room.rows() == 6
        if done:
            break
    assert nth > 8, "there are more durable writes than that"


def _withdraw_and_die(folder: Path, nth: int) -> None:
    room = Room(folder)
    steps = 0
    real_sync, real_replace = os.fsync, os.replace

    def count() -> None:
        nonlocal steps
        steps += 1
        if steps == nth:
            die()

    def sync(file: int) -> None:
        count()
        real_sync(file)
        count()

    def replace(old: Path, new: Path) -> None:
        count()
        real_replace(old, new)
        count()

    os.fsync, os.replace = sync, replace  # type: ignore[assignment]
    room.consents.withdraw("alice", [P])


def test_killed_while_finishing_it_is_finished_the_next_time(tmp_path: Path) -> None:
    prepared(tmp_path / "d", enrolled=True)
    assert killed(lambda: withdraw(Room(tmp_path / "d", step=die_at("denied"))))
    for point in ("keystore", "slot_new", "wal", "canary"):
        assert killed(lambda at=point: Room(tmp_path / "d", step=die_at(at)).close()) or point != "keystore"  # type: ignore[misc]
    with Room(tmp_path / "d") as room:
        assert room.rows() == 6
        untouched_others(room)


def test_every_step_is_passed_in_its_order(tmp_path: Path) -> None:
    passed: list[str] = []
    with Room(tmp_path, step=passed.append) as room:
        room.consents.give("alice", [P], notice="v1")
        assert passed == []
        room.consents.withdraw("alice", [P])
    assert tuple(passed) == POINTS


def test_memory_is_zeroed_before_any_key_goes(tmp_path: Path) -> None:
    seen: list[tuple[int, bool]] = []

    def step(name: str) -> None:
        if name == "denied":
            seen.append((len(room.forgotten), room.allowed()))
        if name == "silenced":
            seen.append((len(room.forgotten), room.keyring.key("user:alice", P) is not None))

    with Room(tmp_path, step=step) as room:
        room.consents.give("alice", [P], notice="v1")
        room.consents.withdraw("alice", [P])
    assert seen == [(0, False), (1, True)], "denied to readers first, then zeroed, then the key"


def test_withdrawing_one_purpose_of_two_leaves_the_other(tmp_path: Path) -> None:
    prepared(tmp_path / "d", enrolled=False)
    with Room(tmp_path / "d") as room:
        receipt = room.consents.withdraw("alice", [P]).receipt
        assert receipt.purposes == [P]
        assert receipt.rows_deleted == {
            "journal": 1,
            "state": 1,
            "personal": 1,
            "answer": 0,
            "memory": 1,
            "outbox": 0,
        }
        untouched_others(room)
        assert room.allowed(purpose=M)


def test_withdrawing_everything_names_what_rests_on_consent(tmp_path: Path) -> None:
    prepared(tmp_path / "d", enrolled=False)
    with Room(tmp_path / "d") as room:
        receipt = room.consents.withdraw("alice").receipt
        assert set(receipt.purposes) == {P, M, "guest", "hints"}
        assert receipt.keys_destroyed == 2
        assert (receipt.counter_before, receipt.counter_after) == (0, 1), "one change of root for all"
        assert room.rows() == 3


def test_law_2_withdrawing_the_unknown_succeeds_the_same_way_and_stands(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.enrol().answered()
        receipt = room.consents.withdraw("nobody", [P])
        assert receipt.verify().kind == "held_none"
        assert receipt.receipt.canary_unreadable is None
        assert receipt.receipt.counter_before == receipt.receipt.counter_after
        assert [d.state for d in room.decisions()] == ["withdrawn"]
    with Room(tmp_path) as room:
        assert room.consents.state("nobody", P) == "withdrawn"


def test_a_receipt_is_signed_by_the_device_and_says_how_strong_it_is(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
        receipt = room.consents.withdraw("alice", [P])
        assert receipt.public_key == public_bytes(room.keyring.signing_key())
        assert receipt.receipt.device_id == "standalone"
        assert receipt.receipt.assurance == "file"
        assert receipt.receipt.cold_start == "standalone"
        assert receipt.receipt.canary_unreadable is True
        assert receipt.receipt.subject == room.keyring.pseudonym("user:alice")
    assert "alice" not in receipt.to_json()
    assert receipt.signature.hex() in receipt.to_json()
    forged = msgspec.structs.replace(receipt.receipt, keys_destroyed=9)
    assert forged != receipt.verify()
    tampered = receipt.__class__(forged, receipt.body[:-1] + b"\x01", receipt.signature, receipt.public_key)
    with pytest.raises(WireFailure):
        tampered.verify()


@pytest.mark.parametrize("where", ["keystore", "slot"])
def test_law_2_a_full_disk_in_the_middle_denies_and_is_finished_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    prepared(tmp_path / "d", enrolled=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with Room(tmp_path / "d") as room:
        room.answered()
        with monkeypatch.context() as patch:
            patch.setattr(*((os, "pwrite", full) if where == "keystore" else (files, "replace", full)))
            with pytest.raises(StorageFull):
                room.consents.withdraw("alice", [P])
        assert not room.allowed(), "the denial was committed"
        assert room.consents.key("user:alice", P) is None
        room.consents.give("bob", [P], notice="v2")
        assert room.consents.state("alice", P) == "withdrawn"
        assert room.rows() == 6
        untouched_others(room)
    with Room(tmp_path / "d") as room:
        untouched_others(room)


def test_law_4_yesterdays_database_and_keystore_under_todays_key_bring_nobody_back(tmp_path: Path) -> None:
    prepared(tmp_path / "d", enrolled=True)
    yesterday = tmp_path / "yesterday"
    shutil.copytree(tmp_path / "d", yesterday)
    with Room(tmp_path / "d") as room:
        withdraw(room)
    for name in ("cache.db", "cache.db-keys"):
        shutil.copy(yesterday / name, tmp_path / "d" / name)
    with pytest.raises(KeystoreMismatch):
        Room(tmp_path / "d")
    with Room(tmp_path / "d", recover="discard") as room:
        assert room.consents.state("alice", P) == "unknown"
        assert room.rows() == 0


def test_law_3_yesterdays_key_as_well_stays_closed_until_the_server_answered(tmp_path: Path) -> None:
    prepared(tmp_path / "d", enrolled=True)
    yesterday = tmp_path / "yesterday"
    shutil.copytree(tmp_path / "d", yesterday)
    with Room(tmp_path / "d") as room:
        withdraw(room)
    with Room(yesterday) as room:
        assert not room.allowed()
        room.leases.begin_request(b"1" * 16)
        assert not room.allowed()
        # the server answers with what was withdrawn meanwhile, before any lease
        room.consents.apply_lane([room.entry(25, "withdrawn", denial=25)], 25)
        room.answered()
        assert not room.allowed()
        assert room.allowed("bob")
        assert room.rows() == 6
