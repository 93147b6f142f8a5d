"""Thousands of sockets in one process, read with as little of our own as can be: the devices of a bench.

One `epoll` loop and no event loop beside it, the same for devices and for the subscribers of other systems:
a bench then compares servers and not clients. A crowd runs in a process of its own, see `Crowd.serve`.
"""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

from sync_server.load.device import Turnaway

SPAWN = get_context("spawn")
DEADLINE_S = 90.0


class Line(Protocol):
    """What one socket speaks."""

    ready: bool
    """Whether it is where a round may begin."""
    arrived_s: float
    """When what a round brings was there whole, by the monotonic clock; 0 before."""

    def opening(self) -> bytes:
        """What is said first."""
        ...

    def take(self, data: bytes, now_s: float) -> bytes:
        """Take what came; returns what to answer at once."""
        ...

    def begin(self, size_bytes: int) -> bytes:
        """A round begins that brings a payload of so many bytes: note when it came; returns what to say."""
        ...

    def end(self) -> bytes:
        """The round is over: work off what was put aside; returns what to answer."""
        ...


class LineMaker(Protocol):
    """Makes a line of what a process can be handed; a class or function of a module."""

    def __call__(self, told: Any) -> Line: ...


class Crowd:
    """Sockets of this process to one server."""

    def __init__(self, host: str, port: int, lines: Sequence[Line]) -> None:
        self._address, self.lines = (host, port), lines
        self._epoll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, Line]] = {}
        self._arrived = self._ready = 0
        self.received_bytes = 0
        """Since the round began."""

    def open(self, per_s: float) -> None:
        """Connect all, so many a second, and return when each is ready; raises `TimeoutError`."""
        began_s = time.monotonic()
        for number, line in enumerate(self.lines):
            self.poll(0)  # also when we are late: who connected must be answered
            while time.monotonic() < began_s + number / per_s:
                self.poll(0.001)
            one = socket.create_connection(self._address)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.sendall(line.opening())
            one.setblocking(False)
            self._sockets[one.fileno()] = one, line
            self._epoll.register(one.fileno(), select.EPOLLIN)
        while self._ready < len(self.lines):
            self._check(began_s + len(self.lines) / per_s + DEADLINE_S, self._ready)
            self.poll(0.05)

    def poll(self, timeout_s: float) -> None:
        """Read what there is, or wait for it so long."""
        for number, _ in self._epoll.poll(timeout_s):
            one, line = self._sockets[number]
            data = one.recv(262_144)
            if not data:
                raise ConnectionError("the server closed a socket")
            self.received_bytes += len(data)
            ready, arrived = line.ready, line.arrived_s
            answer = line.take(data, time.monotonic())
            self._ready += line.ready and not ready
            self._arrived += line.arrived_s > 0 and not arrived
            if answer:
                _send(one, answer)

    def begin(self, size_bytes: int) -> None:
        """A round begins."""
        self._arrived = self.received_bytes = 0
        for one, line in self._sockets.values():
            said = line.begin(size_bytes)
            if said:
                _send(one, said)

    def round(self) -> list[float]:
        """Read until everybody has what the round brings; returns when each had it (monotonic clock)."""
        until_s = time.monotonic() + DEADLINE_S
        while self._arrived < len(self.lines):
            self._check(until_s, self._arrived)
            self.poll(0.05)
        times = [line.arrived_s for line in self.lines]
        for one, line in self._sockets.values():
            answer = line.end()
            if answer:
                _send(one, answer)
        return times

    def close(self) -> None:
        """Drop every socket."""
        for one, _ in self._sockets.values():
            one.close()
        self._epoll.close()

    def _check(self, until_s: float, there: int) -> None:
        if time.monotonic() > until_s:
            raise TimeoutError(f"{there} of {len(self.lines)} lines were there in time")


class CrowdProcess:
    """A crowd in a process of its own.

    Args:
        maker: makes a line of each of `told`.
    """

    def __init__(self, host: str, port: int, maker: LineMaker, told: Sequence[object], per_s: float) -> None:
        self.received_bytes = 0
        """By all lines, in the last round."""
        self._pipe, far = SPAWN.Pipe()
        self._process = SPAWN.Process(
            target=_serve, args=(far, host, port, maker, list(told), per_s), daemon=True
        )
        self._process.start()
        far.close()
        self._expect("open")

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, size_bytes: int) -> None:
        """Returns when every line awaits the round."""
        self._pipe.send(size_bytes)
        self._expect("begun")

    def times(self) -> list[float]:
        """When each line had what the round brought."""
        times, self.received_bytes = self._expect(None)
        return list(times)

    @property
    def done(self) -> bool:
        """Whether `times` would answer at once."""
        return self._pipe.poll()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _expect(self, word: str | None) -> Any:
        if not self._pipe.poll(3 * DEADLINE_S):
            raise TimeoutError("the crowd says nothing")
        said = self._pipe.recv()
        if isinstance(said, Exception):
            raise said
        assert word is None or said == word
        return said


def raise_file_limit() -> int:
    """As many open files as this process may have; returns how many."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _serve(pipe: Connection, host: str, port: int, maker: LineMaker, told: list[Any], per_s: float) -> None:
    raise_file_limit()
    crowd = Crowd(host, port, [maker(one) for one in told])
    try:
        crowd.open(per_s)
        pipe.send("open")
        while True:
            while not pipe.poll():
                crowd.poll(0.02)
            crowd.begin(pipe.recv())
            pipe.send("begun")
            pipe.send((crowd.round(), crowd.received_bytes))
    except EOFError:
        return
    except (OSError, RuntimeError, AssertionError) as error:
        pipe.send(error)
    except Turnaway as turned:
        pipe.send(RuntimeError(f"a device was refused: {turned.code}"))
    finally:
        crowd.close()


def _send(one: socket.socket, data: bytes) -> None:
    sent = 0
    while sent < len(data):
        try:
            sent += one.send(data[sent:])
        except BlockingIOError:
            select.select([], [one], [], 5)
