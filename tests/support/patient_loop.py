"""An event loop in which a day takes a moment: when everybody waits, time goes on to the next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from tests.support.clock import ManualClock

T = TypeVar("T")


class _Selector(selectors.BaseSelector):
    """Looks at the sockets, and never sleeps."""

    def __init__(self, loop: PatientLoop) -> None:
        self._inner, self._loop = selectors.DefaultSelector(), loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = self._inner.select(0)
        if not found and timeout != 0:
            assert timeout is not None, "everybody waits, and for nothing that time brings"
            self._loop.pass_time(timeout)
        return found


class PatientLoop(asyncio.SelectorEventLoop):
    """Runs on time of its own, and moves `clock` with it. No threads, no real sockets."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock, self._passed_s = clock, 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._passed_s

    def pass_time(self, seconds: float) -> None:
        self._passed_s += seconds
        self._clock.advance(us=int(seconds * 1_000_000) + 1)


def run_patiently(clock: ManualClock, work: Coroutine[Any, Any, T]) -> T:
    """`work` to its end, on a loop of its own."""
    loop = PatientLoop(clock)
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(work)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
