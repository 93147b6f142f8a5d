"""A population asked everything: a metric of every kind and an experiment, real runtimes, a real server.

Sixty people on four kiosks. Each metric has a round of its own: opened by the command, offered to the kiosks,
answered with noise, sealed, delayed, collected, released, shown. What is released is held to the truth, which
only the test knows. The intervals are six standard deviations wide, so a right estimate never falls out; the
epsilon is as large as a window allows, so a wrong one does.
"""

from __future__ import annotations

import csv
import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import edge_runtime as er
from edge_runtime.aggregates import chance
from sync_server.aggregates.release import Release
from sync_server.cli import main
from sync_server.cli.told import NOT_YET, REFUSED
from tests.support.fleet import SharedClock
from tests.support.links import SOON_S, Links
from tests.support.served import Served

HOUR_US, DAY_US = 3_600_000_000, 86_400_000_000
PURPOSES: Final = ("measurement", "personalization")
COUNTRIES: Final = ("UK", "DE", "FR")
PEOPLE, KIOSKS, SEED = 60, 4, 20261130
LEAVES, TOP = 16, 64
WIDER: Final = 6 / 1.96
"""From the interval of a release to one of six standard deviations."""
EXPERIMENT: Final = "offer"

CONSENT = {"title": "t", "legal_basis": "consent", "lease": "24h", "retention": "90d"}
BUYS = {"entity": "user", "event": "buy", "op": "sum", "value": "price"}
METRICS: dict[str, dict[str, Any]] = {
    "countries": {
        "kind": "histogram",
        "of": "activity:country",
        "values": list(COUNTRIES),
        "reference": [0.05, 0.05, 0.9],  # trained on another country's people
        "drift_alarm": 0.2,
    },
    "keen": {"kind": "count", "of": "activity:views", "where": {"ge": 3}},
    "spend": {"kind": "mean", "of": BUYS, "bounds": [0, TOP]},
    "turnover": {"kind": "sum", "of": BUYS, "bounds": [0, TOP]},
    "basket": {"kind": "quantile", "of": BUYS, "bounds": [0, TOP], "leaves": LEAVES, "quantiles": [0.5]},
    "arrived": {"kind": "histogram", "of": "profile:tier", "read": "status"},
    "kiosk_countries": {
        "kind": "histogram",
        "of": "activity:country",
        "values": list(COUNTRIES),
        "mode": "curator",
    },
    "kiosk_turnover": {"kind": "sum", "of": BUYS, "bounds": [0, TOP], "mode": "curator"},
    "crowd": {"kind": "count", "of": "activity:views", "min_subjects": 1_000},
}
CATALOG: dict[str, Any] = {
    "catalog": {"name": "population", "version": 1},
    "purposes": dict.fromkeys(PURPOSES, CONSENT),
    "entities": {"user": {"personal": True}, "item": {}},
    "events": {
        "view": {"entities": ["user", "item"], "properties": {"country": "string"}},
        "buy": {"entities": ["user", "item"], "properties": {"price": "float64"}},
        "claim": {"entities": ["user", "item"]},
    },
    "views": {
        "activity": {
            "entity": "user",
            "source": "session",
            "purpose": "personalization",
            "ttl": 0,
            "features": {
                "views": {"op": "count", "event": "view"},
                "country": {"op": "last", "event": "view", "value": "country"},
            },
        },
        "profile": {
            "entity": "user",
            "source": "server",
            "purpose": "personalization",
            "ttl": 0,
            "features": {"tier": {"dtype": "string"}},
        },
    },
    "experiments": {
        EXPERIMENT: {
            "purpose": "measurement",
            "arms": {"control": 1, "gift": 1},
            "outcome": {"event": "claim"},
            "epsilon": 4.0,
            "min_subjects": 20,
        }
    },
    "metrics": {
        name: {"purpose": "measurement", "epsilon": 4.0, "min_subjects": 20, "window": "1d", **body}
        for name, body in METRICS.items()
    },
}


