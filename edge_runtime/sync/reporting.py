"""What one session says and hears of aggregate rounds. Which reports there are, the aggregates room knows."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.sync.memory import Memory
from edge_runtime.wire import messages as m
from edge_runtime.wire.refusal import id_of
from edge_runtime.wire.sealed_report import report_id

AboutRounds = m.RoundOffer | m.Tickets | m.ReportAck


class Reporter(Protocol):
    """The aggregates room as the session needs it; reports themselves wait in the outbox."""

    def on_offer(self, offer: m.RoundOffer) -> m.TicketRequest | None:
        """Which subjects would report in this round; None for none."""
        ...

    def on_tickets(self, tickets: m.Tickets) -> list[m.Report]:
        """The reports for these tickets, debited and stored before they are returned."""
        ...

    def pending(self) -> list[m.Report]:
        """Stored reports that may be sent now and that the server has not acknowledged."""
        ...

    def requests(self) -> list[m.TicketRequest]:
        """What to ask again in the rounds that are open, now that permissions may be back."""
        ...

    def on_ack(self, ack: m.ReportAck) -> None:
        """These reports are stored there."""
        ...

    def on_closed(self, round_id: bytes) -> None:
        """The round takes no more answers."""
        ...


class Reporting:
    """The rounds of one session. While the byte budget is spent (`memory.lean`), nothing of them leaves.

    Args:
        reporter: None when this device answers no rounds.
    """

    def __init__(self, reporter: Reporter | None, memory: Memory) -> None:
        self._reporter, self._memory = reporter, memory
        self._sent: set[bytes] = set()
        """Ids of the reports sent and not yet acknowledged."""
        self._was_lean = False

    @property
    def waits(self) -> bool:
        """Whether the server owes an answer to a report."""
        return bool(self._sent)

    def begin(self) -> None:
        """The session opens."""
        self._was_lean = self._memory.lean

    def stored(self) -> list[m.Message]:
        """Reports of earlier sessions."""
        return [] if self._reporter is None else self._send(self._reporter.pending())

    def again(self) -> list[m.Message]:
        """Offers and reports that came while consented features were locked."""
        if self._reporter is None or self._memory.lean:
            return []
        return [*self._send(self._reporter.pending()), *self._reporter.requests()]

    def held_back(self) -> list[m.Message]:
        """What goes now that the byte budget has room again."""
        was, self._was_lean = self._was_lean, self._memory.lean
        return self.again() if was and not self._was_lean else []

    def take(self, message: AboutRounds) -> list[m.Message]:
        """A word of the server about rounds; returns what to answer."""
        if self._reporter is None:
            return []
        match message:
            case m.RoundOffer():
                request = self._reporter.on_offer(message)
                return [] if request is None or self._memory.lean else [request]
            case m.Tickets():
                return self._send(self._reporter.on_tickets(message))
            case m.ReportAck():
                self._sent.difference_update(message.reports)
                self._reporter.on_ack(message)
                return []

    def refused(self, refusal: m.Refusal) -> bool:
        """Whether a refusal is about a round or an answer in it, which is then over."""
        about = id_of(refusal.about)
        if self._reporter is not None and refusal.code == "round_closed":
            self._reporter.on_closed(about or b"")
            self._sent.clear()
            return True
        ours = about in self._sent
        self._sent -= {about}
        return ours

    def _send(self, reports: list[m.Report]) -> list[m.Message]:
        if self._memory.lean:  # stored, and asked for again when there is room
            return []
        self._sent.update(report_id(sealed) for report in reports for sealed in report.sealed)
        return [*reports]
