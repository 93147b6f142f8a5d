from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.aggregates.mechanisms import DAY_US
from edge_runtime.aggregates.mechanisms.answer import encode_answer
from edge_runtime.wire.failure import WireFailure
from sync_server.aggregates.rounds import LONGEST_ROUND_US
from sync_server.errors import Problem
from tests.support.aggregate_ends import HOUR_US, PURPOSES, A, B, Office, device, metric_catalog


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


def test_a_round_opens_once_and_is_offered_with_its_definition(office: Office) -> None:
    """Opening again gives the open round; one round a metric; the offer has the parameters' hash."""
    first = office.open()
    assert office.open(closes_in_us=2 * HOUR_US) == first
    with office.store.read() as tx:
        offers = office.rounds.offers(tx)
    assert [o.round_id for o in offers] == [first]
    assert offers[0].closes_at_us == office.clock.now_us() + HOUR_US
    office.catalog = metric_catalog(epsilon=2.0)
    office.close(first)
    office.open()
    with office.store.read() as tx:
        assert office.rounds.offers(tx)[0].definition != offers[0].definition


@pytest.mark.parametrize(
    ("metric", "closes_in_us", "code"),
    [
        ("nothing", HOUR_US, "unknown_metric"),
        ("countries_0", 0, "invalid_request"),
        ("countries_0", LONGEST_ROUND_US + 1, "invalid_request"),
    ],
)
def test_a_round_that_cannot_be_is_refused(office: Office, metric: str, closes_in_us: int, code: str) -> None:
    """Unknown metric, and durations out of bounds, open nothing."""
    with pytest.raises(Problem) as raised:
        office.open(metric, closes_in_us)
    assert raised.value.code == code
    with office.store.read() as tx:
        assert office.rounds.offers(tx) == []


def test_the_first_device_that_asks_gets_the_ticket(office: Office) -> None:
    """One report a subject: the second device is not granted; the first one asking again gets the same."""
    round_id, subjects = office.open(), office.subjects(3)
    first = office.tickets(round_id, subjects[:2], A)
    assert [g.subject for g in first.granted] == subjects[:2]
    assert [g.subject for g in office.tickets(round_id, subjects, B).granted] == subjects[2:]
    assert office.tickets(round_id, subjects, A) == first
    assert len({g.ticket for g in first.granted}) == 2


def test_asking_for_a_subject_many_times_in_one_request_gives_one_ticket(office: Office) -> None:
    """Repeats in a request are one; more than a thousand subjects are refused."""
    round_id, (subject,) = office.open(), office.subjects(1)
    assert len(office.tickets(round_id, [subject] * 5).granted) == 1
    with pytest.raises(WireFailure, match="too_large"):
        office.tickets(round_id, [i.to_bytes(16, "big") for i in range(1001)])


@pytest.mark.parametrize("state", ["withdrawn", "revoked", "refused", "objected", None])
@pytest.mark.parametrize("purpose", PURPOSES)
def test_law_1_no_ticket_without_live_permission_for_both_purposes(
    office: Office, state: str | None, purpose: str
) -> None:
    """Denied, or never asked (unknown means no), for the metric's purpose or its source's."""
    round_id, subject = office.open(), bytes(15) + b"z"
    office.decide(subject, "given", tuple(p for p in PURPOSES if p != purpose))
    if state is not None:
        office.decide(subject, state, (purpose,))
    assert office.tickets(round_id, [subject]).granted == []


def test_law_2_a_withdrawal_beats_a_report_under_way(office: Office) -> None:
    """Ticket issued, then withdrawn, then the report comes: refused and not counted, and no new ticket."""
    round_id, (subject,) = office.open(), office.subjects(1)
    (granted,) = office.tickets(round_id, [subject]).granted
    office.decide(subject, "withdrawn", ("measurement",))
    office.report(round_id, granted.ticket)
    assert office.counted(round_id) == 0
    with office.store.write("void") as tx:
        assert tx.tickets.void(subject) == 1
    office.decide(subject, "given")
    office.tickets(round_id, office.subjects(4)[1:])  # room for one more report
    office.report(round_id, granted.ticket)
    assert office.refused(round_id) == {"no_permission": 2}
    assert office.tickets(round_id, [subject]).granted == []


def test_a_replayed_report_is_acknowledged_and_counted_once(office: Office) -> None:
    """T26: the same ticket five times, with the same or another answer, adds one."""
    round_id, subjects = office.open(), office.subjects(3)
    granted, *_ = office.tickets(round_id, subjects).granted
    sealed = office.sealed(round_id, [granted.ticket])
    for _ in range(5):
        assert len(office.bring(round_id, [sealed]).stored) == 1
        office.collect()
    office.report(round_id, granted.ticket)
    assert office.counted(round_id) == 1
    assert office.refused(round_id) == {"repeated": 1}
    with office.store.read() as tx:
        assert sum(tx.aggregates.tally(round_id).values()) == 1
    assert office.tickets(round_id, subjects[:1], A).granted == []  # used: nothing to grant


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff" * 32, encode_answer([0, 1, 2], 4), encode_answer([], 4), encode_answer([1], 4) + b"\0"],
)
def test_an_answer_outside_the_support_is_refused_and_counted(office: Office, answer: bytes) -> None:
    """T25: a poisoned answer moves nothing; the ticket can still be used by an honest one."""
    round_id, subjects = office.open(), office.subjects(3)
    granted, *_ = office.tickets(round_id, subjects).granted
    office.report(round_id, granted.ticket, answer)
    assert office.counted(round_id) == 0
    assert office.refused(round_id) == {"unsupported_answer": 1}
    office.report(round_id, granted.ticket)
    assert office.counted(round_id) == 1


