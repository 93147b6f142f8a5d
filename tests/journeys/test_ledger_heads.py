"""Devices watch the ledger: a server that tells another past, or a shorter one, gets no more leases."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.cli import main
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.ledger import check_goes_on, verify_head
from sync_server.cli import main as edge_sync
from tests.support.consent_room import DAY_US, SERVER_KEY, Room
from tests.support.ledgers import MadeUp, leaves
from tests.support.town import ALICE, BOB, Kiosk, P, Session, Town

Spoil = Callable[[m.Lease], m.Lease]
HALF_DAY_S = 12 * 3600
OTHER = b"another one 1234"
"""Another incarnation."""


def copied(town: Town, folder: Path) -> Town:
    """The same server, as its data directory stands now."""
    shutil.copytree(town.folder, folder)
    return Town(folder, town.clock)


def meet(kiosk: Kiosk, town: Town) -> Session:
    """A session in which a lease is asked for; both talk until neither has anything to say."""
    kiosk.town = town
    session = Session(kiosk)
    session.open()
    session.settle()
    return session


def leave(session: Session) -> None:
    """Half a lease passes after the session, so that the next one asks for another."""
    session.close()
    session.kiosk.clock.advance(seconds=HALF_DAY_S + 60)


def asked(session: Session) -> list[int]:
    """The sizes from which each lease asked for had to go on."""
    return [said.ledger for said in session.said if isinstance(said, m.LeaseRequest)]


def refusals(session: Session) -> list[str]:
    return [said.code for said in session.said if isinstance(said, m.Refusal)]


def give(kiosk: Kiosk) -> None:
    kiosk.give(ALICE)
    session = meet(kiosk, kiosk.town)
    assert kiosk.consents.permission(ALICE, P).allowed
    leave(session)


def test_law_2_each_lease_brings_a_head_that_goes_on_from_the_last(town: Town, kiosk: Kiosk) -> None:
    """The kept head grows with the ledger; each next lease must go on from it."""
    give(kiosk)
    for count in (1, 2, 5):
        for n in range(count):
            town.decide(f"user:other{n}", "given")
        before = kiosk.leases.witness.kept
        session = meet(kiosk, town)
        after = kiosk.leases.witness.kept
        assert before is not None
        assert after is not None
        assert asked(session) == [before.signed.head.size]
        assert after.signed.head.size == town.lane_head()
        verify_head(after.signed.head, town.authority.public_key)
        leave(session)
    assert kiosk.leases.witness.status()["conflict"] is None


def test_law_3_a_forked_ledger_gets_no_lease_and_locks_at_the_end(
    town: Town, kiosk: Kiosk, tmp_path: Path
) -> None:
    """Both heads are signed: they are kept as evidence, and verify for a stranger. Denials still come."""
    give(kiosk)
    other = copied(town, tmp_path / "fork")
    town.decide(BOB, "given")
    leave(meet(kiosk, town))
    for _ in range(3):
        other.decide(BOB, "refused")
    other.decide(ALICE, "restricted", "measurement")
    session = meet(kiosk, other)
    assert refusals(session) == ["ledger_forked"]
    session.kiosk.clock.advance(seconds=HALF_DAY_S)
    allowed = kiosk.consents.permission(ALICE, P)
    assert not allowed.allowed
    assert "contradicts" in kiosk.leases.reason()
    found = kiosk.leases.witness.conflict
    assert found is not None
    verify_head(found.kept.head, town.authority.public_key)
    verify_head(found.offered.head, other.authority.public_key)
    with pytest.raises(WireFailure, match="ledger_forked"):
        check_goes_on(found.kept.head, found.offered.head, found.consistency)
    other.decide(ALICE, "withdrawn")
    session.settle()
    assert kiosk.consents.state(ALICE, P) == "withdrawn"
    session.close()
    other.close()
    for _ in range(6):
        town.decide(BOB, "given")
    reopened = meet(kiosk, town)
    assert kiosk.leases.state == "fresh"  # the true server may go on; what was seen stays on record
    assert kiosk.leases.witness.conflict == found
    reopened.close()


def test_law_3_a_ledger_that_lost_its_tail_gets_no_lease(town: Town, kiosk: Kiosk, tmp_path: Path) -> None:
    """Also where the lane is no shorter than the device's, which its Welcome would have been refused for."""
    give(kiosk)
    other = copied(town, tmp_path / "cut")
    town.decide("user:late", "given")
    leave(meet(kiosk, town))
    with kiosk.database.write("forget") as tx:
        tx.set_lane_position(other.lane_head())
    session = meet(kiosk, other)
    assert refusals(session) == ["ledger_shorter"]
    found = kiosk.leases.witness.conflict
    assert found is not None
    assert (found.code, found.offered.head.size) == ("ledger_shorter", other.lane_head())
    session.close()
    other.close()


