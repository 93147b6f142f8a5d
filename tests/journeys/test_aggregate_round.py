from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from edge_runtime.wire import codec
from edge_runtime.wire import messages as m
from sync_server.store.records import DeviceRow
from tests.support.aggregate_ends import COUNTRIES, A, B, Kiosk, Office, metric_catalog, requests

Said = TypeVar("Said", bound=m.Message)
FLEET, SHARED = 400, 60


def over_the_wire(message: Said) -> Said:
    """What the other side reads."""
    read = codec.decode(codec.encode(message))
    assert type(read) is type(message)
    return read


class Fleet:
    """Two kiosks and an office; 60 of 400 subjects are known on both kiosks."""

    def __init__(self, folder: Path) -> None:
        self.office = Office(folder)
        self.office.catalog = metric_catalog(minimum=50)
        self.truth: dict[str, str] = {}
        self.kiosks = {
            who: Kiosk(0, of=self.office.catalog, seed=i + 21, clock=self.office.clock)
            for i, who in enumerate((A, B))
        }
        rng = random.Random(20261122)
        for number in range(FLEET):
            subject = f"user:caller-{number}"
            self.truth[subject] = rng.choices(COUNTRIES, (70, 15, 10, 5))[0]
            self.office.decide(self.pseudonym(subject), "given")
            first = number < FLEET // 2 + SHARED // 2
            second = number >= FLEET // 2 - SHARED // 2
            for kiosk, here in zip(self.kiosks.values(), (first, second), strict=True):
                if here:
                    kiosk.add(subject, self.truth[subject])

    def pseudonym(self, subject: str) -> bytes:
        return self.kiosks[A].keyring.pseudonym(subject)

    def offer(self) -> m.RoundOffer:
        with self.office.store.read() as tx:
            (offer,) = self.office.rounds.offers(tx)
        return over_the_wire(offer)

    def collect(self, who: DeviceRow, offer: m.RoundOffer) -> list[m.Report]:
        """Offer, ticket requests, tickets: the reports that the kiosk would now send."""
        due = list[m.Report]()
        for request in requests(self.kiosks[who].reporter, offer):
            with self.office.store.write("tickets") as tx:
                tickets = self.office.rounds.issue_tickets(tx, who, over_the_wire(request))
            due = self.kiosks[who].reporter.on_tickets(over_the_wire(tickets))
        return due

    def send(self, who: DeviceRow, report: m.Report, *, ack_lost: bool = False) -> None:
        brought = self.office.bring(report.round_id, over_the_wire(report).sealed, who)
        self.office.collect()
        ack = brought.ack()
        if ack is not None and not ack_lost:
            self.kiosks[who].reporter.on_ack(over_the_wire(ack))


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    # subjects answer in the order of their handles: with handles from the operating system the noise would be
    # another in each run, and one in twenty 95 % intervals misses the truth
    monkeypatch.setattr("edge_runtime.keys.datakey.secrets.token_bytes", random.Random(20261122).randbytes)
    made = Fleet(tmp_path)
    yield made
    made.office.store.close()
    for kiosk in made.kiosks.values():
        kiosk.database.close()


def test_a_round_from_two_kiosks_to_a_release_that_holds_the_truth(fleet: Fleet) -> None:
    """Each subject counted once though 60 are on both kiosks; every interval holds the truth."""
    round_id = fleet.office.open()
    offer = fleet.offer()
    sent = Counter[DeviceRow]()
    for who in (A, B):
        for report in fleet.collect(who, offer):
            fleet.send(who, report)
            sent[who] += 1
    assert sent == {A: FLEET // 2 + SHARED // 2, B: FLEET // 2 - SHARED // 2}
    release = fleet.office.close(round_id)
    assert release.status == "released"
    assert release.n == FLEET
    assert release.ci95 is not None
    assert release.estimate is not None
    true = Counter(fleet.truth.values())
    for country in COUNTRIES:
        low, high = release.ci95[country]
        assert low <= true[country] / FLEET <= high
        assert low < release.estimate[country] < high


def test_crashes_and_lost_acknowledgements_count_nobody_twice(fleet: Fleet) -> None:
    """A kiosk that restarts before sending, and again before the acks arrive, resends the same answers."""
    round_id, offer = fleet.office.open(), fleet.offer()
    kiosk = fleet.kiosks[A]
    drawn = fleet.collect(A, offer)
    kiosk.restart()
    assert kiosk.reporter.pending() == drawn
    for report in drawn[:100]:
        fleet.send(A, report, ack_lost=True)
    kiosk.restart()
    assert kiosk.reporter.pending() == drawn
    for report in kiosk.reporter.pending():
        fleet.send(A, report)
    assert kiosk.reporter.pending() == []
    assert fleet.collect(A, offer) == []
    assert fleet.office.counted(round_id) == len(drawn)
    assert kiosk.spent() == len(drawn) * 1_000_000


def test_law_2_a_withdrawal_in_mid_round_keeps_the_answer_out(fleet: Fleet) -> None:
    """One withdraws on the kiosk before sending; one at the server while the report is under way."""
    round_id, offer = fleet.office.open(), fleet.offer()
    kiosk = fleet.kiosks[A]
    here, there = "user:caller-0", "user:caller-1"
    drawn = fleet.collect(A, offer)
    assert kiosk.erase(here) == 1
    fleet.office.decide(fleet.pseudonym(there), "revoked", ("personalization",))
    for report in kiosk.reporter.pending():
        fleet.send(A, report)
    assert fleet.office.refused(round_id) == {"no_permission": 1}
    assert fleet.office.counted(round_id) == len(drawn) - 2


def test_law_9_too_few_subjects_and_the_server_shows_no_number(fleet: Fleet) -> None:
    """49 answers under a minimum of 50: withheld, and the device's budget is spent all the same."""
    round_id, offer = fleet.office.open(), fleet.offer()
    for report in fleet.collect(A, offer)[:49]:
        fleet.send(A, report)
    release = fleet.office.close(round_id)
    assert (release.status, release.n, release.estimate) == ("withheld", None, None)
    left = fleet.kiosks[A].reporter.pending()
    assert fleet.office.bring(round_id, left[0].sealed).closed
    fleet.kiosks[A].reporter.on_closed(round_id)
    assert fleet.kiosks[A].reporter.pending() == []


def test_a_device_with_another_catalog_does_not_answer_another_question(fleet: Fleet) -> None:
    """A kiosk still on a catalog with another epsilon sees no round, and spends nothing."""
    fleet.office.open()
    kiosk = fleet.kiosks[B]
    kiosk.restart(metric_catalog(minimum=50, epsilon=2.0))
    assert fleet.collect(B, fleet.offer()) == []
    assert kiosk.spent() == 0