def test_tickets_of_strangers_and_of_other_rounds_are_refused(office: Office) -> None:
    """Invented, or another round's: refused and counted as that, nothing moved."""
    office.catalog = metric_catalog(names=2)
    round_id, other, subjects = office.open(), office.open("countries_1"), office.subjects(2)
    granted, _ = office.tickets(round_id, subjects).granted
    abroad, _ = office.tickets(other, subjects).granted
    office.report(round_id, bytes(16))
    office.report(round_id, abroad.ticket)
    office.report(other, granted.ticket)
    assert office.refused(round_id) == {"ticket_invalid": 2}
    assert office.refused(other) == {"metric_changed": 1}
    assert office.counted(round_id) == office.counted(other) == 0


@pytest.mark.parametrize("how", ["closed", "over", "unknown"])
def test_a_round_that_is_over_takes_nothing(office: Office, how: str) -> None:
    """Closed by hand, past its time, or never there: tickets and reports are refused as round_closed."""
    round_id, (subject,) = office.open(), office.subjects(1)
    (granted,) = office.tickets(round_id, [subject]).granted
    if how == "closed":
        office.close(round_id)
    elif how == "over":
        office.clock.advance(us=HOUR_US)
    else:
        round_id = bytes(16)
    assert office.report(round_id, granted.ticket).closed
    with pytest.raises(WireFailure, match="round_closed"):
        office.tickets(round_id, [subject])
    assert office.refused(round_id) == ({} if how == "unknown" else {"round_closed": 1})


@pytest.mark.parametrize(("answers", "status"), [(0, "withheld"), (2, "withheld"), (3, "released")])
def test_law_9_nothing_is_released_under_the_minimum(office: Office, answers: int, status: str) -> None:
    """T24: with fewer subjects than the minimum the release holds no number, not even how many."""
    round_id, subjects = office.open(), office.subjects(4)
    for granted in office.tickets(round_id, subjects).granted[:answers]:
        office.report(round_id, granted.ticket)
    release = office.close(round_id)
    assert release.status == status
    numbers = (release.n, release.estimate, release.ci95, release.share)
    assert (numbers == (None, None, None, None)) is (status == "withheld")
    if status == "released":
        assert release.n == 3
        assert release.share is not None
        assert sum(release.share.values()) == pytest.approx(1, abs=1e-5)


def test_a_release_is_made_once_and_cannot_be_changed(office: Office) -> None:
    """Closing again gives the same release; the database itself refuses an update and a delete."""
    round_id, subjects = office.open(), office.subjects(3)
    for granted in office.tickets(round_id, subjects).granted:
        office.report(round_id, granted.ticket)
    release = office.close(round_id)
    office.clock.advance(seconds=60)
    assert office.close(round_id) == release
    for sql in ("UPDATE aggregate_releases SET body = x'00'", "DELETE FROM aggregate_releases"):
        with pytest.raises(sqlite3.IntegrityError, match="immutable"), office.store.write("tamper") as tx:
            tx.execute(sql)
    with office.store.read() as tx:
        assert len(tx.aggregates.releases(None, 10)[0]) == 1
        assert len(tx.aggregates.releases("countries_0", 10)[0]) == 1
        assert tx.aggregates.releases("other", 10) == ([], False)


def test_a_round_past_its_time_closes_at_the_next_touch(office: Office) -> None:
    """Nobody has to be there when it ends: the next opening closes it and opens a new one."""
    first = office.open()
    office.clock.advance(us=2 * HOUR_US)
    second = office.open()
    assert second != first
    office.collect()
    with office.store.read() as tx:
        assert tx.aggregates.release(first) is not None
        assert [row.id for row in tx.aggregates.open_rounds()] == [second]


def test_a_close_of_a_round_that_never_was_is_not_found(office: Office) -> None:
    """Unknown ids close nothing."""
    with pytest.raises(Problem, match="not_found"):
        office.close(bytes(16))


def test_law_9_the_ticket_issuer_holds_the_cap_against_reinstalls(office: Office) -> None:
    """T23: twenty rounds in a day, each from a device that was wiped: four epsilon, then no more tickets."""
    office.catalog = metric_catalog(names=20)
    (subject,) = office.subjects(1)
    granted = [
        len(office.tickets(office.open(f"countries_{i}"), [subject], device(f"new-{i}")).granted)
        for i in range(20)
    ]
    assert granted == [1] * 4 + [0] * 16
    office.clock.advance(us=DAY_US)
    assert len(office.tickets(office.open("countries_9"), [subject]).granted) == 1


def test_law_9_the_cap_holds_in_any_run_of_window_days(office: Office) -> None:
    """A window of three days and epsilon 4: granted on days 0, 3, 6 only, though a round opens daily."""
    office.catalog = metric_catalog(epsilon=4.0, window="3d")
    (subject,) = office.subjects(1)
    days = []
    for day in range(8):
        round_id = office.open()
        if office.tickets(round_id, [subject]).granted:
            days.append(day)
        office.close(round_id)
        office.clock.advance(us=DAY_US)
    assert days == [0, 3, 6]


def test_law_9_nothing_links_a_counted_answer_to_its_subject_or_device(office: Office) -> None:
    """T27: after an answer is counted no table names its subject or device; after closing, no ticket."""
    round_id, subjects = office.open(), office.subjects(3)
    grants = office.tickets(round_id, subjects).granted
    for granted in grants[:2]:
        office.report(round_id, granted.ticket)
    held = office.everything()
    assert subjects[0] not in held
    assert subjects[1] not in held
    assert subjects[2] in held  # promised, not used yet
    office.close(round_id)
    held = office.everything()
    assert not any(subject in held for subject in subjects)
    assert b"kiosk-a" not in held
    assert not any(granted.ticket in held for granted in grants)
