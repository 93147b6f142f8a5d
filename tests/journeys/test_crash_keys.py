"""Slot and keystore, cut off at every write, sync, rename and delete: each operation ends before or after.

Two deaths at each point: `kill -9`, after which everything written is there, and a power cut, after which
nothing is there that was not synced. The database's own points are in test_crash_database.py; those of an
erasure across both in test_crash_erasure.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from edge_runtime.consent.rotation import rotate_root
from edge_runtime.keys import upkeep
from edge_runtime.keys.datakey import new_facts
from edge_runtime.keys.vault import Vault
from tests.support.consent_room import M, P, Room, killed
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


def renew(room: Room) -> None:
    room.consents.give("bob", [P], notice="v2")


def erase(room: Room) -> None:
    room.consents.withdraw("alice", [P])


def erase_everything(room: Room) -> None:
    room.consents.erase_everything()


def rotate(room: Room) -> None:
    rotate_root(room.keyring, room.database)


def compact(room: Room) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upkeep, "worth_it", _worth_it)
        while room.keyring.upkeep.advance():
            pass


def _worth_it(vault: Vault, times: int = 1) -> bool:
    return times == 1 and vault.slot.generation == 0


def given(room: Room) -> bool:
    states = {room.consents.state("carol", purpose) for purpose in (P, M)}
    assert len(states) == 1, "both purposes or none"
    return states == {"given"}


def renewed(room: Room) -> bool:
    key = room.key("bob")
    assert key.facts.notice in ("v1", "v2")
    return key.facts.notice == "v2"


def erased(room: Room) -> bool:
    assert room.consents.state("alice", P) == "withdrawn", "the denial was committed before any point"
    assert room.found("alice", P) == []
    return True


def all_erased(room: Room) -> bool:
    assert room.rows() == 0
    assert room.keyring.size == 0
    return True


def rotated(room: Room) -> bool:
    assert room.keyring.counter in (0, 1)
    return room.keyring.counter == 1


def compacted(room: Room) -> bool:
    return room.keyring.slot.generation == 1


OPERATIONS: dict[str, tuple[Callable[[Room], None], Callable[[Room], bool]]] = {
    "give": (give, given),
    "renew": (renew, renewed),
    "erase": (erase, erased),
    "erase everything": (erase_everything, all_erased),
    "rotate": (rotate, rotated),
    "compact": (compact, compacted),
}


@pytest.mark.parametrize("death", get_args(Death))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_law_6_cut_off_at_any_point_it_ends_before_or_after(
    tmp_path: Path, origin: Path, operation: str, death: Death
) -> None:
    act, after = OPERATIONS[operation]
    outcomes: list[bool] = []
    for nth in range(1, 400):
        folder, told = tmp_path / str(nth), tmp_path / f"{nth}.points"
        shutil.copytree(origin, folder)
        died = killed(lambda f=folder, t=told, n=nth: _die_in(act, f, t, n, death))  # type: ignore[misc]
        points = told.read_text().splitlines()
        where = f"{operation}, {death} before point {nth}: {points[-1]}"
        with Room(folder) as room:
            outcomes.append(after(room))
            _others_stand(room, operation, where)
        with Room(folder) as room:
            assert after(room) == outcomes[-1], where
        _nothing_left_over(folder, where)
        if not died:
            break
    assert outcomes[-1], "undisturbed it comes to its end"
    assert outcomes == sorted(outcomes), f"once durable, always durable: {outcomes}"
    assert len(points) >= 8, "there are more points than that"


def _die_in(act: Callable[[Room], None], folder: Path, told: Path, nth: int, death: Death) -> None:
    room = Room(folder)
    note = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write = os.write

    def tell(name: str) -> None:
        write(note, f"{name}\n".encode())

    with FaultyFiles(nth, death, tell).watching():
        act(room)


def _others_stand(room: Room, operation: str, where: str) -> None:
    if operation == "erase everything":
        return
    for subject, purpose in (("alice", M), ("bob", P), ("other-7", P)):
        assert room.found(subject, purpose) == [f"{subject}-{purpose}"] * 3, where
    held = sum(1 for key in room.keyring.every_key() if key.subject.startswith("user:other-"))
    assert held == OTHERS, where
    assert room.keyring.size == sum(1 for _ in room.keyring.every_key()), where


def _nothing_left_over(folder: Path, where: str) -> None:
    names = {path.name for path in folder.iterdir()} - {"device.key.before", "cache.db-keys.before"}
    assert names == {"cache.db", "cache.db-keys", "device.key"}, where
