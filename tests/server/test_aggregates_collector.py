"""The collector opens what waits, counts it once, and releases a round when nothing of it is left."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from edge_runtime.aggregates.mechanisms import curator_for, definition, question_of
from edge_runtime.aggregates.mechanisms.curator import DiscreteLaplace
from edge_runtime.wire.sealed_report import Answered, open_report, seal_report
from sync_server.aggregates import collector as collecting
from sync_server.aggregates import counting
from sync_server.aggregates.collector import Collector
from sync_server.aggregates.release import ENDINGS, Release, make_release
from sync_server.aggregates.rounds import Rounds
from sync_server.settings import Settings
from tests.support.aggregate_ends import COLLECTOR, HOUR_US, SIGNING, A, B, Office, closed, metric_catalog

PUBLIC = COLLECTOR.public_key().public_bytes_raw()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.store.close()


def tally(office: Office, round_id: bytes) -> dict[int, int]:
    with office.store.read() as tx:
        return dict(tx.aggregates.tally(round_id))


def waiting(office: Office) -> int:
    with office.store.read() as tx:
        return len(tx.aggregates.waiting(10_000))


def brought(office: Office, round_id: bytes, subjects: int) -> list[bytes]:
    """One report of each subject, stored and not opened."""
    granted = office.tickets(round_id, office.subjects(subjects)).granted
    sealed = [office.sealed(round_id, [g.ticket]) for g in granted]
    assert len(office.bring(round_id, sealed).stored) == subjects
    return sealed


def moved(office: Office, round_id: bytes, sealed: list[bytes]) -> dict[int, int]:
    """What these reports add up to, by hand."""
    sums = Counter[int]()
    for one in sealed:
        for cell, amount in office.mechanism.moves(open_report(COLLECTOR, round_id, one).answer) or ():
            sums[cell] += amount
    return dict(sums)


def test_every_report_is_counted_once_in_batches_and_none_is_kept(office: Office) -> None:
    """150 reports at 64 a batch: three turns, the sums by hand, and no blob and no ticket's owner left."""
    round_id = office.open()
    sealed = brought(office, round_id, 150)
    left = []
    while office.collector.step(0):
        left.append(waiting(office))
    assert left == [86, 22, 0]
    assert tally(office, round_id) == moved(office, round_id, sealed)
    assert office.counted(round_id) == 150
    held = office.everything()
    assert not any(one in held for one in sealed)


async def test_turns_at_the_same_time_count_nothing_twice(office: Office) -> None:
    """Two closes, a turn that was under way, and a chore: each report counts once, one release."""
    round_id = office.open()
    sealed = brought(office, round_id, 150)
    turn = asyncio.create_task(office.collector.turn())
    await asyncio.sleep(0)
    assert not office.collector.step(0), "the other is at it"
    chore = asyncio.create_task(asyncio.to_thread(lambda: None))
    one, two, *_ = await asyncio.gather(
        office.collector.close(round_id), office.collector.close(round_id), turn, chore
    )
    assert one == two
    assert (one.n, one.reports, one.status) == (150, 150, "released")
    assert one.estimate is not None
    with office.store.read() as tx:
        assert len(tx.aggregates.releases(None, 9)[0]) == 1
    assert len(sealed) == 150


def test_two_collectors_that_read_the_same_batch_count_it_once(office: Office) -> None:
    """As two nodes would, or a turn that was held up: the second finds the reports gone."""
    round_id = office.open()
    sealed = brought(office, round_id, 50)
    again = Collector(Settings(data_dir=Path()), office.store, office.rounds, COLLECTOR, lambda: None)
    batch, asked = again._batch(None)
    opened = [counting.opened(COLLECTOR, asked[row.round], row) for row in batch]
    office.collect()
    again._count(asked, opened)
    assert tally(office, round_id) == moved(office, round_id, sealed)
    assert office.refused(round_id) == {}


