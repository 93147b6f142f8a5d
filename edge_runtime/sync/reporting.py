"""What one session says and hears of aggregate rounds. Which reports there are, the aggregates room knows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from edge_runtime.sync.memory import Memory
from edge_runtime.wire import messages as m
from edge_runtime.wire.refusal import id_of
from edge_runtime.wire.sealed_report import report_id

AboutRounds = m.RoundOffer | m.Tickets | m.ReportAck
IN_FLIGHT: Final = 64
"""Most reports sent and not yet acknowledged; the next go as acknowledgements come."""
_MESSAGE_BYTES: Final = 48 * 1024
"""Of sealed reports in one message: with what is around them they fit a frame."""


class Reporter(Protocol):
    """The aggregates room as the session needs it; reports themselves wait in the outbox."""

    def on_offer(self, offer: m.RoundOffer) -> m.TicketRequest | None:
        """Which subjects would report in this round; None for none."""
        ...

    def on_tickets(self, tickets: m.Tickets) -> list[m.Report]:
        """Reports for these tickets are debited and stored; those that may go at once are returned."""
        ...

    def due(self, most: int, in_flight: Collection[bytes]) -> list[m.Report]:
        """Stored reports that may go now, at most `most`, none of those in flight; cheap when none may."""
        ...

    def unlocked(self) -> None:
        """Permissions may be back."""
        ...

    def requests(self) -> list[m.TicketRequest]:
        """What to ask again in the rounds that are open, now that permissions may be back."""
        ...

    def more(self) -> list[m.TicketRequest]:
        """What to ask next in a round whose subjects were not all looked at yet; cheap when all were."""
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
        self._sent: dict[bytes, bytes] = {}
        """Id -> round of the reports sent and not yet acknowledged."""
        self._refused: dict[bytes, bytes] = {}
        """The same of those that the server did not take: they wait for the next session."""
        self._was_lean = False

    @property
    def waits(self) -> bool:
        """Whether the server owes an answer to a report."""
        return bool(self._sent)

    def begin(self) -> None:
        """The session opens."""
        self._was_lean = self._memory.lean

    def again(self) -> list[m.Message]:
        """Offers and reports that came while consented features were locked."""
        if self._reporter is None or self._memory.lean:
            return []
        self._reporter.unlocked()
        return [*self._due(), *self._reporter.requests()]

    def due(self) -> list[m.Message]:
        """Reports whose time has come, and what goes now that the byte budget has room again."""
        was, self._was_lean = self._was_lean, self._memory.lean
        return self.again() if was and not self._was_lean else self._due()

    def take(self, message: AboutRounds) -> list[m.Message]:
        """A word of the server about rounds; returns what to answer."""
        if self._reporter is None:
            return []
        match message:
            case m.RoundOffer():
                request = self._reporter.on_offer(message)
                return [] if request is None or self._memory.lean else [request]
            case m.Tickets():
                self._reporter.on_tickets(message)
            case m.ReportAck():
                for id_ in message.reports:
                    self._sent.pop(id_, None)
                self._reporter.on_ack(message)
        return self._due()

    def refused(self, refusal: m.Refusal) -> bool:
        """Whether a refusal is about a round that was answered: over, or of no use in this session."""
        about = id_of(refusal.about)
        if self._reporter is not None and refusal.code == "round_closed":
            self._reporter.on_closed(about or b"")
        held_back = {id_: round_id for id_, round_id in self._sent.items() if about in (id_, round_id)}
        for id_ in held_back:
            del self._sent[id_]
        self._refused.update(held_back)
        return bool(held_back) or refusal.code == "round_closed"

    def _due(self) -> list[m.Message]:
        room = IN_FLIGHT - len(self._sent)
        if self._reporter is None or self._memory.lean or room <= 0:  # stored, and sent when there is room
            return []
        reports = self._reporter.due(room, self._sent.keys() | self._refused.keys())
        self._sent |= {report_id(sealed): r.round_id for r in reports for sealed in r.sealed}
        return [*together(reports), *self._reporter.more()]


def together(reports: Sequence[m.Report]) -> list[m.Report]:
    """The same, with those of one round in as few messages as fit a frame, the one due first at the head.

    The server waits for its disk once a message. Nothing is held back for it: these are due now.
    """
    parts: list[tuple[bytes, list[bytes]]] = []
    last: dict[bytes, list[bytes]] = {}
    """Round -> the message of it that has room."""
    for round_id, sealed in ((report.round_id, sealed) for report in reports for sealed in report.sealed):
        part = last.get(round_id)
        if part is None or sum(map(len, part)) + len(sealed) > _MESSAGE_BYTES:
            part = last[round_id] = []
            parts.append((round_id, part))
        part.append(sealed)
    return [m.Report(round_id=round_id, sealed=part) for round_id, part in parts]
