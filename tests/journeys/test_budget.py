"""What a subject can be made to tell: never more than the ceiling in a window, and one value never twice.

An oracle opens everything that leaves a device and adds it up by itself (`tests/support/budget_fleet.py`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.aggregates.mechanisms import DAY_US, mechanism_for, question_of
from edge_runtime.catalog import Catalog
from sync_server.aggregates.tickets import HOME_DAYS
from tests.support.aggregate_ends import COUNTRIES, HOUR_US, metric_catalog
from tests.support.budget_fleet import CEILING, BudgetFleet
from tests.support.places import memory_folder

ANN = "user:ann-of-the-budget"
SEED = 20261130


@pytest.fixture
def place() -> Iterator[Path]:
    """What is written here is not about disks."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Subjects answer in the order of their handles: the noise shall be the same in each run."""
    monkeypatch.setattr("edge_runtime.keys.datakey.secrets.token_bytes", random.Random(SEED).randbytes)


def asked(catalog: Catalog) -> list[str]:
    return [name for name in catalog.metrics if name.startswith("countries")]


def test_law_9_a_thousand_rounds_on_eight_kiosks_tell_one_value_once(place: Path) -> None:
    """T22: the subject is on all eight, each round is offered to all, windows pass: one draw in all."""
    town = BudgetFleet(place, kiosks=8)
    town.add(ANN, "DE")
    for n in range(1000):
        names = list(town.kiosks)
        town.kiosks = {name: town.kiosks[name] for name in names[n % 8 :] + names[: n % 8]}
        town.round()
        town.office.clock.advance(us=4 * HOUR_US)
    assert town.oracle.most(1) == CEILING
    (answers,) = town.oracle.answers("countries_0").values()
    assert len(answers) == 1
    assert 660 <= answers.total() <= 672  # six rounds a day, and the issuer's ceiling pays for four
    town.close()


def guesses(town: BudgetFleet) -> float:
    """Of those who told anything, the share whose value an adversary guesses that saw all their answers."""
    mechanism = mechanism_for(question_of(town.catalog.metrics["countries_0"]))
    found = town.oracle.answers("countries_0")
    right = 0
    for subject, value in town.values.items():
        answers = found[town.pseudonym(subject)]

        def likelihood(guess: int, answers: Counter[bytes] = answers) -> float:
            return sum(n * math.log(mechanism.probability(one, guess)) for one, n in answers.items())

        right += COUNTRIES[max(range(len(COUNTRIES)), key=likelihood)] == value
    return right / len(town.values)


def bound(epsilon: float) -> float:
    """Nobody guesses one of K equally likely values better from one answer: e^eps / (e^eps + K - 1)."""
    return math.exp(epsilon) / (math.exp(epsilon) + len(COUNTRIES) - 1)


@pytest.mark.parametrize("remembered", [16, 0])
def test_law_9_answers_do_not_average_out_over_many_rounds(place: Path, remembered: int) -> None:
    """T22: over many windows the best guess stays that of one answer; without a memory it is certain."""
    town, subjects, rounds = BudgetFleet(place, remembered=remembered, seed=SEED), 100, 40
    rng = random.Random(SEED)
    for n in range(subjects):
        town.add(f"user:averaged-{n}", rng.choice(COUNTRIES))
    for _ in range(rounds):
        assert town.round() == subjects
        town.office.clock.advance(us=6 * HOUR_US)
    assert town.oracle.most(1) <= CEILING
    rate, limit = guesses(town), bound(1.0)
    if remembered:
        assert rate <= limit + 3 * math.sqrt(limit * (1 - limit) / subjects)
        assert all(len(answers) == 1 for answers in town.oracle.answers("countries_0").values())
    else:
        assert rate > 0.97
    town.close()


def test_law_9_a_hundred_metric_names_find_one_ceiling(place: Path) -> None:
    """T23: all of one value, every hour another name, for ten days and eight kiosks."""
    town = BudgetFleet(place, kiosks=8, of=metric_catalog(minimum=2, names=100))
    town.add(ANN, "DE")
    names = asked(town.catalog)
    for n in range(240):
        town.round(names[n % 100])
        town.office.clock.advance(us=HOUR_US)
    assert town.oracle.most(1) == CEILING
    town.close()


