"""Stored reports that wait to be sent: which may go now, which keep waiting, and which are dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from edge_runtime.aggregates.respondents import Respondents
from edge_runtime.aggregates.rounds_in_hand import is_open
from edge_runtime.aggregates.unsent import Unsent, drop_unsent, keys_of, open_unsent
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import Report
from edge_runtime.wire.sealed_report import report_id


class Waiting:
    """The reports in the outbox. `counts`: `sent` (acknowledged), `dropped` (ended before it was sent)."""

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        respondents: Respondents,
        clock: Clock,
        counts: Counter[str],
    ) -> None:
        self._catalog, self._database, self._keyring = catalog, database, keyring
        self._respondents, self._clock, self.counts = respondents, clock, counts

    def sendable(self) -> list[Report]:
        """Every report that may be sent now, oldest first; what is dead is dropped."""
        waiting = self._all()
        self._settle([ticket for ticket, unsent, _ in waiting if unsent is None], "dropped")
        return [unsent.report() for _, unsent, allowed in waiting if unsent is not None and allowed]

    def stored(self, ticket: bytes, payload: bytes) -> tuple[Unsent | None, bool]:
        """(report, whether it may be sent now) of an outbox payload; no report when it is dead."""
        keys = keys_of(payload, ticket, self._keyring)
        if keys is None:
            return None, False
        unsent = open_unsent(payload, ticket, keys)
        metric = self._catalog.metrics.get(unsent.metric)
        if metric is None or not is_open(unsent.closes_at_us, self._clock):
            return None, False
        return unsent, self._respondents.keys(metric, keys[0].subject) is not None

    def acknowledged(self, reports: Collection[bytes]) -> None:
        """The server has stored the reports of these ids: forget them."""
        self._settle_where(lambda unsent: report_id(unsent.sealed) in reports, "sent", dead=False)

    def closed(self, round_id: bytes) -> None:
        """The round takes no more answers: drop what was not sent."""
        self._settle_where(lambda unsent: unsent.round_id == round_id, "dropped", dead=True)

    def drop(self, handles: Collection[bytes]) -> int:
        """Drop what is sealed under a key of these handles; returns how many."""
        with self._database.write("drop_reports") as tx:
            return drop_unsent(tx, handles)

    def _settle_where(self, meant: Callable[[Unsent], bool], what: str, *, dead: bool) -> None:
        self._settle([t for t, u, _ in self._all() if (dead if u is None else meant(u))], what)

    def _all(self) -> list[tuple[bytes, Unsent | None, bool]]:
        with self._database.read() as tx:
            items = tx.outbox("report")
        return [(item.id, *self.stored(item.id, item.payload)) for item in items]

    def _settle(self, tickets: Collection[bytes], what: str) -> None:
        if not tickets:
            return
        with self._database.write("settle_reports") as tx:
            self.counts[what] += sum(tx.settle(ticket, "report") for ticket in tickets)
