"""The lines of several real runtimes to a real server: all up or all down together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import edge_runtime as er
from edge_runtime.sync.background import BackgroundSync
from tests.support.fleet import SharedClock

SOON_S: Final = 60


class Links:
    """One for each of `kiosks`, under the clock of all."""

    def __init__(self, kiosks: Sequence[er.Runtime], clock: SharedClock) -> None:
        self._kiosks, self._clock = kiosks, clock
        self._up: list[BackgroundSync] = []
        self.online()

    def online(self) -> None:
        self._up = [rt.sync_in_background() for rt in self._kiosks]
        self.caught_up()

    def caught_up(self) -> None:
        for link in self._up:
            link.wait_caught_up(SOON_S)

    def offline(self) -> None:
        for link in self._up:
            link.close()
        self._up = []

    def later(self, us: int) -> None:
        """Time passes while nobody is connected."""
        self.offline()
        self._clock.advance(us)
        self.online()
