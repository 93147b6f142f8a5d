"""Reports as they travel: RFC 9180, padded, for one collector and one round, and nothing else opens."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.sealed_report import (
    LEAST_BYTES,
    MOST_BYTES,
    Answered,
    open_report,
    report_id,
    seal_report,
    sealed_bytes,
)

COLLECTOR = X25519PrivateKey.from_private_bytes(b"c" * 32)
PUBLIC = COLLECTOR.public_key().public_bytes_raw()
ROUND, OTHER = b"r" * 16, b"o" * 16
ANSWERED = Answered(b"d" * 16, [b"t" * 16], b"\x05")


# ---- RFC 9180, base mode, by its text: a slow second implementation ----------------------------------------

_KEM, _HPKE = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x01"
"""Suite ids (sections 4.1 and 5.1): DHKEM(X25519, HKDF-SHA256); with HKDF-SHA256 and AES-128-GCM."""


def _hmac(key: bytes, *parts: bytes) -> bytes:
    made = HMAC(key, SHA256())
    for part in parts:
        made.update(part)
    return made.finalize()


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    """LabeledExtract (section 4)."""
    return _hmac(salt or bytes(32), b"HPKE-v1" + suite + label + secret)


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (section 4), for at most one block."""
    return _hmac(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, b"\x01")[:length]


def opened_by_the_text(key: X25519PrivateKey, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    """SetupBaseR and Open of the first message (sections 4.1, 5.1 and 5.2)."""
    enc, ciphertext = sealed[:32], sealed[32:]
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + key.public_key().public_bytes_raw()
    shared = _expand(_KEM, _extract(_KEM, b"", b"eae_prk", dh), b"shared_secret", context, 32)
    schedule = b"\x00" + _extract(_HPKE, b"", b"psk_id_hash", b"") + _extract(_HPKE, b"", b"info_hash", info)
    secret = _extract(_HPKE, shared, b"secret", b"")
    cipher = AESGCM(_expand(_HPKE, secret, b"key", schedule, 16))
    return cipher.decrypt(_expand(_HPKE, secret, b"base_nonce", schedule, 12), ciphertext, aad)


def test_the_second_implementation_opens_the_vector_of_the_rfc() -> None:
    """RFC 9180, A.1.1. Its messages have associated data, which the library's one-shot call does not take."""
    key = bytes.fromhex("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8")
    enc = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"
    ciphertext = "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"
    plain = opened_by_the_text(
        X25519PrivateKey.from_private_bytes(key),
        b"Ode on a Grecian Urn",
        b"Count-0",
        bytes.fromhex(enc + ciphertext),
    )
    assert plain == b"Beauty is truth, truth beauty"


def test_what_we_seal_opens_by_the_text_of_the_rfc() -> None:
    """So anybody's RFC 9180 reads our reports, and the library is held to the vector through ours."""
    sealed = seal_report(PUBLIC, ROUND, ANSWERED)
    plain = opened_by_the_text(COLLECTOR, b"edge-report-1" + ROUND, b"", sealed)
    assert len(plain) == LEAST_BYTES
    assert plain[4:].rstrip(b"\x00").endswith(b"\x05")


# ---- who opens it ------------------------------------------------------------------------------------------


def test_it_opens_for_its_collector_in_its_round_alone() -> None:
    sealed = seal_report(PUBLIC, ROUND, ANSWERED)
    assert open_report(COLLECTOR, ROUND, sealed) == ANSWERED
    for key, round_id in ((COLLECTOR, OTHER), (X25519PrivateKey.generate(), ROUND)):
        with pytest.raises(WireFailure, match="unsealed"):
            open_report(key, round_id, sealed)


def test_a_report_with_any_bit_flipped_cut_or_longer_is_refused() -> None:
    sealed = seal_report(PUBLIC, ROUND, ANSWERED)
    changed = [
        sealed[:at] + bytes([sealed[at] ^ (1 << bit)]) + sealed[at + 1 :]
        for at in range(len(sealed))
        for bit in range(8)
    ]
    # the top bit of an X25519 public key is ignored (RFC 7748), but HPKE's key schedule covers it
    for damaged in [*changed, *(sealed[:cut] for cut in range(len(sealed))), sealed + b"\x00"]:
        with pytest.raises(WireFailure, match="unsealed"):
            open_report(COLLECTOR, ROUND, damaged)


def test_a_body_that_is_padded_otherwise_is_refused() -> None:
    """Sealed with the right key, but not as we pad: more, not with zeros, or a length that lies."""
    from edge_runtime.wire import sealed_report as module

    good = seal_report(PUBLIC, ROUND, ANSWERED)
    plain = opened_by_the_text(COLLECTOR, b"edge-report-1" + ROUND, b"", good)
    longer, marked, lying = plain.ljust(256, b"\0"), plain[:-1] + b"\x01", b"\x00\x00\x01\x00" + plain[4:]
    for body in (longer, marked, lying, plain[:64], b"", b"\xff" * 128):
        sealed = module._suite().encrypt(body, COLLECTOR.public_key(), info=b"edge-report-1" + ROUND)
        with pytest.raises(WireFailure, match="malformed"):
            open_report(COLLECTOR, ROUND, sealed)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"])
def test_nothing_is_sealed_to_a_key_of_small_order(key: bytes) -> None:
    """Its shared secret would be zero, and anybody could open the report."""
    with pytest.raises(ValueError, match=r".*"):
        seal_report(key, ROUND, ANSWERED)


# ---- what its size says ------------------------------------------------------------------------------------


def test_sizes_come_in_powers_of_two_from_the_smallest_on() -> None:
    rng = random.Random(5)
    for _ in range(300):
        answer = rng.randbytes(rng.randrange(3_000))
        sealed = seal_report(PUBLIC, ROUND, Answered(b"d" * 16, [b"t" * 16], answer))
        padded = len(sealed) - 48
        assert padded >= LEAST_BYTES
        assert padded & (padded - 1) == 0
        assert open_report(COLLECTOR, ROUND, sealed).answer == answer
    assert sealed_bytes(LEAST_BYTES - 4) == LEAST_BYTES + 48
    assert sealed_bytes(LEAST_BYTES - 3) == 2 * LEAST_BYTES + 48
    with pytest.raises(ValueError, match="at most"):
        sealed_bytes(MOST_BYTES)


def test_no_two_sealed_reports_are_alike() -> None:
    """The same answer of the same subject, sealed twice, is two strangers to whoever carries them."""
    first, second = (seal_report(PUBLIC, ROUND, ANSWERED) for _ in range(2))
    assert report_id(first) != report_id(second)
    assert not set(_windows(first)) & set(_windows(second))


def _windows(sealed: bytes) -> list[bytes]:
    return [sealed[at : at + 8] for at in range(len(sealed) - 8)]
