"""What the sockets of a crowd speak: a device's session, a subscription at Redis, one at NATS."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_runtime.wire.conversation import State
from sync_server.load.device import Enrolled, Reader, SimDevice

TOPIC = "change"
_BINARY, _CLOSE, _PING, _PONG = 0x82, 0x88, 0x89, 0x8A
_READER = Reader()
"""Of this process: all its devices parse and verify the same bytes once."""


class DeviceTold(NamedTuple):
    """What a device line is made of."""

    device_id: str
    seed: bytes
    digest_key: bytes
    server_key: bytes
    channels: tuple[str, ...]


class DeviceLine:
    """A whole session over a WebSocket: production codec, conversation, signatures, digests.

    In a round it only notes when the first frame is there; the frames are worked off at its end.
    """

    def __init__(self, told: DeviceTold, *, leases: bool = False) -> None:
        key = Ed25519PrivateKey.from_private_bytes(told.seed)
        enrolled = Enrolled(told.device_id, key, told.digest_key, told.server_key, told.channels)
        self.device = SimDevice(enrolled, _READER, os.urandom, leases=leases)
        self.ready, self.arrived_s = False, 0.0
        self._buffer, self._upgraded, self._aside = b"", False, False
        self._frames: list[bytes] = []

    def opening(self) -> bytes:
        return (
            b"GET /v1/sync HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )

    def take(self, data: bytes, now_s: float) -> bytes:
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return b""
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionError(head.split(b"\r\n")[0].decode())
            self._upgraded, self._buffer = True, rest
            self.device.begin()
        if not self._aside:
            return self._split() + self._hear()
        pongs = self._split() if self._buffer[0] != _BINARY else b""
        if not self.arrived_s and self._begun():
            self.arrived_s = now_s
        return pongs

    def _begun(self) -> bool:
        """Whether the round's first frame is there whole: as little work as other systems' lines have."""
        if self._frames or len(self._buffer) < 4:
            return bool(self._frames)
        size = self._buffer[1]
        return len(self._buffer) >= (size + 2 if size < 126 else 4 + int.from_bytes(self._buffer[2:4], "big"))

    def begin(self, size_bytes: int) -> bytes:
        self._aside, self.arrived_s = True, 0.0
        return b""

    def end(self) -> bytes:
        self._aside = False
        return self._split() + self._hear()

    def _hear(self) -> bytes:
        frames, self._frames = self._frames, []
        answers = b"".join(masked(said) for frame in frames for said in self.device.hear(frame))
        self.ready = self.device.state is State.LIVE and self.device.fresh
        return answers

    def _split(self) -> bytes:
        """Cut whole frames off the buffer; returns the pongs that are due."""
        at, buffer, pongs = 0, self._buffer, b""
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                start, size = at + 4, int.from_bytes(buffer[at + 2 : at + 4], "big")
            elif size == 127:
                start, size = at + 10, int.from_bytes(buffer[at + 2 : at + 10], "big")
            if len(buffer) < start + size:
                break
            body = buffer[start : start + size]
            match buffer[at]:
                case 0x82:
                    self._frames.append(body)
                case 0x89:
                    pongs += masked(body, _PONG)
                case other:
                    self._hear()  # a refusal says why
                    raise ConnectionError(f"the server ended a session with opcode {other:#x}")
            at = start + size
        self._buffer = buffer[at:]
        return pongs


def masked(body: bytes, opcode: int = _BINARY) -> bytes:
    """A client's frame; the mask is zero, which leaves the bytes as they are."""
    size = len(body)
    if size < 126:
        return bytes((opcode, 0x80 | size)) + bytes(4) + body
    return bytes((opcode, 0x80 | 126)) + size.to_bytes(2, "big") + bytes(4) + body


class _Subscriber:
    """A socket that waits for one message of a known size."""

    def __init__(self, opening: bytes, confirmed: bytes, wrapped: Callable[[int], int]) -> None:
        self.ready, self.arrived_s = False, 0.0
        self._opening, self._confirmed, self._wrapped = opening, confirmed, wrapped
        self._buffer, self._missing = b"", 0

    def opening(self) -> bytes:
        return self._opening

    def take(self, data: bytes, now_s: float) -> bytes:
        if not self.ready:
            self._buffer += data
            self.ready = self._confirmed in self._buffer
            return b""
        if data == b"PING\r\n":
            return b"PONG\r\n"
        self._missing -= len(data)
        if self._missing <= 0 and not self.arrived_s:
            self.arrived_s = now_s
        return b""

    def begin(self, size_bytes: int) -> bytes:
        self._missing, self.arrived_s = self._wrapped(size_bytes), 0.0
        return b""

    def end(self) -> bytes:
        return b""


def redis_line(told: object) -> _Subscriber:
    """A Redis subscription by hand, for the least a client can do."""
    head = f"*3\r\n$7\r\nmessage\r\n${len(TOPIC)}\r\n{TOPIC}\r\n"
    return _Subscriber(
        f"SUBSCRIBE {TOPIC}\r\n".encode(), b"subscribe", lambda n: len(f"{head}${n}\r\n") + n + 2
    )


def nats_line(told: object) -> _Subscriber:
    """A NATS subscription by hand."""
    opening = f'CONNECT {{"verbose":false,"pedantic":false}}\r\nSUB {TOPIC} 1\r\nPING\r\n'
    return _Subscriber(opening.encode(), b"PONG", lambda n: len(f"MSG {TOPIC} 1 {n}\r\n") + n + 2)
