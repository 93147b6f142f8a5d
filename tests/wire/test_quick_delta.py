"""A delta is read straight into its types; the long way is the oracle of what may be read so."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import msgspec
import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.failure import WireFailure

SEED, FRAMES, SPOKEN = 20_270_131, 40_000, codec.SPOKEN
LIMIT = codec.UNPACKED_LIMIT_BYTES
ROW = m.Row(1, "item:1", "item_stats", 1, 5, 5, 0, False, b"\x80")
ODD: tuple[object, ...] = (
    *(0, 1, -1, 1.0, 1.5, 2.0**40, float("nan"), 2**62, 2**62 + 1, 2**63, 2**64 - 1, None, True, False),
    *("", "x", "é", b"", b"x", b"\xff", [], {}, [1], {"x": 1}, {1: 2}),
    *(msgpack.ExtType(1, b"a"), msgpack.Timestamp(1)),
)


def the_long_way(frame: bytes) -> m.Message | None:
    try:
        message: m.Message = codec._typed(codec._map(frame, LIMIT, SPOKEN), m.Message)
    except WireFailure:
        return None
    return message


def broken(rng: random.Random) -> bytes:
    """A frame that was a delta: fields and rows doubled, missing, in another order or of another type."""
    rows: list[list[Any]] = [list(msgspec.structs.astuple(ROW)) for _ in range(rng.randrange(4))]
    fields: dict[str, Any] = {"t": "delta", "v": 1, "channel": "all", "base": 0, "upto": 5, "epoch": 0}
    fields |= {"replacing": False, "more": True, "rows": rows}
    for _ in range(rng.randrange(3)):
        row = rng.choice(rows) if rows else []
        match rng.randrange(6):
            case 0 | 1 if row:
                row[rng.randrange(len(row))] = rng.choice(ODD)
            case 2:
                fields[rng.choice([*fields])] = rng.choice(ODD)
            case 3:
                row.append(rng.choice(ODD))
            case 4 if row:
                row.pop()
            case _:
                del fields[rng.choice([*fields])]
    pairs = [*fields.items()]
    if rng.random() < 0.4:
        name = rng.choice([*fields, "unknown"])
        pairs.insert(rng.randrange(len(pairs) + 1), (name, fields.get(name, 0)))
        if rng.random() < 0.7:
            pairs.pop(rng.randrange(len(pairs)))
    if rng.random() < 0.3:
        rest = pairs[2:]
        rng.shuffle(rest)
        pairs[2:] = rest
    frame = bytearray(msgpack.Packer().pack_map_pairs(pairs))
    for _ in range(rng.choice((0, 0, 1, 3))):
        at = rng.randrange(len(frame))
        match rng.randrange(3):
            case 0:
                frame[at] = rng.randrange(256)
            case 1 if len(frame) > 1:
                del frame[at]
            case _:
                frame.insert(at, rng.randrange(256))
    return bytes(frame)


def test_what_is_read_straight_is_what_the_long_way_reads_and_nothing_more() -> None:
    rng = random.Random(SEED)
    quick = 0
    for number in range(FRAMES):
        frame = broken(rng)
        found = codec._delta(frame, LIMIT, SPOKEN)
        if found is not None:
            quick += 1
            oracle = the_long_way(frame)
            assert oracle is not None, (SEED, number, frame)
            assert codec.pack(found) == codec.pack(oracle), (SEED, number, frame)
    assert quick > FRAMES // 20, "nothing was tested"


def test_every_delta_that_is_encoded_here_is_read_straight() -> None:
    """Otherwise every frame would go the long way, and nobody would notice."""
    delta = m.Delta(channel="c" * 512, base=0, upto=2**62, epoch=9, replacing=True, more=False, rows=[])
    for rows in ([], [ROW], [ROW] * 1000):
        said = msgspec.structs.replace(delta, rows=rows)
        assert codec._delta(codec.pack(said), LIMIT, SPOKEN) == said
        assert codec.decode(codec.encode_packed(said)) == said


def test_all_but_the_version_of_a_delta_must_come() -> None:
    """What the count of its names stands on: with one field that may be missing, another could be doubled."""
    optional = [f.name for f in msgspec.structs.fields(m.Delta) if not f.required]
    assert optional == ["v"]
    assert 1 + len(msgspec.structs.fields(m.Delta)) == codec._DELTA[0] & 0x0F


@pytest.mark.parametrize("name", ["channel", "base", "upto", "epoch", "replacing", "more", "rows", "t", "v"])
def test_law_11_a_doubled_name_is_malformed_with_any_other_left_out(name: str) -> None:
    delta = {"t": "delta", "v": 1, "channel": "all", "base": 0, "upto": 5, "epoch": 0, "replacing": False}
    delta |= {"more": True, "rows": []}
    for left_out in (*delta, None):
        pairs = [(key, value) for key, value in delta.items() if key != left_out]
        for doubled in ([*pairs, (name, delta[name])], [*pairs[:2], (name, delta[name]), *pairs[2:]]):
            if sum(key == name for key, _ in doubled) < 2:
                continue
            with pytest.raises(WireFailure, match=r"malformed|unsupported_version"):
                codec.decode(msgpack.Packer().pack_map_pairs(doubled))


def test_another_version_or_a_frame_over_the_limit_is_refused_as_ever() -> None:
    frame = codec.pack(m.Delta(channel="all", base=0, upto=1, epoch=0, replacing=False, more=False, rows=[]))
    with pytest.raises(WireFailure, match="too_large"):
        codec.decode(frame, len(frame) - 1)
    with pytest.raises(WireFailure, match="unsupported_version"):
        codec.decode(frame, spoken=(m.PROTOCOL + 1,))
