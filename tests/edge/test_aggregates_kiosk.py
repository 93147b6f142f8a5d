"""A kiosk's own noise: one report for all its subjects, drawn once, paid for by each, sealed under all."""

from __future__ import annotations

import pytest

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, curator_for, question_of
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.wire import codec
from edge_runtime.wire.messages import TicketGrant, Tickets
from edge_runtime.wire.sealed_report import Answered
from tests.support.aggregate_ends import COUNTRIES, Kiosk, grant, metric_catalog, opened

METRIC = "kiosk_countries"


def cells(kiosk: Kiosk, answered: Answered) -> list[int]:
    """The noised sums in an answer."""
    moves = curator_for(question_of(kiosk.catalog.metrics[METRIC])).moves(answered.answer)
    assert moves is not None
    return [amount for _, amount in moves]


def test_one_report_names_the_tickets_of_all_and_each_pays_the_whole_price() -> None:
    kiosk = Kiosk(30)
    offer = kiosk.offer(metric=METRIC)
    request = kiosk.reporter.on_offer(offer)
    assert request is not None
    tickets = grant(offer, request.subjects)
    (report,) = kiosk.reporter.on_tickets(tickets)
    assert opened(report).tickets == sorted(g.ticket for g in tickets.granted)
    assert kiosk.spent() == 30 * 1_000_000
    assert kiosk.reporter.counts == {"stored": 1}
    assert kiosk.reporter.on_offer(offer) is None, "all have answered"


def test_the_sums_are_of_those_who_answer_and_the_noise_is_drawn_once() -> None:
    """Over 300 kiosks the noise has mean zero and the variance that discrete Laplace has at this scale."""
    off: list[int] = []
    for seed in range(300):
        kiosk = Kiosk(5, seed=seed)
        kiosk.add("user:a-briton", COUNTRIES[0])
        (report,) = kiosk.answer(kiosk.offer(metric=METRIC))
        truth = [1, 5, 0, 0]
        off += [cell - true for cell, true in zip(cells(kiosk, opened(report)), truth, strict=True)]
        kiosk.database.close()
    variance = float(curator_for(question_of(metric_catalog().metrics[METRIC])).variance)
    assert abs(sum(off) / len(off)) < 4 * (variance / len(off)) ** 0.5
    assert 0.75 < sum(o * o for o in off) / len(off) / variance < 1.3


def test_tickets_of_some_make_a_report_of_those_and_the_rest_ask_again() -> None:
    """The server granted two of five: they are summed; the three others are in a later report."""
    kiosk = Kiosk(5)
    offer = kiosk.offer(metric=METRIC)
    request = kiosk.reporter.on_offer(offer)
    assert request is not None
    (first,) = kiosk.reporter.on_tickets(grant(offer, request.subjects[:2]))
    (again,) = kiosk.reporter.requests()
    assert set(again.subjects) == set(request.subjects[2:])
    both = kiosk.reporter.on_tickets(grant(offer, again.subjects))
    assert [len(opened(report).tickets) for report in both] == [2, 3]
    assert both[0] == first


def test_a_subject_is_in_one_sum_only_whatever_is_granted_twice() -> None:
    kiosk = Kiosk(3)
    offer = kiosk.offer(metric=METRIC)
    request = kiosk.reporter.on_offer(offer)
    assert request is not None
    tickets = grant(offer, request.subjects)
    twice = [*tickets.granted, *(TicketGrant(g.subject, bytes(16)) for g in tickets.granted)]
    (report,) = kiosk.reporter.on_tickets(Tickets(round_id=offer.round_id, granted=twice))
    assert opened(report).tickets == sorted(g.ticket for g in tickets.granted)
    assert kiosk.reporter.on_tickets(tickets) == [report], "asked again, the stored one is resent"
    assert kiosk.spent() == 3 * 1_000_000


def test_nobody_pays_and_nothing_is_stored_when_it_is_killed_before_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kiosk = Kiosk(4)
    with monkeypatch.context() as patch:
        patch.setattr(WriteTransaction, "enqueue", _killed)
        with pytest.raises(RuntimeError, match="killed"):
            kiosk.answer(kiosk.offer(metric=METRIC))
    assert (kiosk.spent(), dict(kiosk.reporter.counts)) == (0, {})


def _killed(*_: object) -> None:
    raise RuntimeError("killed")


def test_whose_budget_does_not_reach_is_left_out_of_the_sum() -> None:
    """Epsilon 4 spends the window: a second metric in the same day finds only the newcomer."""
    kiosk = Kiosk(3, of=metric_catalog(epsilon=4.0))
    assert len(kiosk.answer(kiosk.offer(1, METRIC))) == 1
    kiosk.add("user:late-lea")
    (_, second) = kiosk.reporter.pending() + kiosk.answer(kiosk.offer(2, METRIC))
    assert len(opened(second).tickets) == 1
    assert kiosk.spent() == 4 * BUDGET_CEILING_MICROS


def test_a_repeated_sum_is_drawn_anew_and_paid_for_again() -> None:
    """It is not remembered: with somebody more or less the sum is another, and the difference would tell."""
    kiosk = Kiosk(6)
    answers = [kiosk.answer(kiosk.offer(n + 1, METRIC)) for n in range(6)]
    assert [len(reports) for reports in answers] == [1, 1, 1, 1, 0, 0]
    assert len({opened(report).answer for (report,) in answers[:4]}) > 1
    assert kiosk.spent() == 6 * BUDGET_CEILING_MICROS


def test_as_many_subjects_as_one_request_takes_fit_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """400 here, and the bound of 1,000 by its arithmetic: more than one report can name are split."""
    kiosk = Kiosk(400)
    (report,) = kiosk.answer(kiosk.offer(metric=METRIC))
    assert len(opened(report).tickets) == 400
    assert len(codec.encode(report)) < codec.FRAME_LIMIT_BYTES
    monkeypatch.setattr("edge_runtime.aggregates.rounds_in_hand.BODY_BYTES", 5_000)
    split = [r for r in kiosk.answer(kiosk.offer(2, METRIC)) if r.round_id != report.round_id]
    assert sum(len(opened(part).tickets) for part in split) == 400
    assert len(split) == 2
    assert all(len(codec.encode(part)) < 9_000 for part in split)
    monkeypatch.setattr("edge_runtime.aggregates.rounds_in_hand.BODY_BYTES", 60)
    assert kiosk.reporter.on_offer(kiosk.offer(3, METRIC)) is None
    assert kiosk.reporter.counts["too_large"] == 1
