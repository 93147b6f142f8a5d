"""Acknowledgements of the lane, written together: after a denial one comes from every device at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sync_server.events.telling import notice
from sync_server.store.protocol import Store


class Acks:
    """What devices said to have enforced, on its way to the store. Outside `gathered` it goes there at once.

    It need not be durable: a device whose acknowledgement was lost says it again in its next session.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gathering = False
        self._waiting: list[tuple[str, int, int]] = []

    def take(self, device_id: str, upto: int, at_us: int) -> None:
        """This device enforced the lane up to `upto`."""
        self._waiting.append((device_id, upto, at_us))
        if not self._gathering:
            self.write()

    def write(self) -> None:
        """Put what waits into the store, in one transaction: whoever reads there now must find it."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            with self._store.write("lane_ack", durable=False) as tx:
                moved = {revocation for said in waiting for revocation in tx.ack_lane(*said)}
                for revocation in sorted(moved):  # once for all of them
                    notice(tx, revocation, waiting[-1][2])

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Write what comes inside at the end of it."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self.write()
