"""Sealed under many keys at once: with all of them it opens, without any one of them it does not."""

from __future__ import annotations

import os
from itertools import combinations

import pytest

from edge_runtime.errors import DatabaseUnreadable, RuntimeClosed
from edge_runtime.keys.datakey import DataKey, new_facts
from edge_runtime.keys.joint import Joint, open_jointly, seal_jointly

PLAIN, ROW = b"what a kiosk says of all its people", b"r" * 16


def keys(count: int) -> list[DataKey]:
    facts = [new_facts("m", bytes(16), "1", base=0, at_us=0, grant=0, ordinal=n) for n in range(count)]
    return [
        DataKey(b"d" * 16, f"user:joint-holder-{n}", f, bytearray(os.urandom(32)))
        for n, f in enumerate(facts)
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_with_all_keys_it_opens(count: int) -> None:
    held = keys(count)
    joint = seal_jointly(held, "outbox", ROW, PLAIN)
    assert open_jointly(held, "outbox", ROW, joint) == PLAIN
    assert len(joint.shares) == count
    assert all(len(share) == 60 for share in joint.shares)


def test_no_set_of_keys_that_lacks_one_opens_it() -> None:
    """Nor any in another order, or with a stranger in the place of one."""
    held = keys(4)
    joint = seal_jointly(held, "outbox", ROW, PLAIN)
    stranger = keys(1)
    for size in range(4):
        for some in combinations(held, size):
            with pytest.raises(DatabaseUnreadable):
                open_jointly(some, "outbox", ROW, joint)
    for wrong in ([*held[1:], held[0]], [*held[:3], *stranger], [*stranger, *held[1:]]):
        with pytest.raises(DatabaseUnreadable):
            open_jointly(wrong, "outbox", ROW, joint)
    held[2].destroy()
    with pytest.raises(RuntimeClosed):
        open_jointly(held, "outbox", ROW, joint)


def test_the_shares_of_all_others_give_a_key_that_opens_nothing() -> None:
    """Also put together by hand, with a share of zeros or a copied one in the missing place."""
    held = keys(3)
    joint = seal_jointly(held, "outbox", ROW, PLAIN)
    zeros = held[2].seal("outbox", ROW, bytes(32))
    short = held[2].seal("outbox", ROW, bytes(31))
    for third in (zeros, short, joint.shares[0]):
        made = Joint([*joint.shares[:2], third], joint.body)
        with pytest.raises(DatabaseUnreadable):
            open_jointly(held, "outbox", ROW, made)


@pytest.mark.parametrize(("table", "row"), [("outbox", b"x" * 16), ("journal", ROW)])
def test_it_opens_in_its_own_place_only(table: str, row: bytes) -> None:
    held = keys(2)
    joint = seal_jointly(held, "outbox", ROW, PLAIN)
    with pytest.raises(DatabaseUnreadable):
        open_jointly(held, table, row, joint)


def test_any_bit_flipped_does_not_open() -> None:
    held = keys(2)
    joint = seal_jointly(held, "outbox", ROW, PLAIN)
    for at in range(len(joint.body)):
        body = joint.body[:at] + bytes([joint.body[at] ^ 1]) + joint.body[at + 1 :]
        with pytest.raises(DatabaseUnreadable):
            open_jointly(held, "outbox", ROW, Joint(joint.shares, body))


def test_two_seals_share_no_key_and_no_share() -> None:
    held = keys(2)
    first, second = (seal_jointly(held, "outbox", ROW, PLAIN) for _ in range(2))
    opened = [
        [key.open("outbox", ROW, share) for key, share in zip(held, joint.shares, strict=True)]
        for joint in (first, second)
    ]
    assert len({share for shares in opened for share in shares}) == 4
    with pytest.raises(DatabaseUnreadable):
        open_jointly(held, "outbox", ROW, Joint(first.shares, second.body))
