"""Messages come whole however the socket cuts them; what is no WebSocket of a device is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given, seed
from hypothesis import strategies as st

from edge_runtime.wire.failure import WireFailure
from sync_server.sync import web_frames as w
from sync_server.sync.web_frames import Inbound, Said, masked

LIMIT = 70_000
MASK = b"\x01\xfe\x00\x80"


def frame(body: bytes, opcode: int = w.BINARY, *, final: bool = True, mask: bytes = MASK) -> bytes:
    """As a client frames it."""
    size = len(body)
    if size < 126:
        head = bytes((0x80 | size,))
    elif size < 1 << 16:
        head = b"\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\xff" + size.to_bytes(8, "big")
    return bytes(((0x80 if final else 0) | opcode,)) + head + mask + masked(body, mask)


def said(wire: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> list[Said]:
    """Everything but pieces, of a stream cut at these places."""
    inbound, found, at = Inbound(limit), [], 0
    for end in [*sorted(cuts or []), len(wire)]:
        inbound.feed(wire[at:end])
        at = max(at, end)
        while (one := inbound.take()) is not None:
            found.append(one)
    assert inbound.waiting_bytes == 0
    return [one for one in found if one.opcode != w.CONTINUATION]


bodies = st.one_of(st.binary(max_size=300), st.sampled_from([0, 125, 126, 65_535, 65_536]).map(bytes))


@seed(20261)
@given(
    st.lists(st.tuples(bodies, st.integers(1, 3)), max_size=4), st.binary(min_size=4, max_size=4), st.data()
)
@example([(b"", 1), (b"x", 3)], bytes(4), None)
def test_messages_come_whole_however_they_are_cut(
    messages: list[tuple[bytes, int]], mask: bytes, data: st.DataObject | None
) -> None:
    """Also in pieces with a ping between them."""
    wire, wanted = b"", []
    for body, pieces in messages:
        step = -(-len(body) // pieces) or 1
        parts = [body[n : n + step] for n in range(0, len(body), step)] or [b""]
        for number, part in enumerate(parts):
            opcode = w.CONTINUATION if number else w.BINARY
            wire += frame(part, opcode, final=number == len(parts) - 1, mask=mask)
            if number < len(parts) - 1:
                wire += frame(b"still there?", w.PING, mask=mask)
                wanted.append(Said(w.PING, b"still there?"))
        wanted.append(Said(w.BINARY, body))
    cuts = [] if data is None else data.draw(st.lists(st.integers(0, len(wire)), max_size=6))
    assert said(wire, cuts) == wanted


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x82\x01a", "malformed"),  # not masked
        (b"\xc2\x81" + MASK + b"a", "malformed"),  # an extension that was not agreed
        (frame(b"a", 0x1), "malformed"),  # text
        (frame(b"a", 0x3), "malformed"),  # nothing that is known
        (frame(b"a", 0xB), "malformed"),
        (frame(b"a", w.PING, final=False), "malformed"),
        (frame(bytes(126), w.CLOSE), "malformed"),
        (frame(b"a", w.CONTINUATION), "malformed"),  # of no message
        (frame(b"a", final=False) + frame(b"b"), "malformed"),  # a message inside another
        (frame(bytes(LIMIT + 1))[:14], "too_large"),  # by its header, before it is there
        (b"\x82\xff" + b"\xff" * 8, "too_large"),
        (frame(bytes(LIMIT), final=False) + frame(b"b", w.CONTINUATION), "too_large"),
    ],
)
def test_what_is_no_message_of_a_device_is_refused(wire: bytes, code: str) -> None:
    inbound = Inbound(LIMIT)
    inbound.feed(frame(b"before") + wire)
    assert inbound.take() == Said(w.BINARY, b"before")
    with pytest.raises(WireFailure, match=code):
        list(iter(inbound.take, None))


@seed(20262)
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_is_taken_or_refused_and_nothing_else(parts: list[bytes]) -> None:
    inbound = Inbound(50)
    try:
        for part in parts:
            inbound.feed(part)
            while (one := inbound.take()) is not None:
                assert len(one.body) <= 125
    except WireFailure:
        pass
    assert inbound.waiting_bytes <= sum(map(len, parts))


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_a_message_of_ours_says_its_size(size: int) -> None:
    """The server's frames are not masked."""
    wire = w.framed(bytes(size))
    head = {0: 2, 125: 2, 126: 4, 65_535: 4, 65_536: 10}[size]
    assert len(wire) == size + head
    assert int.from_bytes(wire[2 if head > 2 else 1 : head], "big") == size
