"""The Merkle log and its proofs equal RFC 9162, section 2.1: the definition, word by word, and the vectors of
Certificate Transparency's reference log, written out by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.wire.merkle import EMPTY_ROOT, leaf_hash, verify_consistency, verify_inclusion
from sync_server.consent import merkle
from tests.support.ledgers import MadeUp

# ---- the definition, slow and obvious ----------------------------------------------------------------------


def split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def oracle_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of 2.1.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + oracle_root(leaves[:k]) + oracle_root(leaves[k:])).digest()


def oracle_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """PATH of 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*oracle_path(index, leaves[:k]), oracle_root(leaves[k:])]
    return [*oracle_path(index - k, leaves[k:]), oracle_root(leaves[:k])]


def oracle_subproof(first: int, leaves: Sequence[bytes], known: bool) -> list[bytes]:
    """SUBPROOF of 2.1.4.1."""
    if first == len(leaves):
        return [] if known else [oracle_root(leaves)]
    k = split(len(leaves))
    if first <= k:
        return [*oracle_subproof(first, leaves[:k], known), oracle_root(leaves[k:])]
    return [*oracle_subproof(first - k, leaves[k:], False), oracle_root(leaves[:k])]


SIZES = 64
LEAVES = [b"leaf %d" % i for i in range(SIZES + 6)]
LOG = MadeUp(LEAVES)
ROOTS = [oracle_root(LEAVES[:size]) for size in range(len(LEAVES) + 1)]
FORKED = [oracle_root([b"forked", *LEAVES[1:size]]) for size in range(len(LEAVES) + 1)]


def test_roots_equal_the_definition_at_every_size() -> None:
    """The root over kept subtrees is the root of the recursive definition; none is that of no leaf."""
    assert [merkle.root(size, LOG.node) for size in range(len(LEAVES) + 1)] == ROOTS
    assert ROOTS[0] == EMPTY_ROOT


def test_every_inclusion_proof_to_64_leaves_is_the_definitions_and_verifies() -> None:
    """All (index, size) pairs: the proof is PATH, and it verifies where it belongs."""
    for size in range(1, SIZES + 1):
        for index in range(size):
            proof = merkle.inclusion(index, size, LOG.node)
            assert proof == oracle_path(index, LEAVES[:size])
            assert verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])


def test_every_consistency_proof_to_64_leaves_is_the_definitions_and_verifies() -> None:
    """All (first, second) pairs: the proof is PROOF, it verifies, and not from a forked beginning."""
    for second in range(1, SIZES + 1):
        for first in range(1, second + 1):
            proof = merkle.consistency(first, second, LOG.node)
            assert proof == oracle_subproof(first, LEAVES[:second], True)
            assert verify_consistency(first, second, proof, ROOTS[first], ROOTS[second])
            assert not verify_consistency(first, second, proof, FORKED[first], ROOTS[second])
            assert not verify_consistency(first, second, proof, ROOTS[first], FORKED[second])


# ---- bad proofs, of each kind ------------------------------------------------------------------------------


def spoiled(proof: list[bytes]) -> list[list[bytes]]:
    """The proof cut, lengthened, with steps exchanged, doubled, empty or of another length."""
    other = hashlib.sha256(b"other").digest()
    made = [[*proof, other], [other, *proof], [*proof, b""], [*proof, *proof], [*proof, EMPTY_ROOT]]
    for at in range(len(proof)):
        cut, step = proof[:at] + proof[at + 1 :], proof[at]
        made += [cut, [*proof[:at], step, *proof[at:]]]
        made += [[*proof[:at], bad, *proof[at + 1 :]] for bad in (other, step[:-1], step + b"\x00", b"")]
        made += [[*proof[:at], bytes([step[0] ^ 1]) + step[1:], *proof[at + 1 :]]]
    for at in range(len(proof) - 1):
        made += [[*proof[:at], proof[at + 1], proof[at], *proof[at + 2 :]]]
    return [bad for bad in made if bad != proof]


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8, 9, 31, 33, 64])
def test_no_spoiled_inclusion_proof_verifies(size: int) -> None:
    """Another leaf, index, size or root, and every proof that differs in anything, is refused."""
    for index in range(size):
        proof, leaf, root = merkle.inclusion(index, size, LOG.node), LEAVES[index], ROOTS[size]
        for bad in spoiled(proof):
            assert not verify_inclusion(leaf, index, size, bad, root)
        for wrong in {*range(-2, size + 2)} - {index}:
            assert not verify_inclusion(leaf, wrong, size, proof, root)
        for wrong in {0, *range(1, size), size + 1, 2 * size} - {size}:
            assert not verify_inclusion(leaf, index, wrong, proof, ROOTS[min(wrong, 70)])
        assert not verify_inclusion(b"other", index, size, proof, root)
        assert not verify_inclusion(leaf, index, size, proof, ROOTS[size - 1])
        assert not verify_inclusion(leaf_hash(leaf), index, size, proof, root)