def test_a_batch_that_fails_leaves_everything_as_it_was(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction that counts is the one that drops: both or neither."""
    round_id = office.open()
    sealed = brought(office, round_id, 20)
    before, real = office.everything(), counting.count

    def halfway(*given: object) -> None:
        real(*given)  # type: ignore[arg-type]
        raise OSError("the disk is gone")

    monkeypatch.setattr(collecting, "count", halfway)
    with pytest.raises(OSError, match="disk"):
        office.collector.step(0)
    assert office.everything() == before
    monkeypatch.setattr(collecting, "count", real)
    office.collect()
    assert tally(office, round_id) == moved(office, round_id, sealed)


def test_any_order_of_bringing_opening_and_repeating_gives_the_same_sums(office: Office) -> None:
    """Whoever repeats whatever whenever: each ticket counts once."""
    for seed in range(25):
        rng = random.Random(seed)
        office.catalog = metric_catalog(version=seed + 1, minimum=2)
        round_id = office.open()
        granted = office.tickets(round_id, office.subjects(12)).granted
        sealed = [office.sealed(round_id, [g.ticket]) for g in granted]
        again = [office.sealed(round_id, [g.ticket]) for g in granted]
        sent: list[bytes] = []
        for _ in range(30):
            picked = rng.choice(sealed if rng.random() < 0.8 else again)
            if office.bring(round_id, [picked]).stored and picked not in sent:
                sent.append(picked)
            if rng.random() < 0.3:
                office.collect()
        office.collect()
        with office.store.read() as tx:
            row = tx.aggregates.round(round_id)
        assert row is not None
        tickets = {open_report(COLLECTOR, round_id, one).tickets[0] for one in sent}
        assert row.subjects == row.reports == len(tickets)
        refused = office.refused(round_id)
        assert refused.get("repeated", 0) == len(sent) - len(tickets)
        assert set(refused) <= {"repeated", "too_many"}
        office.close(round_id)
        office.clock.advance(us=24 * HOUR_US)


def test_reports_to_a_key_that_is_gone_count_as_unsealed(office: Office) -> None:
    """A round pins its key: with a new one the reports of it are told apart, and the round says how many."""
    round_id = office.open()
    brought(office, round_id, 4)
    fresh = X25519PrivateKey.generate()
    other = Collector(Settings(data_dir=Path()), office.store, office.rounds, fresh, lambda: None)
    release = closed(other, round_id)
    assert (release.status, release.n) == ("withheld", None)
    assert release.reason is not None
    with office.store.read() as tx:
        assert tx.aggregates.refused_in_all() == {"unsealed": 4}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b"\xc1", "malformed"),
        (b"\x93\xc4\x10" + b"d" * 16 + b"\x91\xc4\x10" + b"t" * 16, "malformed"),
        (b"\x93\xc4\x10" + b"d" * 16 + b"\x91\xc4\x10" + b"t" * 16 + b"\xc4\x01a", "metric_changed"),
    ],
)
def test_what_was_sealed_to_us_and_is_no_answer_is_told_apart(
    office: Office, monkeypatch: pytest.MonkeyPatch, body: bytes, code: str
) -> None:
    """A device that seals what it likes: the bytes open, and count for nobody."""
    round_id = office.open()
    office.tickets(round_id, office.subjects(1))
    monkeypatch.setattr("edge_runtime.wire.sealed_report.msgspec.msgpack.encode", lambda _: body)
    sealed = seal_report(PUBLIC, round_id, Answered(bytes(16), [], b""))
    monkeypatch.undo()
    assert office.bring(round_id, [sealed]).stored
    office.collect()
    assert office.refused(round_id) == {code: 1}
    assert tally(office, round_id) == {}


def test_law_2_a_device_that_is_shut_out_has_brought_nothing_that_was_not_opened(office: Office) -> None:
    """What was counted before stays; what waited, and what its tickets would still bring, is refused."""
    round_id, subjects = office.open(), office.subjects(6)
    mine = office.tickets(round_id, subjects[:4], A).granted
    others = office.tickets(round_id, subjects[4:], B).granted
    office.report(round_id, mine[0].ticket)
    office.bring(round_id, [office.sealed(round_id, [mine[1].ticket])])
    with office.store.write("revoke") as tx:
        tx.revoke_device("kiosk-a", 5, "stolen")
    office.bring(round_id, [office.sealed(round_id, [mine[2].ticket])])
    office.report(round_id, others[0].ticket, who=B)
    assert office.counted(round_id) == 2
    assert office.refused(round_id) == {"no_permission": 2}
    assert office.tickets(round_id, subjects[:4], B).granted == [], "their answers may be under way"


class Summing:
    """A kiosk that adds noise over its own subjects."""

    def __init__(self, office: Office) -> None:
        office.catalog = metric_catalog(mode="curator", minimum=3)
        metric = office.catalog.metrics["countries_0"]
        self.office, self.definition = office, definition(metric)
        self.mechanism: DiscreteLaplace = curator_for(question_of(metric))
        self.round_id = office.open()

    def tickets(self, first: int, last: int) -> list[bytes]:
        subjects = self.office.subjects(last)[first:]
        return [g.ticket for g in self.office.tickets(self.round_id, subjects).granted]

    def report(self, tickets: list[bytes], answer: bytes | None = None) -> bytes:
        made = answer or self.mechanism.noised([1] * max(1, len(tickets)), self.office.rng.randrange)
        sealed = seal_report(PUBLIC, self.round_id, Answered(self.definition, tickets, made))
        assert self.office.bring(self.round_id, [sealed]).stored
        return made


def test_a_kiosks_report_counts_all_its_subjects_and_cells_may_be_negative(office: Office) -> None:
    """One report of five tickets: five subjects, and the noised sums as they are."""
    kiosk = Summing(office)
    tickets, sums = kiosk.tickets(0, 5), Counter[int]()
    for _ in range(400):  # until a cell is below zero
        answer = kiosk.mechanism.noised([1] * 5, office.rng.randrange)
        found = dict(kiosk.mechanism.moves(answer) or ())
        if min(found.values()) < 0:
            break
    sums.update(found)
    kiosk.report(tickets, answer)
    office.collect()
    assert tally(office, kiosk.round_id) == found
    with office.store.read() as tx:
        row = tx.aggregates.round(kiosk.round_id)
    assert row is not None
    assert (row.subjects, row.reports) == (5, 1)


@pytest.mark.parametrize("fault", ["used", "void", "strange", "twice", "none", "too much"])
def test_one_bad_ticket_refuses_a_kiosks_whole_report(office: Office, fault: str) -> None:
    """Its noise is for the whole sum; the good tickets are still good for a report without the bad one."""
    kiosk = Summing(office)
    good, (bad,) = kiosk.tickets(0, 3), kiosk.tickets(3, 4)
    answer, code = None, "unsupported_answer"
    match fault:
        case "used":
            kiosk.report([bad])
            office.collect()
            code = "repeated"
        case "void":
            office.decide((4).to_bytes(16, "big"), "withdrawn")
            code = "no_permission"
        case "strange":
            bad, code = b"?" * 16, "ticket_invalid"
        case "twice":
            bad = good[0]
        case "none":
            bad = b""
        case _:
            large = DiscreteLaplace("indicator", 4, kiosk.mechanism.epsilon).exact([2] * 9_000)
            answer = b"".join(
                n.to_bytes(kiosk.mechanism.answer_bytes // 4, "little", signed=True) for n in large
            )
    before = office.counted(kiosk.round_id)
    kiosk.report([] if fault == "none" else [*good, bad], answer)
    office.collect()
    assert office.refused(kiosk.round_id) == {code: 1}
    assert office.counted(kiosk.round_id) == before
    kiosk.report(good)
    office.collect()
    assert office.counted(kiosk.round_id) == before + 3


def test_a_round_that_is_stopped_takes_nothing_more_and_is_released_when_it_is_empty(office: Office) -> None:
    """Between the two its numbers are not there; what came in time is in them, what came late is not."""
    round_id = office.open()
    granted = office.tickets(round_id, office.subjects(5)).granted
    sealed = [office.sealed(round_id, [g.ticket]) for g in granted]
    office.bring(round_id, sealed[:4])
    with office.store.write("stop") as tx:
        office.rounds.stop(tx, round_id)
        assert office.rounds.counted(tx, round_id) is None
    assert office.bring(round_id, sealed[4:]).closed
    second = office.open()
    assert second != round_id, "the next one may begin"
    office.clock.advance(seconds=60)
    office.collect()
    release = office.close(round_id)
    assert (release.n, release.refused) == (4, {"round_closed": 1})
    assert release.closed_at_us == office.clock.now_us() - 60_000_000


def test_a_round_that_is_over_is_found_and_released_by_the_chore(office: Office) -> None:
    """Nobody has to look; it closed at the end of its time, not when that was noticed."""
    round_id = office.open()
    brought(office, round_id, 3)
    office.clock.advance(us=2 * HOUR_US)
    office.collect()
    release = office.close(round_id)
    assert (release.n, release.closed_at_us) == (3, office.clock.now_us() - HOUR_US)


def test_a_round_that_ends_without_a_number_says_why_whatever_came(office: Office) -> None:
    """After a restore: reports that waited are gone, tickets admit nobody, and the next round can open."""
    round_id = office.open()
    sealed = brought(office, round_id, 5)
    office.collector.step(0)
    with office.store.write("restore") as tx:
        assert tx.aggregates.end_rounds("restored") == 1
    assert office.bring(round_id, sealed).closed
    with office.store.read() as tx:
        assert office.rounds.offers(tx) == []
    assert office.open() != round_id
    office.collect()
    release = office.close(round_id)
    assert (release.status, release.reason, release.n) == ("withheld", ENDINGS["restored"], None)


def test_a_round_whose_key_is_gone_stops_and_keeps_what_was_counted(office: Office) -> None:
    """Nobody pays for an answer that nobody can open: not offered, no ticket; three were counted before."""
    round_id = office.open()
    brought(office, round_id, 3)
    office.collect()
    fresh = X25519PrivateKey.generate()
    rounds = Rounds(office.clock, office.rng.randbytes, b"k" * 32, SIGNING, fresh.public_key())
    with office.store.write("offers") as tx:
        assert rounds.offers(tx) == []
        assert rounds.live(tx, round_id) is None
    settings = Settings(data_dir=Path())
    Collector(settings, office.store, rounds, fresh, lambda: None).step(0)
    release = office.close(round_id)
    assert (release.status, release.n, release.closed_at_us) == ("released", 3, office.clock.now_us())


def test_law_9_two_questions_at_once_are_noised_and_paid_for_apart(office: Office) -> None:
    """T24: two open rounds over the same subjects: a ticket and the full price in each, up to the cap."""
    office.catalog = metric_catalog(names=5)
    subjects = office.subjects(3)
    granted = [office.tickets(office.open(f"countries_{n}"), subjects).granted for n in range(5)]
    assert [len(one) for one in granted] == [3, 3, 3, 3, 0]
    assert len({g.ticket for one in granted for g in one}) == 12
    with office.store.read() as tx:
        spent = tx.execute("SELECT sum(micros) FROM aggregate_spends GROUP BY tag").fetchall()
    assert spent == [(4_000_000,)] * 3


def test_after_a_release_no_copy_of_the_log_says_who_gave_which_answer(
    office: Office, tmp_path: Path
) -> None:
    """Whoever gets the disk and the collector's key could open what it still holds, beside its subject."""
    round_id = office.open()
    granted = office.tickets(round_id, office.subjects(5)).granted
    sealed = [office.sealed(round_id, [g.ticket]) for g in granted]
    office.bring(round_id, sealed)

    def on_disk() -> int:
        files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        return sum(one in files for one in [*sealed, *(g.ticket for g in granted)])

    assert on_disk() == 10
    office.collect()
    assert office.close(round_id).status == "released"
    assert on_disk() == 0


async def test_law_2_numbers_are_worked_out_beside_the_loop(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of categories take seconds; here they take until the loop has gone on meanwhile."""
    went_on = threading.Event()

    def slow(*of: Any) -> Release:
        assert went_on.wait(timeout=10), "the loop waited for the numbers"
        return make_release(*of)

    monkeypatch.setattr("sync_server.aggregates.rounds.make_release", slow)
    round_id = office.open()
    granted = office.tickets(round_id, office.subjects(4)).granted
    office.bring(round_id, [office.sealed(round_id, [g.ticket]) for g in granted])
    closing = [asyncio.create_task(office.collector.close(round_id)) for _ in range(3)]
    asyncio.get_running_loop().call_later(0.01, went_on.set)
    first, *others = await asyncio.gather(*closing)
    assert first.n == 4
    assert others == [first, first]
