"""What does the server learn of real customers, how wide are its intervals, and do they hold?

Online Retail: the customers' countries (a histogram), the mean of what they spend in a month, and the drift
of their spending against the first month. Fleets of 100, 1,000 and 10,000 are drawn from the customers with
replacement; every answer is made by the device's code and read by the server's, with the operating system's
chance. The table shows one round of each: estimate, interval, truth. Then the same is asked again and again:
95 of 100 intervals must hold the truth of their own fleet, and the bench fails when they hold it
significantly less often.
"""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from bench.measure import table
from bench.population_data import COUNTRIES, Customer, Customers, customers
from bench.population_drift import EDGES, Drift, drift_of
from bench.population_round import tally_of
from edge_runtime.aggregates.mechanisms import Question, input_of, question_of
from edge_runtime.catalog import Catalog
from sync_server.aggregates.estimate import Estimate, estimates

SEED: Final = 20261
ROUNDS: Final = {100: 1_000, 1_000: 300, 10_000: 150}
"""Fleet size -> rounds from which the coverage is counted."""
DRIFT_ROUNDS: Final = {100: 200, 1_000: 200, 10_000: 48}
SPEND_LIMIT: Final = 2_000
"""Pounds a month; what is more counts as this."""
CATALOG: Final = f"""
[catalog]
name = "retail"
version = 1

[purposes.measurement]
title = "Anonymous statistics"
legal_basis = "consent"
lease = "24h"
retention = "31d"

[entities.user]
personal = true

[views.customer]
version = 1
entity = "user"
source = "server"
purpose = "measurement"
ttl = "31d"
owner = "shop"
[views.customer.features]
country = {{ dtype = "string", values = {json.dumps(COUNTRIES)} }}
spend = {{ dtype = "float64" }}

[metrics.country]
purpose = "measurement"
kind = "histogram"
of = "customer:country"
epsilon = 1.0
min_subjects = 50

[metrics.spend]
purpose = "measurement"
kind = "mean"
of = "customer:spend"
bounds = [0, {SPEND_LIMIT}]
epsilon = 1.0
min_subjects = 50

[metrics.spend_bands]
purpose = "measurement"
kind = "histogram"
of = "customer:spend"
edges = {json.dumps(EDGES)}
epsilon = 1.0
min_subjects = 50
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one round beside its truth."""

    metric: str
    subjects: int
    label: str
    truth: float
    found: Estimate

    @property
    def holds(self) -> bool:
        """Whether the interval holds the truth."""
        return float(self.found.low) - 1e-9 <= self.truth <= float(self.found.high) + 1e-9


@dataclass(slots=True)
class Coverage:
    """How many rounds' intervals held."""

    held: int = 0
    of: int = 0

    @property
    def rate(self) -> float:
        """Part that held."""
        return self.held / self.of


def run() -> dict[str, object]:
    """Both metrics at every fleet size; raises AssertionError when intervals hold too seldom."""
    people = customers()
    print(f"Online Retail ({people.what}): {len(people.everybody)} customer months")
    rng = random.Random(SEED)
    questions = {name: question_of(metric) for name, metric in catalog().metrics.items()}
    shown: list[Row] = []
    coverage: dict[str, Coverage] = {}
    for name in ("country", "spend"):
        for subjects, rounds in ROUNDS.items():
            first, coverage[f"{name} n={subjects}"] = asked(
                name, questions[name], people.everybody, subjects, rounds, rng
            )
            shown += first
    drifts, further = drifted(questions["spend_bands"], people, rng)
    coverage.update(further)
    print(table([("metric", "subjects", "", "estimate", "95 % interval", "truth", ""), *map(cells, shown)]))
    print()
    heading = ("drift since the first month", "subjects", "PSI", "95 % interval", "truth", "")
    print(table([heading, *map(drift_cells, drifts)]))
    print()
    print(table([("intervals that hold", "rate", "rounds"), *map(covered, coverage.items())]))
    for name, found in coverage.items():
        assert found.rate >= 0.95 - 3 * (0.95 * 0.05 / found.of) ** 0.5, (
            f"{name}: {found.rate:.3f} of intervals hold"
        )
    return {
        "bench": "population",
        "coverage": {name: round(found.rate, 4) for name, found in coverage.items()},
        "half_width": {
            f"{row.metric} {row.label} n={row.subjects}": float(round(half(row.found), 4)) for row in shown
        },
    }


