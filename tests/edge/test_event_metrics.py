"""Metrics over events: counted for the metric alone, under its own purpose's permission, and gone with it."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.aggregates.reading import read_input
from edge_runtime.catalog.evolution import evolve
from edge_runtime.cli import main
from tests.edge.test_catalog_metrics import FILE, TABLE
from tests.support.broken_catalog import Change, put
from tests.support.clock import ManualClock
from tests.support.shop import BASE_US

M, P = "measurement", "personalization"
PRESENT, REVOKED = er.Status.PRESENT, er.Status.REVOKED
DAY = 86_400


def measured(*changes: Change) -> er.Catalog:
    table: dict[str, Any] = copy.deepcopy(TABLE)
    for change in changes:
        change(table)
    return er.Catalog.from_dict(table)


def ref(rt: er.Runtime | er.Catalog, metric: str) -> str:
    catalog = rt if isinstance(rt, er.Catalog) else rt.catalog
    return str(catalog.metrics[metric].of)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(BASE_US)


def opened(folder: Path, clock: ManualClock, catalog: er.Catalog) -> er.Runtime:
    key = er.KeyFile(folder / "device.key")
    return er.Runtime.open(folder / "cache.db", catalog=catalog, key=key, clock=clock)


def bought(rt: er.Runtime, clock: ManualClock, *prices: float, user: str = "alice") -> None:
    for price in prices:
        clock.advance(seconds=1)
        name = f"{user}-{clock.now_us()}"
        assert rt.track("buy", user=user, item="lamp", price=price, quantity=1, id=name) is er.ACCEPTED
    rt.flush()


def journalled(rt: er.Runtime, user: str = "alice") -> dict[str, int]:
    """Purpose -> events of the subject in the journal, as the subject would be told."""
    held = rt.export(user)["purposes"]
    return {purpose: len(held[purpose]["events"]) for purpose in held}


def test_law_1_an_event_is_counted_under_measurement_alone(tmp_path: Path, clock: ManualClock) -> None:
    """Nothing of it reaches the other purpose, whose permission was never asked."""
    with opened(tmp_path, clock, measured()) as rt:
        assert rt.track("buy", user="alice", item="lamp", price=9.0, quantity=1) is er.NO_CONSENT
        rt.consent.give("alice", [M], notice="n")
        bought(rt, clock, 10.0, 2.5)
        spend, buyers = rt.read(ref(rt, "spend"), user="alice"), rt.read(ref(rt, "buyers"), user="alice")
        assert (spend.value, spend.status) == (12.5, PRESENT)
        assert (buyers.value, buyers.status) == (2, PRESENT)
        assert rt.read("activity:views_7d", user="alice").status is REVOKED
        assert journalled(rt).get(P, 0) == 0
        assert journalled(rt)[M] == 2


def test_an_event_is_journalled_once_for_each_permitted_purpose_that_uses_it(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Three metrics count `buy` and no view of the other purpose does: one row, under measurement."""
    with opened(tmp_path, clock, measured()) as rt:
        rt.consent.give("alice", [M, P], notice="n")
        bought(rt, clock, 10.0)
        assert rt.track("view", user="alice", item="lamp", price=1.0) is er.ACCEPTED
        rt.flush()
        assert journalled(rt) == {M: 1, P: 1}


def test_law_2_a_withdrawal_takes_the_counts_of_the_metric_and_nothing_else(
    tmp_path: Path, clock: ManualClock
) -> None:
    with opened(tmp_path, clock, measured()) as rt:
        rt.consent.give("alice", [M, P], notice="n")
        bought(rt, clock, 10.0)
        assert rt.track("view", user="alice", item="lamp", price=1.0) is er.ACCEPTED
        rt.consent.withdraw("alice", [M])
        assert rt.read(ref(rt, "spend"), user="alice").status is REVOKED
        assert rt.read("activity:views_7d", user="alice").value == 1
        rt.consent.give("alice", [M], notice="n")
        assert rt.read(ref(rt, "spend"), user="alice").value == 0.0


def test_law_6_the_counts_survive_an_opening(tmp_path: Path, clock: ManualClock) -> None:
    with opened(tmp_path, clock, measured()) as rt:
        rt.consent.give("alice", [M], notice="n")
        bought(rt, clock, 10.0, 2.5)
    with opened(tmp_path, clock, measured()) as rt:
        assert rt.read(ref(rt, "spend"), user="alice").value == 12.5
        bought(rt, clock, 1.0)
        assert rt.read(ref(rt, "spend"), user="alice").value == 13.5


