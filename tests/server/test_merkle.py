"""Every root, inclusion and consistency proof equals the recursive definition of RFC 9162, section 2.1."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_server.consent import merkle

Nodes = dict[tuple[int, int], bytes]


def oracle_root(leaves: list[bytes]) -> bytes:
    """MTH, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + oracle_root(leaves[:k]) + oracle_root(leaves[k:])).digest()


def log_of(leaves: list[bytes]) -> Nodes:
    nodes: Nodes = {}
    for size, leaf in enumerate(leaves):
        for level, place, made in merkle.append(size, leaf, lambda a, b: nodes[a, b]):
            nodes[level, place] = made
    return nodes


LEAVES = [b"leaf %d" % i for i in range(70)]
NODES = log_of(LEAVES)


def node(level: int, place: int) -> bytes:
    return NODES[level, place]


@pytest.mark.parametrize("size", range(70))
def test_roots_equal_the_definition(size: int) -> None:
    """The root over kept subtrees is the root of the recursive definition, at every size."""
    assert merkle.root(size, node) == oracle_root(LEAVES[:size])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 64, 70])
def test_every_leaf_is_proven_and_nothing_else(size: int) -> None:
    """An inclusion proof verifies for its leaf, index, size and root, and for no other."""
    root = oracle_root(LEAVES[:size])
    for index in range(size):
        proof = merkle.inclusion(index, size, node)
        assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root)
        assert not merkle.verify_inclusion(b"other", index, size, proof, root)
        assert not merkle.verify_inclusion(LEAVES[index], index + 1, size, proof, root)
        assert not merkle.verify_inclusion(LEAVES[index], index, size, [*proof, root], root)
        assert not merkle.verify_inclusion(LEAVES[index], index, size, proof, oracle_root(LEAVES[: size - 1]))


@pytest.mark.parametrize("second", [1, 2, 5, 8, 13, 64, 70])
def test_every_older_log_is_a_prefix(second: int) -> None:
    """A consistency proof verifies between any two sizes, and not between roots that differ."""
    for first in range(1, second + 1):
        proof = merkle.consistency(first, second, node)
        old, new = oracle_root(LEAVES[:first]), oracle_root(LEAVES[:second])
        assert merkle.verify_consistency(first, second, proof, old, new)
        forked = oracle_root([b"forked", *LEAVES[1:first]])
        assert not merkle.verify_consistency(first, second, proof, forked, new)
        if proof:
            assert not merkle.verify_consistency(first, second, proof[:-1], old, new)


@given(st.integers(1, 70), st.integers(0, 69), st.lists(st.binary(min_size=32, max_size=32), max_size=8))
def test_invented_proofs_never_verify(size: int, index: int, proof: list[bytes]) -> None:
    """Random hashes prove nothing; only the true path does."""
    root = merkle.root(size, node)
    true = index < size and proof == merkle.inclusion(index, size, node)
    assert merkle.verify_inclusion(LEAVES[index], index, size, proof, root) is true


def test_the_vectors_of_certificate_transparency() -> None:
    """The reference log of eight leaves has the published roots."""
    leaves = [bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243")]
    leaves += [bytes.fromhex("5051525354555657"), bytes.fromhex("606162636465666768696a6b6c6d6e6f")]
    nodes = log_of(leaves)
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, wanted in roots.items():
        assert merkle.root(size, lambda a, b: nodes[a, b]).hex() == wanted
