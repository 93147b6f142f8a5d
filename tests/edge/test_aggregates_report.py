from __future__ import annotations

import msgspec
import pytest

from edge_runtime.aggregates.budget import ROUND_LIMIT_US
from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, DAY_US, mechanism_for, question_of
from edge_runtime.cache.writing import WriteTransaction
from edge_runtime.keys.keyring import Keyring
from edge_runtime.serving.status import Status
from edge_runtime.wire.messages import ReportAck, RoundOffer, TicketGrant, Tickets
from edge_runtime.wire.sealed_report import report_id
from tests.support.aggregate_ends import (
    HOUR_US,
    Kiosk,
    Value,
    destroy,
    grant,
    metric_catalog,
    opened,
    signed_offer,
)


def test_one_valid_answer_for_each_subject_with_both_permissions() -> None:
    """Three subjects, one answer each, in the support; the report names no subject."""
    kiosk = Kiosk(3)
    reports = kiosk.answer(kiosk.offer())
    mechanism = mechanism_for(question_of(kiosk.catalog.metrics["countries_0"]))
    assert len(reports) == 3
    answers = [opened(report) for report in reports]
    assert all(mechanism.moves(a.answer) is not None for a in answers)
    assert len({a.tickets[0] for a in answers}) == 3
    assert kiosk.reporter.pending() == reports
    assert kiosk.spent() == 3 * 1_000_000


@pytest.mark.parametrize("purpose", ["measurement", "personalization"])
def test_law_1_no_report_without_permission_for_the_metric_and_its_source(purpose: str) -> None:
    """Denied for either purpose: not asked for, and a ticket that comes all the same is not used."""
    kiosk = Kiosk(1)
    offer = kiosk.offer()
    request = kiosk.reporter.on_offer(offer)
    assert request is not None
    kiosk.permissions.denied.add(("user:u0", purpose))
    assert kiosk.reporter.on_offer(offer) is None
    assert kiosk.reporter.on_tickets(grant(offer, request.subjects)) == []
    assert kiosk.draws == 0
    assert kiosk.spent() == 0


@pytest.mark.parametrize(
    "value",
    [
        Value("ES"),
        Value(None, Status.NULL),
        Value("other", Status.DEFAULTED),
        Value("UK", Status.EXPIRED),
        Value("UK", Status.REVOKED),
        Value("UK", Status.WARMING),
        Value(7),
    ],
)
def test_an_unknown_or_missing_value_gives_no_report(value: Value) -> None:
    """Law 7: only a whole, present value in a declared category is answered; nothing is spent otherwise."""
    kiosk = Kiosk(1)
    kiosk.values["user:u0"] = value
    assert kiosk.reporter.on_offer(kiosk.offer()) is None
    assert kiosk.spent() == 0


def test_parameters_come_from_the_devices_catalog_alone() -> None:
    """An offer for an unknown metric, or one defined otherwise than here, is no round."""
    kiosk = Kiosk(1)
    other = Kiosk(1, of=metric_catalog(epsilon=4.0))
    offer = kiosk.offer()
    assert other.reporter.on_offer(offer) is None
    stranger = signed_offer(msgspec.structs.replace(offer, metric="x"))
    assert kiosk.reporter.on_offer(stranger) is None
    assert kiosk.reporter.on_offer(offer) is not None


def test_an_answer_is_drawn_once_and_resent_as_it_was() -> None:
    """T22: asked again in the same session, after a restart, or with another ticket: no second draw."""
    kiosk = Kiosk(1)
    offer = kiosk.offer()
    first = kiosk.answer(offer)
    draws = kiosk.draws
    again = kiosk.reporter.on_tickets(Tickets(round_id=offer.round_id, granted=_granted(kiosk, offer)))
    assert again == first
    kiosk.restart()
    assert kiosk.reporter.pending() == first
    assert kiosk.reporter.on_offer(offer) is None  # answered: not even asked for
    other_ticket = [TicketGrant(g.subject, bytes(16)) for g in _granted(kiosk, offer)]
    assert kiosk.reporter.on_tickets(Tickets(round_id=offer.round_id, granted=other_ticket)) == first
    assert kiosk.draws == draws
    assert kiosk.spent() == 1_000_000


