"""The reporter: which subjects answer in a round, and the one answer each ever gives. OPEN FIRST.

Order of an answer: permission for both purposes, a whole value, a ticket; then, in one transaction, the
budget is debited, the round marked and the answer stored; then it may be sent. A crash anywhere resends the
stored answer or sends none, and never draws a second one. Everything about the question (categories, epsilon)
comes from this device's own catalog; the server only says that a round is open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from edge_runtime.aggregates.budget import (
    ROUND_LIMIT_US,
    Charge,
    Verdict,
    judge,
    pay,
    round_tag,
    subject_tag,
)
from edge_runtime.aggregates.category import category_of
from edge_runtime.aggregates.mechanisms import (
    DAY_US,
    Bits,
    budget_window_days,
    cost_micros,
    definition,
    mechanism_for,
    question_of,
)
from edge_runtime.aggregates.unsent import Unsent, drop_unsent, keys_of, open_unsent, seal_unsent
from edge_runtime.cache.database import Database
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog, Metric
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.serving.status import Status
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import Report, ReportAck, RoundOffer, TicketRequest, Tickets
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.sealed_report import Answered, report_id, seal_report

ROUNDS: Final = 64
"""Most rounds in hand at once; the next offer pushes the oldest out, and it is offered again."""
SUBJECTS: Final = 1_000
"""Most subjects in one ticket request, so that both frames fit; the rest ask at the next offer."""


class Reading(Protocol):
    """What `read_value` returns (a `FeatureValue` does)."""

    @property
    def value(self) -> object:
        """The feature's value."""
        ...

    @property
    def status(self) -> Status:
        """Only PRESENT is reported: a default is not the subject's value."""
        ...


class Permission(Protocol):
    """Whether a (subject, purpose) may be used now."""

    @property
    def allowed(self) -> bool:
        """Only True is yes."""
        ...


class Consents(Protocol):
    """What is needed of the consent room."""

    def permission(self, subject: str, purpose: str) -> Permission:
        """The gate of law 1."""
        ...


ReadValue = Callable[[str, str], Reading]
"""`read_value(ref, subject)`: the feature `view@version:feature` of typed id `subject`, judged now."""


