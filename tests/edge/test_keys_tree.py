"""The key tree is a dictionary: whatever was put in is found, and what was replaced no longer opens."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import KeystoreMismatch
from edge_runtime.keys import node, tree
from edge_runtime.keys.node import Ref
from edge_runtime.keys.nodefile import MemoryNodes
from edge_runtime.keys.tree import Change, Tree
from tests.support.remnants import opens

CONTEXT = b"EDGEKEYS2" + b"d" * 16
ids = st.builds(
    lambda head, tail: (bytes([0] * head) + bytes(tail))[:16].ljust(16, b"\x01"),
    st.integers(0, 15),
    st.lists(st.integers(0, 255), max_size=2),
)
"""Ids that share long beginnings, so that leaves are divided to the end."""
changes = st.dictionaries(ids, st.one_of(st.none(), st.binary(min_size=1, max_size=40)), max_size=80)


def put(one: Tree, entries: dict[bytes, bytes | None]) -> Change:
    change = one.changed({id_: None if raw is None else bytearray(raw) for id_, raw in entries.items()})
    one.adopt(change)
    return change


def everything(one: Tree) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    place: bytes | None = None
    while part := one.after(place):
        assert not set(part) & set(found)
        found |= {id_: bytes(raw) for id_, raw in part.items()}
        place = max(part)
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(changes, min_size=1, max_size=6))
def test_a_tree_is_a_dictionary_however_it_is_changed(rounds: list[dict[bytes, bytes | None]]) -> None:
    one, model, live = Tree(MemoryNodes(), None, CONTEXT), dict[bytes, bytes](), 0
    for entries in rounds:
        live += put(one, entries).grown_bytes
        for id_, raw in entries.items():
            if raw is None:
                model.pop(id_, None)
            else:
                model[id_] = raw
        again = Tree(one.file, one.root, CONTEXT)
        for other in (one, again):
            assert everything(other) == model
            assert {id_: bytes(other.find(id_) or b"") for id_ in model} == model
            assert all(other.find(id_) is None for id_ in set(entries) - set(model))
        assert live == again.length()
    assert (one.root is None) == (not model)


def grown(count: int, seed: int = 1) -> tuple[Tree, dict[bytes, bytes]]:
    rng = random.Random(seed)
    model = {rng.randbytes(16): rng.randbytes(30) for _ in range(count)}
    one = Tree(MemoryNodes(), None, CONTEXT)
    put(one, dict(model))
    return one, model


def test_many_ids_with_one_beginning_make_a_leaf_at_the_end_of_the_path() -> None:
    model = {bytes(15) + bytes([n]): b"%d" % n for n in range(256)}
    one = Tree(MemoryNodes(), None, CONTEXT)
    put(one, dict(model))
    assert everything(one) == model
    put(one, dict.fromkeys(list(model)[:250]))
    assert everything(one) == dict(list(model.items())[250:])
    put(one, dict.fromkeys(model))
    assert one.root is None


def test_a_change_writes_one_path_whatever_the_size() -> None:
    """Flat: three nodes at 5,000 entries and the same three at 100,000."""
    written = {}
    for count in (5_000, 100_000):
        one, model = grown(count)
        start = one.file.end
        change = put(one, {next(iter(model)): b"other"})
        written[count] = (len(change.replaced), one.file.end - start)
    assert written[5_000][0] == written[100_000][0] == 3
    assert written[100_000][1] < 2 * written[5_000][1]


@pytest.mark.parametrize("count", [1, 60, 5_000])
def test_law_4_what_a_change_replaced_opens_under_no_key_that_the_new_root_leads_to(count: int) -> None:
    one, model = grown(count)
    gone = next(iter(model))
    before = {
        (e.offset, e.length): one.file.read(e.offset, e.length) for e in put(one, {gone: None}).replaced
    }
    keys = list(reachable(one))
    for sealed in before.values():
        assert not [key for key in keys if opens(key, sealed, CONTEXT)]
    assert len(keys) == len(set(keys)), "no key seals twice"


def reachable(one: Tree) -> list[bytes]:
    """The key of every node below the root, the root's own among them."""

    def below(ref: Ref) -> list[bytes]:
        if ref.leaf:
            return [bytes(ref.key)]
        branch = bytearray(one.branch(ref))
        return [bytes(ref.key)] + [key for _, child in node.children(branch) for key in below(child)]

    return [] if one.root is None else below(one.root)


def test_few_opened_branches_are_held_and_the_others_are_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "BRANCHES_HELD", 2)
    one, model = grown(6_000)
    assert everything(one) == model
    held = list(one._branches.values())
    assert len(held) == 2
    put(one, {next(iter(model)): None})
    one.wipe()
    assert not [branch for branch in held if any(branch)]


def test_a_damaged_node_is_an_error_for_its_subjects_and_for_nobody_else() -> None:
    one, model = grown(5_000)
    ids_ = sorted(model)
    root = one.root
    assert root is not None
    branch = bytearray(one.branch(root))
    slot, ref = next(node.children(branch))
    one.file.zero(ref.offset, ref.length)
    again = Tree(one.file, root, CONTEXT)
    for id_ in ids_:
        if node.slot_of(id_, 0) == slot:
            with pytest.raises(KeystoreMismatch):
                again.find(id_)
        else:
            assert bytes(again.find(id_) or b"") == model[id_]
