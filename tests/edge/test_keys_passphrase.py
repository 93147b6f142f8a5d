"""A slot under a passphrase: what opens it, what does not, what it costs, and what stays in memory."""

from __future__ import annotations

import gc
import hashlib
import os
import weakref
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.keys import passphrase as module
from edge_runtime.keys.passphrase import MAXIMUM_BYTES, MINIMUM_BYTES
from edge_runtime.keys.sealedslot import Cost, DerivedKey
from tests.support.consent_room import die, killed
from tests.support.key_places import hook_durable_calls
from tests.support.shop import shop_catalog

RIGHT, WRONG = "correct horse battery", "correct horse batterz"
SLOT = os.urandom(300)
CHEAP: dict[str, Any] = {"memory_kib": 7_168, "iterations": 5}


def key(path: Path, passphrase: str | bytes | bytearray | memoryview = RIGHT) -> er.KeyPassphrase:
    return er.KeyPassphrase(path, passphrase, **CHEAP)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    assert key(tmp_path / "slot").create(SLOT)
    return tmp_path / "slot"


def rechecked(raw: bytes) -> bytes:
    """`raw` with the unkeyed checksum that belongs to it: what a forger would write."""
    return raw[:-16] + hashlib.blake2b(raw[:-16], digest_size=16, person=b"edge-passphrase").digest()


# ---- what opens it -----------------------------------------------------------------------------------------


def test_a_wrong_passphrase_says_so_and_touches_nothing(path: Path) -> None:
    before = path.read_bytes()
    other = key(path, WRONG)
    for act in (other.load, lambda: other.store(b"new"), lambda: other.change_passphrase(RIGHT + RIGHT)):
        with pytest.raises(er.KeyMismatch, match=r"passphrase does not open.*nothing was touched"):
            act()
    assert not other.create(b"new")
    assert path.read_bytes() == before


