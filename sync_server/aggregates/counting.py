"""What an opened report does to its round: it is counted, once, or refused with a code.

A report counts whole or not at all: a kiosk's noise was drawn for the sum of all its subjects, so one ticket
among them that is used, void or strange refuses the report, and leaves the others' tickets as they were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_runtime.aggregates.mechanisms import Moves, Question, curator_for, noised_for
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.sealed_report import open_report
from sync_server.aggregates.release import Parameters
from sync_server.aggregates.tickets import permitted
from sync_server.store.aggregates import SealedRow
from sync_server.store.protocol import ReadTx, WriteTx


@dataclass(frozen=True, slots=True)
class Asked:
    """What a round asks, as a report is held to it."""

    definition: bytes
    parameters: Parameters


@prints_only("round", "code")
@dataclass(frozen=True, slots=True)
class Opened:
    """A report that was opened."""

    round: bytes
    id: bytes
    tickets: tuple[bytes, ...] = ()
    moves: Moves = ()
    code: str | None = None
    """Why it counts for nobody; None: its tickets decide."""


def opened(key: X25519PrivateKey, asked: Asked, row: SealedRow) -> Opened:
    """Open one report; no transaction is needed.

    Codes: `unsealed`, `malformed`, `metric_changed`, `unsupported_answer`.
    """
    try:
        answered = open_report(key, row.round, row.sealed)
    except WireFailure as failure:
        return Opened(row.round, row.id, code=failure.code)
    if answered.definition != asked.definition:
        return Opened(row.round, row.id, code="metric_changed")
    question, tickets = asked.parameters.question, tuple(answered.tickets)
    moves = noised_for(question).moves(answered.answer)
    if moves is None or not _fits(question, tickets, moves):
        return Opened(row.round, row.id, code="unsupported_answer")
    return Opened(row.round, row.id, tickets, moves)


def _fits(question: Question, tickets: Sequence[bytes], moves: Moves) -> bool:
    """Whether so many tickets can bring such an answer: a kiosk of three subjects does not move thousands."""
    if question.mode == "local":
        return len(tickets) == 1
    bound = curator_for(question).bound_for(len(tickets))
    return 0 < len(tickets) == len(set(tickets)) and all(abs(amount) <= bound for _, amount in moves)


def count(tx: WriteTx, asked: Mapping[bytes, Asked], reports: Iterable[Opened]) -> None:
    """Count reports of rounds that are not released yet; one that is no longer stored was counted before.

    Args:
        asked: what each of their rounds asks.
    """
    rows, tickets = tx.aggregates, tx.tickets
    totals: dict[bytes, _Total] = {}
    for report in reports:
        if not rows.drop_sealed(report.round, report.id):
            continue
        code = report.code or _judge(tx, asked[report.round].parameters, report)
        if code is not None:
            rows.refuse(report.round, code)
            continue
        tickets.use(report.tickets)
        total = totals.setdefault(report.round, _Total())
        total.subjects += len(report.tickets)
        total.reports += 1
        for cell, amount in report.moves:
            total.moves[cell] += amount
    for round_id, total in totals.items():
        rows.count(round_id, total.moves.items(), total.subjects, total.reports)


class _Total:
    """What the reports of one round move together."""

    def __init__(self) -> None:
        self.moves = Counter[int]()
        self.subjects = self.reports = 0


def _judge(tx: ReadTx, parameters: Parameters, report: Opened) -> str | None:
    for id_ in report.tickets:
        ticket = tx.tickets.by_id(id_)
        if ticket is None or ticket.round != report.round:
            return "ticket_invalid"
        if ticket.used:
            return "repeated"
        if ticket.subject is None or not permitted(tx, parameters, ticket.subject):
            return "no_permission"  # the permission ended after the ticket was issued
    return None
