"""The rounds this device was offered and may answer: which offers are believed, and how many are in hand.

Everything about the question comes from this device's own catalog; the server says that a round is open,
until when, and to whose key reports are sealed, and signs that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from edge_runtime.aggregates.budget import ROUND_LIMIT_US
from edge_runtime.aggregates.mechanisms import Question, curator_for, definition, question_of
from edge_runtime.catalog import Catalog, Metric
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire import seal
from edge_runtime.wire.failure import WireFailure
from edge_runtime.wire.messages import RoundOffer
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.sealed_report import can_seal

BODY_BYTES: Final = 32_000
"""Most bytes of a report before its padding: padded and sealed it still fits a frame."""
_TICKET_BYTES: Final = 18
_AROUND_BYTES: Final = 64
ROUNDS: Final = 64
"""Most rounds in hand at once; the next offer pushes the oldest out, and it is offered again."""


@prints_only("offer")
@dataclass(slots=True)
class Round:
    """One round that may be answered here."""

    offer: RoundOffer
    metric: Metric
    question: Question
    asked: dict[bytes, str] = field(default_factory=dict)
    """pseudonym -> subject, for whom a ticket was asked: no other ticket is taken."""
    turning: bool = False
    """Whether some subjects of this device were not looked at yet."""
    after: bytes | None = None
    """Pseudonym of the last that was; None for none."""
    found: dict[bytes, str] = field(default_factory=dict)
    """pseudonym -> subject of those who can answer, and for whom no ticket was asked yet."""

    def turn(self) -> None:
        """Look at every subject, from the first one."""
        self.turning, self.after = True, None

    @property
    def asks(self) -> bool:
        """Whether there is more to ask."""
        return self.turning or bool(self.found)


class RoundsInHand:
    """At most `ROUNDS` rounds, in memory: the server offers every open one again in each session."""

    def __init__(self, catalog: Catalog, keyring: Keyring, clock: Clock) -> None:
        self._catalog, self._keyring, self._clock = catalog, keyring, clock
        self._rounds: dict[bytes, Round] = {}

    def take(self, offer: RoundOffer) -> Round | str:
        """The round that is offered, or why it is none for this device; see `counts.COUNTS`."""
        metric = self._catalog.metrics.get(offer.metric)
        reason = self._disbelief(metric, offer)
        if metric is None or reason is not None:
            return reason or "unknown_metric"
        round_ = self._rounds.pop(offer.round_id, None) or Round(offer, metric, question_of(metric))
        while len(self._rounds) >= ROUNDS:
            self._rounds.pop(next(iter(self._rounds)))
        self._rounds[offer.round_id] = round_
        return round_

    def get(self, round_id: bytes) -> Round | None:
        """A round in hand that is still open."""
        round_ = self._rounds.get(round_id)
        return round_ if round_ is not None and is_open(round_.offer.closes_at_us, self._clock) else None

    def open(self) -> Iterator[Round]:
        """Every round in hand that is still open; the others are let go."""
        self._rounds = {id_: r for id_, r in self._rounds.items() if self.get(id_) is not None}
        yield from list(self._rounds.values())

    def drop(self, round_id: bytes) -> None:
        """The round is over."""
        self._rounds.pop(round_id, None)

    def _disbelief(self, metric: Metric | None, offer: RoundOffer) -> str | None:
        """Why an offer is not believed, its signature first; None when it is."""
        if not self._signed(offer):
            return "bad_signature"
        if metric is None:
            return "unknown_metric"
        if not _means_the_same(metric, offer):
            return "metric_changed"
        if not can_seal(offer.collector):
            return "bad_key"
        if not all(self._catalog.purposes[p].on_disk for p in self._catalog.model.purposes_of(metric)):
            return "memory_only"
        if most_tickets(question_of(metric)) < 1:
            return "too_large"
        return None if is_open(offer.closes_at_us, self._clock) else "round_closed"

    def _signed(self, offer: RoundOffer) -> bool:
        """Whether the server's key that is pinned now signed it: after a succession, the new one alone."""
        server = self._keyring.identity.server_key
        if server is None:
            return False
        try:
            seal.verify(server, seal.OFFER, seal.offer_bytes(offer), offer.signature)
        except WireFailure:
            return False
        return True


def _means_the_same(metric: Metric, offer: RoundOffer) -> bool:
    try:
        return definition(metric) == offer.definition
    except ValueError:  # a question that this version cannot answer
        return False


def most_tickets(question: Question) -> int:
    """How many subjects one report can name beside its answer; under 1 when the answer alone is too large."""
    if question.mode == "local":
        return 1
    return (BODY_BYTES - _AROUND_BYTES - curator_for(question).answer_bytes) // _TICKET_BYTES


def is_open(closes_at_us: int, clock: Clock) -> bool:
    """Whether both clocks can be right: a clock set far ahead finds no open round to spend in."""
    return 0 < closes_at_us - clock.now_us() <= ROUND_LIMIT_US
