"""Rounds: opened, offered, stopped, and released once everything that came in time was opened.

A device that has a subject's ticket (`tickets.py`) brings a sealed report (`intake.py`); the collector
(`collector.py`) opens it, adds it to the tally and forgets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from edge_runtime.aggregates.mechanisms import DAY_US, budget_window_days, definition
from edge_runtime.catalog.model import CatalogModel
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import RoundOffer, TicketRequest, Tickets
from sync_server.aggregates.release import Parameters, Release, freeze, make_release, read_release
from sync_server.aggregates.tickets import Issuer
from sync_server.clock import Clock
from sync_server.errors import Problem
from sync_server.store.aggregates import RoundRow
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import DeviceRow

SHORTEST_ROUND_US: Final = 1_000_000
LONGEST_ROUND_US: Final = 30 * DAY_US
"""Devices do not believe a closing time much further ahead."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a round came to, when nothing of it waits any more."""

    row: RoundRow
    stopped_us: int
    tally: Mapping[int, int]
    refused: Mapping[str, int]

    def release(self) -> Release:
        """Pure, and seconds for thousands of categories: no transaction need wait for it."""
        return make_release(self.row, parameters_of(self.row), self.tally, self.refused, self.stopped_us)


class Rounds:
    """The aggregates room. Every method works inside the caller's transaction.

    Args:
        entropy: n unpredictable bytes, for the ids of rounds and tickets.
        tag_key: 32-byte key of the blind tags.
        signing: signs offers.
        collector: what reports are sealed to.
    """

    def __init__(
        self,
        clock: Clock,
        entropy: Callable[[int], bytes],
        tag_key: bytes,
        signing: Ed25519PrivateKey,
        collector: X25519PublicKey,
    ) -> None:
        self._clock, self._entropy = clock, entropy
        self._issuer = Issuer(clock, entropy, tag_key)
        self._signing, self._collector = signing, collector.public_bytes_raw()

    # ---- opening and closing -----------------------------------------------------------------------------

    def open(self, tx: WriteTx, model: CatalogModel, metric: str, closes_in_us: int) -> tuple[RoundRow, bool]:
        """The open round of `metric` and whether it is new: opening twice gives the one that is open.

        Raises `Problem`: `unknown_metric`; `invalid_request` for a bad duration, or a mechanism that does not
        fit.
        """
        declared = model.metrics.get(metric)
        if declared is None:
            raise Problem("unknown_metric", metric)
        if not SHORTEST_ROUND_US <= closes_in_us <= LONGEST_ROUND_US:
            raise Problem("invalid_request", "closes_in_s: expected 1 second to 30 days")
        self.stop_due(tx)
        for row in tx.aggregates.open_rounds():
            if row.metric == metric:
                return row, False
        now_us = self._clock.now_us()
        try:
            parameters = freeze(model, declared, budget_window_days(model.metrics.values()))
        except ValueError as error:
            raise Problem("invalid_request", f"metrics.{metric}: {error}") from None
        row = RoundRow(
            id=self._entropy(16),
            metric=metric,
            definition=definition(declared),
            parameters=msgspec.json.encode(parameters),
            collector=self._collector,
            opened_us=now_us,
            closes_us=now_us + closes_in_us,
            closed_us=None,
            subjects=0,
            reports=0,
        )
        tx.aggregates.add_round(row)
        return row, True

    def stop(self, tx: WriteTx, round_id: bytes) -> RoundRow:
        """From now on the round takes neither tickets nor reports; stopping it again changes nothing.

        Raises `Problem("not_found")` for a round that never was.
        """
        row = tx.aggregates.round(round_id)
        if row is None:
            raise Problem("not_found", "no such round")
        if row.stopped_us is not None:
            return row
        stopped_us = min(row.closes_us, self._clock.now_us())
        tx.aggregates.stop_round(round_id, stopped_us)
        return replace(row, stopped_us=stopped_us)

    def stop_due(self, tx: WriteTx) -> int:
        """Stop every round whose time is over; how many."""
        due = self._due(tx)
        for row in due:
            self.stop(tx, row.id)
        return len(due)

    def due(self, tx: ReadTx) -> bool:
        """Whether `stop_due` has something to stop."""
        return bool(self._due(tx))

    def published(self, tx: ReadTx, round_id: bytes) -> Release | None:
        """The release of a round, as it was published; None before."""
        body = tx.aggregates.release(round_id)
        return None if body is None else read_release(body)

    def counted(self, tx: ReadTx, round_id: bytes) -> Counted | None:
        """What a round that is stopped came to; None while a report of it waits to be opened.

        Nothing moves it any more. Raises `Problem("not_found")`.
        """
        row = tx.aggregates.round(round_id)
        if row is None:
            raise Problem("not_found", "no such round")
        if row.stopped_us is None or tx.aggregates.waits(round_id):
            return None
        return Counted(row, row.stopped_us, tx.aggregates.tally(round_id), tx.aggregates.refusals(round_id))

    def publish(self, tx: WriteTx, round_id: bytes, release: Release) -> Release:
        """Publish a release and close its round: once, asking again gives the one that stands."""
        published = self.published(tx, round_id)
        if published is not None:
            return published
        now_us = self._clock.now_us()
        tx.aggregates.add_release(round_id, release.metric, now_us, msgspec.json.encode(release))
        tx.aggregates.close_round(round_id, now_us)
        return release

    def live(self, tx: ReadTx, round_id: bytes) -> RoundRow | None:
        """The round, if it takes tickets and reports now."""
        row = tx.aggregates.round(round_id)
        return row if row is not None and self._live(row) else None

    def _live(self, row: RoundRow) -> bool:
        """Of a key that is not ours any more it takes nothing: nobody could open what subjects paid for."""
        takes = row.stopped_us is None and row.ending is None and row.collector == self._collector
        return takes and row.closes_us > self._clock.now_us()

    def _due(self, tx: ReadTx) -> list[RoundRow]:
        return [row for row in tx.aggregates.open_rounds() if not self._live(row)]

    def offers(self, tx: ReadTx) -> list[RoundOffer]:
        """What devices are told: the rounds that take answers now."""
        return [self._offer(row) for row in tx.aggregates.open_rounds() if self._live(row)]

    def _offer(self, row: RoundRow) -> RoundOffer:
        bare = RoundOffer(
            round_id=row.id,
            metric=row.metric,
            definition=row.definition,
            closes_at_us=row.closes_us,
            collector=row.collector,
            signature=bytes(64),
        )
        signature = seal.sign(self._signing, seal.OFFER, seal.offer_bytes(bare))
        return msgspec.structs.replace(bare, signature=signature)

    def issue_tickets(self, tx: WriteTx, device: DeviceRow, request: TicketRequest) -> Tickets:
        """Tickets for those subjects who may answer from this device; see `Issuer.issue`.

        Raises `WireFailure`: `round_closed`; `too_large` over 1,000 subjects.
        """
        row = self.live(tx, request.round_id)
        if row is None:
            raise WireFailure("round_closed", "the round takes no more answers")
        return self._issuer.issue(tx, row.metric, parameters_of(row), device, request)

    @property
    def withheld(self) -> Mapping[str, int]:
        """Reason -> subjects who were asked for and got no ticket, since the start; see `Issuer`."""
        return self._issuer.withheld


def parameters_of(row: RoundRow) -> Parameters:
    """What a round asks."""
    return _parameters(row.parameters)


@lru_cache(maxsize=256)
def _parameters(body: bytes) -> Parameters:
    return msgspec.json.decode(body, type=Parameters)
