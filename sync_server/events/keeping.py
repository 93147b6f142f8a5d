"""The chore of events: what time alone makes true is noticed, and what is wrong is looked at now and then."""

from __future__ import annotations

from sync_server.events.telling import notice
from sync_server.settings import Settings
from sync_server.store.protocol import ReadTx, Store


class EventKeeper:
    """Work for `Housekeeping`, in steps of one short transaction each.

    A lease that ends enforces a revocation, and a due time that passes makes it overdue, without anybody
    calling: both stand in the store, so a kill in between only delays what is told.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store, self._settings = store, settings
        self._looked_us = 0
        self.warned = False
        """Whether there was anything to warn of at the last look. Asking `readyz` counts nothing."""

    def step(self, now_us: int) -> bool:
        """Notice some of what time made true; whether more may be there."""
        if abs(now_us - self._looked_us) >= self._settings.events_warn_us:
            self.look(now_us)
        limit = self._settings.notice_chunk
        with self._store.read() as reading:
            due = reading.events.to_look_at(now_us, limit)
        if not due:
            return False
        with self._store.write("events_noticed") as tx:
            for revocation in due:
                notice(tx, revocation, now_us)
        return len(due) == limit

    def look(self, now_us: int) -> None:
        """Look whether there is anything to warn of."""
        self._looked_us = now_us
        with self._store.read() as tx:
            self.warned = bool(warnings(tx, self._settings, now_us))


def warnings(tx: ReadTx, settings: Settings, now_us: int) -> list[str]:
    """What an operator should know about events; names destinations, never subjects."""
    counts = tx.events.count()
    said = []
    if counts["events"] > settings.undelivered_events:
        said.append(f"{counts['events']} events wait for an acknowledgement; none is dropped")
    if counts["dead"]:
        said.append(f"{counts['dead']} deliveries are dead: see /v1/webhook-deliveries?state=dead")
    for row in tx.destinations.registered():
        if row.failing_us is not None and now_us - row.failing_us >= settings.stream_failing_us:
            said.append(f"nothing gets through to {row.id}: {row.error}")
    overdue = tx.recipients.count(now_us)["overdue"]
    if overdue:
        said.append(f"{overdue} answers of onward recipients are overdue")
    return said