def test_law_9_withdrawn_and_given_again_finds_what_was_spent(place: Path) -> None:
    """T23: blind, on both sides, however often in a window."""
    town = BudgetFleet(place, kiosks=3)
    town.add(ANN, "DE")
    for n in range(40):
        town.round()
        town.withdraw(ANN)
        assert town.round() == 0
        town.give_again(ANN)
        town.office.clock.advance(us=(n % 4) * HOUR_US)
    assert town.oracle.most(1) == CEILING
    town.close()


def test_law_9_a_wiped_device_finds_what_was_spent(place: Path) -> None:
    """T23: enrolled anew after each round, with the same subjects, for metrics that it never answered."""
    town = BudgetFleet(place, of=metric_catalog(minimum=2, names=30))
    town.add(ANN, "DE")
    for n in range(60):
        town.round(f"countries_{n % 30}")
        (name,) = town.kiosks
        town.wipe(name)
        town.office.clock.advance(us=(n % 3) * HOUR_US)
    assert town.oracle.most(1) == CEILING
    town.close()


def test_a_device_that_no_longer_asks_gives_way_to_another(place: Path) -> None:
    """And not before: each other device would be a draw more of the same value."""
    town = BudgetFleet(place, kiosks=2)
    town.add(ANN, "DE")
    assert town.round() == 1
    first, second = town.kiosks
    home = town.kiosks.pop(first)
    for day in range(HOME_DAYS + 3):
        town.office.clock.advance(us=DAY_US)
        assert town.round() == (day >= HOME_DAYS)
    town.kiosks[first] = home
    town.kiosks = {first: home, second: town.kiosks[second]}
    assert town.round() == 1
    assert town.oracle.most(1) <= CEILING
    town.close()


@pytest.mark.parametrize("window", ["1d", "3d"])
def test_law_9_clocks_that_are_set_open_no_window(place: Path, window: str) -> None:
    """T23: the wall clock leaps by days and back while time passes: what was told follows the time."""
    town, rng = (
        BudgetFleet(place, kiosks=2, of=metric_catalog(minimum=2, names=40, window=window)),
        random.Random(7),
    )
    town.add(ANN, "DE")
    days, names = int(window[:-1]), asked(town.catalog)
    clock = town.office.clock
    began_us = clock.boot_us()
    passed: Counter[int] = Counter()
    for n in range(160):
        clock.set_wall(clock.now_us() + rng.choice([-20, -3, 0, 0, 0, 1, 2, 5, 25]) * DAY_US)
        passed[(clock.boot_us() - began_us) // DAY_US] += town.round(names[n % 40]) * 1_000_000
        clock.advance(us=3 * HOUR_US)
    # whole days by the clock that nobody sets; the ledger's days begin elsewhere in them, hence one more
    for day in range(20):
        assert sum(passed[day + n] for n in range(days)) <= 2 * CEILING
    assert passed.total() <= CEILING * (math.ceil(20 / days) + 1)
    assert town.oracle.most(days) <= CEILING
    town.close()


def test_law_9_a_shorter_window_in_a_new_catalog_refills_nothing(place: Path) -> None:
    """T23: what was told under a window of a week counts for a week, on both sides."""
    town = BudgetFleet(place, kiosks=2, of=metric_catalog(minimum=2, names=4, window="7d"))
    town.add(ANN, "DE")
    for n in range(4):
        assert town.round(f"countries_{n}") == 1
    town.catalogue(metric_catalog(minimum=2, names=9, window="1d", version=2))
    for day in range(1, 7):
        town.office.clock.advance(us=DAY_US)
        assert town.round(f"countries_{3 + day % 6}") == 0
    town.office.clock.advance(us=DAY_US)
    assert [town.round(f"countries_{n}") for n in range(4, 9)] == [1, 1, 1, 1, 0]
    town.office.clock.advance(us=DAY_US)
    assert town.round("countries_8") == 1  # from here on the window is a day
    assert town.oracle.most(7, [one for one in town.oracle.told if one.metric < "countries_4"]) == CEILING
    town.close()
