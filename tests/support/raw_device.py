"""A simulated device on a bare blocking socket: it reads when the test says so, and not before."""

from __future__ import annotations

import base64
import os
import socket
import struct
from urllib.parse import SplitResult, urlsplit

from edge_runtime.wire.conversation import State
from sync_server.load.device import SimDevice

BINARY, CLOSE, PING, PONG = 0x2, 0x8, 0x9, 0xA


class RawDevice:
    """WebSocket by hand (RFC 6455), without any buffer besides the kernel's, which is kept small."""

    def __init__(self, url: str, device: SimDevice, receive_bytes: int = 4_096) -> None:
        self.device, at = device, urlsplit(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(30)
        assert at.hostname is not None
        self.got_bytes = 0
        """Bytes of frames read so far."""
        try:
            self._connect(at)
        except BaseException:
            self.socket.close()
            raise
        device.begin()

    def _connect(self, at: SplitResult) -> None:
        self.socket.connect((at.hostname, at.port or 80))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/sync HTTP/1.1\r\nHost: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self._exactly(1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def open(self) -> None:
        """Talk until the session is live."""
        while self.device.state is not State.LIVE:
            self.take()

    def take(self) -> bytes:
        """Read one frame, let the device hear it and send its answers; returns the frame."""
        frame = self.read()
        for answer in self.device.hear(frame):
            self._send(BINARY, answer)
        return frame

    def read(self) -> bytes:
        """The next binary frame; pings are answered. Raises `ConnectionError` at the end."""
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._exactly(8))
            body = self._exactly(size)
            self.got_bytes += size
            match first & 0x0F:
                case 0x2:
                    return body
                case 0x9:
                    self._send(PONG, body)
                case 0x8:
                    raise ConnectionError("closed by the server")

    def say(self, frame: bytes) -> None:
        """Send one binary frame."""
        self._send(BINARY, frame)

    def close(self) -> None:
        """Without a word."""
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        parts, left = [], size
        while left:
            part = self.socket.recv(left)
            if not part:
                raise ConnectionError("the server is gone")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _send(self, opcode: int, body: bytes) -> None:
        mask = os.urandom(4)
        size = len(body)
        head = bytes([0x80 | opcode]) + (
            bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size)
        )
        masked = bytes(b ^ mask[i % 4] for i, b in enumerate(body))
        self.socket.sendall(head + mask + masked)
