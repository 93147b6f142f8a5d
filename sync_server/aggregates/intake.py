"""What a device brings in a round: sealed reports, stored for the collector without saying who brought them.

How much one device brings is bounded by the tickets that it was given: that many reports, and of no more
bytes than one report for each ticket would have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgspec

from edge_runtime.aggregates.mechanisms import Question, noised_for
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Report, ReportAck
from edge_runtime.wire.sealed_report import Answered, report_id, sealed_bytes
from sync_server.aggregates.rounds import Rounds, parameters_of
from sync_server.store.aggregates import Allowance
from sync_server.store.protocol import WriteTx

MESSAGE_REPORTS: Final = 512
"""Most reports in one message: more of the shortest fit no frame, and our devices have 64 in flight."""


@dataclass(slots=True)
class Brought:
    """What became of one message."""

    round_id: bytes
    stored: list[bytes] = field(default_factory=list)
    """Ids of the reports that are stored, now or before."""
    refused: dict[bytes, str] = field(default_factory=dict)
    """id -> code, of those that are not: `too_many`, `malformed`."""
    closed: bool = False
    """The round takes nothing: none is stored."""

    def ack(self) -> ReportAck | None:
        """What the device is told, after the commit; None when nothing is stored."""
        return ReportAck(round_id=self.round_id, reports=self.stored) if self.stored else None


def bring(tx: WriteTx, rounds: Rounds, device_id: str, report: Report) -> Brought:
    """Store what `device_id` brings; whatever is not stored is counted in the round, with its code.

    Bringing the same bytes again stores nothing and is acknowledged, also when they were opened meanwhile.
    Raises `WireFailure("too_large")` for more than any honest message holds, before it looks at one.
    """
    if len(report.sealed) > MESSAGE_REPORTS:
        raise WireFailure("too_large", f"expected at most {MESSAGE_REPORTS} reports")
    brought, row, rows = Brought(report.round_id), rounds.live(tx, report.round_id), tx.aggregates
    if row is None:
        brought.closed = True
        if rows.round(report.round_id) is not None:
            rows.refuse(report.round_id, "round_closed", len(report.sealed))
        return brought
    question = parameters_of(row).question
    room = rows.allowance(row.id, device_id)
    used = Allowance(0, 0, 0)
    for sealed in report.sealed:
        name = report_id(sealed)
        if rows.came(row.id, name):
            brought.stored.append(name)
            continue
        code = _refused(question, room, used, len(sealed))
        if code is not None:
            brought.refused[name] = code
            rows.refuse(row.id, code)
            continue
        rows.take_sealed(row.id, name, sealed)
        used = Allowance(0, used.reports + 1, used.bytes + len(sealed))
        brought.stored.append(name)
    if used.reports:
        rows.use_allowance(row.id, device_id, used.reports, used.bytes)
    return brought


def _refused(question: Question, room: Allowance, used: Allowance, length: int) -> str | None:
    """Why a report of `length` bytes is not stored."""
    one = one_report_bytes(question)
    if room.reports + used.reports >= room.tickets or room.bytes + used.bytes + length > room.tickets * one:
        return "too_many"
    if length < one or (question.mode == "local" and length != one):
        return "malformed"  # no answer of this round's mechanism has that length
    return None


@lru_cache(maxsize=64)
def one_report_bytes(question: Question) -> int:
    """Length of a sealed report for one subject."""
    answered = Answered(bytes(16), [bytes(16)], bytes(noised_for(question).answer_bytes))
    return sealed_bytes(len(msgspec.msgpack.encode(answered)))
