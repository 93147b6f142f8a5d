"""Keys come into memory when a subject is asked for and leave it overwritten."""

from __future__ import annotations

import gc
import random
import threading
from pathlib import Path

import pytest

from edge_runtime.consent.opening import open_cache
from edge_runtime.errors import KeystoreMismatch, RuntimeClosed
from edge_runtime.keys.datakey import DataKey, KeyFacts, new_facts
from edge_runtime.keys.denial import Denial
from edge_runtime.keys.keyring import Keyring
from edge_runtime.keys.providers import KeyFile
from tests.support.consent_room import M, P, Room

HELD = 8


def small(folder: Path) -> Keyring:
    """A keyring that holds few subjects; the database it belongs to is closed again."""
    path, key = str(folder / "cache.db"), KeyFile(folder / "device.key")
    exists = (folder / "cache.db").exists()
    if not exists:
        ring, database = open_cache(path, key)
        database.close()
        ring.close()
    ring = Keyring.open(key, path + "-keys", True).load().settle()
    ring.hold_at_most(HELD)
    return ring


def facts(ring: Keyring, purpose: str = P) -> KeyFacts:
    ordinal = ring.next_ordinal()
    return new_facts(purpose, bytes(16), "n", base=0, at_us=0, grant=ordinal, ordinal=ordinal)


def denial(ring: Keyring, subject: str, purpose: str = P) -> Denial:
    name, ordinal = ring.pseudonym(subject), ring.next_ordinal()
    return Denial(random.randbytes(16), name, purpose, "withdrawn", "n", 0, 0, ordinal, ordinal, True)


def filled(ring: Keyring, count: int) -> list[str]:
    subjects = [f"user:u{n}" for n in range(count)]
    ring.create([(subject, facts(ring)) for subject in subjects])
    return subjects


def test_few_subjects_are_held_and_every_key_is_found_again(tmp_path: Path) -> None:
    ring = small(tmp_path)
    subjects = filled(ring, 300)
    sealed = {}
    for subject in subjects:
        key = ring.key(subject, P)
        assert key is not None
        sealed[subject] = key.seal("t", b"r", subject.encode())
        assert len(ring._held._held) <= HELD
    random.Random(1).shuffle(subjects)
    for subject in subjects:
        key = ring.key(subject, P)
        assert key is not None
        assert key.open("t", b"r", sealed[subject]) == subject.encode()
        assert ring.by_pseudonym(ring.pseudonym(subject), P) is key
    assert ring.key("user:nobody", P) is None
    assert len(ring._held._held) <= HELD
    assert {key.subject for key in ring.every_key()} == set(subjects)
    assert (ring.size, ring.subjects) == (300, 300)
    ring.close()


def test_a_key_that_was_let_go_is_overwritten_unless_somebody_has_it(tmp_path: Path) -> None:
    ring = small(tmp_path)
    subjects = filled(ring, 50)
    gc.collect()
    kept = ring.key(subjects[0], P)
    assert kept is not None
    other = ring.key(subjects[1], P)
    assert other is not None
    secret = other._secret
    assert any(secret)
    del other
    for subject in subjects[2:]:
        ring.key(subject, P)
    gc.collect()
    assert not any(secret), "nobody had it"
    assert ring.key(subjects[0], P) is kept, "one object for each key"
    kept.seal("t", b"r", b"x")
    ring.close()
    with pytest.raises(RuntimeClosed):
        kept.seal("t", b"r", b"x")


def test_law_4_a_destroyed_key_is_dead_for_whoever_still_has_it(tmp_path: Path) -> None:
    ring = small(tmp_path)
    subjects = filled(ring, 50)
    had = ring.key(subjects[0], P)
    assert had is not None
    for subject in subjects[1:]:
        ring.key(subject, P)
    (done,) = ring.destroy([denial(ring, subjects[0])])
    assert (done.held, done.counter_after) == (1, 1)
    assert not had.alive
    assert ring.key(subjects[0], P) is None
    assert (ring.size, ring.subjects) == (49, 49)
    ring.close()


def test_an_older_denial_does_not_destroy_a_newer_key(tmp_path: Path) -> None:
    ring = small(tmp_path)
    before = denial(ring, "user:a")
    (key,) = ring.create([("user:a", facts(ring))])
    (done,) = ring.destroy([before])
    assert done.held == 0
    assert key.alive
    assert ring.key("user:a", P) is key
    ring.close()


def test_guests_are_never_let_go_and_never_rest(tmp_path: Path) -> None:
    ring = small(tmp_path)
    guests = [f"user:guest{n}" for n in range(3 * HELD)]
    ring.create([(guest, facts(ring, "guest")) for guest in guests], resting=False)
    filled(ring, 50)
    for n in range(50):
        ring.key(f"user:u{n}", P)
    assert all(ring.key(guest, "guest") is not None for guest in guests)
    assert ring.size == 50 + len(guests)
    raw = (tmp_path / "cache.db-keys").stat().st_size
    ring.release(guests[0])
    assert ring.key(guests[0], "guest") is None
    assert (tmp_path / "cache.db-keys").stat().st_size == raw
    ring.close()
    assert small(tmp_path).key(guests[1], "guest") is None