@pytest.mark.parametrize("second", [1, 2, 3, 6, 7, 8, 9, 31, 33, 64])
def test_no_spoiled_consistency_proof_verifies(second: int) -> None:
    """Another size or root, and every proof that differs in anything, is refused."""
    for first in range(1, second + 1):
        proof = merkle.consistency(first, second, LOG.node)
        for bad in spoiled(proof):
            assert not verify_consistency(first, second, bad, ROOTS[first], ROOTS[second])
        for wrong in {*range(-1, second + 2)} - {first}:
            assert not verify_consistency(wrong, second, proof, ROOTS[first], ROOTS[second])
        assert not verify_consistency(second + 1, second, proof, ROOTS[second + 1], ROOTS[second])
        if first < second:
            assert not verify_consistency(first, second, proof, ROOTS[second], ROOTS[first])


def test_nothing_is_proven_of_the_empty_log() -> None:
    """Size 0 has no leaf to include and is no beginning that a proof could show."""
    assert not verify_inclusion(b"", 0, 0, [], EMPTY_ROOT)
    assert not verify_consistency(0, 0, [], EMPTY_ROOT, EMPTY_ROOT)
    assert not verify_consistency(0, 1, [], EMPTY_ROOT, ROOTS[1])
    with pytest.raises(ValueError, match="expected 0 < first"):
        merkle.consistency(0, 1, LOG.node)
    with pytest.raises(ValueError, match="expected 0 <= index"):
        merkle.inclusion(1, 1, LOG.node)


def test_a_node_is_never_taken_for_a_leaf() -> None:
    """The second-preimage trick: two inner hashes given out as one leaf of a smaller log."""
    left, right = oracle_root(LEAVES[:2]), oracle_root(LEAVES[2:4])
    assert not verify_inclusion(left + right, 0, 1, [], ROOTS[4])
    assert verify_inclusion(LEAVES[0], 0, 1, [], ROOTS[1])


@given(st.integers(1, 70), st.integers(0, 69), st.lists(st.binary(min_size=32, max_size=32), max_size=8))
def test_invented_proofs_never_verify(size: int, index: int, proof: list[bytes]) -> None:
    """Random hashes prove nothing; only the true path does."""
    true = index < size and proof == merkle.inclusion(index, size, LOG.node)
    assert verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size]) is true


# ---- the vectors -------------------------------------------------------------------------------------------

REFERENCE_LEAVES = (
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
)
REFERENCE_ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
"""Of 0 to 8 leaves. Leaves, roots and proofs: `testonly/constants.go` and `proof/verify_test.go` of
transparency-dev/merkle, from Certificate Transparency's reference log (RFC 6962; RFC 9162 hashes alike)."""
REFERENCE_INCLUSION = {
    (0, 1): (),
    (0, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (5, 8): (
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 3): ("fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",),
    (1, 5): (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}
"""(index from 0, size) -> proof."""
REFERENCE_CONSISTENCY = {
    (1, 1): (),
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
    (6, 7): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
}
"""(first, second) -> proof."""


def raw(proof: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(step) for step in proof]


REFERENCE_BYTES, REFERENCE = raw(REFERENCE_LEAVES), MadeUp(raw(REFERENCE_LEAVES))


def test_the_reference_log_has_the_published_roots() -> None:
    """Of every size from 0 to 8."""
    assert [merkle.root(n, REFERENCE.node).hex() for n in range(9)] == list(REFERENCE_ROOTS)


@pytest.mark.parametrize(("index", "size"), REFERENCE_INCLUSION)
def test_the_published_inclusion_proofs_are_ours_and_verify(index: int, size: int) -> None:
    """The same hashes in the same order; with one bit changed they prove nothing."""
    proof, root = raw(REFERENCE_INCLUSION[index, size]), bytes.fromhex(REFERENCE_ROOTS[size])
    assert merkle.inclusion(index, size, REFERENCE.node) == proof
    assert verify_inclusion(REFERENCE_BYTES[index], index, size, proof, root)
    for bad in spoiled(proof):
        assert not verify_inclusion(REFERENCE_BYTES[index], index, size, bad, root)


@pytest.mark.parametrize(("first", "second"), REFERENCE_CONSISTENCY)
def test_the_published_consistency_proofs_are_ours_and_verify(first: int, second: int) -> None:
    """The same hashes in the same order; with one bit changed they prove nothing."""
    proof = raw(REFERENCE_CONSISTENCY[first, second])
    old, new = (bytes.fromhex(REFERENCE_ROOTS[size]) for size in (first, second))
    assert merkle.consistency(first, second, REFERENCE.node) == proof
    assert verify_consistency(first, second, proof, old, new)
    for bad in spoiled(proof):
        assert not verify_consistency(first, second, bad, old, new)
