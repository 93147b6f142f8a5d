"""Signatures say one thing in one place; a statement moved anywhere else does not verify."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.wire import digest, seal
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from tests.support.frames import EXAMPLES, NONCE, SUBJECT

KEY = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\x01")
PUBLIC = seal.public_bytes(KEY)


def test_a_signature_for_one_purpose_never_verifies_for_another() -> None:
    """The context is part of what is signed."""
    contexts = [seal.HELLO, seal.WELCOME, seal.LEASE, seal.CHECKPOINT, seal.RECEIPT, seal.ENROL]
    signature = seal.sign(KEY, seal.HELLO, b"body")
    seal.verify(PUBLIC, seal.HELLO, b"body", signature)
    for context in contexts[1:]:
        with pytest.raises(WireFailure, match="bad_signature"):
            seal.verify(PUBLIC, context, b"body", signature)


@pytest.mark.parametrize("public_key", sorted(seal.SMALL_ORDER), ids=lambda key: key.hex()[:8])
def test_a_key_of_small_order_signs_nothing(public_key: bytes) -> None:
    """With such a key an all-zero signature would hold for every message; it is refused as a key."""
    for signature in (bytes(64), b"\x01" + bytes(63), public_key + bytes(32)):
        with pytest.raises(WireFailure, match="bad_signature"):
            seal.verify(public_key, seal.RECEIPT, b"anything", signature)


@pytest.mark.parametrize("public_key", [b"", bytes(31), bytes(33), b"\xff" * 32])
def test_a_broken_public_key_is_a_bad_signature_and_no_crash(public_key: bytes) -> None:
    """Keys come from strangers too."""
    with pytest.raises(WireFailure, match="bad_signature"):
        seal.verify(public_key, seal.HELLO, b"body", bytes(64))


def test_every_field_of_a_welcome_and_of_its_challenge_is_signed() -> None:
    """Nobody in between can exchange the incarnation, the time or the lane head."""
    challenge, welcome = EXAMPLES["challenge"], EXAMPLES["welcome"]
    assert isinstance(challenge, m.Challenge)
    assert isinstance(welcome, m.Welcome)
    body = seal.welcome_bytes("dev-1", challenge, welcome)
    changed = [
        seal.welcome_bytes("dev-2", challenge, welcome),
        seal.welcome_bytes("dev-1", msgspec.structs.replace(challenge, incarnation=bytes(16)), welcome),
        seal.welcome_bytes("dev-1", msgspec.structs.replace(challenge, nonce=bytes(32)), welcome),
        seal.welcome_bytes("dev-1", challenge, msgspec.structs.replace(welcome, lane_head=8)),
        seal.welcome_bytes("dev-1", challenge, msgspec.structs.replace(welcome, counter=1)),
        seal.welcome_bytes("dev-1", challenge, msgspec.structs.replace(welcome, nonce=bytes(32))),
    ]
    assert body not in changed
    assert len(set(changed)) == len(changed)


def test_every_field_of_a_hello_is_signed() -> None:
    """A Hello cannot be bent on its way."""
    hello = EXAMPLES["hello"]
    assert isinstance(hello, m.Hello)
    changes: list[dict[str, object]] = [
        {"device_id": "x"},
        {"nonce": bytes(32)},
        {"lane": 0},
        {"counter": 0},
        {"catalog": "x@1"},
        {"cursors": {}},
    ]
    bodies = {seal.hello_bytes(NONCE, msgspec.structs.replace(hello, **c)) for c in changes}
    bodies |= {seal.hello_bytes(NONCE, hello), seal.hello_bytes(bytes(32), hello)}
    assert len(bodies) == len(changes) + 2


@given(st.binary(min_size=16, max_size=16))
def test_a_subject_token_names_its_pseudonym_and_nothing_else_does(subject: bytes) -> None:
    """Tokens and pseudonyms are one to one."""
    token = seal.subject_token(subject)
    assert seal.token_subject(token) == subject
    for other in (token.upper(), token[:-1], token + "a", token[1:], "~" + "a" * 25 + "b"):
        if other != token:
            with pytest.raises(WireFailure, match="malformed"):
                seal.token_subject(other)


def test_the_digest_does_not_depend_on_order_and_a_delete_adds_nothing() -> None:
    """The sum of a channel is the same whatever the order of arrival."""
    delta = EXAMPLES["delta"]
    assert isinstance(delta, m.Delta)
    row, deleted = delta.rows
    hashes = [digest.row_hash(NONCE, "all", msgspec.structs.replace(row, seq=n)) for n in range(5)]
    forward, backward = 0, 0
    for part in hashes:
        forward = digest.add(forward, added=part)
    for part in reversed(hashes):
        backward = digest.add(backward, added=part)
    assert forward == backward
    assert len(set(hashes)) == 5
    assert digest.row_hash(NONCE, "all", deleted) == 0
    assert digest.row_hash(NONCE, "other", row) != digest.row_hash(NONCE, "all", row)
    assert digest.row_hash(bytes(32), "all", row) != digest.row_hash(NONCE, "all", row)
    assert digest.from_bytes(digest.to_bytes(forward)) == forward


def test_a_pseudonym_cannot_be_tested_without_the_key() -> None:
    """Another tenant's key gives another name."""
    assert seal.pseudonym(NONCE, "user:alice") != seal.pseudonym(bytes(32), "user:alice")
    assert len(seal.pseudonym(NONCE, "user:alice")) == len(SUBJECT)