@prints_only("offer")
@dataclass(slots=True)
class _Round:
    offer: RoundOffer
    metric: Metric
    asked: dict[bytes, str] = field(default_factory=dict)
    """pseudonym -> subject, for whom a ticket was asked: no other ticket is taken."""
    after: bytes = b""
    """Handle of the last subject asked for, when there were more than one request takes."""


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
        self._catalog, self._database, self._keyring, self._consents = catalog, database, keyring, consents
        self._read_value, self._clock, self._bits = read_value, clock, bits
        self._rounds: dict[bytes, _Round] = {}
        self._window_days = budget_window_days(catalog.metrics.values())
        self.counts: Counter[str] = Counter()

    def on_offer(self, offer: RoundOffer) -> TicketRequest | None:
        """Ask for tickets for the subjects that may and can answer; None when there are none.

        A metric that this catalog does not have, or defines otherwise, and a closing time that does not fit
        this device's clock are no round for us.
        """
        metric = self._catalog.metrics.get(offer.metric)
        if metric is None or not self._answerable(metric, offer):
            return None
        round_ = self._rounds.pop(offer.round_id, None) or _Round(offer, metric)
        while len(self._rounds) >= ROUNDS:
            self._rounds.pop(next(iter(self._rounds)))
        self._rounds[offer.round_id] = round_
        return self._request(round_)

    def requests(self) -> list[TicketRequest]:
        """Ask again in every round that was offered and is still open.

        Call it when permissions may have come back: a lease was granted, a subject said yes.
        """
        self._rounds = {id_: r for id_, r in self._rounds.items() if self._open(r.offer.closes_at_us)}
        asked = [self._request(round_) for round_ in self._rounds.values()]
        return [request for request in asked if request is not None]

    def _request(self, round_: _Round) -> TicketRequest | None:
        asking = self._candidates(round_)
        round_.asked.update(asking)
        return TicketRequest(round_id=round_.offer.round_id, subjects=list(asking)) if asking else None

    def on_tickets(self, tickets: Tickets) -> list[Report]:
        """Draw, pay for and store one answer for each ticket that we asked for; return what may be sent.

        A ticket that is stored already returns the stored answer. Nothing is sent for a subject whose
        permission ended, whose value is gone, or whose budget does not reach.
        """
        round_ = self._rounds.get(tickets.round_id)
        if round_ is None or not self._open(round_.offer.closes_at_us):
            return []
        wanted = [(round_.asked[g.subject], g.ticket) for g in tickets.granted if g.subject in round_.asked]
        values = [(s, t, self._category(round_.metric, s)) for s, t in wanted]  # reads, before the write
        with self._database.write("report") as tx:
            answers = [self._answer(tx, round_, s, t, category) for s, t, category in values]
        return [answer.report() for answer in answers if answer is not None]

    def pending(self) -> list[Report]:
        """Every stored answer that may be sent now, oldest first.

        Call it at each connection and when a lease was granted: answers are resent as they were drawn. An
        answer that no key opens, or whose round is over, is dropped; one that is only locked waits.
        """
        waiting = self._waiting()
        self._settle([ticket for ticket, unsent, _ in waiting if unsent is None], "dropped")
        return [unsent.report() for _, unsent, allowed in waiting if unsent is not None and allowed]

    def on_ack(self, ack: ReportAck) -> None:
        """The server has stored these reports: forget them."""
        there = [(t, u) for t, u, _ in self._waiting() if u is not None]
        self._settle([ticket for ticket, u in there if report_id(u.sealed) in ack.reports], "sent")

    def on_closed(self, round_id: bytes) -> None:
        """The server takes no more answers in this round: drop what was not sent."""
        self._rounds.pop(round_id, None)
        over = [ticket for ticket, u, _ in self._waiting() if u is None or u.round_id == round_id]
        self._settle(over, "dropped")

    def drop(self, subject: str, purposes: Sequence[str] | None = None) -> int:
        """Drop the subject's unsent answers that hang on `purposes` (None: on any); returns how many."""
        keys = [k for k in self._keyring.keys_of(subject) if purposes is None or k.purpose in purposes]
        with self._database.write("drop_reports") as tx:
            return drop_unsent(tx, {key.handle for key in keys})

    # ---- who may answer ----------------------------------------------------------------------------------

    def _answerable(self, metric: Metric, offer: RoundOffer) -> bool:
        if metric.kind != "histogram" or definition(metric) != offer.definition:
            return False
        server = self._keyring.identity.server_key
        if server is None:
            return False
        try:
            seal.verify(server, seal.OFFER, seal.offer_bytes(offer), offer.signature)
        except WireFailure:
            return False
        on_disk = all(self._catalog.purposes[p].on_disk for p in self._purposes(metric))
        return on_disk and self._open(offer.closes_at_us)

    def _open(self, closes_at_us: int) -> bool:
        """Whether both clocks can be right: a clock set far ahead finds no open round to spend in."""
        return 0 < closes_at_us - self._clock.now_us() <= ROUND_LIMIT_US

    def _purposes(self, metric: Metric) -> tuple[str, ...]:
        """The metric's purpose and its source's: an answer needs both."""
        source = self._catalog.views[metric.of.view].purpose
        return (metric.purpose,) if source in (None, metric.purpose) else (metric.purpose, source)

    def _candidates(self, round_: _Round) -> dict[bytes, str]:
        """The next subjects who may, can and did not yet answer in this round."""
        kind = self._catalog.views[round_.metric.of.view].entity[0]
        held = self._keyring.every_key()
        keys = [k for k in held if k.purpose == round_.metric.purpose and k.subject.startswith(f"{kind}:")]
        keys.sort(key=lambda k: k.handle)
        turn = [*(k for k in keys if k.handle > round_.after), *(k for k in keys if k.handle <= round_.after)]
        found: dict[bytes, str] = {}
        for key in turn:
            if self._category(round_.metric, key.subject) is None or not self._payable(round_, key.subject):
                continue
            found[self._keyring.pseudonym(key.subject)] = key.subject
            if len(found) == SUBJECTS:
                round_.after = key.handle
                break
        return found

    def _payable(self, round_: _Round, subject: str) -> bool:
        with self._database.read() as tx:
            verdict = judge(tx, self._charge(round_, subject), self._clock.now_us())
        return verdict is Verdict.PAID

    def _category(self, metric: Metric, subject: str) -> int | None:
        """The category to answer with, or None: no permission, no whole value, or none of the categories."""
        if self._keys(metric, subject) is None:
            return None
        reading = self._read_value(str(metric.of), subject)
        return category_of(metric, reading.value) if reading.status is Status.PRESENT else None

    def _keys(self, metric: Metric, subject: str) -> list[DataKey] | None:
        """The data keys an answer is sealed under; None without live permission for every purpose."""
        purposes = self._purposes(metric)
        if not all(self._consents.permission(subject, p).allowed for p in purposes):
            return None
        keys = [self._keyring.key(subject, p) for p in purposes]
        held = [key for key in keys if key is not None]
        return held if len(held) == len(keys) else None

    # ---- one answer --------------------------------------------------------------------------------------

    def _answer(
        self, tx: WriteTransaction, round_: _Round, subject: str, ticket: bytes, category: int | None
    ) -> Unsent | None:
        stored = tx.outbox_item("report", ticket)
        if stored is not None:
            unsent, allowed = self._stored(ticket, stored)
            return unsent if allowed else None
        keys = self._keys(round_.metric, subject)  # again: it may have ended since the value was read
        if category is None or keys is None:
            return None
        verdict = pay(tx, self._charge(round_, subject), self._clock.now_us())
        if verdict is not Verdict.PAID:
            self.counts[verdict.name.lower()] += 1
            return None
        offer = round_.offer
        answer = mechanism_for(question_of(round_.metric)).randomize(category, self._bits)
        sealed = seal_report(offer.collector, offer.round_id, Answered(offer.definition, [ticket], answer))
        unsent = Unsent(offer.round_id, offer.metric, offer.closes_at_us, ticket, sealed)
        tx.enqueue("report", ticket, seal_unsent(unsent, keys, self._keyring))
        self.counts["stored"] += 1
        return unsent

    def _charge(self, round_: _Round, subject: str) -> Charge:
        controller = self._keyring.identity.pseudonym_key
        return Charge(
            subject=subject_tag(controller, subject),
            round=round_tag(controller, round_.offer.round_id, subject),
            closes_day=round_.offer.closes_at_us // DAY_US,
            window_days=self._window_days,
            micros=cost_micros(round_.metric),
        )

    # ---- stored answers ----------------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[bytes, Unsent | None, bool]]:
        """(ticket, answer or None when it is dead, whether it may be sent now) of all that is stored."""
        with self._database.read() as tx:
            items = tx.outbox("report")
        return [(item.id, *self._stored(item.id, item.payload)) for item in items]

    def _stored(self, ticket: bytes, payload: bytes) -> tuple[Unsent | None, bool]:
        keys = keys_of(payload, ticket, self._keyring)
        if keys is None:
            return None, False
        unsent = open_unsent(payload, ticket, keys)
        metric = self._catalog.metrics.get(unsent.metric)
        if metric is None or not self._open(unsent.closes_at_us):
            return None, False
        return unsent, self._keys(metric, keys[0].subject) is not None

    def _settle(self, tickets: Sequence[bytes], what: str) -> None:
        if not tickets:
            return
        with self._database.write("settle_reports") as tx:
            self.counts[what] += sum(tx.settle(ticket, "report") for ticket in tickets)