def test_an_acknowledged_answer_is_forgotten_but_the_round_stays_answered() -> None:
    """After the ack the outbox is empty, and the same round offered again finds nobody."""
    kiosk = Kiosk(2)
    offer = kiosk.offer()
    reports = kiosk.answer(offer)
    there = [report_id(report.sealed[0]) for report in reports]
    kiosk.reporter.on_ack(ReportAck(round_id=offer.round_id, reports=there))
    assert kiosk.reporter.pending() == []
    assert kiosk.reporter.on_offer(offer) is None
    assert kiosk.reporter.counts["sent"] == 2


def test_a_ticket_nobody_asked_for_is_not_used() -> None:
    """A server that hands out tickets unasked gets no answer."""
    kiosk = Kiosk(2)
    offer = kiosk.offer()
    kiosk.permissions.denied.add(("user:u1", "measurement"))
    assert kiosk.reporter.on_offer(offer) is not None
    kiosk.permissions.denied.clear()
    stranger = kiosk.keyring.pseudonym("user:u1")
    assert kiosk.reporter.on_tickets(grant(offer, [stranger, bytes(16)])) == []
    assert kiosk.reporter.on_tickets(grant(kiosk.offer(9), [stranger])) == []


class _Killed(Exception):
    pass


def test_law_9_a_crash_after_the_debit_leaves_both_or_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """T23: killed between debit and store, nothing stands; killed after the commit, both stand."""
    kiosk = Kiosk(1)
    offer = kiosk.offer()

    def killed(*_: object) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(WriteTransaction, "enqueue", killed)
        with pytest.raises(_Killed):
            kiosk.answer(offer)
    assert kiosk.spent() == 0
    kiosk.restart()
    assert kiosk.reporter.pending() == []
    stored = kiosk.answer(offer)
    kiosk.restart()  # before anything was sent
    assert kiosk.reporter.pending() == stored
    assert kiosk.spent() == 1_000_000


def test_law_9_a_window_never_holds_more_than_the_ceiling_under_many_names() -> None:
    """T23: twenty metrics on one value in one day spend four epsilon, not twenty."""
    kiosk = Kiosk(1, of=metric_catalog(names=20))
    answered = [bool(kiosk.answer(kiosk.offer(i + 1, f"countries_{i}"))) for i in range(20)]
    assert answered == [True] * 4 + [False] * 16
    assert kiosk.spent() == BUDGET_CEILING_MICROS


def test_law_9_new_names_in_a_new_catalog_find_the_old_spending() -> None:
    """T23: a new catalog version, with other metrics or a shorter window, does not refill the day."""
    kiosk = Kiosk(1, of=metric_catalog(names=4, window="30d"))
    for i in range(4):
        assert kiosk.answer(kiosk.offer(i + 1, f"countries_{i}"))
    kiosk.restart(metric_catalog(names=9, window="1d", version=2))
    assert kiosk.answer(kiosk.offer(50, "countries_8")) == []
    assert kiosk.spent() == BUDGET_CEILING_MICROS


def test_law_9_a_shorter_window_refills_no_day_that_was_spent_under_the_longer_one() -> None:
    """T23: by the device alone. When the last long debit is over, the short window counts."""
    kiosk = Kiosk(1, of=metric_catalog(names=20, window="30d"))
    for i in range(4):
        kiosk.clock.advance(us=2 * DAY_US)
        assert kiosk.answer(kiosk.offer(i + 1, f"countries_{i}"))
    kiosk.restart(metric_catalog(names=20, window="1d", version=2))
    days = []
    for day in range(1, 30):
        kiosk.clock.advance(us=DAY_US)
        if kiosk.answer(kiosk.offer(50 + day, f"countries_{4 + day % 8}")):
            days.append(day)
    assert days == [24, 26, 28]  # thirty days after the first, the second and the third
    kiosk.clock.advance(us=DAY_US)
    told = [bool(kiosk.answer(kiosk.offer(90 + i, f"countries_{12 + i}"))) for i in range(5)]
    assert told == [True] * 4 + [False]
    kiosk.clock.advance(us=DAY_US)
    assert kiosk.answer(kiosk.offer(99, "countries_19"))


