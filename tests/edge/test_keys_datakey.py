"""A sealed payload opens in its own place and nowhere else."""

from __future__ import annotations

import gc
import weakref

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatabaseUnreadable, RuntimeClosed
from edge_runtime.keys.datakey import DataKey, KeyFacts, new_facts

DATABASE = b"d" * 16
SECRET = bytes(range(100, 132))


def facts(purpose: str = "p") -> KeyFacts:
    made = new_facts(purpose, b"i" * 16, "n", base=0, at_us=0, grant=0, ordinal=1)
    return msgspec.structs.replace(made, handle=b"h" * 16)


def key_of(database: bytes = DATABASE, subject: str = "user:alice", one: KeyFacts | None = None) -> DataKey:
    return DataKey(database, subject, facts() if one is None else one, bytearray(SECRET))


@given(st.text(max_size=8), st.binary(max_size=20), st.binary(max_size=200))
def test_what_is_sealed_opens_in_its_place(table: str, row: bytes, plain: bytes) -> None:
    key = key_of()
    sealed = key.seal(table, row, plain)
    assert key_of().open(table, row, sealed) == plain
    assert sealed != key.seal(table, row, plain)


@pytest.mark.parametrize(
    ("key", "table", "row"),
    [
        (key_of(b"e" * 16), "journal", b"row-1"),
        (key_of(), "state", b"row-1"),
        (key_of(), "journal", b"row-2"),
        (key_of(subject="user:bob"), "journal", b"row-1"),
        (key_of(one=facts("q")), "journal", b"row-1"),
        (key_of(one=msgspec.structs.replace(facts(), handle=b"x" * 16)), "journal", b"row-1"),
    ],
    ids=["database", "table", "row", "subject", "purpose", "key"],
)
def test_law_4_a_payload_moved_anywhere_else_does_not_open(key: DataKey, table: str, row: bytes) -> None:
    sealed = key_of().seal("journal", b"row-1", b"secret")
    with pytest.raises(DatabaseUnreadable):
        key.open(table, row, sealed)


def test_table_and_row_do_not_run_into_each_other() -> None:
    key = key_of()
    with pytest.raises(DatabaseUnreadable):
        key.open("t", b"ab", key.seal("ta", b"b", b"x"))


@given(st.integers(0, 43), st.integers(1, 255))
def test_a_changed_or_cut_payload_does_not_open(place: int, flip: int) -> None:
    key = key_of()
    sealed = key.seal("t", b"r", b"0123456789abcdef")
    changed = sealed[:place] + bytes([sealed[place] ^ flip]) + sealed[place + 1 :]
    for wrong in (changed, sealed[:place]):
        with pytest.raises(DatabaseUnreadable):
            key.open("t", b"r", wrong)


def test_a_canary_opens_with_its_own_key_only() -> None:
    key, other = key_of(), DataKey(DATABASE, "user:alice", facts(), bytearray(32))
    assert key.opens_canary(key.canary())
    assert not other.opens_canary(key.canary())


def test_law_4_a_destroyed_key_is_overwritten_and_refuses() -> None:
    secret = bytearray(SECRET)
    key = DataKey(DATABASE, "user:alice", facts(), secret)
    sealed = key.seal("t", b"r", b"x")
    key.destroy()
    assert not key.alive
    assert secret == bytes(32)
    with pytest.raises(RuntimeClosed):
        key.seal("t", b"r", b"x")
    with pytest.raises(RuntimeClosed):
        key.open("t", b"r", sealed)
    with pytest.raises(RuntimeClosed):
        key.canary()


def test_a_key_that_nobody_has_any_more_is_overwritten() -> None:
    secret = bytearray(SECRET)
    key = DataKey(DATABASE, "user:alice", facts(), secret)
    gone = weakref.ref(key)
    del key
    gc.collect()
    assert gone() is None
    assert secret == bytes(32)


def test_no_secret_and_no_subject_is_in_a_repr() -> None:
    for shown in (repr(key_of()), repr(facts())):
        assert "alice" not in shown
        assert SECRET.hex() not in shown
        assert repr(SECRET) not in shown
