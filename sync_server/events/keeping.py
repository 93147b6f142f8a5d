"""The chore of events: what time alone makes true is noticed."""

from __future__ import annotations

from sync_server.events.telling import notice
from sync_server.settings import Settings
from sync_server.store.protocol import Store


class EventKeeper:
    """Work for `Housekeeping`, in steps of one short transaction each.

    A lease that ends enforces a revocation, and a due time that passes makes it overdue, without anybody
    calling: both stand in the store, so a kill in between only delays what is told.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings

    def step(self, now_us: int) -> bool:
        """Notice some of what time made true; whether more may be there."""
        limit = self._settings.notice_chunk
        with self._store.read() as reading:
            due = reading.events.to_look_at(now_us, limit)
        if not due:
            return False
        with self._store.write("events_noticed") as tx:
            for revocation in due:
                notice(tx, revocation, now_us)
        return len(due) == limit