class Person:
    """One of the sixty, and what is true of them."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.name = f"citizen-{number:02}"
        self.country = rng.choices(COUNTRIES, (6, 3, 1))[0]
        self.views = rng.randint(1, 5)
        self.price = float(rng.randint(0, TOP))
        self.profiled = number % 3 != 0
        self.visits, self.claims = number % 4 != 0, rng.random() < 0.5
        self.cell = "unexposed"
        """Of the experiment."""

    def live(self, rt: er.Runtime) -> None:
        """Consent, look and buy on a kiosk."""
        rt.consent.give(self.name, [*PURPOSES], notice="2026-11")
        for _ in range(self.views):
            assert rt.track("view", user=self.name, item="85123A", country=self.country) is er.ACCEPTED
        assert rt.track("buy", user=self.name, item="85123A", price=self.price) is er.ACCEPTED
        if self.visits:
            found = rt.assign(EXPERIMENT, user=self.name)
            assert found.exposed, found.why
            self.cell = f"{found.arm}/{'yes' if self.claims else 'no'}"
        if self.claims:
            assert rt.track("claim", user=self.name, item="85123A") is er.ACCEPTED


class Population:
    """The server, the kiosks, the people, and the clock of all."""

    def __init__(self, folder: Path, stack: ExitStack, shell: Callable[..., Any]) -> None:
        self.clock = SharedClock(folder / "clock")
        self.server = stack.enter_context(Served(folder / "server", folder / "clock"))
        self.client, self.shell = self.server.client, shell
        (folder / "catalog.json").write_text(json.dumps(CATALOG))
        self.ask("catalog", "put", str(folder / "catalog.json"), "--activate")
        catalog = er.Catalog.load(folder / "catalog.json")
        rng = random.Random(SEED)
        self.people = [Person(number, rng) for number in range(PEOPLE)]
        self.kiosks = [
            stack.enter_context(self._kiosk(folder / f"kiosk-{n}", catalog)) for n in range(KIOSKS)
        ]
        self.links = Links(
            self.kiosks, self.clock
        )  # an enrolled kiosk uses nothing before the server has spoken
        stack.callback(self.links.offline)
        for number, person in enumerate(self.people):
            person.live(self.kiosks[number % KIOSKS])
        self.links.caught_up()
        self.publish()

    def _kiosk(self, folder: Path, catalog: er.Catalog) -> er.Runtime:
        folder.mkdir()
        settings = er.Settings(report_spread_us=HOUR_US)
        key = er.KeyFile(folder / "device.key")
        rt = er.Runtime.open(
            folder / "cache.db", catalog=catalog, key=key, clock=self.clock, settings=settings
        )
        rt.enrol(self.server.url, self.client.call("POST", "/v1/device-tokens", {})["token"])
        return rt

    def publish(self) -> None:
        """Two of three people have a row of the server's."""
        rows = [
            {
                "entity": f"user:{one.name}",
                "event_time": self.clock.now_us() / 1e6,
                "values": {"tier": "gold"},
            }
            for one in self.people
            if one.profiled
        ]
        as_of = self.client.call("GET", "/v1/consent-ledger/head")["size"]
        body = {"view": "profile", "as_of": as_of, "rows": rows}
        assert self.client.call("POST", "/v1/features", body)["refused"] == []

    def count(self, what: str) -> int:
        """How often the kiosks did it, together: see `edge_runtime/aggregates/counts.py`."""
        told: list[Any] = [rt.status()["aggregates"] for rt in self.kiosks]
        return sum(one.get(what, 0) for one in told)

    def soon(self, holds: Callable[[], bool]) -> None:
        """Ask again until it holds; the links have threads of their own."""
        until = time.monotonic() + SOON_S
        while not holds():
            assert time.monotonic() < until, [rt.status()["aggregates"] for rt in self.kiosks]
            time.sleep(0.05)

    # ---- the command -------------------------------------------------------------------------------------

    def ask(self, *words: str, code: int = 0) -> Any:
        """What `edge-sync` prints as JSON."""
        return json.loads(self.shell(*words, "--json", "--data", str(self.server.data), code=code))

    def aggregates(self, *words: str, code: int = 0) -> Any:
        return self.ask("aggregates", *words, code=code)

    def asked(self, metric: str, reports: int, meanwhile: Callable[[], int] = lambda: 0) -> Release:
        """One whole round; `meanwhile` comes when every report is drawn, and says how many it takes away."""
        before = {what: self.count(what) for what in ("stored", "sent")}
        made = self.aggregates("open", metric, "--closes-in", "6h")
        assert self.aggregates("show", metric, "--round", made["round"], code=NOT_YET)["release"] is None
        self.soon(lambda: self.count("stored") - before["stored"] == reports)
        gone = meanwhile()
        self.links.later(2 * HOUR_US)
        self.soon(lambda: self.count("sent") - before["sent"] == reports - gone)
        release = msgspec.convert(self.aggregates("close", made["round"]), Release)
        self.links.later(2 * DAY_US)  # the budget window is over
        return release


@pytest.fixture
def population(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Population]:
    def shell(*words: str, code: int = 0) -> str:
        found = main(words)
        out, err = capsys.readouterr()
        assert found == code, (words, out, err)
        return out or err

    monkeypatch.setattr(chance, "system_bits", random.Random(SEED).randrange)
    with ExitStack() as stack:
        yield Population(tmp_path, stack, shell)


