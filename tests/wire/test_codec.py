"""Bytes from strangers: refused with a code, never with a quote of what they said, and never with a crash."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.wire import codec
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Delta, Lane, LaneAck, Row
from tests.support.frames import EXAMPLES, SUBJECT

SUITE = Path(__file__).parent.parent / "data" / "msgpack_test_suite" / "msgpack-test-suite.json"
LIMIT = codec.FRAME_LIMIT_BYTES


def code_of(frame: bytes, limit: int = LIMIT) -> str:
    with pytest.raises(WireFailure) as caught:
        codec.decode(frame, limit)
    return caught.value.code


def packed(**fields: object) -> bytes:
    return bytes(msgpack.packb(fields))


# ---- the suite ---------------------------------------------------------------------------------------------


def cases() -> list[tuple[str, dict[str, object], bytes]]:
    groups = json.loads(SUITE.read_text())
    return [
        (f"{group}-{n}-{text}", case, bytes.fromhex(text.replace("-", "")))
        for group, members in groups.items()
        for n, case in enumerate(members)
        for text in case["msgpack"]
    ]


@pytest.mark.parametrize(("name", "case", "frame"), cases(), ids=lambda v: v if isinstance(v, str) else "")
def test_the_msgpack_suite_unpacks_or_is_refused(name: str, case: dict[str, object], frame: bytes) -> None:
    """Every encoding of the suite's values is understood; extensions are refused; no frame is a message."""
    if "ext" in case or "timestamp" in case:
        with pytest.raises(WireFailure, match="malformed"):
            codec.unpack(frame, LIMIT)
    else:
        assert codec.unpack(frame, LIMIT) == expected(case)
    assert code_of(frame) in ("malformed", "unsupported_version")


def expected(case: dict[str, object]) -> object:
    match case:
        case {"nil": _}:
            return None
        case {"binary": str(text)}:
            return bytes.fromhex(text.replace("-", ""))
        case {"bignum": str(text)}:
            return int(text)
        case _:
            return next(value for key, value in case.items() if key not in ("msgpack", "bignum"))


# ---- cut, stretched, doubled, foreign ----------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_frame_cut_at_any_byte_or_followed_by_one_is_malformed(name: str) -> None:
    """There is no shorter frame in a frame, and nothing may trail it."""
    frame = codec.encode(EXAMPLES[name])
    for end in range(len(frame)):
        assert code_of(frame[:end]) == "malformed"
    assert code_of(frame + b"\xc0") == "malformed"


def test_an_oversize_frame_is_refused_before_it_is_parsed() -> None:
    """The length is judged first: even bytes that could not be parsed at all are only `too_large`."""
    assert code_of(b"\xc1" * (LIMIT + 1)) == "too_large"
    assert code_of(b"\xc1" * LIMIT) == "malformed"
    assert code_of(codec.encode(LaneAck(upto=1)), limit=3) == "too_large"


def test_law_11_neither_side_makes_a_frame_over_the_limit() -> None:
    """Encoding too much is refused at the sender."""
    rows = [Row(n, "item:x", "v", 1, 0, 0, 0, False, bytes(40_000)) for n in (1, 2)]
    delta = Delta(channel="all", base=0, upto=2, epoch=0, replacing=False, more=False, rows=rows)
    with pytest.raises(WireFailure, match="too_large"):
        codec.encode(delta)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 60_000 + b"\xc0",
        b"\x81\xa1v" * 5_000 + b"\xc0",
        b"",
    ],
)
def test_law_11_a_claim_of_size_or_depth_costs_nothing(frame: bytes) -> None:
    """A header that promises gigabytes, or thousands of levels, is malformed at once."""
    assert code_of(frame) == "malformed"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_unknown_field_is_refused(name: str) -> None:
    """A new field is a new version, so nobody can slip one past us."""
    fields = dict(msgpack.unpackb(codec.encode(EXAMPLES[name])), extra=1)
    assert code_of(packed(**fields)) == "malformed"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_missing_field_is_refused(name: str) -> None:
    """Fields without a default must be there; tag and version always."""
    fields = msgpack.unpackb(codec.encode(EXAMPLES[name]))
    needed = {field.name for field in msgspec.structs.fields(EXAMPLES[name]) if field.required} | {"t"}
    for gone in fields:
        rest = {key: value for key, value in fields.items() if key != gone}
        if gone == "v":
            assert code_of(packed(**rest)) == "unsupported_version"
        elif gone in needed:
            assert code_of(packed(**rest)) == "malformed"