def catalog() -> Catalog:
    """The metrics over a customer's features, as a shop would declare them."""
    return Catalog.from_dict(tomllib.loads(CATALOG))


def asked(
    name: str, question: Question, people: list[Customer], subjects: int, rounds: int, rng: random.Random
) -> tuple[list[Row], Coverage]:
    """The first round's numbers, and how many of all rounds' intervals held."""
    first: list[Row] = []
    coverage = Coverage()
    for _ in range(rounds):
        rows = list(one_round(name, question, rng.choices(people, k=subjects)))
        first = first or rows
        # the numbers of one round hang together: one of them, drawn, stands for the round
        coverage.held += rng.choice(rows).holds
        coverage.of += 1
    return first, coverage


def one_round(name: str, question: Question, fleet: list[Customer]) -> Iterator[Row]:
    """Every answer made, read and summed as in production; the numbers beside the fleet's own."""
    values = [input_of(question, getattr(customer, name)) for customer in fleet]
    inputs = [value for value in values if value is not None]
    assert len(inputs) == len(fleet)
    for label, found in estimates(question, tally_of(question, inputs), len(inputs), len(inputs)).items():
        yield Row(name, len(fleet), label, truth_of(name, label, fleet), found)


def truth_of(name: str, label: str, fleet: list[Customer]) -> float:
    """The fleet's own number: what nobody learns."""
    if name == "country":
        return sum(customer.country == label for customer in fleet) / len(fleet)
    return sum(min(max(customer.spend, 0), SPEND_LIMIT) for customer in fleet) / len(fleet)


def half(found: Estimate) -> Fraction:
    """Half the width of an interval."""
    return (found.high - found.low) / 2


def drifted(
    question: Question, people: Customers, rng: random.Random
) -> tuple[list[Drift], dict[str, Coverage]]:
    """Each later month once at every fleet size, and how many of all intervals held."""
    months = list(people.months)[1:]
    shown: list[Drift] = []
    coverage: dict[str, Coverage] = {}
    for subjects, rounds in DRIFT_ROUNDS.items():
        found = [drift_of(question, people, months[i % len(months)], subjects, rng) for i in range(rounds)]
        shown += found[: len(months)]
        coverage[f"drift n={subjects}"] = Coverage(sum(one.holds for one in found), len(found))
    return shown, coverage


def drift_cells(row: Drift) -> tuple[str, ...]:
    """One line of the table of drifts."""
    found = row.found
    return (
        *(row.month, f"{row.subjects:,}", f"{found.estimate:.3f}", f"{found.low:.3f} to {found.high:.3f}"),
        *(f"{row.truth:.3f}", "" if row.holds else "missed"),
    )


def cells(row: Row) -> tuple[str, ...]:
    """One line of the first table."""
    digits = 1 if row.metric == "spend" else 3
    found = row.found
    return (
        *(row.metric, f"{row.subjects:,}", row.label, f"{float(found.estimate):.{digits}f}"),
        f"{float(found.low):.{digits}f} to {float(found.high):.{digits}f}",
        *(f"{row.truth:.{digits}f}", "" if row.holds else "missed"),
    )


def covered(item: tuple[str, Coverage]) -> tuple[str, ...]:
    """One line of the second."""
    name, coverage = item
    return name, f"{coverage.rate:.3f}", str(coverage.of)


if __name__ == "__main__":
    print(json.dumps(run()))