def test_text_and_its_bytes_are_one_passphrase_however_the_text_was_composed(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9 au lait, deux", "cafe\u0301 au lait, deux"
    assert key(tmp_path / "s", decomposed).create(SLOT)
    for same in (composed, decomposed, composed.encode(), bytearray(composed.encode())):
        assert key(tmp_path / "s", same).load() == SLOT
    with pytest.raises(er.KeyMismatch):
        key(tmp_path / "s", decomposed.encode()).load()  # bytes are taken as they are


@pytest.mark.parametrize(
    "passphrase", ["", "short", "x" * (MINIMUM_BYTES - 1), b"", "y" * (MAXIMUM_BYTES + 1)]
)
def test_a_passphrase_out_of_bounds_is_refused_and_not_told(tmp_path: Path, passphrase: str | bytes) -> None:
    with pytest.raises(er.MalformedRequest, match=f"{MINIMUM_BYTES} to {MAXIMUM_BYTES} bytes") as refused:
        key(tmp_path / "s", passphrase)
    assert not passphrase or str(passphrase) not in str(refused.value)


@pytest.mark.parametrize("nonsense", [12, None, 1.5, "lone surrogate \udcff"])
def test_what_is_neither_text_nor_bytes_is_refused(tmp_path: Path, nonsense: Any) -> None:
    with pytest.raises(er.MalformedRequest, match="text or bytes"):
        key(tmp_path / "s", nonsense)


# ---- a file that is not what it should be ------------------------------------------------------------------


def test_any_flipped_bit_any_cut_and_any_addition_is_damage_and_no_wrong_passphrase(path: Path) -> None:
    whole = path.read_bytes()
    opened = key(path)
    assert opened.load() == SLOT
    damaged = [whole[:n] + bytes([whole[n] ^ (1 << n % 8)]) + whole[n + 1 :] for n in range(len(whole))]
    damaged += [whole[:n] for n in range(len(whole))] + [whole + b"\0", b"EDGESLOT1" + whole[9:], SLOT]
    for raw in damaged:
        path.write_bytes(raw)
        with pytest.raises(er.KeyUnreadable, match=r"truncated or damaged|not one of ours"):
            opened.load()
        assert path.read_bytes() == raw


@pytest.mark.parametrize(
    ("at", "value"), [(9, 1 << 31), (9, 7_167), (13, 1 << 31), (13, 0), (13, 4), (17, 0), (17, 17)]
)
def test_law_11_an_absurd_cost_is_refused_before_anything_is_derived(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: int, value: int
) -> None:
    raw, width = bytearray(path.read_bytes()), 1 if at == 17 else 4
    raw[at : at + width] = value.to_bytes(width)
    path.write_bytes(rechecked(bytes(raw)))
    monkeypatch.setattr(module, "DerivedKey", None)
    with pytest.raises(er.KeyUnreadable, match="asks for what none of ours does"):
        key(path).load()


@pytest.mark.parametrize("at", [9, 13, 18, 30, 34, 45, 46, 300])
def test_a_forged_header_or_body_does_not_open(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0 if at in (9, 13) else 1
    if at in (9, 13):  # another cost within bounds
        raw[at : at + 4] = (8_192 if at == 9 else 6).to_bytes(4)
    path.write_bytes(rechecked(bytes(raw)))
    with pytest.raises(er.KeyMismatch):
        key(path).load()


@pytest.mark.parametrize(
    "cost",
    [
        {"memory_kib": 1_024, "iterations": 100},
        {"memory_kib": 2_000_000},
        {"memory_kib": 19_456, "iterations": 1},
        {"iterations": 0},
        {"iterations": 100},
        {"lanes": 0},
        {"lanes": 17},
    ],
)
def test_a_cost_out_of_bounds_is_refused(tmp_path: Path, cost: dict[str, int]) -> None:
    with pytest.raises(er.MalformedRequest, match="passphrase cost: expected"):
        er.KeyPassphrase(tmp_path / "s", RIGHT, **cost)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    path.chmod(0o640)
    with pytest.raises(er.StorageError, match="expected mode 0600"):
        key(path).load()


# ---- what it costs -----------------------------------------------------------------------------------------


def test_one_derivation_serves_every_load_and_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[Cost] = []

    def counted(passphrase: bytearray, salt: bytes, cost: Cost) -> DerivedKey:
        derived.append(cost)
        return DerivedKey(passphrase, salt, cost)

    monkeypatch.setattr(module, "DerivedKey", counted)
    opened = er.KeyPassphrase(path, RIGHT)  # the file names its own cost
    for number in range(5):
        assert opened.load() == SLOT if number == 0 else True
        opened.store(bytes([number]))
        assert opened.load() == bytes([number])
    assert derived == [Cost(7_168, 5, 1)]
    assert not opened.create(SLOT), "a second creation derives nothing"
    assert len(derived) == 1


def test_no_nonce_is_used_twice(path: Path) -> None:
    opened, nonces = key(path), set()
    for _ in range(50):
        opened.store(SLOT)
        nonces.add(path.read_bytes()[34:46])
    assert len(nonces) == 50


# ---- another passphrase ------------------------------------------------------------------------------------


def test_another_passphrase_opens_it_from_then_on(path: Path) -> None:
    salt = path.read_bytes()[18:34]
    opened = er.KeyPassphrase(path, RIGHT, memory_kib=8_192, iterations=5)
    opened.change_passphrase(WRONG)
    opened.store(b"later")
    assert opened.load() == b"later"
    assert key(path, WRONG).load() == b"later"
    with pytest.raises(er.KeyMismatch):
        key(path).load()
    raw = path.read_bytes()
    assert raw[18:34] != salt
    assert int.from_bytes(raw[9:13]) == 8_192, "sealed anew at the cost that was asked for"
    with pytest.raises(er.MalformedRequest):
        opened.change_passphrase("short")
    assert opened.load() == b"later"


def test_killed_while_it_is_changed_the_old_or_the_new_one_opens_it(path: Path) -> None:
    def change(nth: int) -> None:
        opened, left = key(path), nth
        opened.load()

        def count() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                die()

        hook_durable_calls(count)
        opened.change_passphrase(WRONG)

    for nth in range(1, 99):
        finished = not killed(lambda n=nth: change(n))  # type: ignore[misc]
        if not _opens(path, RIGHT):
            assert key(path, WRONG).load() == SLOT
            key(path, WRONG).change_passphrase(RIGHT)
        if finished:
            break
    assert finished
    assert nth > 8


def _opens(path: Path, passphrase: str) -> bool:
    try:
        return key(path, passphrase).load() == SLOT
    except er.KeyMismatch:
        return False


def test_a_store_under_a_passphrase_that_another_process_changed_is_refused(path: Path) -> None:
    running = key(path)
    running.load()
    key(path).change_passphrase(WRONG)
    before = path.read_bytes()
    for act in (running.load, lambda: running.store(b"new")):
        with pytest.raises(er.KeyMismatch, match="sealed anew"):
            act()
    assert path.read_bytes() == before


def test_a_file_lost_or_damaged_under_an_open_runtime_is_mended_by_the_next_store(path: Path) -> None:
    running = key(path)
    running.load()
    for spoil in (path.unlink, lambda: path.write_bytes(b"junk"), lambda: path.chmod(0o644)):
        spoil()
        running.store(SLOT)
        assert key(path).load() == SLOT


# ---- what stays in memory ----------------------------------------------------------------------------------


def test_the_passphrase_is_overwritten_once_it_has_opened_and_the_key_at_the_end(path: Path) -> None:
    given = bytearray(RIGHT.encode())
    opened = key(path, given)
    copy = opened._held.passphrase
    assert copy == given
    opened.load()
    assert opened._held.passphrase is None
    assert copy == bytearray(len(RIGHT))
    assert given == RIGHT.encode(), "the caller's own is the caller's"
    assert opened._held.key is not None
    secret = opened._held.key.secret
    assert secret != bytearray(32)
    opened.close()
    assert secret == bytearray(32)
    opened.close()
    for act in (
        opened.load,
        lambda: opened.store(b""),
        lambda: opened.create(b""),
        lambda: opened.change_passphrase(RIGHT),
    ):
        with pytest.raises(er.RuntimeClosed):
            act()


def test_forgetting_to_close_it_overwrites_them_as_well(path: Path) -> None:
    unused, used = key(path), key(path)
    used.load()
    assert used._held.key is not None
    secrets = [unused._held.passphrase, used._held.key.secret]
    gone = weakref.ref(used)
    del unused, used
    gc.collect()
    assert gone() is None
    assert secrets == [bytearray(len(RIGHT)), bytearray(32)]


def test_a_key_that_a_changed_passphrase_replaced_is_overwritten(path: Path) -> None:
    opened = key(path)
    opened.load()
    assert opened._held.key is not None
    secret = opened._held.key.secret
    opened.change_passphrase(WRONG)
    assert secret == bytearray(32)


def test_a_runtime_keeps_its_cache_under_a_passphrase(path: Path, tmp_path: Path) -> None:
    path.unlink()
    catalog = shop_catalog()
    with er.Runtime.open(tmp_path / "c.db", catalog=catalog, key=key(path)) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        assert rt.consent.withdraw("alice").verify().assurance == "passphrase"
    with pytest.raises(er.KeyMismatch, match="passphrase"):
        er.Runtime.open(tmp_path / "c.db", catalog=catalog, key=key(path, WRONG))
    with er.Runtime.open(tmp_path / "c.db", catalog=catalog, key=key(path)) as rt:
        assert rt.consent.state("alice", "personalization") == "withdrawn"
