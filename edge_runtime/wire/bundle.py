"""Frames in one body: a long poll carries together what a WebSocket carries one by one.

Each frame stands behind its length: 4 bytes, big-endian. A body without frames is empty. Both directions, and
the headers beside them, are the same on both sides.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from edge_runtime.wire.codec import FRAME_LIMIT_BYTES
from edge_runtime.wire.failure import WireFailure

MEDIA_TYPE: Final = "application/x-edge-frames"
SESSION_HEADER: Final = "Edge-Session"
"""The session's token: given with the first reply, sent with every later poll."""
POLL_HEADER: Final = "Edge-Poll"
"""The poll's number: 0 opens, each one after is higher by one, and the same again asks for the same reply."""
WAIT_HEADER: Final = "Edge-Wait"
"""Longest wait that the device asks for, in whole milliseconds; the server's own limit if that is shorter."""
END: Final = "end"
"""In place of a number: the device leaves."""

LENGTH_BYTES: Final = 4
_LENGTH: Final = struct.Struct(">I")


def join(frames: Iterable[bytes]) -> bytes:
    """The body that carries `frames` in their order.

    >>> join([b"abc", b"d"]).hex(" ")
    '00 00 00 03 61 62 63 00 00 00 01 64'
    """
    return b"".join(part for frame in frames for part in (_LENGTH.pack(len(frame)), frame))


def split(body: bytes, frames: int, limit_bytes: int = FRAME_LIMIT_BYTES) -> list[bytes]:
    """The frames in `body`, whole and in order.

    Args:
        frames: most of them.
        limit_bytes: of one frame.

    Raises `WireFailure`: `too_large` for one frame or too many of them, `malformed` for one that is empty or
    cut off. No frame was taken.
    """
    found: list[bytes] = []
    at = 0
    while at < len(body):
        if len(found) == frames:
            raise WireFailure("too_large", f"expected at most {frames} frames in one body")
        if len(body) - at < LENGTH_BYTES:
            raise WireFailure("malformed", "the last frame's length is cut off")
        (size,) = _LENGTH.unpack_from(body, at)
        at += LENGTH_BYTES
        if size > limit_bytes:
            raise WireFailure("too_large", f"expected frames of at most {limit_bytes} bytes, got {size}")
        if not 0 < size <= len(body) - at:
            raise WireFailure("malformed", f"expected a frame of {size} bytes, got {len(body) - at} at most")
        found.append(body[at : at + size])
        at += size
    return found
