"""Rounds: who may answer, each subject once, and the release at the end.

A device that has a subject's ticket (`tickets.py`) sends an answer; that is checked, added to the counts and
forgotten, and its ticket then no longer says whose it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_runtime.aggregates.mechanisms import (
    DAY_US,
    budget_window_days,
    definition,
    mechanism_for,
)
from edge_runtime.catalog.model import CatalogModel
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import (
    Report,
    ReportAck,
    RoundOffer,
    TicketRequest,
    Tickets,
)
from edge_runtime.wire.sealed_report import Answered, open_report, report_id
from sync_server.aggregates.release import Parameters, Release, freeze, make_release
from sync_server.aggregates.tickets import Issuer, permitted
from sync_server.clock import Clock
from sync_server.errors import Problem
from sync_server.store.aggregates import RoundRow
from sync_server.store.protocol import ReadTx, WriteTx
from sync_server.store.records import DeviceRow

SHORTEST_ROUND_US: Final = 1_000_000
LONGEST_ROUND_US: Final = 30 * DAY_US
"""Devices do not believe a closing time much further ahead."""


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
        collector: X25519PrivateKey,
    ) -> None:
        self._clock, self._entropy = clock, entropy
        self._issuer = Issuer(clock, entropy, tag_key)
        self._signing, self._collector = signing, collector

    # ---- opening and closing -----------------------------------------------------------------------------

    def open(self, tx: WriteTx, model: CatalogModel, metric: str, closes_in_us: int) -> tuple[RoundRow, bool]:
        """The open round of `metric` and whether it is new: opening twice gives the one that is open.

        Raises `Problem`: `unknown_metric`; `invalid_request` for a kind that is not built or a bad duration.
        """
        declared = model.metrics.get(metric)
        if declared is None:
            raise Problem("unknown_metric", metric)
        if not SHORTEST_ROUND_US <= closes_in_us <= LONGEST_ROUND_US:
            raise Problem("invalid_request", "closes_in_s: expected 1 second to 30 days")
        self.close_due(tx)
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
            collector=self._collector.public_key().public_bytes_raw(),
            opened_us=now_us,
            closes_us=now_us + closes_in_us,
            closed_us=None,
            subjects=0,
            reports=0,
        )
        tx.aggregates.add_round(row)
        return row, True

    def close(self, tx: WriteTx, round_id: bytes) -> Release:
        """Close a round now and publish its release; closing it again gives the same release.

        Raises `Problem("not_found")` for a round that never was.
        """
        row = tx.aggregates.round(round_id)
        if row is None:
            raise Problem("not_found", "no such round")
        published = tx.aggregates.release(round_id)
        if published is not None:
            return msgspec.json.decode(published, type=Release)
        now_us, parameters = self._clock.now_us(), _parameters(row)
        tally, refused = tx.aggregates.tally(round_id), tx.aggregates.refusals(round_id)
        release = make_release(row, parameters, tally, refused, now_us)
        tx.aggregates.add_release(round_id, row.metric, now_us, msgspec.json.encode(release))
        tx.aggregates.close_round(round_id, now_us)
        return release

    def close_due(self, tx: WriteTx) -> list[Release]:
        """Close every round whose time is over."""
        now_us = self._clock.now_us()
        due = [row for row in tx.aggregates.open_rounds() if row.closes_us <= now_us]
        return [self.close(tx, row.id) for row in due]

    def due(self, tx: ReadTx) -> bool:
        """Whether `close_due` has something to close."""
        return any(row.closes_us <= self._clock.now_us() for row in tx.aggregates.open_rounds())

    def offers(self, tx: ReadTx) -> list[RoundOffer]:
        """What devices are told: the rounds that take answers now."""
        now_us = self._clock.now_us()
        return [self._offer(row) for row in tx.aggregates.open_rounds() if row.closes_us > now_us]

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

    # ---- tickets and answers -----------------------------------------------------------------------------

    def issue_tickets(self, tx: WriteTx, device: DeviceRow, request: TicketRequest) -> Tickets:
        """Tickets for those subjects who may answer from this device; see `Issuer.issue`.

        Raises `WireFailure`: `round_closed`; `too_large` over 1,000 subjects.
        """
        row = self._live(tx, request.round_id)
        return self._issuer.issue(tx, _parameters(row), device, request)

    def accept(self, tx: WriteTx, report: Report) -> ReportAck:
        """Count each sealed report whose tickets admit it, once; what is refused is counted with its code.

        Raises `WireFailure("round_closed")`.
        """
        row = self._live(tx, report.round_id)
        for sealed in report.sealed:
            try:
                self._count(tx, row, open_report(self._collector, row.id, sealed))
            except WireFailure as failure:
                tx.aggregates.refuse(row.id, failure.code)
        return ReportAck(round_id=row.id, reports=[report_id(sealed) for sealed in report.sealed])

    def _live(self, tx: ReadTx, round_id: bytes) -> RoundRow:
        row = tx.aggregates.round(round_id)
        if row is None or row.closed_us is not None or row.closes_us <= self._clock.now_us():
            raise WireFailure("round_closed", "the round takes no more answers")
        return row

    def _count(self, tx: WriteTx, row: RoundRow, answered: Answered) -> None:
        parameters = _parameters(row)
        if answered.definition != row.definition:
            raise WireFailure("metric_changed", "the report answers another definition")
        moves = mechanism_for(parameters.question).moves(answered.answer)
        if moves is None or len(answered.tickets) != 1:
            raise WireFailure("unsupported_answer", "expected an answer of this round's mechanism")
        for id_ in answered.tickets:
            ticket = tx.aggregates.ticket(id_)
            if ticket is None or ticket.round != row.id:
                raise WireFailure("ticket_invalid", "expected a ticket of this round")
            if ticket.used:
                raise WireFailure("repeated", "the ticket was used")
            if ticket.subject is None or not permitted(tx, parameters, ticket.subject):
                raise WireFailure("no_permission", "the permission ended after the ticket was issued")
            tx.aggregates.use_ticket(id_)
        tx.aggregates.count(row.id, moves, len(answered.tickets), 1)


def _parameters(row: RoundRow) -> Parameters:
    return msgspec.json.decode(row.parameters, type=Parameters)
