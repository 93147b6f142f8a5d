"""Two versions of a view and of a service side by side: roll-out and roll-back are a change of name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

import edge_runtime as er
from edge_runtime.cache.journal_entry import open_entries
from tests.support.broken_catalog import TABLE, Table, faults
from tests.support.clock import ManualClock

ACTIVITY = "views/activity"


def two_versions(*, bare: int = 2) -> Table:
    """`activity@1` counts 5 minutes, `activity@2` an hour; each has a ranker; maybe only the first."""
    table = copy.deepcopy(TABLE)
    table["metrics"] = {}
    table["views"]["activity"]["features"] = {"views": {"op": "count", "event": "view", "window": "5m"}}
    table["services"] = {"ranker@1": {"features": ["activity@1:views"]}}
    if bare == 2:
        second: dict[str, Any] = copy.deepcopy(table["views"]["activity"]) | {"version": 2}
        second["features"]["views"]["window"] = "1h"
        second["features"]["spent"] = {"op": "sum", "event": "buy", "value": "price", "default": 0}
        table["views"]["activity@2"] = second
        table["services"]["ranker@2"] = {
            "features": ["activity:views", "activity@2:spent", "activity@1:views"]
        }
    return table


def open_with(folder: Path, table: Table, clock: ManualClock) -> er.Runtime:
    return er.Runtime.open(
        folder / "cache.db",
        catalog=er.Catalog.from_dict(table),
        key=er.KeyFile(folder / "device.key"),
        clock=clock,
    )


def journalled(rt: er.Runtime) -> int:
    """Events in the journal, whoever they feed."""
    key = rt._keyring.key("user:alice", "personalization")
    assert key is not None
    with rt._database.read() as tx:
        return sum(len(list(open_entries(key, row))) for _, row in tx.events(key.handle))


def test_both_versions_take_the_same_events_and_the_journal_holds_each_once(tmp_path: Path) -> None:
    """`ranker@1` and `ranker@2` answer side by side; one entry in the journal feeds both views."""
    clock = ManualClock()
    with open_with(tmp_path, two_versions(), clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        for _ in range(3):
            assert rt.track("view", user="alice", item="x") is er.ACCEPTED
            clock.advance(seconds=200)
        rt.track("buy", user="alice", item="x", price=2.5, quantity=1)
        assert rt.vector("ranker@1", user="alice").values.tolist() == [1.0]
        assert rt.vector("ranker@2", user="alice").values.tolist() == [3.0, 2.5, 1.0]
        assert rt.vector("ranker", user="alice").names == (
            "activity:views",
            "activity@2:spent",
            "activity@1:views",
        )
        assert rt.read("activity:views", user="alice").value == 3
        assert rt.read("activity@1:views", user="alice").value == 1
        rt.flush()
        assert journalled(rt) == 4
        assert rt.track("view", user="alice", item="x", id="same") is er.ACCEPTED
        assert rt.track("view", user="alice", item="x", id="same") is er.DUPLICATE
        erased = rt.consent.withdraw("alice")
        assert erased is not None
        for service in ("ranker@1", "ranker@2"):
            assert {er.Status(s).name for s in rt.vector(service, user="alice").status} == {"REVOKED"}


def test_rolling_out_and_back_is_a_change_of_name(tmp_path: Path) -> None:
    """Version 2 is filled from the journal; back to version 1 its state has missed nothing meanwhile."""
    clock = ManualClock()
    with open_with(tmp_path, two_versions(bare=1), clock) as rt:
        rt.consent.give("alice", ["personalization"], notice="n")
        for _ in range(3):
            rt.track("view", user="alice", item="x")
            clock.advance(seconds=60)
        assert rt.vector("ranker", user="alice").values.tolist() == [3.0]
    with open_with(tmp_path, two_versions(), clock) as rt:
        assert rt.read("activity@2:views", user="alice").value == 3
        assert rt.vector("ranker@1", user="alice").values.tolist() == [3.0]
        rt.track("view", user="alice", item="x")
        assert rt.vector("ranker", user="alice").values.tolist() == [4.0, 0.0, 4.0]
    with open_with(tmp_path, two_versions(bare=1), clock) as rt:
        row = rt.vector("ranker", user="alice")
        assert (row.values.tolist(), [er.Status(s).name for s in row.status]) == ([4.0], ["PRESENT"])
        with pytest.raises(er.MalformedRequest, match="expected one of ranker@1, got an unknown service"):
            rt.vector("ranker@2", user="alice")


def test_a_service_that_names_a_missing_version_is_a_fault_at_its_place() -> None:
    """In a plain column, an encoded one and each side of a join; nothing else is said."""
    cases = {
        "services.ranker@2.features[1]": ("services", "ranker@2", "features", 1, "activity@3:spent"),
        "services.ranker@1.features[0]": ("services", "ranker@1", "features", 0, "profile@2:country"),
    }
    for place, (_, service, _, n, text) in cases.items():
        table = two_versions()
        table["services"][service]["features"][n] = text
        found = faults(table)
        assert list(found) == [place]
        view = text.partition(":")[0]
        assert f"no view {view}: expected one of activity@1 profile@1" in found[place]
    encoded = two_versions()
    encoded["services"]["ranker@2"]["features"][1] = {"ref": "activity@3:spent", "encode": "log1p"}
    assert list(faults(encoded)) == ["services.ranker@2.features[1].ref"]
    joined = two_versions()
    joined["services"]["ranker@2"]["features"][1] = {
        "name": "m",
        "dot": ["item_vec@2:embedding", "item_vec@1:embedding"],
    }
    assert list(faults(joined)) == ["services.ranker@2.features[1].dot"]
