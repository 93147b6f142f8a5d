"""Kiosks and an office that ask and answer for a long time, and an oracle of what the collector learned.

The oracle reads no ledger: it opens what devices sent, with the collector's key, and adds up what each
subject told on each day. Days are those that the office's issuer counts, as it noted them.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from edge_runtime.aggregates.mechanisms import BUDGET_CEILING_MICROS, cost_micros
from edge_runtime.catalog import Catalog
from edge_runtime.wire.messages import Report, RoundOffer, Tickets
from edge_runtime.wire.sealed_report import report_id
from sync_server.aggregates.tickets import NEWEST_DAY
from tests.support.aggregate_ends import (
    HOUR_US,
    REMEMBERED,
    Kiosk,
    Office,
    device,
    metric_catalog,
    opened,
    requests,
)


class Told(NamedTuple):
    """One report as the collector reads it."""

    subject: bytes
    metric: str
    day: int
    answer: bytes
    micros: int
    device: str


class Oracle:
    """Everything that ever left a device, opened."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self._owners: dict[bytes, bytes] = {}
        self._seen: set[bytes] = set()

    def issued(self, tickets: Tickets) -> None:
        """Whose ticket is whose."""
        self._owners.update({grant.ticket: grant.subject for grant in tickets.granted})

    def sent(self, report: Report, metric: str, day: int, micros: int, device: str) -> None:
        """A report leaves a device; the same bytes again tell nothing."""
        name = report_id(report.sealed[0])
        if name in self._seen:
            return
        self._seen.add(name)
        answered = opened(report)
        for ticket in answered.tickets:
            self.told.append(Told(self._owners[ticket], metric, day, answered.answer, micros, device))

    def most(self, window_days: int, told: Iterable[Told] | None = None) -> int:
        """The most that any subject told in any run of so many days, in millionths of epsilon."""
        days: defaultdict[bytes, Counter[int]] = defaultdict(Counter)
        for one in self.told if told is None else told:
            days[one.subject][one.day] += one.micros
        runs = [
            sum(spent for other, spent in of_subject.items() if day - window_days < other <= day)
            for of_subject in days.values()
            for day in of_subject
        ]
        return max(runs, default=0)

    def answers(self, metric: str) -> dict[bytes, Counter[bytes]]:
        """subject -> its different answers, and how often each came."""
        found: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
        for one in self.told:
            if one.metric == metric:
                found[one.subject][one.answer] += 1
        return dict(found)


class BudgetFleet:
    """An office with kiosks that may be wiped, each subject on all of them."""

    def __init__(
        self,
        folder: Path,
        *,
        kiosks: int = 1,
        of: Catalog | None = None,
        remembered: int = REMEMBERED,
        seed: int = 7,
    ) -> None:
        self.office, self.oracle, self.rng = Office(folder), Oracle(), random.Random(seed)
        self.office.catalog = self.catalog = of or metric_catalog(minimum=2)
        self.remembered, self.enrolled = remembered, 0
        self.values: dict[str, str] = {}
        self.kiosks: dict[str, Kiosk] = {}
        for _ in range(kiosks):
            self.enrol()

    # ---- devices and subjects ----------------------------------------------------------------------------

    def enrol(self) -> str:
        """A new device, on which everybody says yes; returns its name."""
        name = f"kiosk-{self.enrolled}"
        self.enrolled += 1
        kiosk = Kiosk(
            0,
            of=self.catalog,
            seed=self.rng.randrange(1 << 30),
            clock=self.office.clock,
            remembered=self.remembered,
        )
        self.kiosks[name] = kiosk
        for subject, value in self.values.items():
            kiosk.add(subject, value)
        return name

    def wipe(self, name: str) -> str:
        """The device loses everything and is enrolled anew."""
        self.kiosks.pop(name).database.close()
        return self.enrol()

    def add(self, subject: str, value: str) -> None:
        """The subject says yes on every kiosk."""
        self.values[subject] = value
        for kiosk in self.kiosks.values():
            kiosk.add(subject, value)
        self.office.decide(self.pseudonym(subject), "given")

    def set_value(self, subject: str, value: str) -> None:
        """The value changes on every kiosk."""
        self.values[subject] = value
        for kiosk in self.kiosks.values():
            kiosk.values[subject].value = value

    def withdraw(self, subject: str) -> None:
        """Everything is erased, on every kiosk, as the eraser does it."""
        self.office.decide(self.pseudonym(subject), "withdrawn")
        with self.office.store.write("void") as tx:
            tx.tickets.void(self.pseudonym(subject))
        for kiosk in self.kiosks.values():
            doomed = [key.handle for key in kiosk.keyring.keys_of(subject)]
            kiosk.erase(subject)
            with kiosk.database.write("erase") as tx:
                for handle in doomed:
                    tx.forget(handle)

    def give_again(self, subject: str) -> None:
        """And is given again, everywhere."""
        self.office.decide(self.pseudonym(subject), "given")
        for kiosk in self.kiosks.values():
            kiosk.permissions.denied.clear()
            kiosk.add(subject, self.values[subject])

    def pseudonym(self, subject: str) -> bytes:
        return next(iter(self.kiosks.values())).keyring.pseudonym(subject)

    # ---- rounds ------------------------------------------------------------------------------------------

    def catalogue(self, catalog: Catalog) -> None:
        """Everybody gets another catalog."""
        self.office.catalog = self.catalog = catalog
        for kiosk in self.kiosks.values():
            kiosk.restart(catalog)

    def round(self, metric: str = "countries_0", closes_in_us: int = HOUR_US) -> int:
        """One round, closed at its end: how many reports came."""
        round_id = self.office.open(metric, closes_in_us)
        came = sum(self.collect(name, round_id) for name in self.kiosks)
        self.office.close(round_id)
        return came

    def collect(self, name: str, round_id: bytes) -> int:
        """One device asks, answers and sends; how many reports it sent."""
        kiosk, offer = self.kiosks[name], self.offer(round_id)
        sent = 0
        for request in requests(kiosk.reporter, offer):
            tickets = self.office.tickets(round_id, request.subjects, device(name))
            self.oracle.issued(tickets)
            sent += self.send(name, offer, kiosk.reporter.on_tickets(tickets))
        return sent

    def send(self, name: str, offer: RoundOffer, reports: Iterable[Report]) -> int:
        """What a device sends, heard by the oracle first."""
        sent = 0
        for report in reports:
            micros = cost_micros(self.catalog.metrics[offer.metric])
            self.oracle.sent(report, offer.metric, self.day(), micros, name)
            ack = self.office.bring(report.round_id, report.sealed, device(name)).ack()
            if ack is not None:
                self.kiosks[name].reporter.on_ack(ack)
            sent += 1
        return sent

    def offer(self, round_id: bytes) -> RoundOffer:
        with self.office.store.read() as tx:
            return next(o for o in self.office.rounds.offers(tx) if o.round_id == round_id)

    def day(self) -> int:
        """The newest day that the issuer noted."""
        with self.office.store.read() as tx:
            return int.from_bytes(tx.meta(NEWEST_DAY) or b"", "big")

    def close(self) -> None:
        self.office.store.close()
        for kiosk in self.kiosks.values():
            kiosk.database.close()


CEILING = BUDGET_CEILING_MICROS
