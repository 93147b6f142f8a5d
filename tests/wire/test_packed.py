"""Packed frames: fewer bytes, bounded before a byte is inflated, and nothing inside but one plain frame."""

from __future__ import annotations

import hashlib
import zlib

import msgspec
import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure

ROWS = [m.Row(n, f"item:{n}", "item_stats", 1, n, n, 0, False, b"\x81\xa1p\x01") for n in range(1, 1200)]
DELTA = m.Delta(channel="all", base=0, upto=1199, epoch=1, replacing=True, more=False, rows=ROWS)


def packed(plain: bytes, size: int | None = None) -> bytes:
    said = len(plain) if size is None else size
    return msgspec.msgpack.encode(m.Packed(size=said, body=zlib.compress(plain)))


def test_a_large_delta_is_packed_and_comes_back_as_it_was() -> None:
    frame = codec.encode_packed(DELTA)
    assert len(frame) < len(msgspec.msgpack.encode(DELTA)) * 7 // 8
    assert codec.decode(frame) == DELTA


def test_a_small_frame_and_one_that_does_not_shrink_stay_as_they_are() -> None:
    drop = m.Drop(channel="segment:gold")
    assert codec.encode_packed(drop) == codec.encode(drop)
    noise = b"".join(hashlib.blake2b(bytes([n])).digest() for n in range(16))
    note = m.ReceiptNote(receipt=noise, signature=bytes(range(64)))
    assert codec.encode_packed(note) == codec.encode(note)


def test_law_11_a_zip_bomb_is_refused_by_its_size_before_it_is_inflated() -> None:
    bomb = packed(bytes(50_000_000), size=2**20)
    assert len(bomb) < codec.FRAME_LIMIT_BYTES
    with pytest.raises(WireFailure, match="too_large"):
        codec.decode(bomb)


@pytest.mark.parametrize("size", [1, 100, codec.UNPACKED_LIMIT_BYTES])
def test_a_frame_that_lies_about_its_size_is_malformed(size: int) -> None:
    with pytest.raises(WireFailure, match="malformed"):
        codec.decode(packed(bytes(3_000_000), size=size))


def test_no_packed_frame_inside_another_and_nothing_after_the_stream() -> None:
    plain = codec.encode(m.Drop(channel="all"))
    with pytest.raises(WireFailure, match="malformed"):
        codec.decode(packed(packed(plain)))
    trailing = m.Packed(size=len(plain), body=zlib.compress(plain) + b"x")
    with pytest.raises(WireFailure, match="malformed"):
        codec.decode(msgspec.msgpack.encode(trailing))
    with pytest.raises(WireFailure, match="malformed"):
        codec.decode(msgspec.msgpack.encode(m.Packed(size=len(plain), body=zlib.compress(plain)[:-6])))


def test_what_does_not_fit_the_inner_limit_is_not_made() -> None:
    many = msgspec.structs.replace(DELTA, rows=ROWS * 8)
    with pytest.raises(WireFailure, match="too_large"):
        codec.encode_packed(many)


def test_a_version_that_is_not_spoken_is_told_apart_also_inside() -> None:
    drop = codec.encode(m.Drop(channel="all"))
    with pytest.raises(WireFailure, match="unsupported_version"):
        codec.decode(drop, spoken=(2,))
    assert codec.decode(drop, spoken=(2, 1)) == m.Drop(channel="all")
