"""Anything in any order: rounds, withdrawals, wiped and killed devices, clocks, catalogs, restarts, restores.

The oracle opens what left the devices and knows no ledger. Days are the issuer's; whatever happened, no
subject's reports of any run of a window's days cost more than the ceiling, and no device told a value in two
ways, unless it was erased in between.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_runtime.aggregates.mechanisms import DAY_US, budget_window_days
from edge_runtime.catalog import Catalog
from sync_server.aggregates.rounds import Rounds
from sync_server.store.restores import RestoreRow
from tests.support.aggregate_ends import COLLECTOR, COUNTRIES, HOUR_US, SIGNING, device, metric_catalog
from tests.support.budget_fleet import CEILING, BudgetFleet, Told

PEOPLE = ("user:ann-of-the-states", "user:bob-of-the-states")
NAMES = 6
WINDOWS = ("1d", "2d", "5d")


class Fleet(RuleBasedStateMachine):
    """Two subjects on up to three kiosks."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.version, self.window = 1, "1d"
        self.town = BudgetFleet(self.place, kiosks=2, of=self._catalog(), remembered=3)
        self.values = dict.fromkeys(PEOPLE, "DE")
        for person, value in self.values.items():
            self.town.add(person, value)
        self.away: set[str] = set()
        self.windows: dict[int, int] = {}
        """Report number -> the window under which it was told, in days."""
        self.lives: defaultdict[str, int] = defaultdict(int)
        """Times that a subject was erased."""
        self.ways: defaultdict[tuple[str, str, int, str, str, int], set[bytes]] = defaultdict(set)

    def teardown(self) -> None:
        self.town.close()
        shutil.rmtree(self.place)

    def _catalog(self, epsilon: float = 1.0) -> Catalog:
        return metric_catalog(
            minimum=2, names=NAMES, window=self.window, version=self.version, epsilon=epsilon
        )

    # ---- rounds ------------------------------------------------------------------------------------------

    @rule(metric=st.integers(0, NAMES - 1), times=st.integers(1, 3))
    def ask(self, metric: int, times: int) -> None:
        """Some rounds of one metric."""
        name = f"countries_{metric}"
        for _ in range(times):
            before = len(self.town.oracle.told)
            self.town.round(name)
            self._told(before, name)

    @rule(metric=st.integers(0, NAMES - 1), seed=st.integers(0, 99))
    def ask_and_kill_before_sending(self, metric: int, seed: int) -> None:
        """Reports are stored, the process ends, another one sends them: the round is the same."""
        name, before = f"countries_{metric}", len(self.town.oracle.told)
        round_id = self.town.office.open(name, HOUR_US)
        for who, kiosk in self.town.kiosks.items():
            offer = self.town.offer(round_id)
            request = kiosk.reporter.on_offer(offer)
            if request is None:
                continue
            tickets = self.town.office.tickets(round_id, request.subjects, device(who))
            self.town.oracle.issued(tickets)
            reports = kiosk.reporter.on_tickets(tickets)
            kiosk.restart()
            again = kiosk.reporter.pending()
            assert {r.sealed[0] for r in again} == {r.sealed[0] for r in reports}
            random.Random(seed).shuffle(again)
            self.town.send(who, offer, again)
        self.town.office.close(round_id)
        self._told(before, name)

    def _told(self, before: int, name: str) -> None:
        days = budget_window_days(self.town.catalog.metrics.values())
        people = {self.town.pseudonym(person): person for person in PEOPLE}
        for number, one in enumerate(self.town.oracle.told[before:], before):
            self.windows[number] = days
            person = people[one.subject]
            key = (one.device, person, self.lives[person], name, self.values[person], self.version)
            self.ways[key].add(one.answer)

    # ---- subjects ----------------------------------------------------------------------------------------

    @rule(who=st.sampled_from(PEOPLE), value=st.sampled_from(COUNTRIES[:3]))
    def change(self, who: str, value: str) -> None:
        """The value moves: three of them are remembered, so each is told in one way."""
        assume(who not in self.away)
        self.values[who] = value
        self.town.set_value(who, value)

    @rule(who=st.sampled_from(PEOPLE))
    def withdraw(self, who: str) -> None:
        """Everything of the subject is erased everywhere."""
        assume(who not in self.away)
        self.town.withdraw(who)
        self.away.add(who)
        self.lives[who] += 1

    @rule(who=st.sampled_from(PEOPLE))
    def give_again(self, who: str) -> None:
        """And permitted again."""
        assume(who in self.away)
        self.town.give_again(who)
        self.away.discard(who)

    # ---- devices -----------------------------------------------------------------------------------------

    @precondition(lambda self: not self.away)
    @rule(nth=st.integers(0, 2))
    def wipe(self, nth: int) -> None:
        """A device forgets everything, and is another one."""
        names = list(self.town.kiosks)
        self.town.wipe(names[nth % len(names)])

    @precondition(lambda self: not self.away and len(self.town.kiosks) < 3)
    @rule()
    def enrol(self) -> None:
        """One more device; another may answer for a subject only after the first was silent for long."""
        self.town.enrol()

    @rule()
    def restart(self) -> None:
        """Every runtime ends and begins."""
        for kiosk in self.town.kiosks.values():
            kiosk.restart()

    # ---- time and the office -----------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 5, 11, 24, 50, 200]))
    def wait(self, hours: int) -> None:
        """Time passes."""
        self.town.office.clock.advance(us=hours * HOUR_US)

    @rule(days=st.integers(-40, 40))
    def set_clock(self, days: int) -> None:
        """Somebody sets the wall clock, of everybody."""
        clock = self.town.office.clock
        clock.set_wall(clock.now_us() + days * DAY_US)

    @rule()
    def restart_office(self) -> None:
        """Another process on the same store."""
        office = self.town.office
        office.rounds = Rounds(office.clock, office.rng.randbytes, b"k" * 32, SIGNING, COLLECTOR.public_key())
        office.collector._rounds = office.rounds

    @rule()
    def restore_office(self) -> None:
        """From a backup of now: nothing is lost in truth, but nobody knows that."""
        row = RestoreRow(self.town.office.clock.now_us(), b"i" * 16, 1, 1, 0, 0, "operator")
        with self.town.office.store.write("restore") as tx:
            latest = tx.restores.latest()
            if latest is None or latest.at_us < row.at_us:
                tx.restores.begin(row)

    @rule(window=st.sampled_from(WINDOWS), epsilon=st.sampled_from([0.5, 1.0, 2.5]))
    def another_catalog(self, window: str, epsilon: float) -> None:
        """Longer and shorter windows, dearer and cheaper questions."""
        self.version, self.window = self.version + 1, window
        self.town.catalogue(self._catalog(epsilon))

    # ---- the laws ----------------------------------------------------------------------------------------

    @invariant()
    def no_window_holds_more_than_the_ceiling(self) -> None:
        """For each report, the run of days that it was promised: it and what was told before it in those."""
        told = self.town.oracle.told
        for number, days in self.windows.items():
            one = told[number]
            run = [o for o in told if o.subject == one.subject and one.day <= o.day < one.day + days]
            assert sum(o.micros for o in run) <= CEILING, _shown(run)

    @invariant()
    def a_value_is_told_in_one_way(self) -> None:
        """By one device, while nothing of the subject was erased."""
        assert all(len(answers) == 1 for answers in self.ways.values())


def _shown(run: list[Told]) -> str:
    return " ".join(f"{one.metric}@{one.day}:{one.micros}" for one in run)


Fleet.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLaw9WhateverHappensInAnyOrder = Fleet.TestCase
