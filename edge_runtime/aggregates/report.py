"""The reporter: what a device says in aggregate rounds. OPEN FIRST.

Which offers are believed says `rounds_in_hand.py`; who may answer, and with which input, `respondents.py`
over `reading.py` and `exposed.py`; answers are made in `answers.py`, kept in `remembered.py` and charged in
`ledger.py` over `budget.py`; what waits to be sent is in `waiting.py`, how it rests on disk in `unsent.py`,
and what became of it all in `counts.py`.

Order of an answer: permission for both purposes, a whole value, a ticket; then, in one transaction, the
budget is debited, the round marked and the answer stored, with a random time before which it does not go. A
crash anywhere resends the stored answer or sends none, and never draws a second one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from edge_runtime.aggregates.answers import Answers, Ticketed
from edge_runtime.aggregates.counts import count, counted
from edge_runtime.aggregates.mechanisms import Bits
from edge_runtime.aggregates.respondents import Consents, ReadValue, Respondents
from edge_runtime.aggregates.rounds_in_hand import ROUNDS, Round, RoundsInHand
from edge_runtime.aggregates.waiting import Waiting
from edge_runtime.cache.database import Database
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import Report, ReportAck, RoundOffer, TicketRequest, Tickets

WAITING_LIMIT: Final = 20_000
"""Most reports that wait; some 10 MB. While there are as many, nobody is asked for."""
MARKS_LIMIT: Final = 1_000_000
"""Most rows of the ledger; some 50 MB. A server that opens rounds without end fills no disk."""


class Reporter:
    """Answers rounds for the subjects of one runtime. Not thread-safe, except `drop`: the link owns it.

    Args:
        spread_us: see `Settings.report_spread_us`.
        remembered: see `Settings.remembered_answers`.
    """

    def __init__(
        self,
        catalog: Catalog,
        database: Database,
        keyring: Keyring,
        consents: Consents,
        read_value: ReadValue,
        clock: Clock,
        bits: Bits,
        spread_us: int,
        remembered: int,
    ) -> None:
        self._database, self._keyring = database, keyring
        self._rounds = RoundsInHand(catalog, keyring, clock)
        self._respondents = Respondents(catalog, keyring, consents, read_value, clock)
        self._answers = Answers(catalog, keyring, self._respondents, clock, bits, spread_us, remembered)
        self._waiting = Waiting(catalog, database, keyring, consents, clock)
        self._disbelieved: dict[tuple[bytes, str], None] = {}
        """(round, why) of offers that were counted."""

    @property
    def counts(self) -> Counter[str]:
        """What became of reports and offers, over restarts too; see `counts.COUNTS`."""
        with self._database.read() as tx:
            return counted(tx)

    # ---- offers and tickets ------------------------------------------------------------------------------

    def on_offer(self, offer: RoundOffer) -> TicketRequest | None:
        """Ask for tickets for subjects that may and can answer, the first of many; the others ask by `more`.

        An offer that is not believed is no round for us, and is counted once: see `RoundsInHand.take`.
        """
        match self._rounds.take(offer):
            case Round() as round_ if self._has_room():
                round_.turn()
                return self._request(round_)
            case Round():
                self._disbelieve(offer.round_id, "no_room")
                return None
            case str(reason):
                self._disbelieve(offer.round_id, reason)
                return None

    def _has_room(self) -> bool:
        """Law 11: rounds that nobody closes may be many, and an epsilon may be small."""
        with self._database.read() as tx:
            waiting = tx.outbox_counts().get("report", 0)
            return waiting < WAITING_LIMIT and tx.budget_rows() < MARKS_LIMIT

    def _disbelieve(self, round_id: bytes, reason: str) -> None:
        if (round_id, reason) in self._disbelieved:
            return
        while len(self._disbelieved) >= ROUNDS:
            self._disbelieved.pop(next(iter(self._disbelieved)))
        self._disbelieved[round_id, reason] = None
        with self._database.write("disbelieve_offer") as tx:
            count(tx, reason)

    def requests(self) -> list[TicketRequest]:
        """Ask again in every round that was offered and is still open.

        Call it when permissions may have come back: a lease was granted, a subject said yes.
        """
        if not self._has_room():
            return []
        for round_ in self._rounds.open():
            round_.turn()
        asked = [self._request(round_) for round_ in self._rounds.open()]
        return [request for request in asked if request is not None]

    def more(self) -> list[TicketRequest]:
        """What to ask next on a device with many subjects: in one round, a few at a time, at every tick."""
        round_ = next((round_ for round_ in self._rounds.open() if round_.asks), None)
        request = None if round_ is None or not self._has_room() else self._request(round_)
        return [] if request is None else [request]

    def _request(self, round_: Round) -> TicketRequest | None:
        self._note_day()
        asking = self._respondents.asking(round_, partial(self._payable, round_))
        round_.asked.update(asking)
        return TicketRequest(round_id=round_.offer.round_id, subjects=list(asking)) if asking else None

    def _note_day(self) -> None:
        with self._database.read() as tx:
            if not self._answers.ledger.behind(tx):
                return
        with self._database.write("ledger_day") as tx:
            self._answers.ledger.note_day(tx)

    def _payable(self, round_: Round, subject: str) -> bool:
        with self._database.read() as tx:
            return self._answers.ledger.payable(tx, round_, subject)

    def on_tickets(self, tickets: Tickets) -> list[Report]:
        """Draw, pay for and store an answer for each ticket that we asked for; return what may go at once.

        In curator mode those who got one together give one answer. None is drawn for a subject whose
        permission ended, whose value is gone, whose budget does not reach, or who has answered.
        """
        round_ = self._rounds.get(tickets.round_id)
        if round_ is None or not self._has_room():
            return []
        wanted = [(round_.asked[g.subject], g.ticket) for g in tickets.granted if g.subject in round_.asked]
        ticketed = [Ticketed(s, t, self._respondents.input(round_.metric, s)) for s, t in wanted]
        with self._database.write("report") as tx:  # values were read before
            stored = self._answers.store(tx, round_, ticketed)
        self._waiting.came(stored)
        return [report for report in self._waiting.due() if report.round_id == tickets.round_id]

    # ---- stored reports ----------------------------------------------------------------------------------

    def pending(self) -> list[Report]:
        """Every stored report that may go now, the one due first at the head.

        Reports are resent as they were drawn. One that no key opens, or whose round is over, is dropped; one
        that is only locked, or not due, waits.
        """
        self._waiting.look_anew()
        self._waiting.unlocked()
        return self._waiting.due()

    def due(self, most: int, in_flight: Collection[bytes]) -> list[Report]:
        """At most `most` of the same that are not in flight; reads no disk while none is due.

        Call it at every tick: time alone makes reports due.
        """
        return self._waiting.due(most, in_flight)

    def unlocked(self) -> None:
        """Permissions may be back: look at every report again that was due and locked."""
        self._waiting.unlocked()

    def on_ack(self, ack: ReportAck) -> None:
        """The server has stored these reports: forget them."""
        self._waiting.settle(ack.reports, "sent")

    def on_closed(self, round_id: bytes) -> None:
        """The server takes no more answers in this round: drop what was not sent."""
        self._rounds.drop(round_id)
        self._waiting.closed(round_id)

    def drop(self, subject: str, purposes: Sequence[str] | None = None) -> int:
        """Drop the subject's unsent answers that hang on `purposes` (None: on any); returns how many."""
        keys = [k for k in self._keyring.keys_of(subject) if purposes is None or k.purpose in purposes]
        return self._waiting.drop({key.handle for key in keys})
