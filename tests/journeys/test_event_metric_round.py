"""From `rt.track` to a released number: a whole runtime, a real server, events that nothing else counts."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.catalog.statuses import COUNTED
from sync_server.aggregates.health import Published, health
from sync_server.aggregates.release import Release
from tests.edge.test_catalog_metrics import TABLE
from tests.support.aggregate_ends import closed
from tests.support.town import Session, Town
from tests.support.warm import Device

M, P = "measurement", "personalization"
HOUR_US = 3_600_000_000
MEASURED = [f"shopper-{n}" for n in range(60)]
"""They said yes to measurement alone."""
BOTH = [f"friend-{n}" for n in range(30)]
"""And these to personalization too."""


def catalog() -> er.Catalog:
    """The example, with a minimum that ninety people reach."""
    table: dict[str, Any] = copy.deepcopy(TABLE)
    for metric in table["metrics"].values():
        metric["min_subjects"] = 20
    return er.Catalog.from_dict(table)


class Stand:
    """A device whose runtime answers rounds itself, in a session with the town."""

    def __init__(self, town: Town, folder: Path) -> None:
        settings = er.Settings(sweep_interval_us=0, report_spread_us=0)
        self.town, self.device = town, Device(town, folder, catalog=town.catalog, settings=settings)
        self.reporter = self.device.rt._far_side._reporter()
        self.session = Session(self.device, self.reporter)  # type: ignore[arg-type]  # it asks for a dialogue

    def ask(self, metric: str) -> Release:
        """One round, from the first offer to the release."""
        assert self.town.catalog is not None
        with self.town.store.write("open") as tx:
            row, _ = self.town.rounds.open(tx, self.town.catalog.model, metric, HOUR_US)
        self.town.node.hints.rounds_moved()
        self.session.settle()
        return closed(self.town.collector, row.id)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path / "town", catalog=catalog())
    yield made
    made.close()


@pytest.fixture
def stand(town: Town, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    # the noise and the order in which subjects answer are the same in each run: one in twenty intervals
    # misses the truth
    chance = random.Random(7)
    monkeypatch.setattr("edge_runtime.aggregates.chance.system_bits", chance.randrange)
    monkeypatch.setattr("edge_runtime.keys.datakey.secrets.token_bytes", chance.randbytes)
    made = Stand(town, tmp_path / "stand")
    rt = made.device.rt
    for subject in MEASURED:
        rt.consent.give(subject, [M], notice="n")
    for subject in BOTH:
        rt.consent.give(subject, [M, P], notice="n")
    made.session.settle()  # a device has to have its leases before it may count anything
    for n, subject in enumerate([*MEASURED, *BOTH]):
        if n % 3:
            sale = {"item": "lamp", "price": 100.0 + n, "quantity": 1}
            assert rt.track("buy", user=subject, **sale) is er.ACCEPTED
    rt.flush()
    made.session.settle()
    yield made
    made.session.close()
    made.device.close()


def test_law_9_events_of_people_who_allowed_nothing_else_become_one_number(town: Town, stand: Stand) -> None:
    """Ninety people, sixty of whom bought: each interval holds the truth."""
    truth = {"buyers": 60.0, "spend": sum(100.0 + n for n in range(90) if n % 3) / 90}
    for metric, label in (("buyers", "count"), ("spend", "mean")):
        release = stand.ask(metric)
        assert (release.status, release.n) == ("released", 90), release
        assert release.purposes == (M,)
        assert release.ci95 is not None
        low, high = release.ci95[label]
        assert low <= truth[metric] <= high


def test_law_2_who_withdraws_measurement_is_not_counted(town: Town, stand: Stand) -> None:
    for subject in MEASURED[:25]:
        stand.device.rt.consent.withdraw(subject, [M])
    stand.session.settle()
    assert stand.ask("buyers").n == 65


def test_a_status_is_asked_of_those_who_allowed_both_and_makes_the_health_of_the_view(
    town: Town, stand: Stand
) -> None:
    """Nobody's profile was pushed: all thirty answer that it has not come, and nobody else answers."""
    release = stand.ask("profile_status")
    assert (release.status, release.n) == ("released", 30), release
    assert release.ci95 is not None
    assert list(release.ci95) == list(COUNTED)
    assert town.catalog is not None
    with town.store.read() as tx:
        row = tx.aggregates.round(bytes.fromhex(release.round))
    assert row is not None
    told = health(town.catalog.model, {"profile_status": Published(row.definition, release)})
    (view,) = [one for one in told.views if one.view == "profile@1"]
    assert view.present is not None
    low, high = view.present.ci95
    assert low <= 0 <= high


def test_an_age_is_asked_of_those_who_have_a_value(town: Town, stand: Stand) -> None:
    """A profile of a tenth of them is there: under the minimum nothing is told, not even how many."""
    for subject in BOTH[:3]:
        town.put_profile(f"user:{subject}")
    stand.session.settle()
    release = stand.ask("profile_age")
    assert (release.status, release.n, release.estimate) == ("withheld", None, None)
