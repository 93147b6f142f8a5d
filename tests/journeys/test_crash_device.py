"""The crash matrix: database, keystore and slot, cut off at every write, sync, rename and delete.

Each operation ends before or after, and nothing else is harmed. Two deaths at each point: `kill -9`, after
which everything written is there, and a power cut, after which nothing is there that was not synced. Commit
and migration are in test_crash_database.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from edge_runtime.consent.rotation import rekey, rotate_root
from edge_runtime.keys import upkeep
from edge_runtime.keys.datakey import new_facts
from edge_runtime.keys.vault import Vault
from tests.support.consent_room import M, P, Room, killed
from tests.support.faulty_disk import FaultyDisk
from tests.support.faulty_files import Death, FaultyFiles

OTHERS = 150
"""Subjects beside those looked at: the tree has branches, and several leaves."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device with alice (two purposes), bob, and others."""
    folder = tmp_path_factory.mktemp("origin")
    with Room(folder) as room:
        room.consents.give("alice", [P, M], notice="v1")
        room.consents.give("bob", [P], notice="v1")
        ring = room.keyring
        facts = {
            f"user:other-{n}": new_facts(
                P, bytes(16), "v1", base=0, at_us=0, grant=1, ordinal=ring.next_ordinal()
            )
            for n in range(OTHERS)
        }
        ring.create(facts.items())
        for subject, purpose in (("alice", P), ("alice", M), ("bob", P), ("other-7", P)):
            room.plant(f"{subject}-{purpose}", subject, purpose)
    return folder


def give(room: Room) -> None:
    room.consents.give("carol", [P, M], notice="v1")


def given(room: Room) -> bool:
    states = {room.consents.state("carol", purpose) for purpose in (P, M)}
    assert len(states) == 1, "both purposes or none"
    return states == {"given"}


def renew(room: Room) -> None:
    room.consents.give("bob", [P], notice="v2")


def renewed(room: Room) -> bool:
    notice = room.key("bob").facts.notice
    assert notice in ("v1", "v2")
    return notice == "v2"


def erase(room: Room) -> None:
    room.consents.withdraw("alice", [P])


def erased(room: Room) -> bool:
    if room.consents.state("alice", P) == "given":
        assert room.found("alice", P) == [f"alice-{P}"] * 3
        return False
    assert room.consents.state("alice", P) == "withdrawn"
    assert room.found("alice", P) == []
    (denial,) = (d for d in room.keyring.denials() if d.subject == room.keyring.pseudonym("user:alice"))
    proof = room.consents._eraser.proven(denial).evidence
    assert proof is not None
    assert (proof.keys_destroyed, proof.canary_unreadable, room.keyring.counter) == (1, True, 1)
    return True


def erase_everything(room: Room) -> None:
    room.consents.erase_everything()


def all_erased(room: Room) -> bool:
    if room.keyring.size:
        assert room.found("bob", P) == [f"bob-{P}"] * 3
        return False
    assert room.rows() == 0
    return True


def rotate(room: Room) -> None:
    rotate_root(room.keyring, room.database)


def new_page_key(room: Room) -> None:
    rekey(room.keyring, room.database)


def rotated(room: Room) -> bool:
    assert room.keyring.slot.next_page_key is None
    assert room.keyring.counter in (0, 1)
    return room.keyring.counter == 1


def compact(room: Room) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "worth_it", _worth_it)
        while room.keyring.upkeep.advance():
            pass


def _worth_it(vault: Vault, times: int = 1) -> bool:
    return times == 1 and vault.slot.generation == 0


def compacted(room: Room) -> bool:
    return room.keyring.slot.generation == 1


OPERATIONS: dict[str, tuple[Callable[[Room], None], Callable[[Room], bool]]] = {
    "give": (give, given),
    "renew": (renew, renewed),
    "erase": (erase, erased),
    "erase everything": (erase_everything, all_erased),
    "rotate": (rotate, rotated),
    "rekey": (new_page_key, rotated),
    "compact": (compact, compacted),
}


@pytest.mark.parametrize("death", get_args(Death))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_law_6_cut_off_at_any_point_it_ends_before_or_after(
    tmp_path: Path, origin: Path, operation: str, death: Death
) -> None:
    act, after = OPERATIONS[operation]
    points = _points(act, origin, tmp_path, death)
    outcomes: list[bool] = []
    for nth, point in enumerate([*points, None]):
        folder = tmp_path / str(nth)
        shutil.copytree(origin, folder)
        died = killed(partial(_act, act, folder, point, death))
        where = f"{operation}, {death} at {point}"
        with Room(folder) as room:
            assert not room.consents.restored, where
            ended = after(room)
            _others_stand(room, operation, where)
        with Room(folder) as room:
            assert after(room) == ended, f"{where}: another end at the next opening"
        _nothing_left_over(folder, where)
        assert nth or not ended, "nothing was done before the first point"
        if point is None or ".write." not in point:  # how many pages a commit takes varies a little
            assert died == (point is not None), where
            outcomes.append(ended)
        shutil.rmtree(folder)
    assert outcomes[-1] is True, "undisturbed it comes to its end"
    assert outcomes == sorted(outcomes), f"once durable, always durable: {outcomes}"
    kinds = {point.rpartition(".")[0] for point in points}
    assert {"cache.db-keys.sync", "cache.db-keys.next.sync"} & kinds or operation == "rekey"
    assert {"device.key.rename", "folder.sync"} <= kinds
    assert "wal.sync" in kinds or operation in ("give", "renew", "compact"), "those touch no page"


def _points(act: Callable[[Room], None], origin: Path, away: Path, death: Death) -> list[str]:
    """Every point that an undisturbed run passes: those of the files, and of the database's disk."""
    folder, told = away / "dry", away / "points"
    shutil.copytree(origin, folder)

    def run() -> None:
        told.write_text("\n".join(_run(act, folder, None, death)))

    assert not killed(run)
    points = told.read_text().splitlines()
    kinds: dict[str, list[str]] = {}
    for point in points:
        kinds.setdefault(point.rpartition(".")[0], []).append(point)
    spared: set[str] = set()
    for kind, alike in kinds.items():
        if kind.endswith(".write"):  # of many alike, some
            spared |= set(alike[3:-3]) - set(alike[:: max(len(alike) // 12, 1)])
    return [point for point in points if point not in spared]


def _act(act: Callable[[Room], None], folder: Path, point: str | None, death: Death) -> None:
    _run(act, folder, point, death)


def _run(act: Callable[[Room], None], folder: Path, point: str | None, death: Death) -> list[str]:
    files = FaultyFiles(point, death)
    disk = FaultyDisk(None, death, dies=files.cut)
    room = Room(folder, vfs=disk.name)
    disk.points = files.points  # one list, in the order in which things happen
    disk.fail_at(point)
    with files.watching():
        act(room)
    return list(files.points)


def _others_stand(room: Room, operation: str, where: str) -> None:
    if operation == "erase everything":
        return
    for subject, purpose in (("alice", M), ("bob", P), ("other-7", P)):
        assert room.found(subject, purpose) == [f"{subject}-{purpose}"] * 3, where
    keys = list(room.keyring.every_key())
    assert sum(key.subject.startswith("user:other-") for key in keys) == OTHERS, where
    assert room.keyring.size == len(keys), where


def _nothing_left_over(folder: Path, where: str) -> None:
    names = {path.name for path in folder.iterdir() if ".before-" not in path.name}
    assert names == {"cache.db", "cache.db-keys", "device.key"}, where
