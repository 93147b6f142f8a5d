"""One answer: paid for, drawn, sealed and stored in one transaction, and never drawn a second time."""

from __future__ import annotations

from collections import Counter

from edge_runtime.aggregates.budget import Charge, Verdict, judge, pay, round_tag, subject_tag
from edge_runtime.aggregates.mechanisms import (
    DAY_US,
    Bits,
    budget_window_days,
    cost_micros,
    mechanism_for,
)
from edge_runtime.aggregates.respondents import Respondents
from edge_runtime.aggregates.rounds_in_hand import Round
from edge_runtime.aggregates.unsent import Unsent, seal_unsent
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import Keyring
from edge_runtime.wire.sealed_report import Answered, seal_report


class Answers:
    """Draws answers. `counts` says what became of them: `stored`, `over_budget`, `unsure`, `answered`."""

    def __init__(
        self, catalog: Catalog, keyring: Keyring, respondents: Respondents, clock: Clock, bits: Bits
    ) -> None:
        self._keyring, self._respondents, self._clock, self._bits = keyring, respondents, clock, bits
        self._window_days = budget_window_days(catalog.metrics.values())
        self.counts: Counter[str] = Counter()

    def payable(self, tx: ReadTransaction, round_: Round, subject: str) -> bool:
        """Whether the subject did not answer in this round, and its budget reaches."""
        return judge(tx, self._charge(round_, subject), self._clock.now_us()) is Verdict.PAID

    def store(
        self, tx: WriteTransaction, round_: Round, subject: str, ticket: bytes, value: int | None
    ) -> Unsent | None:
        """The stored answer of `subject`; None when it may not answer (any more), or its budget is spent.

        Args:
            value: the input, read before the transaction; None for none.
        """
        keys = self._respondents.keys(round_.metric, subject)  # again: it may have ended since it was read
        if value is None or keys is None:
            return None
        verdict = pay(tx, self._charge(round_, subject), self._clock.now_us())
        if verdict is not Verdict.PAID:
            self.counts[verdict.name.lower()] += 1
            return None
        offer = round_.offer
        answer = self._draw(round_, value)
        sealed = seal_report(offer.collector, offer.round_id, Answered(offer.definition, [ticket], answer))
        unsent = Unsent(offer.round_id, offer.metric, offer.closes_at_us, ticket, sealed)
        tx.enqueue("report", ticket, seal_unsent(unsent, keys, self._keyring))
        self.counts["stored"] += 1
        return unsent

    def _draw(self, round_: Round, value: int) -> bytes:
        return mechanism_for(round_.question).randomize(value, self._bits)

    def _charge(self, round_: Round, subject: str) -> Charge:
        controller = self._keyring.identity.pseudonym_key
        return Charge(
            subject=subject_tag(controller, subject),
            round=round_tag(controller, round_.offer.round_id, subject),
            closes_day=round_.offer.closes_at_us // DAY_US,
            window_days=self._window_days,
            micros=cost_micros(round_.metric),
        )