def test_two_purposes_of_one_subject_come_and_go_by_themselves(tmp_path: Path) -> None:
    ring = small(tmp_path)
    ring.create([("user:a", facts(ring, P)), ("user:a", facts(ring, M))])
    assert {key.purpose for key in ring.keys_of("user:a")} == {P, M}
    ring.destroy([denial(ring, "user:a", P)])
    assert [key.purpose for key in ring.keys_of("user:a")] == [M]
    assert (ring.size, ring.subjects) == (1, 1)
    assert ring.denial(ring.pseudonym("user:a"), P) is not None
    ring.create([("user:a", facts(ring, P))])
    assert ring.denial(ring.pseudonym("user:a"), P) is None, "settled, and over"
    ring.close()


def test_compaction_in_steps_between_changes_loses_nothing(tmp_path: Path) -> None:
    """The file shrinks to what lives, while keys come and go between its steps."""
    ring = small(tmp_path)
    subjects = filled(ring, 500)
    gone: set[str] = set()
    rng, swapped = random.Random(7), 0
    for n in range(1_200):
        subject = rng.choice(subjects)
        if subject in gone:
            ring.create([(subject, facts(ring))])
            gone.discard(subject)
        else:
            ring.destroy([denial(ring, subject)])
            gone.add(subject)
        if n % 2:
            before = ring.slot.generation
            ring.upkeep.advance()
            swapped += ring.slot.generation > before
    while ring.upkeep.advance():
        pass
    assert swapped >= 2
    assert {key.subject for key in ring.every_key()} == set(subjects) - gone
    assert ring.size == 500 - len(gone)
    ring.close()
    again = small(tmp_path)
    assert {key.subject for key in again.every_key()} == set(subjects) - gone
    assert (tmp_path / "cache.db-keys").stat().st_size < 4 << 20
    assert not (tmp_path / "cache.db-keys.next").exists()
    again.close()


def test_nobody_compacts_and_the_file_is_bounded_all_the_same(tmp_path: Path) -> None:
    ring = small(tmp_path)
    (key,) = ring.create([("user:a", facts(ring))])
    filled(ring, 100)
    for n in range(1_500):
        ring.renew(key, f"v{n}" + "x" * 400, n, bytes(16), pending=False)
    assert (tmp_path / "cache.db-keys").stat().st_size < 12 << 20
    assert key.facts.notice.startswith("v1499")
    ring.close()


def test_a_rotation_leaves_every_key_and_no_node_under_its_old_one(tmp_path: Path) -> None:
    from tests.support.remnants import reach

    ring = small(tmp_path)
    filled(ring, 300)
    ring.close()
    before = reach(tmp_path / "device.key", tmp_path / "cache.db-keys")
    ring = small(tmp_path)
    ring.upkeep.rotate()
    assert ring.counter == 1
    assert ring.key("user:u7", P) is not None
    ring.close()
    after = reach(tmp_path / "device.key", tmp_path / "cache.db-keys")
    assert before.secrets == after.secrets
    assert not {found.key for found in before.nodes} & {found.key for found in after.nodes}


def test_a_damaged_keystore_is_an_error_and_not_an_absent_consent(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        room.consents.give("alice", [P], notice="v1")
    ring = small(tmp_path)
    root = ring._vault.tree.root
    assert root is not None
    ring.close()
    path = tmp_path / "cache.db-keys"
    raw = bytearray(path.read_bytes())
    raw[root.offset + 5] ^= 1
    path.write_bytes(raw)
    with Room(tmp_path) as room, pytest.raises(KeystoreMismatch):
        room.consents.permission("user:alice", P)


def test_threads_that_load_and_destroy_at_once_never_get_a_dead_key(tmp_path: Path) -> None:
    ring = small(tmp_path)
    subjects = filled(ring, 60)
    wrong: list[str] = []
    over = threading.Event()

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        while not over.is_set():
            key = ring.key(rng.choice(subjects), P)
            if key is not None and not _usable(key):
                wrong.append(key.purpose)

    askers = [threading.Thread(target=ask, args=(seed,)) for seed in range(3)]
    for asker in askers:
        asker.start()
    rng = random.Random(9)
    for _ in range(250):
        subject = rng.choice(subjects)
        if ring.key(subject, P) is None:
            ring.create([(subject, facts(ring))])
        else:
            ring.destroy([denial(ring, subject)])
            if ring.key(subject, P) is not None:
                wrong.append("found after it was destroyed")
    over.set()
    for asker in askers:
        asker.join()
    assert wrong == []
    ring.close()


def _usable(key: DataKey) -> bool:
    """Whether it seals, or was destroyed since it was handed out."""
    try:
        key.seal("t", b"r", b"x")
    except RuntimeClosed:
        return not key.alive
    return True