def holds(release: Release, truth: Mapping[str, float]) -> None:
    """Every number within six standard deviations of the truth, and no wider than is useful."""
    assert release.status == "released", release.reason
    assert release.estimate is not None
    assert release.ci95 is not None
    assert set(release.estimate) == set(truth)
    for label, true in truth.items():
        low, high = release.ci95[label]
        estimate = release.estimate[label]
        assert low <= estimate <= high
        assert estimate - WIDER * (estimate - low) <= true <= estimate + WIDER * (high - estimate), label


def shares(values: Counter[str], labels: tuple[str, ...]) -> dict[str, float]:
    return {label: values[label] / values.total() for label in labels}


def test_one_metric_of_every_kind_from_the_catalog_to_the_export(
    population: Population, tmp_path: Path
) -> None:
    people = population.people

    # histogram: one withdraws when all reports are drawn, and is not counted
    leaver = people[7]

    def withdraw() -> int:
        population.kiosks[7 % KIOSKS].consent.withdraw(leaver.name, ["measurement"])
        return 1

    found = population.asked("countries", PEOPLE, withdraw)
    people.remove(leaver)
    many = len(people)
    assert (found.n, found.reports) == (many, many)
    countries = shares(Counter(one.country for one in people), COUNTRIES)
    holds(found, countries)
    assert sum((found.share or {}).values()) == pytest.approx(1, abs=1e-5)

    # count, mean and sum, of features and of events
    holds(population.asked("keen", many), {"count": sum(one.views >= 3 for one in people)})
    spent = sum(one.price for one in people)
    holds(population.asked("spend", many), {"mean": spent / many})
    holds(population.asked("turnover", many), {"sum": spent})

    # a quantile: half of the people lie under it
    found = population.asked("basket", many)
    median = sorted(one.price for one in people)[many // 2]
    holds(found, {"0.5": median})

    # what has arrived of the server's rows; nobody was here for days, so whether others have one by now is
    # not known: their channels are not followed (law 7)
    found = population.asked("arrived", many)
    there = sum(one.profiled for one in people) / many
    nothing = dict.fromkeys(found.estimate or {}, 0.0)
    holds(found, {**nothing, "PRESENT": there, "NOT_SYNCED": 1 - there})

    # a kiosk adds its noise over all its people: fewer reports, far less noise
    found = population.asked("kiosk_countries", KIOSKS)
    assert (found.n, found.reports, found.mechanism) == (many, KIOSKS, "discrete_laplace")
    holds(found, countries)
    holds(population.asked("kiosk_turnover", KIOSKS), {"sum": spent})

    # an experiment is a histogram of its own name
    found = population.asked(EXPERIMENT, many)
    holds(found, shares(Counter(one.cell for one in people), tuple(found.estimate or ())))
    said = population.aggregates("experiment", EXPERIMENT)
    assert said["round"] == found.round

    # too few: no number, and the reason
    found = population.asked("crowd", many)
    assert (found.status, found.n, found.estimate) == ("withheld", None, None)
    assert found.reason == "fewer than 1000 subjects answered"

    # what is built on releases
    assert population.aggregates("drift", "countries", code=REFUSED)["verdict"] == "alarm"
    (profile,) = (v for v in population.aggregates("health")["views"] if v["view"].startswith("profile"))
    assert profile["completeness"][0]["figures"]["PRESENT"]["estimate"] > 0.4

    _shown(population)
    _exported(population, tmp_path)


def _shown(population: Population) -> None:
    """The command shows what was released; for a withheld round it says why and exits with 1."""
    text = population.shell("aggregates", "show", "countries", "--data", str(population.server.data))
    assert f"{PEOPLE - 1} subjects in {PEOPLE - 1} reports" in text
    assert "UK" in text
    shown = population.aggregates("show", "crowd", code=REFUSED)["release"]
    assert (shown["status"], shown["n"]) == ("withheld", None)
    states = Counter(one["state"] for one in population.aggregates("rounds")["rounds"])
    assert states == {"released": len(METRICS), "withheld": 1}


def _exported(population: Population, folder: Path) -> None:
    """Every number of every release is in the table, and one row without any for the round that has none."""
    told = population.aggregates("releases")["releases"]
    numbers = {
        (one["round"], label): value for one in told for label, value in (one["estimate"] or {}).items()
    }
    population.aggregates("releases", "--csv", str(folder / "all.csv"))
    rows = list(csv.DictReader(io.StringIO((folder / "all.csv").read_text(), newline="")))
    assert {(row["round"], row["label"]): float(row["estimate"]) for row in rows if row["label"]} == numbers
    assert [(row["metric"], row["n"], row["reason"]) for row in rows if not row["label"]] == [
        ("crowd", "", "fewer than 1000 subjects answered")
    ]
    population.aggregates("show", "spend", "--png", str(folder / "spend.png"))
    assert (folder / "spend.png").read_bytes().startswith(b"\x89PNG")
