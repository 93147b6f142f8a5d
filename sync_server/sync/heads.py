"""The poll behind the hints: heads are read from the log every few seconds; a lost hint only delays."""

from __future__ import annotations

import asyncio

from sync_server.settings import SECOND_US
from sync_server.store.protocol import Store
from sync_server.store.records import Committed
from sync_server.sync.fanout import Fanout
from sync_server.sync.hints import Hints
from sync_server.sync.lane_tail import LaneTail


class Heads:
    """Keeps what this node knows of heads true: at once by hints, and by a poll for what they missed."""

    def __init__(self, hints: Hints, lane: LaneTail, fanout: Fanout, store: Store) -> None:
        self._hints, self._lane, self._fanout, self._store = hints, lane, fanout, store
        hints.listen(self._heard)
        store.listen(self._committed)
        self._devices = self._devices_mark()

    def _committed(self, moved: Committed) -> None:
        if moved.devices:
            self._devices = self._devices_mark()

    def _devices_mark(self) -> bytes:
        with self._store.read() as tx:
            return tx.devices_mark()

    def _heard(self, channel: str | None) -> None:
        if channel is None:
            self._lane.news()
        else:
            self._fanout.moved(channel)

    def poll(self) -> int:
        """Read every head that anybody follows; returns how many had moved unheard, and wakes who waits."""
        missed = 0
        if self._lane.news():
            missed += 1
            self._hints.lane_moved()
        mark = self._devices_mark()
        if mark != self._devices:
            self._devices = mark
            missed += 1
            self._hints.device_moved(None)
        for channel in self._hints.followed:
            if self._fanout.refresh(channel):
                missed += 1
                self._hints.channel_moved(channel)
        return missed

    async def run(self, every_us: int) -> None:
        """Poll for ever; cancel it to stop."""
        while True:
            await asyncio.sleep(every_us / SECOND_US)
            self.poll()