def test_law_9_no_run_of_window_days_holds_more_than_the_ceiling() -> None:
    """With a window of three days and one round of epsilon 4 offered every hour: once in three days."""
    kiosk = Kiosk(1, of=metric_catalog(epsilon=4.0, window="3d"), remembered=0)
    days = []
    for hour in range(24 * 9):
        if kiosk.answer(kiosk.offer(hour + 1)):
            days.append(kiosk.clock.now_us() // DAY_US)
        kiosk.clock.advance(us=HOUR_US)
    assert [day - days[0] for day in days] in ([0, 3, 6], [0, 3, 6, 9])


def test_law_9_a_clock_set_back_opens_no_window_again() -> None:
    """T23: full today, then the clock is set back by days: nothing is sent."""
    kiosk = Kiosk(1, of=metric_catalog(epsilon=4.0), remembered=0)
    assert kiosk.answer(kiosk.offer(1))
    for days in range(1, 5):
        kiosk.clock.set_wall(kiosk.clock.now_us() - days * DAY_US)
        assert kiosk.answer(kiosk.offer(1 + days)) == []
    assert kiosk.spent() == BUDGET_CEILING_MICROS


@pytest.mark.parametrize("ahead_us", [2 * HOUR_US, 40 * DAY_US, 4000 * DAY_US])
def test_law_9_a_clock_set_ahead_finds_no_open_round(ahead_us: int) -> None:
    """T23: the round the server keeps open is over by this clock, so the new day cannot be spent."""
    kiosk = Kiosk(1, of=metric_catalog(epsilon=4.0))
    offer = kiosk.offer(2)
    kiosk.clock.set_wall(kiosk.clock.now_us() + ahead_us)
    assert kiosk.answer(offer) == []
    assert kiosk.spent() == 0


def test_a_round_that_closes_in_a_far_future_is_not_believed() -> None:
    """One of the two clocks is wrong; nothing is spent on it."""
    kiosk = Kiosk(1)
    assert kiosk.answer(kiosk.offer(closes_in_us=ROUND_LIMIT_US + 1)) == []
    assert kiosk.answer(kiosk.offer(closes_in_us=ROUND_LIMIT_US)) != []


def test_repeated_rounds_on_one_value_stop_at_the_budget() -> None:
    """T22: where nothing is remembered, a thousand rounds in a window give four answers, not more."""
    kiosk = Kiosk(1, remembered=0)
    sent = sum(len(kiosk.answer(kiosk.offer(i + 1))) for i in range(1000))
    assert sent == 4
    assert kiosk.spent() == BUDGET_CEILING_MICROS


@pytest.mark.parametrize("purpose", ["measurement", "personalization"])
def test_law_2_a_withdrawal_drops_the_unsent_report(purpose: str) -> None:
    """Dropped by the erasure, not sent before it either, and the budget stays spent."""
    kiosk = Kiosk(2)
    assert len(kiosk.answer(kiosk.offer())) == 2
    kiosk.permissions.denied.add(("user:u0", purpose))
    assert kiosk.reporter.drop("user:u0", [purpose]) == 1
    assert len(kiosk.reporter.pending()) == 1
    assert kiosk.spent() == 2_000_000


@pytest.mark.parametrize("purpose", ["measurement", "personalization"])
def test_law_4_an_unsent_report_is_unreadable_when_either_key_is_destroyed(purpose: str) -> None:
    """A copy of the stored payload opens with both keys only; pending drops what no key opens."""
    kiosk = Kiosk(1)
    (answer,) = kiosk.answer(kiosk.offer())
    with kiosk.database.read() as tx:
        (item,) = tx.outbox("report")
    # Secrets of a few bytes would now and then stand in any ciphertext.
    for secret in (b"user:u0", kiosk.keyring.pseudonym("user:u0"), msgspec.msgpack.encode(answer)):
        assert secret not in item.payload
    _destroy(kiosk.keyring, "user:u0", purpose)
    assert kiosk.reporter.pending() == []
    with kiosk.database.read() as tx:
        assert tx.outbox("report") == []


def test_a_locked_report_waits_and_a_lock_lifted_asks_again() -> None:
    """Law 3: while the lease is out nothing is sent or asked; then the stored answer goes unchanged."""
    kiosk = Kiosk(2)
    first, second = kiosk.offer(1), kiosk.offer(2)
    stored = kiosk.answer(first)
    locked = {(s, p) for s in kiosk.values for p in ("measurement", "personalization")}
    kiosk.permissions.denied |= locked
    assert kiosk.reporter.pending() == []
    assert kiosk.reporter.on_offer(second) is None
    assert kiosk.reporter.requests() == []
    kiosk.permissions.denied.clear()
    assert kiosk.reporter.pending() == stored
    (request,) = kiosk.reporter.requests()
    assert request.round_id == second.round_id
    assert len(request.subjects) == 2
    kiosk.clock.advance(us=HOUR_US)
    assert kiosk.reporter.requests() == []


def test_law_9_what_was_spent_survives_an_erasure_without_a_name() -> None:
    """Withdrawn, erased and given again on the same day: the budget is still spent, under a blind tag."""
    kiosk = Kiosk(1, of=metric_catalog(epsilon=4.0))
    assert kiosk.answer(kiosk.offer(1))
    for purpose in ("measurement", "personalization"):
        kiosk.reporter.drop("user:u0", [purpose])
        _destroy(kiosk.keyring, "user:u0", purpose)
    kiosk.add("user:u0")
    assert kiosk.answer(kiosk.offer(2)) == []
    with kiosk.database.read() as tx:
        tags = [bytes(str(row[0]), "ascii") for row in tx._connection.execute("SELECT hex(tag) FROM budget")]
    pseudonym = kiosk.keyring.pseudonym("user:u0").hex().upper().encode()
    assert tags
    assert pseudonym not in tags


def test_a_report_that_outlives_its_round_is_dropped() -> None:
    """Law 11: the outbox does not keep what nobody takes any more."""
    kiosk = Kiosk(1)
    assert kiosk.answer(kiosk.offer())
    kiosk.clock.advance(us=2 * HOUR_US)
    assert kiosk.reporter.pending() == []
    assert kiosk.reporter.counts["dropped"] == 1


def test_a_round_the_server_closed_drops_its_reports_only() -> None:
    """Told that one round is closed, the other round's answers stay."""
    kiosk = Kiosk(1, of=metric_catalog(names=2))
    first, second = kiosk.offer(1), kiosk.offer(2, "countries_1")
    kiosk.answer(first)
    kept = kiosk.answer(second)
    kiosk.reporter.on_closed(first.round_id)
    assert kiosk.reporter.pending() == kept


def test_more_subjects_than_a_request_takes_ask_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One offer is enough: the others ask at the ticks, and refused ones do not stand in the way."""
    monkeypatch.setattr("edge_runtime.aggregates.respondents.AT_ONCE", 2)
    kiosk = Kiosk(5)
    first = kiosk.reporter.on_offer(kiosk.offer())
    assert first is not None
    others = [request.subjects for _ in range(4) for request in kiosk.reporter.more()]
    assert [len(first.subjects), *map(len, others)] == [2, 2, 1]
    assert len({*first.subjects, *(subject for part in others for subject in part)}) == 5


@pytest.mark.parametrize("metric", ["countries_0", "kiosk_countries"])
def test_law_11_a_tick_looks_at_few_subjects_however_many_there_are(metric: str) -> None:
    """600 people, a fourth of whom can answer: all these are asked for, of a kiosk's sum in one request."""
    kiosk = Kiosk(600)
    for number, value in enumerate(kiosk.values.values()):
        value.status = Status.EXPIRED if number % 4 else Status.PRESENT
    answering = {kiosk.keyring.pseudonym(s) for s, v in kiosk.values.items() if v.status is Status.PRESENT}
    kiosk.values = looked = _Looked(kiosk.values)
    request = kiosk.reporter.on_offer(kiosk.offer(metric=metric))
    requests = [] if request is None else [request]
    for _ in range(40):
        assert len(looked.at) < 300
        looked.at.clear()
        requests += kiosk.reporter.more()
    asked = [subject for request in requests for subject in request.subjects]
    assert len(asked) == len(answering) == 150
    assert set(asked) == answering
    assert (len(requests) == 1) == (metric == "kiosk_countries")


class _Looked(dict[str, Value]):
    """Values, and at whose somebody looked."""

    def __init__(self, values: dict[str, Value]) -> None:
        super().__init__(values)
        self.at: list[str] = []

    def __getitem__(self, subject: str) -> Value:
        self.at.append(subject)
        return super().__getitem__(subject)


def _granted(kiosk: Kiosk, offer: RoundOffer) -> list[TicketGrant]:
    subjects = [kiosk.keyring.pseudonym(s) for s in kiosk.values]
    return grant(offer, subjects).granted


def _destroy(keyring: Keyring, subject: str, purpose: str) -> None:
    """What the erasure does to a key, without its ceremony."""
    key = keyring.key(subject, purpose)
    assert key is not None
    destroy(keyring, key)
