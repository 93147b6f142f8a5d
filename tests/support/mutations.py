"""What strangers send: frames with flipped bits, fields that changed places, cut, doubled and joined ones."""

from __future__ import annotations

import os
from collections.abc import Sequence

import msgpack
from hypothesis import strategies as st

from edge_runtime.wire import codec
from tests.support.frames import EXAMPLES

GOLDEN = tuple(codec.encode(message) for message in EXAMPLES.values())
"""One frame of every message."""
EXAMPLES_COUNT = int(os.environ.get("FUZZ_EXAMPLES", "300"))
"""Examples of each fuzzing test; `FUZZ_EXAMPLES=100000` for a long run by hand."""

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=70)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""Whatever msgpack can say."""


def mutated(frames: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """One of `frames`, damaged or rewritten."""
    one = st.sampled_from(list(frames))
    return st.one_of(
        st.builds(_flipped, one, st.lists(st.integers(0, 1 << 20), min_size=1, max_size=6)),
        st.builds(lambda frame, keep: frame[: keep % (len(frame) + 1)], one, st.integers(0, 1 << 16)),
        st.builds(_spliced, one, one, st.integers(0, 1 << 16), st.integers(0, 1 << 16)),
        st.builds(_swapped, one, one, st.integers(0, 99), st.integers(0, 99)),
        st.builds(_other_value, one, st.integers(0, 99), anything),
        st.builds(lambda frame, tail: frame + tail, one, st.binary(min_size=1, max_size=9)),
    )


def _flipped(frame: bytes, bits: Sequence[int]) -> bytes:
    damaged = bytearray(frame)
    for bit in bits:
        damaged[bit // 8 % len(damaged)] ^= 1 << bit % 8
    return bytes(damaged)


def _spliced(first: bytes, second: bytes, left: int, right: int) -> bytes:
    return first[: left % (len(first) + 1)] + second[right % (len(second) + 1) :]


def _swapped(first: bytes, second: bytes, left: int, right: int) -> bytes:
    """A field of one message with the value of a field of another."""
    into, source = msgpack.unpackb(first), msgpack.unpackb(second)
    names, others = sorted(into), sorted(source)
    into[names[left % len(names)]] = source[others[right % len(others)]]
    return bytes(msgpack.packb(into))


def _other_value(frame: bytes, place: int, value: object) -> bytes:
    fields = msgpack.unpackb(frame)
    names = sorted(fields)
    fields[names[place % len(names)]] = value
    try:
        return bytes(msgpack.packb(fields))
    except (UnicodeEncodeError, OverflowError, ValueError):  # what msgpack cannot say cannot be sent
        return frame[:-1]