def test_what_is_kept_outlives_the_process(town: Town, kiosk: Kiosk, tmp_path: Path) -> None:
    """A restarted device asks from its kept head on, and its evidence is still there."""
    give(kiosk)
    other = copied(town, tmp_path / "fork")
    town.decide(BOB, "given")
    leave(meet(kiosk, town))
    other.decide(BOB, "refused")
    leave(meet(kiosk, other))
    evidence = kiosk.leases.witness.conflict
    kiosk.close()
    again = Kiosk(town, kiosk.folder)
    session = meet(again, town)
    assert asked(session) == [town.lane_head()]
    assert evidence is not None
    assert again.leases.witness.conflict == evidence
    session.close()
    again.close()


def test_doctor_and_head_show_what_is_kept_and_the_fork(
    town: Town, kiosk: Kiosk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`head` prints the kept head; `doctor` is at fault once the server contradicted it, with both heads."""
    place = [str(kiosk.folder / "cache.db"), "--key-file", str(kiosk.folder / "device.key"), "--json"]
    give(kiosk)
    other = copied(town, tmp_path / "fork")
    town.decide(BOB, "given")
    leave(meet(kiosk, town))
    held = kiosk.leases.witness.kept
    assert held is not None
    kept = held.signed.to_dict()
    for forked, code, state in ((False, 0, "ok"), (True, 1, "fault")):
        if forked:
            other.decide(BOB, "refused")
            kiosk = Kiosk(town, kiosk.folder)
            leave(meet(kiosk, other))
        kiosk.close()
        assert main(["head", *place]) == 0
        assert json.loads(capsys.readouterr().out) == kept
        assert main(["doctor", *place]) == code
        told = json.loads(capsys.readouterr().out)
        assert {c["name"]: c["state"] for c in told["checks"]}["ledger"] == state
    assert told["ledger"]["conflict"]["code"] == "ledger_forked"
    assert told["ledger"]["conflict"]["kept"] == kept
    assert told["ledger"]["conflict"]["offered"]["public_key"] == kept["public_key"]
    other.close()


def test_two_devices_that_were_told_two_ledgers_find_out(
    town: Town, kiosk: Kiosk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ledger is consistent in itself; beside each other the two heads show the split."""
    give(kiosk)
    other = copied(town, tmp_path / "fork")
    town.decide(BOB, "given")
    other.decide(BOB, "refused")
    second = Kiosk(other, tmp_path / "second")
    for device, server in ((kiosk, town), (second, other)):
        leave(meet(device, server))
        assert device.leases.witness.conflict is None
        device.close()
    files = []
    for device in (kiosk, second):
        place = [str(device.folder / "cache.db"), "--key-file", str(device.folder / "device.key")]
        assert main(["head", *place]) == 0
        files.append(tmp_path / f"{device.folder.name}.json")
        files[-1].write_text(capsys.readouterr().out)
    for server, told in ((town, files[1]), (other, files[0])):
        audit = ["consent", "audit", "--offline", "--data", str(server.folder), "--json"]
        assert edge_sync([*audit, *(word for file in files for word in ("--head", str(file)))]) == 1
        fault = json.loads(capsys.readouterr().out)["fault"]
        assert (fault["name"], fault["where"]) == ("fork", str(told))
    other.close()


# ---- one lease, spoiled in each way ------------------------------------------------------------------------

OLD_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
LOG, FORK = MadeUp(leaves(9)), MadeUp(leaves(9, "forked"))


def changed(lease: m.Lease, log: MadeUp, size: int, **what: object) -> m.Lease:
    head = log.head(SERVER_KEY, size)
    made: dict[str, object] = {"ledger": head, "consistency": log.proof(5, size), **what}
    return msgspec.structs.replace(lease, **made)


SPOILED: dict[str, tuple[str, Spoil]] = {
    "fork": ("ledger_forked", lambda lease: changed(lease, FORK, 8)),
    "fork of equal size": ("ledger_forked", lambda lease: changed(lease, FORK, 5)),
    "no proof": ("ledger_forked", lambda lease: changed(lease, LOG, 8, consistency=[])),
    "proof of another size": (
        "ledger_forked",
        lambda lease: changed(lease, LOG, 8, consistency=LOG.proof(4, 8)),
    ),
    "trailing hash": (
        "ledger_forked",
        lambda lease: changed(lease, LOG, 8, consistency=[*LOG.proof(5, 8), bytes(32)]),
    ),
    "cut tail": ("ledger_shorter", lambda lease: changed(lease, LOG, 4, consistency=[])),
    "shorter than its lane": ("ledger_shorter", lambda lease: changed(lease, LOG, 8, upto=9)),
    "old key": (
        "bad_signature",
        lambda lease: changed(lease, LOG, 8, ledger=LOG.head(OLD_KEY, 8)),
    ),
    "another incarnation": (
        "ledger_forked",
        lambda lease: changed(lease, LOG, 8, ledger=LOG.head(SERVER_KEY, 8, incarnation=OTHER)),
    ),
    "changed root": (
        "bad_signature",
        lambda lease: changed(
            lease, LOG, 8, ledger=msgspec.structs.replace(LOG.head(SERVER_KEY, 8), root=bytes(32))
        ),
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_law_3_a_lease_with_a_spoiled_ledger_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """Whatever is wrong with head or proof, the lease before stays and no head is kept; the true one goes."""
    code, spoil = SPOILED[name]
    with kept_five(tmp_path) as room:
        kept = room.leases.witness.kept
        assert room.leases.begin_request(b"1" * 16) == 5
        with pytest.raises(WireFailure, match=code):
            room.leases.granted(room.signed(spoil(room.lease(b"1" * 16, upto=5))))
        assert room.leases.witness.kept == kept
        assert (room.leases.witness.conflict is not None) is (code != "bad_signature")
        assert room.leases.remaining_us() == DAY_US
        room.leases.begin_request(b"2" * 16)
        room.leases.granted(room.signed(changed(room.lease(b"2" * 16, upto=5), LOG, 8)))
        kept = room.leases.witness.kept
        assert kept is not None
        assert kept.signed.head.size == 8


def test_a_meddled_proof_is_a_bad_signature_and_no_evidence(tmp_path: Path) -> None:
    """Who changes a proof on the way cannot make the device believe in a fork."""
    with Room(tmp_path).enrol() as room:
        room.answered()
        room.leases.begin_request(b"1" * 16)
        lease = room.lease(b"1" * 16)
        with pytest.raises(WireFailure, match="bad_signature"):
            room.leases.granted(msgspec.structs.replace(lease, consistency=[bytes(32)]))
        assert room.leases.witness.conflict is None


@pytest.mark.parametrize("restores", [[], [m.Restore(OTHER, 4, 1)]])
def test_an_older_backup_begins_a_new_head_and_says_so(tmp_path: Path, restores: list[m.Restore]) -> None:
    """What a restored server lost, nobody can prove: its ledger is taken on, and that is counted."""
    with kept_five(tmp_path) as room:
        room.leases.witness.speaks(OTHER, restores)
        assert room.leases.begin_request(b"1" * 16) == 0
        head = FORK.head(SERVER_KEY, 7, incarnation=OTHER)
        lease = msgspec.structs.replace(room.lease(b"1" * 16, upto=5), ledger=head, consistency=[])
        room.leases.granted(room.signed(lease))
        assert room.leases.witness.status()["begun_anew"] == 1


def test_a_restored_server_still_goes_on_from_what_it_kept(tmp_path: Path) -> None:
    """A new incarnation is no way out of a fork: as far as its backup reached, the log is the same."""
    with kept_five(tmp_path) as room:
        room.leases.witness.speaks(OTHER, [m.Restore(OTHER, 5, 1)])
        for id, log in ((b"1" * 16, FORK), (b"2" * 16, LOG)):
            assert room.leases.begin_request(id) == 5
            head = log.head(SERVER_KEY, 7, incarnation=OTHER)
            offered = room.signed(changed(room.lease(id, upto=5), log, 7, ledger=head))
            if log is LOG:
                room.leases.granted(offered)
                continue
            with pytest.raises(WireFailure, match="ledger_forked"):
                room.leases.granted(offered)
        assert room.leases.witness.status()["begun_anew"] == 0


def kept_five(folder: Path) -> Room:
    """A device that keeps the head of five leaves."""
    room = Room(folder).enrol()
    room.leases.opened_by_server()
    room.leases.begin_request(bytes(16))
    room.leases.granted(room.lease(bytes(16), upto=5))
    return room


def test_another_enrolment_begins_with_no_head(tmp_path: Path) -> None:
    """What the server before said binds nobody else."""
    with Room(tmp_path).enrol() as room:
        assert room.answered().leases.witness.kept is not None
        identity = msgspec.structs.replace(room.keyring.identity, device_id="kiosk-2")
        room.keyring.set_identity(identity)
        assert room.leases.witness.status()["head"] is None
        assert room.leases.begin_request(b"1" * 16) == 0


def test_two_heads_and_a_proof_are_all_that_a_stranger_needs() -> None:
    """The comparison asks nobody: not the server, not the device."""
    before, after = LOG.head(SERVER_KEY, 5), LOG.head(SERVER_KEY, 8)
    check_goes_on(before, after, LOG.proof(5, 8))
    check_goes_on(before, before, [])
    check_goes_on(MadeUp([]).head(SERVER_KEY), after, [])
    with pytest.raises(WireFailure, match="ledger_shorter"):
        check_goes_on(after, before, [])
    with pytest.raises(WireFailure, match="ledger_forked"):
        check_goes_on(FORK.head(SERVER_KEY, 5), after, LOG.proof(5, 8))


def test_a_database_from_a_backup_does_not_take_the_head_back(tmp_path: Path) -> None:
    """What the keystore took along since still holds: the older ledger is a cut tail."""
    place, image = tmp_path / "device", tmp_path / "image"
    place.mkdir()
    kept_five(place).close()
    shutil.copytree(place, image)
    with Room(place) as room:
        room.leases.opened_by_server()
        room.leases.begin_request(b"1" * 16)
        room.leases.granted(room.signed(changed(room.lease(b"1" * 16, upto=5), LOG, 8)))
        room.consents.give("user:alice", ["personalization"], notice="n")  # the keystore changes
    for file in image.glob("cache.db*"):
        if "-keys" not in file.name:
            shutil.copy(file, place)
    for file in set(place.glob("cache.db*")) - {place / one.name for one in image.glob("cache.db*")}:
        if "-keys" not in file.name:
            file.unlink()
    with Room(place) as room:
        room.leases.opened_by_server()
        assert room.leases.begin_request(b"2" * 16) == 8
        shorter = changed(room.lease(b"2" * 16, upto=5), LOG, 6, consistency=[])
        with pytest.raises(WireFailure, match="ledger_shorter"):
            room.leases.granted(room.signed(shorter))
