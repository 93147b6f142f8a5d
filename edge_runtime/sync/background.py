"""A link in a thread of its own, for apps that are not async."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Self, TypeVar

from edge_runtime.errors import SyncError
from edge_runtime.sync.link import Link
from edge_runtime.sync.standing import LinkState, Standing

T = TypeVar("T")


def run_alone(work: Coroutine[object, object, T]) -> T:
    """Run `work` to its end and return what it returns, whether or not this thread has an event loop."""
    result: Future[T] = Future()

    def body() -> None:
        try:
            result.set_result(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed whole to the caller, who raises it
            result.set_exception(error)

    thread = threading.Thread(target=body, name="edge-once")
    thread.start()
    thread.join()
    return result.result()


async def _end_the_rest() -> None:
    """Cancel whatever was asked for in the last moment."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class BackgroundSync:
    """Runs `link` until `close`. Also a context manager."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._body, name="edge-sync", daemon=True)
        self._closed = self._ended = False
        self._asking = threading.Lock()
        """Held while the thread is asked for something, and when it ends: nobody asks when nobody answers."""
        self._started = threading.Event()
        self._thread.start()
        self._started.wait()

    @property
    def link(self) -> Link:
        """The link that runs here."""
        return self._link

    @property
    def state(self) -> LinkState:
        """See `Link.state`."""
        return self._link.state

    @property
    def standing(self) -> Standing:
        """See `Link.standing`."""
        return self._link.standing

    @property
    def metered(self) -> bool:
        """See `Link.metered`."""
        return self._link.metered

    @metered.setter
    def metered(self, metered: bool) -> None:
        self._link.metered = metered

    def follow(self, channel: str) -> None:
        """See `Link.follow`."""
        self._link.follow(channel)

    def unfollow(self, channel: str) -> None:
        """See `Link.unfollow`."""
        self._link.unfollow(channel)

    def pause(self) -> None:
        """See `Link.pause`."""
        self._link.pause()

    def resume(self) -> None:
        """See `Link.resume`."""
        self._link.resume()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def poke(self) -> None:
        """See `Link.poke`."""
        self._link.poke()

    def wait_caught_up(self, timeout_s: float) -> None:
        """Block until `Link.caught_up`; raises `SyncError` after `timeout_s` seconds, or when it stopped."""
        with self._asking:
            if self._ended:
                raise self._link.trouble or SyncError("the link has stopped")
            waiting = asyncio.run_coroutine_threadsafe(self._link.caught_up(), self._loop)
        try:
            waiting.result(timeout_s)
        except TimeoutError:
            waiting.cancel()
            raise self._link.trouble or SyncError("not caught up in time; the link goes on") from None
        except CancelledError:
            raise self._link.trouble or SyncError("the link has stopped") from None

    def close(self) -> None:
        """End the session, stop the thread and wait for it. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):  # the link stopped by itself, and its loop with it
            self._loop.call_soon_threadsafe(self._link.stop)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _body(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        finally:
            with self._asking:
                self._ended = True
            self._loop.run_until_complete(_end_the_rest())
            self._loop.close()

    async def _run(self) -> None:
        async with self._link:
            self._started.set()
            await self._link.stopped()
