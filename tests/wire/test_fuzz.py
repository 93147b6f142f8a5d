"""Fuzzing the wire: whatever arrives is a message or is refused with a code, in bounded memory.

Fixed seeds; a long run by hand: `FUZZ_EXAMPLES=100000 python -m pytest tests/wire/test_fuzz.py`.
"""

from __future__ import annotations

import json
import tracemalloc
import zlib
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.refusal import CODES
from tests.support.mutations import EXAMPLES_COUNT, GOLDEN, anything, mutated

SUITE = Path(__file__).parent.parent / "data" / "msgpack_test_suite" / "msgpack-test-suite.json"
SUITE_FRAMES = tuple(
    bytes.fromhex(text.replace("-", ""))
    for members in json.loads(SUITE.read_text()).values()
    for case in members
    for text in case["msgpack"]
)
LIMIT = codec.FRAME_LIMIT_BYTES
PLAIN_PEAK_BYTES, PACKED_PEAK_BYTES = 8 << 20, 32 << 20
"""Most memory that one frame may take while it is decoded: as it came (64 KiB), and packed (256 KiB inside).
An empty list is one byte on the wire and some 64 in memory, so these are some 128 times the bytes."""


def judged(frame: bytes) -> m.Message | None:
    """The message in `frame`; None when it was refused as it must be."""
    try:
        return codec.decode(frame)
    except WireFailure as failure:
        code = failure.code
    assert code in CODES
    assert code in ("malformed", "unsupported_version", "too_large")
    return None


@settings(max_examples=EXAMPLES_COUNT)
@given(st.binary(max_size=200) | st.binary(max_size=6).map(lambda head: head + bytes(LIMIT)))
def test_any_bytes_are_a_message_or_refused(frame: bytes) -> None:
    judged(frame)


@settings(max_examples=EXAMPLES_COUNT * 4)
@given(mutated(GOLDEN))
def test_a_damaged_golden_frame_is_a_message_or_refused(frame: bytes) -> None:
    """What is understood can be said again, and is understood as the same."""
    message = judged(frame)
    if message is not None:
        assert codec.decode(codec.encode(message)) == message


@settings(max_examples=EXAMPLES_COUNT)
@given(st.sampled_from(GOLDEN), st.sampled_from(SUITE_FRAMES), st.integers(0, 99))
def test_a_value_of_the_msgpack_suite_in_any_field_is_judged(frame: bytes, value: bytes, place: int) -> None:
    """Also extensions, timestamps and numbers that no field takes."""
    fields = msgpack.unpackb(frame)
    name = sorted(fields)[place % len(fields)]
    raw = {key: msgspec.Raw(value if key == name else msgpack.packb(said)) for key, said in fields.items()}
    judged(msgspec.msgpack.encode(raw))


@settings(max_examples=EXAMPLES_COUNT)
@given(st.dictionaries(st.sampled_from(["t", "v", "size", "body", "rows", "x"]), anything, max_size=6))
def test_any_map_is_a_message_or_refused(fields: dict[str, object]) -> None:
    try:
        frame = bytes(msgpack.packb(fields))
    except (UnicodeEncodeError, OverflowError):
        return
    judged(frame)


# ---- packed ------------------------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES_COUNT)
@given(
    st.one_of(st.sampled_from(GOLDEN), mutated(GOLDEN), st.binary(max_size=300)),
    st.integers(-3, 3) | st.integers(-(2**31), 2**31),
    st.integers(0, 6),
    st.binary(max_size=4),
)
def test_a_packed_frame_that_lies_or_is_damaged_is_refused(
    plain: bytes, lie: int, cut: int, tail: bytes
) -> None:
    """Another size, a cut stream, bytes after it, nonsense inside."""
    stream = zlib.compress(plain)
    body = stream[: len(stream) - cut] + tail
    message = judged(bytes(msgpack.packb({"t": "packed", "v": 1, "size": len(plain) + lie, "body": body})))
    if message is not None:
        assert (lie, cut, tail) == (0, 0, b"")
        assert message == judged(plain)


def test_no_packed_frame_in_a_packed_frame_however_deep() -> None:
    frame = GOLDEN[0]
    for depth in range(6):
        frame = msgspec.msgpack.encode(m.Packed(size=len(frame), body=zlib.compress(frame)))
        assert (judged(frame) is None) == (depth > 0)


# ---- memory ------------------------------------------------------------------------------------------------

BOMBS = {
    "empty lists": b"\x91" + b"\xdd" + (LIMIT - 64).to_bytes(4, "big") + b"\x90" * (LIMIT - 64),
    "empty maps": b"\xdd" + (LIMIT - 64).to_bytes(4, "big") + b"\x80" * (LIMIT - 64),
    "lists within lists": b"\x91" * (LIMIT - 1) + b"\xc0",
    "a list that is announced and does not come": b"\xdd\xff\xff\xff\xff",
    "a string that is announced and does not come": b"\xdb\xff\xff\xff\xff",
    "a map of short names": b"\xdf"
    + (LIMIT // 7).to_bytes(4, "big")
    + b"".join(b"\xa5%05d\xc0" % n for n in range(LIMIT // 7)),
    "one long string": b"\xdb" + (LIMIT - 5).to_bytes(4, "big") + b"a" * (LIMIT - 5),
    "small floats": b"\xdd"
    + (LIMIT // 9).to_bytes(4, "big")
    + b"\xcb\x00\x00\x00\x00\x00\x00\x00\x01" * (LIMIT // 9),
}


def peak_of(frame: bytes) -> int:
    """Most bytes held while `frame` was decoded."""
    tracemalloc.start()
    try:
        judged(frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
def test_law_11_no_frame_takes_more_memory_than_is_stated(name: str) -> None:
    """As it came, in a field of a message, and packed to the limit of what may be inside."""
    bomb = BOMBS[name]
    assert peak_of(bomb[:LIMIT]) < PLAIN_PEAK_BYTES
    fields = {"t": msgpack.packb("delta"), "v": b"\x01", "rows": bomb[: LIMIT - 32]}
    inside = msgspec.msgpack.encode({name: msgspec.Raw(raw) for name, raw in fields.items()})
    assert peak_of(inside) < PLAIN_PEAK_BYTES
    large = (bomb * 5)[: codec.UNPACKED_LIMIT_BYTES]
    if name.startswith("empty"):
        count = codec.UNPACKED_LIMIT_BYTES - 64
        large = b"\xdd" + count.to_bytes(4, "big") + bomb[-1:] * count
    packed = msgspec.msgpack.encode(m.Packed(size=len(large), body=zlib.compress(large)))
    assert peak_of(packed) < PACKED_PEAK_BYTES


def test_law_11_a_zip_bomb_is_never_inflated_beyond_its_limit() -> None:
    """Sixty megabytes of nothing in a frame of as many kilobytes, whatever size it claims."""
    deflated = zlib.compressobj(9)
    body = b"".join(deflated.compress(bytes(1 << 20)) for _ in range(60)) + deflated.flush()
    assert len(body) < LIMIT
    for size in (1, codec.UNPACKED_LIMIT_BYTES, codec.UNPACKED_LIMIT_BYTES + 1, 2**20):
        assert peak_of(msgspec.msgpack.encode(m.Packed(size=size, body=body))) < PACKED_PEAK_BYTES


@settings(max_examples=max(EXAMPLES_COUNT // 4, 25))
@given(mutated(GOLDEN))
def test_law_11_damaged_frames_take_little_memory(frame: bytes) -> None:
    assert peak_of(frame) < PLAIN_PEAK_BYTES
