"""The reporter: what a device says in aggregate rounds. OPEN FIRST.

Which offers are believed says `rounds_in_hand.py`; who may answer, and with which input, `respondents.py`;
one answer is made in `answers.py`; what waits to be sent is in `waiting.py`, and how it rests on disk in
`unsent.py`.

Order of an answer: permission for both purposes, a whole value, a ticket; then, in one transaction, the
budget is debited, the round marked and the answer stored; then it may be sent. A crash anywhere resends the
stored answer or sends none, and never draws a second one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge_runtime.aggregates.answers import Answers
from edge_runtime.aggregates.mechanisms import Bits
from edge_runtime.aggregates.respondents import Consents, ReadValue, Respondents
from edge_runtime.aggregates.rounds_in_hand import Round, RoundsInHand
from edge_runtime.aggregates.unsent import Unsent
from edge_runtime.aggregates.waiting import Waiting
from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.messages import Report, ReportAck, RoundOffer, TicketRequest, Tickets


class Reporter:
    """Answers rounds for the subjects of one runtime. Not thread-safe, except `drop`: the link owns it.

    `counts` says what became of answers: `stored`, `over_budget`, `unsure` (after damage to the ledger),
    `answered` (already, in this round), `dropped` (permission or round ended before it was sent), `sent`
    (acknowledged).
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
    ) -> None:
        self._database, self._keyring = database, keyring
        self._rounds = RoundsInHand(catalog, keyring, clock)
        self._respondents = Respondents(catalog, keyring, consents, read_value, clock)
        self._answers = Answers(catalog, keyring, self._respondents, clock, bits)
        self.counts: Counter[str] = self._answers.counts
        self._waiting = Waiting(catalog, database, keyring, self._respondents, clock, self.counts)

    def on_offer(self, offer: RoundOffer) -> TicketRequest | None:
        """Ask for tickets for the subjects that may and can answer; None when there are none.

        An offer that is not believed is no round for us, see `RoundsInHand.take`.
        """
        round_ = self._rounds.take(offer)
        return None if round_ is None else self._request(round_)

    def requests(self) -> list[TicketRequest]:
        """Ask again in every round that was offered and is still open.

        Call it when permissions may have come back: a lease was granted, a subject said yes.
        """
        asked = [self._request(round_) for round_ in self._rounds.open()]
        return [request for request in asked if request is not None]

    def _request(self, round_: Round) -> TicketRequest | None:
        asking = self._respondents.asking(round_, lambda subject: self._payable(round_, subject))
        round_.asked.update(asking)
        return TicketRequest(round_id=round_.offer.round_id, subjects=list(asking)) if asking else None

    def _payable(self, round_: Round, subject: str) -> bool:
        with self._database.read() as tx:
            return self._answers.payable(tx, round_, subject)

    def on_tickets(self, tickets: Tickets) -> list[Report]:
        """Draw, pay for and store one answer for each ticket that we asked for; return what may be sent.

        A ticket that is stored already returns the stored answer. Nothing is sent for a subject whose
        permission ended, whose value is gone, or whose budget does not reach.
        """
        round_ = self._rounds.get(tickets.round_id)
        if round_ is None:
            return []
        wanted = [(round_.asked[g.subject], g.ticket) for g in tickets.granted if g.subject in round_.asked]
        values = [(s, t, self._respondents.input(round_.metric, s)) for s, t in wanted]  # before the write
        with self._database.write("report") as tx:
            answers = [self._answer(tx, round_, s, t, value) for s, t, value in values]
        return [answer.report() for answer in answers if answer is not None]

    def _answer(
        self, tx: WriteTransaction, round_: Round, subject: str, ticket: bytes, value: int | None
    ) -> Unsent | None:
        stored = tx.outbox_item("report", ticket)
        if stored is None:
            return self._answers.store(tx, round_, subject, ticket, value)
        unsent, allowed = self._waiting.stored(ticket, stored)
        return unsent if allowed else None

    def pending(self) -> list[Report]:
        """Every stored answer that may be sent now, oldest first.

        Call it at each connection and when a lease was granted: answers are resent as they were drawn. An
        answer that no key opens, or whose round is over, is dropped; one that is only locked waits.
        """
        return self._waiting.sendable()

    def on_ack(self, ack: ReportAck) -> None:
        """The server has stored these reports: forget them."""
        self._waiting.acknowledged(ack.reports)

    def on_closed(self, round_id: bytes) -> None:
        """The server takes no more answers in this round: drop what was not sent."""
        self._rounds.drop(round_id)
        self._waiting.closed(round_id)

    def drop(self, subject: str, purposes: Sequence[str] | None = None) -> int:
        """Drop the subject's unsent answers that hang on `purposes` (None: on any); returns how many."""
        keys = [k for k in self._keyring.keys_of(subject) if purposes is None or k.purpose in purposes]
        return self._waiting.drop({key.handle for key in keys})