def test_law_8_a_changed_definition_starts_anew_from_the_journal(tmp_path: Path, clock: ManualClock) -> None:
    """Of the last days that the journal keeps; the old count goes with its view."""
    with opened(tmp_path, clock, measured()) as rt:
        rt.consent.give("alice", [M], notice="n")
        bought(rt, clock, 10.0, 2.5)
        old = ref(rt, "spend")
    cheap = measured(put("metrics/spend/of/where", {"price": {"lt": 5.0}}), put("catalog/version", 2))
    with opened(tmp_path, clock, cheap) as rt:
        assert ref(rt, "spend") != old
        found = rt.read(ref(rt, "spend"), user="alice")
        assert (found.value, found.status) == (2.5, PRESENT)
        with pytest.raises(er.MalformedRequest):
            rt.read(old, user="alice")
        assert rt.read(ref(rt, "buyers"), user="alice").value == 2


def test_what_is_asked_of_a_count_does_not_move_it(tmp_path: Path, clock: ManualClock) -> None:
    """Bounds, epsilon, a new metric beside it: the view and its state are kept."""
    after = measured(put("metrics/spend/bounds", [0, 9]), put("catalog/version", 2))
    kinds = {c.place: c.outcome for c in evolve(measured(), after) if c.place.startswith("views.metrics.")}
    assert set(kinds.values()) == {"kept"}
    moved = evolve(measured(), measured(put("metrics/spend/of/window", "6d")))
    told = {c.outcome for c in moved if c.place.startswith("views.metrics.spend@")}
    assert told == {"backfilled", "dropped"}


def test_law_7_a_new_count_is_answered_by_nobody_until_its_window_is_known(
    tmp_path: Path, clock: ManualClock
) -> None:
    """Its event was in no journal before: so long a no would be a guess; then everybody answers."""
    table: dict[str, Any] = copy.deepcopy(TABLE)
    table["metrics"], table["experiments"] = {}, {}
    with opened(tmp_path, clock, er.Catalog.from_dict(table)) as rt:
        rt.consent.give("alice", [M], notice="n")
    with opened(tmp_path, clock, measured(put("catalog/version", 2))) as rt:
        buyers = rt.catalog.metrics["buyers"]

        def answer() -> int | None:
            return read_input(buyers, rt.read(str(buyers.of), user="alice"), clock.now_us())

        assert answer() is None
        clock.advance(seconds=8 * DAY)
        assert answer() == 0
        bought(rt, clock, 10.0)
        assert answer() == 1


def test_law_8_a_replay_gives_the_number_that_the_device_had(tmp_path: Path, clock: ManualClock) -> None:
    catalog, rng = measured(), random.Random(20261130)
    events: list[dict[str, Any]] = []
    with opened(tmp_path, clock, catalog) as rt:
        rt.consent.give("alice", [M], notice="n")
        for n in range(60):
            clock.advance(seconds=rng.randrange(1, DAY))
            price = round(rng.uniform(0, 50), 2)
            at = clock.now_us() / 1e6
            event = {"type": "buy", "user": "alice", "item": "lamp", "price": price, "quantity": 1}
            events.append({**event, "at": at, "id": f"e{n}"})
            assert rt.track_many(events[-1:]).accepted == 1
        names = ["spend", "buyers", "basket"]
        live = [rt.read(ref(rt, name), user="alice").value for name in names]
        points = [{"user": "alice", "at": clock.now_us() / 1e6}]
    table = er.replay(catalog, events, points=points, refs=[ref(catalog, name) for name in names])
    assert [table.column(ref(catalog, name))[0] for name in names] == live


def test_the_subjects_export_and_the_doctor_know_of_it(
    tmp_path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(tmp_path, clock, measured()) as rt:
        rt.consent.give("alice", [M], notice="n")
        bought(rt, clock, 10.0)
        held = json.loads(json.dumps(rt.export("alice")))["purposes"][M]
        assert held["features"][ref(rt, "spend")]["value"] == 10.0
        assert [e["type"] for e in held["events"]] == ["buy"]
    code = main(
        [
            *("doctor", str(tmp_path / "cache.db"), "--catalog", str(FILE)),
            *("--key-file", str(tmp_path / "device.key"), "--json"),
        ]
    )
    assert code == 0, capsys.readouterr()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9 * DAY), st.floats(0, 1e6)), min_size=1, max_size=30))
def test_law_8_a_hidden_view_counts_as_a_declared_one(events: list[tuple[int, float]]) -> None:
    """The same body, declared as a feature of a view: the same bits, whatever comes."""
    body = {k: v for k, v in TABLE["metrics"]["spend"]["of"].items() if k != "entity"}
    plain = {"entity": "user", "source": "session", "purpose": M, "ttl": 0, "features": {"spend": body}}
    catalog = measured(put("views/plain", plain))
    told = [
        {
            "type": "buy",
            "user": "alice",
            "item": "lamp",
            "price": price,
            "quantity": 1,
            "at": at,
            "id": f"e{n}",
        }
        for n, (at, price) in enumerate(events)
    ]
    points = [{"user": "alice", "at": at + 1} for at, _ in events]
    refs = ["plain:spend", ref(catalog, "spend")]
    table = er.replay(catalog, told, points=points, refs=refs)
    assert table.column(refs[0]) == table.column(refs[1])
