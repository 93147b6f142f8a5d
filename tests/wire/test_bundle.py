"""Frames in one body: there and back, and every way to be wrong."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.wire.bundle import join, split
from edge_runtime.wire.codec import FRAME_LIMIT_BYTES
from edge_runtime.wire.failure import WireFailure


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=20))
def test_what_was_joined_is_split_again(frames: list[bytes]) -> None:
    assert split(join(frames), 20) == frames


def test_law_11_one_frame_and_their_number_are_bounded() -> None:
    largest = bytes(FRAME_LIMIT_BYTES)
    assert split(join([largest]), 1) == [largest]
    for body, frames in (
        (join([largest + b"x"]), 9),
        (join([b"a", b"b", b"c"]), 2),
        (b"\xff\xff\xff\xff", 9),
        (join([b"abc"]), 0),
    ):
        with pytest.raises(WireFailure, match="too_large"):
            split(body, frames)
    assert split(join([b"abc"]), 1, 3) == [b"abc"]
    with pytest.raises(WireFailure, match="too_large"):
        split(join([b"abcd"]), 1, 3)


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2a", b"\0\0\0\1ab"])
def test_law_12_a_body_that_is_cut_off_or_holds_nothing_is_malformed(body: bytes) -> None:
    with pytest.raises(WireFailure, match="malformed"):
        split(body, 9)


def test_law_12_a_damaged_body_is_refused_or_split_within_itself() -> None:
    """Ten thousand damaged bodies (seed 8): never more bytes out than came in."""
    rng = random.Random(8)
    whole = join([rng.randbytes(rng.randrange(1, 30)) for _ in range(6)])
    for _ in range(10_000):
        body = bytearray(whole[: rng.randrange(len(whole) + 1)])
        for _ in range(rng.randrange(4) if body else 0):
            body[rng.randrange(len(body))] = rng.randrange(256)
        with suppress(WireFailure):
            assert join(split(bytes(body), 40)) == body
