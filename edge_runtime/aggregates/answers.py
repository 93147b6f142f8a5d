"""Answers: paid for, drawn, sealed and stored in one transaction, and never drawn a second time.

A local mechanism makes one report of each subject's answer. In curator mode the device adds up its own
subjects' inputs exactly, draws noise once, and makes one report that names the tickets of all; every subject
in it pays the whole price, for the claim is about each.

A subject's own answer is remembered (`remembered.py`) and given again for the same input in later rounds; it
is charged all the same. Sums are not remembered: with other subjects or values the sum is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.aggregates.budget import Verdict
from edge_runtime.aggregates.counts import count
from edge_runtime.aggregates.ledger import Ledger
from edge_runtime.aggregates.mechanisms import (
    Bits,
    answer_again,
    curator_for,
    input_again,
    mechanism_for,
    same_answers,
)
from edge_runtime.aggregates.remembered import Remembered, recall, remember
from edge_runtime.aggregates.respondents import Respondents
from edge_runtime.aggregates.rounds_in_hand import Round, most_tickets
from edge_runtime.aggregates.unsent import Delay, Unsent, seal_unsent
from edge_runtime.cache.reading import ReadTransaction
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.catalog import Catalog
from edge_runtime.clock import Clock
from edge_runtime.keys.keyring import DataKey, Keyring
from edge_runtime.wire.printing import prints_only
from edge_runtime.wire.sealed_report import Answered, seal_report


@prints_only()
@dataclass(frozen=True, slots=True)
class Ticketed:
    """A subject with a ticket, and the input read for it before the transaction; None for none."""

    subject: str
    ticket: bytes
    value: int | None


@prints_only()
@dataclass(frozen=True, slots=True)
class _Payer:
    """A subject whose report is paid for, in this transaction."""

    ticket: bytes
    value: int
    keys: list[DataKey]
    known: Remembered
    """What it answered to this question before."""


class Answers:
    """Draws answers.

    Args:
        bits: the operating system's chance.
        spread_us: a report waits between 0 and so long, or half of what remains of its round if that is less.
        remembered: how many answers are remembered of one metric and subject.
    """

    def __init__(
        self,
        catalog: Catalog,
        keyring: Keyring,
        respondents: Respondents,
        clock: Clock,
        bits: Bits,
        spread_us: int,
        remembered: int,
    ) -> None:
        self.ledger = Ledger(catalog, keyring, clock)
        self._remembered = remembered
        self._keyring, self._respondents, self._clock, self._bits = keyring, respondents, clock, bits
        self._spread_us = spread_us

    def store(
        self, tx: WriteTransaction, round_: Round, ticketed: Sequence[Ticketed]
    ) -> list[tuple[bytes, Delay]]:
        """Draw and store the answers of those who may (still) answer and whose budget reaches.

        Returns (id, delay) of each report.
        """
        paying = (payer for one in ticketed if (payer := self._pay(tx, round_, one)) is not None)
        if round_.question.mode == "curator":
            return self._store_sums(tx, round_, list(paying))
        return [self._store(tx, round_, [payer], self._answer(tx, round_, payer)) for payer in paying]

    def _recall(self, tx: ReadTransaction, round_: Round, keys: Sequence[DataKey]) -> Remembered:
        if round_.question.mode == "curator":
            return Remembered(round_.offer.definition, [])
        return recall(tx, round_.metric.name, same_answers(round_.metric), keys)

    def _answer(self, tx: WriteTransaction, round_: Round, payer: _Payer) -> bytes:
        """The answer that was given before for this input, or one that is drawn now and remembered."""
        answer, mechanism = _said(round_, payer.known, payer.value), mechanism_for(round_.question)
        if answer is None:
            answer = answer_again(mechanism, payer.value, payer.known.newest(), self._bits)
        else:
            count(tx, "remembered")
        value = input_again(mechanism, payer.value, answer)
        known = payer.known.with_answer(value, answer, self._remembered)
        if known != payer.known:
            remember(tx, round_.metric.name, payer.keys, known)
        return answer

    def _store_sums(
        self, tx: WriteTransaction, round_: Round, payers: Sequence[_Payer]
    ) -> list[tuple[bytes, Delay]]:
        curator, most = curator_for(round_.question), most_tickets(round_.question)
        groups = [payers[at : at + most] for at in range(0, len(payers), most)]
        return [
            self._store(tx, round_, group, curator.noised([payer.value for payer in group], self._bits))
            for group in groups
        ]

    def _pay(self, tx: WriteTransaction, round_: Round, one: Ticketed) -> _Payer | None:
        keys = self._respondents.keys(round_.metric, one.subject)  # again: it may have ended since
        if one.value is None or keys is None:
            return None
        # in full, also for an answer that was given before: that it is the old one tells something too
        verdict = self.ledger.pay(tx, round_, one.subject)
        if verdict is not Verdict.PAID:
            count(tx, verdict.name.lower())
            return None
        return _Payer(one.ticket, one.value, keys, self._recall(tx, round_, keys))

    def _store(
        self, tx: WriteTransaction, round_: Round, payers: Sequence[_Payer], answer: bytes
    ) -> tuple[bytes, Delay]:
        offer = round_.offer
        # in order of the tickets, which are random: the order of subjects stays here
        tickets = sorted(payer.ticket for payer in payers)
        sealed = seal_report(offer.collector, offer.round_id, Answered(offer.definition, tickets, answer))
        unsent = Unsent(offer.round_id, offer.metric, offer.closes_at_us, sealed)
        keys = [key for payer in payers for key in payer.keys]
        delay = self._delay(unsent)
        tx.enqueue("report", unsent.id, seal_unsent(unsent, delay, keys, self._keyring))
        count(tx, "stored")
        return unsent.id, delay

    def _delay(self, unsent: Unsent) -> Delay:
        """Uniform over the spread, and never past the middle of what remains of the round."""
        now_us = self._clock.now_us()
        spread_us = min(self._spread_us, (unsent.closes_at_us - now_us) // 2)
        return Delay(now_us, now_us + (self._bits(spread_us + 1) if spread_us > 0 else 0))


def _said(round_: Round, known: Remembered, value: int) -> bytes | None:
    """What was answered before for `value`, or for what its tree level does not tell from it."""
    earlier = known.newest()
    if earlier is None:
        return None
    return known.answer(input_again(mechanism_for(round_.question), value, earlier))
