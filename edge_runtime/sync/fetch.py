"""What `rt.fetch` returns: a handle on rows that were asked for. Reads never wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator
from dataclasses import dataclass

from edge_runtime.errors import EdgeError, SyncError


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """What the server had of the rows that were asked for, once each is here or known not to be there."""

    found: int
    """Rows that came: reads find them until the view's ttl."""
    absent: int
    """Rows that the server did not have: they read NOT_FOUND until the view's ttl."""


class Fetch:
    """Rows of one view that were asked for. Thread-safe; `await` it, or `wait`, or look at `done`.

    Args:
        view: `name@version`.
        count: rows asked for.
    """

    def __init__(self, view: str, count: int) -> None:
        self.view = view
        self._left, self._found, self._absent = count, 0, 0
        self._error: EdgeError | None = None
        self._lock, self._settled = threading.Lock(), threading.Event()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __repr__(self) -> str:
        return f"Fetch({self.view}, done={self.done})"

    @property
    def done(self) -> bool:
        """Whether every row is here, or known not to be there, or will not come; `wait` then says which."""
        return self._settled.is_set()

    def wait(self, timeout_s: float | None = None) -> FetchAnswer:
        """Block until `done` and say what came.

        Raises:
            SyncRefused: the server or this device's gate said no to some of it; what came besides is here.
            RuntimeClosed: the runtime was closed before.
            SyncError: some of it was dropped for newer requests, was not answered, or its subject left; or it
                is not done after `timeout_s` seconds, and goes on.
        """
        if not self._settled.wait(timeout_s):
            raise SyncError("not here in time; the request goes on")
        return self._outcome()

    def __await__(self) -> Generator[object, None, FetchAnswer]:
        return self._awaited().__await__()

    async def _awaited(self) -> FetchAnswer:
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        with self._lock:
            if not self.done:
                self._waiters.append((loop, waiter))
        if not self.done:
            await waiter
        return self._outcome()

    def _outcome(self) -> FetchAnswer:
        with self._lock:
            if self._error is not None:
                raise self._error
            return FetchAnswer(self._found, self._absent)

    # ---- for whoever asks the server -------------------------------------------------------------------

    def came(self, *, found: bool) -> None:
        """One row is here and durable, or known not to be there."""
        with self._lock:
            self._found += found
            self._absent += not found
            self._one_less()

    def failed(self, error: EdgeError) -> None:
        """One row will not come; the first error is the one told."""
        with self._lock:
            self._error = self._error or error
            self._one_less()

    def _one_less(self) -> None:
        self._left -= 1
        if self._left:
            return
        self._settled.set()
        for loop, waiter in self._waiters:
            with contextlib.suppress(RuntimeError):  # that loop was closed: nobody waits there
                loop.call_soon_threadsafe(_wake, waiter)
        self._waiters.clear()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