def test_a_doubled_field_is_refused() -> None:
    """Two values for one name: nobody guesses which one counts."""
    frame = codec.encode(LaneAck(upto=1))
    doubled = bytes([frame[0] + 1]) + frame[1:] + b"\xa4upto\x02"
    assert code_of(doubled) == "malformed"


@pytest.mark.parametrize("version", [0, 2, -1, 1.0, True, "1", None, [1]])
def test_another_version_is_refused(version: object) -> None:
    """Only version 1 is spoken here, and 1.0 or true are not 1."""
    assert code_of(packed(t="lane_ack", v=version, upto=1)) in ("unsupported_version", "malformed")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("nonce", "A" * 44),
        ("nonce", bytes(31)),
        ("lane", 1.0),
        ("lane", True),
        ("lane", -1),
        ("lane", 2**63),
        ("device_id", ""),
        ("device_id", "x" * 513),
        ("device_id", b"dev-1"),
        ("cursors", {"": 1}),
        ("cursors", {"all": None}),
        ("cursors", [1]),
    ],
)
def test_nothing_is_coerced(field: str, value: object) -> None:
    """Text is not bytes, a float or a bool is not an int, and ranges hold."""
    fields = dict(msgpack.unpackb(codec.encode(EXAMPLES["hello"])))
    fields[field] = value
    assert code_of(packed(**fields)) == "malformed"


@pytest.mark.parametrize(
    "fields",
    [
        {"t": "alice", "v": 1},
        {"t": "lane_ack", "v": 1, "upto": "alice"},
        {"t": "lane_ack", "v": 1, "upto": 1, "alice": 2},
        {"t": "refusal", "v": 1, "code": 5, "about": "alice"},
        {"alice": "alice", "v": "alice"},
    ],
)
def test_a_failure_quotes_nothing_that_the_other_side_chose(fields: dict[str, object]) -> None:
    """Values and names from a stranger never reach a message or a log."""
    with pytest.raises(WireFailure) as caught:
        codec.decode(packed(**fields))
    assert "alice" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_text_that_is_not_unicode_is_refused() -> None:
    """A lone surrogate in UTF-8 clothes is malformed."""
    frame = codec.encode(EXAMPLES["drop"]).replace(b"segment:gold", b"segment:\xed\xa0\x80d")
    assert code_of(frame) == "malformed"


# ---- chance ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=400))
def test_any_bytes_decode_or_are_refused(frame: bytes) -> None:
    """No bytes at all raise anything but a WireFailure."""
    with contextlib.suppress(WireFailure):
        codec.decode(frame)


def test_flipped_bits_decode_or_are_refused() -> None:
    """Ten thousand damaged frames (seed 7): each is a message or a WireFailure."""
    rng = random.Random(7)
    frames = [codec.encode(example) for example in EXAMPLES.values()]
    for _ in range(10_000):
        frame = bytearray(rng.choice(frames))
        for _ in range(rng.randrange(1, 4)):
            frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
        with contextlib.suppress(WireFailure):
            codec.decode(bytes(frame))


def test_an_empty_lane_is_a_frame_of_its_own() -> None:
    """A device at the head is told so."""
    empty = Lane(base=3, entries=[], upto=3, more=False)
    assert codec.decode(codec.encode(empty)) == empty
    assert len(SUBJECT) == 16
