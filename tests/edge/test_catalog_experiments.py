"""Experiments in the catalog: what they compile to, every fault at its place, and what changes one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.aggregates.mechanisms import definition
from edge_runtime.catalog import Catalog, CatalogError, Ref
from edge_runtime.catalog.evolution import evolve
from edge_runtime.catalog.privacy import privacy_part
from edge_runtime.catalog.weakening import weakenings
from tests.support.experiments import NAME, experiment_table, shop, shop_table

PLACE = f"experiments.{NAME}"
THREE = {"b": 2, "a": 1, "z": 3}


def test_an_experiment_is_a_histogram_of_its_cells_with_an_event_and_a_view_of_its_own() -> None:
    catalog = shop()
    experiment, metric = catalog.experiments[NAME], catalog.metrics[NAME]
    assert metric.categories == (
        "unexposed",
        "control/no",
        "control/yes",
        "treatment/no",
        "treatment/yes",
    )
    assert (metric.kind, metric.experiment, metric.of) == ("histogram", NAME, experiment.outcome)
    view = catalog.views[experiment.exposure.view]
    assert (view.entity, view.purpose, view.source) == (("user",), "measurement", "session")
    assert catalog.views[experiment.outcome.view].purpose == "measurement"
    assert catalog.events[experiment.event].entities == ("user",)
    assert experiment.since_exposure


def test_an_outcome_may_be_a_declared_feature_or_one_in_place_with_an_operator() -> None:
    named = shop(x=experiment_table(outcome="activity:buys")).experiments["x"]
    assert (named.outcome, named.since_exposure) == (Ref("activity@1", "buys"), False)
    spent = {"event": "buy", "op": "sum", "value": "price", "window": "7d"}
    assert not shop(x=experiment_table(outcome=spent)).experiments["x"].since_exposure


def test_the_canonical_table_reads_back_to_an_equal_catalog_also_with_its_keys_sorted() -> None:
    catalog = shop(
        x=experiment_table(arms=THREE, control="z", traffic=0.25, salt="s"),
        y=experiment_table(outcome="activity:buys"),
    )
    again = Catalog.from_dict(catalog.to_dict())
    resorted = Catalog.from_dict(json.loads(json.dumps(catalog.to_dict(), sort_keys=True)))
    assert catalog == again == resorted
    assert catalog.experiments["x"].arms == (("z", 3), ("a", 1), ("b", 2))
    assert definition(again.metrics["x"]) == definition(catalog.metrics["x"])
    assert "exposure" not in json.dumps(catalog.to_dict())


def test_a_catalog_without_experiments_has_no_table_of_them() -> None:
    table = shop_table()
    del table["experiments"]
    assert "experiments" not in Catalog.from_dict(table).to_dict()


def test_the_control_is_the_first_arm_unless_named() -> None:
    assert shop(x=experiment_table(arms=THREE)).experiments["x"].control == "b"
    assert shop(x=experiment_table(arms=THREE, control="a")).experiments["x"].control == "a"


FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"purpose": None}, "purpose", "missing"),
    ({"purpose": "sales"}, "purpose", "declared purpose"),
    ({"purpose": "visit"}, "purpose", "may rest on disk"),
    ({"unit": "item"}, "unit", "personal entity (user guest)"),
    ({"unit": None}, "unit", "missing"),
    ({"arms": None}, "arms", "missing"),
    ({"arms": {"a": 1}}, "arms", "2 to 16 arms, got 1"),
    ({"arms": {f"a{i}": 1 for i in range(17)}}, "arms", "2 to 16 arms, got 17"),
    ({"arms": {"a": 0, "b": 1}}, "arms.a", "an integer from 1"),
    ({"arms": {"a": 1, "b/yes": 1}}, "arms.b/yes", "an arm name"),
    ({"control": "c"}, "control", "one of the arms (control treatment)"),
    ({"salt": ""}, "salt", "1 to 64 bytes"),
    ({"salt": "x" * 65}, "salt", "1 to 64 bytes"),
    ({"traffic": 0}, "traffic", "more than 0"),
    ({"traffic": 1.5}, "traffic", "at most 1"),
    ({"epsilon": 9.0}, "epsilon", "at most 4"),
    ({"min_subjects": 1}, "min_subjects", "an integer from 2"),
    ({"colour": "red"}, "colour", "unknown key"),
    ({"outcome": None}, "outcome", "missing"),
    ({"outcome": "activity:ghost"}, "outcome", "no feature ghost"),
    ({"outcome": "activity:last_item"}, "outcome", "a number or a bool"),
    ({"outcome": "activity:price"}, "outcome", "without a default"),
    ({"outcome": "carts:buys"}, "outcome", "a feature of user alone"),
    ({"outcome": {"event": "ghost"}}, "outcome.event", "a declared event"),
    ({"outcome": {"event": "buy", "op": "last", "value": "item"}}, "outcome", "a number or a bool"),
    ({"outcome": {"event": "buy", "op": "since_last"}}, "outcome.op", "expected no op"),
    ({"outcome": {"event": "buy", "entity": "guest"}}, "outcome.entity", "the unit user"),
    ({"outcome": {"event": "buy", "gap": "7d"}}, "outcome.gap", "since_last takes no gap"),
]


@pytest.mark.parametrize(("changes", "key", "reason"), FAULTS)
def test_every_fault_is_named_at_its_place(changes: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(CatalogError) as caught:
        shop(**{NAME: experiment_table(**changes)})
    found = [(f.place, f.reason) for f in caught.value.faults]
    assert any(place == f"{PLACE}.{key}" and reason in why for place, why in found), found


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("activity:buys"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("event", "op", "entity", "where", "a", "b", "")), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(key=st.sampled_from((*experiment_table(), "control", "salt", "traffic", "x")), value=GARBAGE)
def test_law_12_garbage_is_a_fault_of_the_catalog_or_an_experiment_that_reads_back(
    key: str, value: object
) -> None:
    table = experiment_table()
    table[key] = value
    made, places = None, list[str]()
    try:
        made = shop(x=table)
    except CatalogError as error:
        places = [fault.place for fault in error.faults]
    assert all(place.startswith("experiments") for place in places)
    assert (made is None) == bool(places)
    assert made is None or Catalog.from_dict(made.to_dict()) == made


def test_an_experiment_takes_no_name_of_a_metric() -> None:
    with pytest.raises(CatalogError, match="a metric has this name"):
        shop(buyers=experiment_table())


def test_salt_arms_and_weights_begin_an_experiment_anew_and_traffic_does_not() -> None:
    """Else subjects exposed under one assignment would be counted under another."""
    base = shop(x=experiment_table())
    for changes in ({"salt": "other"}, {"arms": {"control": 2, "treatment": 1}}, {"control": "treatment"}):
        other = shop(x=experiment_table(**changes))
        assert other.experiments["x"].exposure != base.experiments["x"].exposure
        assert definition(other.metrics["x"]) != definition(base.metrics["x"])
        assert ("experiments.x", "changed") in [(c.place, c.outcome) for c in evolve(base, other)]
    wider = shop(x=experiment_table(traffic=0.5))
    assert wider.experiments["x"].exposure == base.experiments["x"].exposure
    assert definition(wider.metrics["x"]) == definition(base.metrics["x"])


def test_a_plan_tells_that_an_experiment_never_warms_and_who_loses_one() -> None:
    """What the device will do is what `edge-runtime plan` says."""
    plain = shop_table()
    del plain["experiments"]
    without, with_one = Catalog.from_dict(plain), shop()
    changes = [c for c in evolve(without, with_one) if "new_ranker" in c.place]
    assert {c.outcome for c in changes} == {"added"}
    assert not any(c.loses or "WARMING" in c.detail for c in changes)
    back = {c.place: c for c in evolve(with_one, without)}
    assert (back[PLACE].outcome, back[PLACE].loses) == ("dropped", True)
    assert not any(place.startswith("events.exposure") for place in back)


def test_a_new_experiment_and_a_dearer_one_protect_less() -> None:
    before, after = shop(x=experiment_table(epsilon=1.0)), shop(x=experiment_table(), y=experiment_table())
    assert weakenings(privacy_part(before), privacy_part(after)) == ["metrics.x.epsilon", "metrics.y"]
    assert weakenings(privacy_part(after), privacy_part(before)) == []
