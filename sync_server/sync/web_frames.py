"""The WebSocket of a device as bytes: frames out of what arrives, and the few frames that are said besides.

Source: RFC 6455, section 5. Binary messages and control frames, masked, no extension; whatever else comes is
a fault of the other side. Frames are cut off when they are asked for: what is not asked for stays as it came.
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL, _RESERVED, _OPCODE, _MASKED, _SIZE = 0x80, 0x70, 0x0F, 0x80, 0x7F
_CONTROL_LIMIT_BYTES: Final = 125


@prints_only("opcode")
class Said(NamedTuple):
    """What one frame of the device said."""

    opcode: int
    """BINARY: a whole message; CONTINUATION: a piece of one, kept until the last; CLOSE, PING or PONG."""
    body: bytes


class Inbound:
    """What a device sent and nobody took yet.

    Args:
        limit_bytes: largest message; a larger one is refused by its header, before it is there.
    """

    __slots__ = ("_at", "_data", "_limit_bytes", "_parts")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._data, self._at = b"", 0
        self._parts: bytearray | None = None
        """Of a message that comes in pieces; None: no message is begun."""

    @property
    def waiting_bytes(self) -> int:
        """How much is kept."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Take what the socket brought."""
        self._data, self._at = (self._data[self._at :] + data if self.waiting_bytes else data), 0

    def take(self) -> Said | None:
        """Cut off the next frame; None when it is not there whole.

        Raises `WireFailure("too_large")` or `WireFailure("malformed")`; after that nothing more can be taken.
        """
        frame = self._frame()
        if frame is None:
            if self._at == len(self._data):
                self._data, self._at = b"", 0
            return None
        opcode, final, body = frame
        if opcode >= CLOSE:
            return Said(opcode, body)
        if self._parts is not None:
            self._parts += body
            body = bytes(self._parts) if final else b""
        elif not final:
            self._parts = bytearray(body)
        if not final:
            return Said(CONTINUATION, b"")
        self._parts = None
        return Said(BINARY, body)

    def _frame(self) -> tuple[int, bool, bytes] | None:
        """(opcode, whether it is the last piece, body) of one frame, cut off; None while it is not whole."""
        data, at = self._data, self._at
        there = len(data) - at
        if there < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, size, start = first & _OPCODE, second & _SIZE, at + 2
        self._check(first, second, opcode)
        if size == 126:
            start, size = at + 4, int.from_bytes(data[at + 2 : at + 4], "big")
        elif size == 127:
            start, size = at + 10, int.from_bytes(data[at + 2 : at + 10], "big")
        if there < start - at:
            return None
        if size + (0 if self._parts is None else len(self._parts)) > self._limit_bytes:
            raise WireFailure("too_large", f"expected a message of at most {self._limit_bytes} bytes")
        end = start + 4 + size
        if len(data) < end:
            return None
        self._at = end
        return opcode, bool(first & _FINAL), masked(data[start + 4 : end], data[start : start + 4])

    def _check(self, first: int, second: int, opcode: int) -> None:
        if first & _RESERVED or not second & _MASKED:
            raise WireFailure("malformed", "expected a masked frame without extensions")
        if opcode in (CLOSE, PING, PONG):
            if not first & _FINAL or second & _SIZE > _CONTROL_LIMIT_BYTES:
                raise WireFailure("malformed", "expected a control frame in one small piece")
        elif opcode not in (BINARY, CONTINUATION):
            raise WireFailure("malformed", "expected a binary frame")
        elif (opcode == CONTINUATION) != (self._parts is not None):
            raise WireFailure("malformed", "a piece of another message, or of none")


def masked(body: bytes, mask: bytes) -> bytes:
    """`body` with a four-byte mask on or off. Source: RFC 6455, section 5.3.

    >>> masked(masked(b"hello", b"mask"), b"mask")
    b'hello'
    """
    size, order = len(body), sys.byteorder
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(body, order) ^ int.from_bytes(key, order)).to_bytes(size, order)


def control(opcode: int, body: bytes = b"") -> bytes:
    """A control frame of the server; a body is at most 125 bytes."""
    return bytes((_FINAL | opcode, len(body))) + body


def framed(frame: bytes) -> bytes:
    """`frame` as a whole binary message of the server."""
    size = len(frame)
    if size < 126:
        return b"\x82" + bytes((size,)) + frame
    if size < 1 << 16:
        return b"\x82\x7e" + size.to_bytes(2, "big") + frame
    return b"\x82\x7f" + size.to_bytes(8, "big") + frame
