"""What `plan` says before a new catalog is taken is what the runtime then does."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

import edge_runtime as er
from edge_runtime.catalog.evolution import evolve
from edge_runtime.catalog.operators import OPERATORS
from tests.support.broken_catalog import Table
from tests.support.clock import ManualClock
from tests.support.features import arguments, with_features

HOUR_S = 3_600
OLD: Table = {
    "views": {"op": "count", "event": "view"},
    "views_1d": {"op": "count", "event": "view", "window": "1d"},
    "spent": {"op": "sum", "event": "view", "value": "price"},
    "recent": {"op": "last_n", "event": "view", "value": "item", "n": 5},
}
NEW: Table = {
    "views": {"op": "count", "event": "view", "default": 7},
    "views_1d": {"op": "count", "event": "view", "window": "2d"},
    "views_9d": {"op": "count", "event": "view", "window": "9d"},
    "buys_1h": {"op": "count", "event": "buy", "window": "1h"},
    "recent": OLD["recent"],
    "more": {"op": "last_n", "event": "view", "value": "item", "n": 6},
    "pace": {"op": "decayed_count", "event": "view", "half_life": "2h"},
    "slow_pace": {"op": "decayed_count", "event": "view", "half_life": "3h"},
    "depth": {"op": "session_count", "event": "view", "gap": "30m"},
    "long_depth": {"op": "session_count", "event": "view", "gap": "8d"},
    "per_day": {"op": "ratio", "of": ["views", "views_1d"]},
    "share": {"op": "ratio", "of": ["views_1d", "views_9d"]},
}


def catalog(features: Table, **changes: str) -> er.Catalog:
    table = with_features(features)
    table["views"]["activity"] |= changes
    return er.Catalog.from_dict(table)


def lived(folder: Path, clock: ManualClock, old: er.Catalog) -> None:
    """Ten days of a view every six hours, so that the journal of 7 days has let go of the first."""
    key = er.KeyFile(folder / "device.key")
    with er.Runtime.open(folder / "cache.db", catalog=old, key=key, clock=clock) as rt:
        rt.consent.give("alice", ["personalization", "measurement"], notice="n")
        for _ in range(40):
            rt.track("view", user="alice", item="x", price=1.0)
            clock.advance(seconds=6 * HOUR_S)
            rt.flush()


def said_and_done(
    folder: Path, old: er.Catalog, new: er.Catalog, clock: ManualClock
) -> tuple[dict[str, bool], dict[str, bool]]:
    """For each feature whether the plan calls it WARMING, and whether the runtime then does.

    Left out are those of which the plan says that it depends on the session, or on how many events came.
    """
    prefix = "views.activity@1.features."
    said = {
        change.place.removeprefix(prefix): "WARMING" in change.detail
        for change in evolve(old, new)
        if change.place.startswith(prefix)
        and change.outcome != "dropped"
        and "unless" not in change.detail
        and "or until" not in change.detail
    }
    key = er.KeyFile(folder / "device.key")
    with er.Runtime.open(folder / "cache.db", catalog=new, key=key, clock=clock) as rt:
        statuses = {name: rt.read(f"activity:{name}", user="alice").status for name in said}
    return said, {name: status is er.Status.WARMING for name, status in statuses.items()}


def test_law_7_what_the_plan_calls_warming_is_warming(tmp_path: Path) -> None:
    """Kept, made whole from the journal, known in part, not known: each feature is read as was said."""
    clock = ManualClock()
    lived(tmp_path, clock, catalog(OLD))
    said, done = said_and_done(tmp_path, catalog(OLD), catalog(NEW), clock)
    assert said == done
    assert {name for name, warming in said.items() if warming} == {
        *("views_9d", "buys_1h", "slow_pace", "long_depth", "share")
    }
    assert "recent" in said, "a neighbour made the list longer, and it is kept"


ANY = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from(sorted(OPERATORS)).flatmap(arguments), min_size=1, max_size=5
)


@given(ANY, ANY, st.sets(st.sampled_from("abcdef")))
@settings(max_examples=10)
def test_law_7_for_any_two_sets_of_features(before: Table, after: Table, same: set[str]) -> None:
    """Every operator, any arguments, some features kept under their names: said and done are one."""
    after |= {name: before[name] for name in same if name in before}
    old, new, clock = catalog(OLD | before), catalog(after), ManualClock()
    with TemporaryDirectory() as folder:
        lived(Path(folder), clock, old)
        said, done = said_and_done(Path(folder), old, new, clock)
    assert said == done


def test_a_view_moved_to_another_purpose_starts_empty_as_was_said(tmp_path: Path) -> None:
    """Nothing of the old purpose's journal is taken over: every feature is WARMING."""
    clock = ManualClock()
    lived(tmp_path, clock, catalog(OLD))
    said, done = said_and_done(tmp_path, catalog(OLD), catalog(OLD, purpose="measurement"), clock)
    assert said == done
    assert all(said.values())


def test_a_view_kept_for_another_entity_is_made_from_the_same_journal(tmp_path: Path) -> None:
    """Under (user, item) the events are the same, the states others: windows within 7 days are whole."""
    clock = ManualClock()
    lived(tmp_path, clock, catalog(OLD))
    table = with_features({k: NEW[k] for k in ("views_1d", "views_9d")})
    table["views"]["activity"]["entity"] = ["user", "item"]
    new = er.Catalog.from_dict(table)
    changes = {c.place.rpartition(".")[2]: c.detail for c in evolve(catalog(OLD), new)}
    assert changes["views_1d"] == "from the journal, whole at once"
    assert "WARMING" in changes["views_9d"]
    key = er.KeyFile(tmp_path / "device.key")
    with er.Runtime.open(tmp_path / "cache.db", catalog=new, key=key, clock=clock) as rt:
        whole = rt.read("activity:views_1d", user="alice", item="x")
        assert (whole.value, whole.status) == (7, er.Status.PRESENT)
        assert rt.read("activity:views_9d", user="alice", item="x").status is er.Status.WARMING
