"""What a device of `collect` speaks: tickets for its subjects, and their sealed reports."""

from __future__ import annotations

import random
import time
from typing import Final, NamedTuple

from bench.crowd_lines import DeviceLine, DeviceTold, masked
from edge_runtime.aggregates.mechanisms import Question, mechanism_for
from edge_runtime.sync.reporting import IN_FLIGHT, together
from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from edge_runtime.wire.conversation import Side, advance
from edge_runtime.wire.sealed_report import Answered, report_id, seal_report

TICKETS, REPORTS = 1, 2
"""Rounds of the crowd: first everybody has its reports sealed, then everybody brings them."""
ALONE: Final = 8
"""Messages of one device that are under way at once when each holds one report."""


class ReporterTold(NamedTuple):
    """What a reporting line is made of."""

    device: DeviceTold
    subjects: list[bytes]
    question: Question
    seed: int
    together: bool
    """Whether reports that are due together go together, as a device sends them; else one a message."""


class ReportLine(DeviceLine):
    """A device session that reports for its subjects; what it sends together, a device would."""

    def __init__(self, told: ReporterTold) -> None:
        super().__init__(told.device)
        self._subjects, self._mechanism = told.subjects, mechanism_for(told.question)
        self._together = told.together
        self._bits = random.Random(told.seed).randrange
        self._offer: m.RoundOffer | None = None
        self._unsent: list[bytes] = []
        self._missing: set[bytes] = set()
        """Ids of the reports that are not acknowledged."""

    def begin(self, size_bytes: int) -> bytes:
        self.arrived_s = 0.0
        assert self._offer is not None
        if size_bytes == TICKETS:
            return self._say(m.TicketRequest(round_id=self._offer.round_id, subjects=self._subjects))
        self._missing = {report_id(sealed) for sealed in self._unsent}
        return self._next(IN_FLIGHT if self._together else ALONE)

    def end(self) -> bytes:
        return b""

    def _hear(self) -> bytes:
        frames = list(self._frames)
        answers = super()._hear()
        self.ready = self.ready and self._offer is not None
        return answers + b"".join(self._about(codec.decode(frame)) for frame in frames)

    def _about(self, message: m.Message) -> bytes:
        match message:
            case m.RoundOffer():
                self._offer, self.ready = message, self.device.fresh
            case m.Tickets():
                self._unsent = [self._sealed(granted.ticket) for granted in message.granted]
                assert len(self._unsent) == len(self._subjects), "everybody gets a ticket"
                self.arrived_s = time.monotonic()
            case m.ReportAck():
                self._missing -= set(message.reports)
                if not self._missing:
                    self.arrived_s = time.monotonic()
                return self._next(len(message.reports))
        return b""

    def _next(self, most: int) -> bytes:
        """At most so many reports that were not sent yet."""
        assert self._offer is not None
        some, self._unsent = self._unsent[:most], self._unsent[most:]
        reports = [m.Report(round_id=self._offer.round_id, sealed=[sealed]) for sealed in some]
        return b"".join(map(self._say, together(reports) if self._together else reports))

    def _sealed(self, ticket: bytes) -> bytes:
        assert self._offer is not None
        answer = self._mechanism.randomize(self._bits(self._mechanism.inputs), self._bits)
        answered = Answered(self._offer.definition, [ticket], answer)
        return seal_report(self._offer.collector, self._offer.round_id, answered)

    def _say(self, message: m.Message) -> bytes:
        self.device.state = advance(self.device.state, Side.DEVICE, message)
        return masked(codec.encode(message))
