"""A sealed payload opens in its own place and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatabaseUnreadable
from edge_runtime.keys.datakey import DataKey, KeyRecord, new_record

DATABASE = b"d" * 16


def record(subject: str = "user:alice", purpose: str = "p") -> KeyRecord:
    return new_record(subject, purpose, b"i" * 16, "n", base=0, at_us=0, grant=0, ordinal=1, pending=())


@given(st.text(max_size=8), st.binary(max_size=20), st.binary(max_size=200))
def test_what_is_sealed_opens_in_its_place(table: str, row: bytes, plain: bytes) -> None:
    key = DataKey(DATABASE, record())
    sealed = key.seal(table, row, plain)
    assert DataKey(DATABASE, key.record()).open(table, row, sealed) == plain
    assert sealed != key.seal(table, row, plain)


@given(st.integers(0, 5))
def test_law_4_a_payload_moved_anywhere_else_does_not_open(what: int) -> None:
    made = record()
    sealed = DataKey(DATABASE, made).seal("journal", b"row-1", b"secret")
    same = (made.handle, made.secret)
    tail = made.__class__.__struct_fields__[4:]
    rest = tuple(getattr(made, name) for name in tail)
    elsewhere = [
        (DataKey(b"e" * 16, made), "journal", b"row-1"),
        (DataKey(DATABASE, made), "state", b"row-1"),
        (DataKey(DATABASE, made), "journal", b"row-2"),
        (DataKey(DATABASE, KeyRecord(*same, "user:bob", made.purpose, *rest)), "journal", b"row-1"),
        (DataKey(DATABASE, KeyRecord(*same, made.subject, "q", *rest)), "journal", b"row-1"),
        (
            DataKey(DATABASE, KeyRecord(b"x" * 16, made.secret, made.subject, made.purpose, *rest)),
            "journal",
            b"row-1",
        ),
    ]
    key, table, row = elsewhere[what]
    with pytest.raises(DatabaseUnreadable):
        key.open(table, row, sealed)


def test_table_and_row_do_not_run_into_each_other() -> None:
    key = DataKey(DATABASE, record())
    with pytest.raises(DatabaseUnreadable):
        key.open("t", b"ab", key.seal("ta", b"b", b"x"))


@given(st.integers(0, 43), st.integers(1, 255))
def test_a_changed_or_cut_payload_does_not_open(place: int, flip: int) -> None:
    key = DataKey(DATABASE, record())
    sealed = key.seal("t", b"r", b"0123456789abcdef")
    changed = sealed[:place] + bytes([sealed[place] ^ flip]) + sealed[place + 1 :]
    for wrong in (changed, sealed[:place]):
        with pytest.raises(DatabaseUnreadable):
            key.open("t", b"r", wrong)


def test_a_canary_opens_with_its_own_key_only() -> None:
    key = DataKey(DATABASE, record())
    assert key.opens_canary(key.canary())
    assert not DataKey(DATABASE, record()).opens_canary(key.canary())


def test_no_secret_is_in_a_repr() -> None:
    made = record()
    assert "alice" not in repr(DataKey(DATABASE, made))
    assert made.secret.hex() not in repr(DataKey(DATABASE, made))
