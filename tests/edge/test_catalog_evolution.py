"""What becomes of states, rows and contracts under a new catalog: said before, and true afterwards."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog
from edge_runtime.catalog.change import Change
from edge_runtime.catalog.evolution import evolve
from edge_runtime.catalog.operators import OPERATORS
from edge_runtime.session.event import make_event
from edge_runtime.session.plan import compile_catalog
from tests.support.broken_catalog import TABLE, Table
from tests.support.features import arguments, with_features

NOW_US = 1_700_000_000_000_000
VIEW = "views.activity@1"
OLD: Table = {
    "views": {"op": "count", "event": "view"},
    "views_1d": {"op": "count", "event": "view", "window": "1d"},
    "spent": {"op": "sum", "event": "buy", "value": "price"},
    "recent": {"op": "last_n", "event": "view", "value": "item", "n": 5},
}


def plan_of(old: Table, new: Table) -> dict[str, Change]:
    return {c.place: c for c in evolve(Catalog.from_dict(old), Catalog.from_dict(new))}


def features(**changes: Table | None) -> dict[str, Change]:
    """The plan from OLD to OLD with these features put in, or (None) taken out."""
    after = {k: v for k, v in {**OLD, **changes}.items() if v is not None}
    plan = plan_of(with_features(OLD), with_features(after))
    return {k.removeprefix(f"{VIEW}.features."): v for k, v in plan.items()}


def test_the_same_catalog_changes_nothing() -> None:
    """All is kept, also when the catalog's version or the order of its features differs."""
    table = copy.deepcopy(TABLE)
    table["catalog"]["version"] = 4
    inner = table["views"]["activity"]["features"]
    table["views"]["activity"]["features"] = dict(reversed(inner.items()))
    plan = plan_of(TABLE, table)
    assert {c.outcome for c in plan.values()} == {"kept"}
    assert not any(c.loses for c in plan.values())


@pytest.mark.parametrize(
    ("name", "feature", "outcome", "detail", "loses"),
    [
        # what keeps its state
        ("views", {"op": "count", "event": "view", "default": 3}, "kept", "read another way", False),
        ("recent", {**OLD["recent"], "n": 3}, "kept", "read another way", False),
        ("again", OLD["spent"], "kept", "new, read from state that was there", False),
        ("rate", {"op": "ratio", "of": ["spent", "views"]}, "kept", "new, read from state", False),
        # what the journal of 7 days makes whole
        ("views_2d", {"op": "count", "event": "view", "window": "2d"}, "backfilled", "whole at once", False),
        ("views_1d", {"op": "count", "event": "view", "window": "7d"}, "backfilled", "whole at once", False),
        (
            "depth",
            {"op": "session_count", "event": "view", "gap": "30m"},
            "backfilled",
            "from the journal, whole at once, unless its session began before that",
            False,
        ),
        ("half", {"op": "decayed_count", "event": "buy", "half_life": "2h"}, "backfilled", "at once", False),
        # what it does not
        (
            "views_1d",
            {"op": "count", "event": "view", "window": "864001s"},
            "backfilled",
            "from the journal: at least the last 7d; WARMING for at most 4321m",  # 60 tiles of 14,401 s
            True,
        ),
        ("slow", {"op": "decayed_count", "event": "buy", "half_life": "3h"}, "backfilled", "most 1d", False),
        (
            "recent",
            {**OLD["recent"], "n": 6},
            "backfilled",
            "until its subject was silent for 30d, or until 6 of its events are known",
            True,
        ),
        (
            "idle",
            {"op": "since_last", "event": "view"},
            "backfilled",
            "or until its newest event is known",
            False,
        ),
        ("mean", {"op": "mean", "event": "view", "value": "price"}, "backfilled", "silent for 30d", False),
        (
            "long",
            {"op": "session_sum", "event": "view", "value": "price", "gap": "8d"},
            "backfilled",
            "from the journal: at least the last 7d; WARMING until a session begins",
            False,
        ),
        ("spent", {**OLD["spent"], "event": ["buy", "view"]}, "backfilled", "silent for 30d", True),
        ("spent", {**OLD["spent"], "where": {"price": {"gt": 1}}}, "backfilled", "silent for 30d", True),
    ],
)
def test_a_feature_is_kept_backfilled_or_warming(
    name: str, feature: Table, outcome: str, detail: str, loses: bool
) -> None:
    """Kept as far as its statistics are; else made from what the journal still holds."""
    found = features(**{name: feature})[name]
    assert (found.outcome, found.loses) == (outcome, loses)
    assert detail in found.detail


def test_a_chain_is_as_warm_as_what_it_is_made_of() -> None:
    """A derived feature looks back as far as its farthest operand."""
    plan = features(
        buys_2d={"op": "count", "event": "buy", "window": "2d"},
        buys_9d={"op": "count", "event": "buy", "window": "9d"},
        near={"op": "ratio", "of": ["buys_2d", "views"]},
        means={"op": "mean", "event": "view", "value": "price"},
        ever={"op": "ratio", "of": ["means", "views"]},
        far={"op": "log1p", "of": "both"},
        both={"op": "ratio", "of": ["buys_2d", "buys_9d"]},
    )
    assert plan["near"].detail == "from the journal, whole at once", "the other operand is kept"
    assert (
        plan["ever"].detail
        == "from the journal: at least the last 7d; WARMING until its subject was silent for 30d"
    )
    assert plan["far"].detail == "from the journal: at least the last 7d; WARMING for at most 2d"


def test_a_rule_of_admission_is_no_definition() -> None:
    """Another retention, dedup horizon or lateness, longer or shorter, keeps all, sessions too."""
    depth = {"op": "session_count", "event": "view", "gap": "30m"}
    old, new = with_features({**OLD, "depth": depth}), with_features({**OLD, "depth": depth})
    new["purposes"]["personalization"] |= {"retention": "60d", "keep_events": "1d"}
    new["views"]["activity"]["dedup_horizon"] = "1h"
    assert {c.outcome for c in plan_of(old, new).values()} == {"kept"}
    for lateness in ("10s", "5m"):
        new["views"]["activity"]["allowed_lateness"] = lateness
        assert {c.outcome for c in plan_of(old, new).values()} == {"kept"}


def test_a_list_that_a_neighbour_makes_longer_is_kept() -> None:
    """Newest values of one stream are one list, as long as the longest asks: only that one asks for more."""
    taste = {"op": "decayed_mean_vector", "event": "view", "value": "item", "half_life": "1h"}
    plan = features(
        more={**OLD["recent"], "n": 6},
        few={**OLD["recent"], "n": 2},
        taste={**taste, "embedding": "item_vec:embedding"},
    )
    assert {name: plan[name].outcome for name in ("recent", "few", "more", "taste")} == {
        "recent": "kept",
        "few": "kept",
        "more": "backfilled",
        "taste": "backfilled",
    }
    assert not plan["recent"].loses
    assert plan["taste"].detail.endswith("or until 32 of its events are known")


def test_the_order_of_events_is_no_definition() -> None:
    """`["a", "b"]` is `["b", "a"]`: the state is kept, nothing was redefined, two such features share it."""
    one = {"op": "session_count", "event": ["view", "buy"], "gap": "30m"}
    other = {**one, "event": ["buy", "view"]}
    old, new = with_features({**OLD, "depth": one}), with_features({**OLD, "depth": other, "again": one})
    plan = plan_of(old, new)
    assert {c.outcome for c in plan.values()} == {"kept"}
    assert plan[f"{VIEW}.features.depth"].detail == ""
    compiled = compile_catalog(Catalog.from_dict(new)).views["activity@1"]
    assert compiled.statistics_of("depth") == compiled.statistics_of("again")
    assert len({one.name for one in compiled.statistics}) == len(compiled.statistics)


def test_a_dropped_feature_says_whether_its_state_goes() -> None:
    """Renamed, its state serves the new name; gone altogether, it is lost."""
    plan = features(spent=None, sum_spent=OLD["spent"], recent=None)
    assert plan["spent"] == Change(
        f"{VIEW}.features.spent", "dropped", "its state serves other features", False
    )
    assert plan["sum_spent"].outcome == "kept"
    assert plan["recent"] == Change(f"{VIEW}.features.recent", "dropped", "its state goes", True)


def test_a_definition_changed_under_the_same_version_is_warned_of() -> None:
    """`activity@1` that now means something else: the names are given; adding a feature is no such thing."""
    plan = features(views_1d={"op": "count", "event": "view", "window": "2d"})
    assert plan[VIEW] == Change(VIEW, "reused", "views_1d changed: a new version would stand beside", False)
    assert VIEW not in features(more=OLD["views"])


def test_another_purpose_or_entity_starts_empty() -> None:
    """A view moved to a purpose whose journal has no such events knows all from now on."""
    moved, pair = with_features(OLD), with_features(OLD)
    moved["views"]["activity"]["purpose"] = "measurement"
    pair["views"]["activity"]["entity"] = ["user", "item"]
    plan = plan_of(with_features(OLD), moved)
    expected = "moved from purpose personalization to measurement: starts empty"
    assert plan[VIEW] == Change(VIEW, "empty", expected, True)
    found = plan[f"{VIEW}.features.views_1d"]
    assert (found.outcome, found.detail) == (
        "empty",
        "its events are not in the journal; WARMING for at most 1d",
    )
    assert (
        plan_of(with_features(OLD), pair)[VIEW].detail == "was kept by user, now by user item: starts empty"
    )


def test_a_new_view_is_made_from_what_its_purpose_journalled() -> None:
    """Events that another view of the purpose took are there; those that none took are not."""
    old = with_features({"views": OLD["views"]})
    new = with_features(
        {
            "views": OLD["views"],
            "fresh": {"op": "count", "event": "buy", "window": "1d"},
        }
    )
    new["views"]["activity@2"] = copy.deepcopy(new["views"]["activity"])
    del new["views"]["activity@2"]["version"]
    plan = plan_of(old, new)
    assert plan["views.activity@2.features.views"].outcome == "backfilled"
    assert plan["views.activity@2.features.fresh"].outcome == "empty"
    assert plan[f"{VIEW}.features.fresh"].outcome == "empty"
    assert not any(c.loses for c in plan.values())
    back = plan_of(new, old)
    assert back["views.activity@2"] == Change("views.activity@2", "dropped", "its states go", True)


def test_what_is_in_memory_only_loses_nothing() -> None:
    """A purpose with `retention = "session"` begins anew at every opening."""
    old, new = with_features(OLD), with_features({**OLD, "views_1d": OLD["views"]})
    for table in (old, new):
        table["purposes"]["personalization"] |= {"retention": "session"}
        del table["purposes"]["personalization"]["keep_events"]
    plan = plan_of(old, new)
    assert not any(c.loses for c in plan.values())
    assert "in memory only" in plan[f"{VIEW}.features.views_1d"].detail
    onto_disk = plan_of(old, with_features(OLD))
    assert onto_disk[f"{VIEW}.features.views"].outcome == "empty"


def test_server_views_keep_rows_that_still_fit() -> None:
    """A new field is NULL, a field of another dtype does not fit, a field gone is read no more."""
    new = copy.deepcopy(TABLE)
    new["services"], new["metrics"] = {}, {}
    stats = new["views"]["item_stats"]["features"]
    stats["price"] = {"dtype": "float64"}
    stats["popularity"] = {"dtype": "int64"}
    del stats["co_bought"]
    new["views"]["news"] = {**new["views"]["item_stats"], "features": {"n": {"dtype": "int64"}}}
    plan = plan_of(TABLE, new)
    place = "views.item_stats@1.features"
    assert (plan[f"{place}.price"].outcome, plan[f"{place}.price"].loses) == ("added", False)
    assert plan[f"{place}.popularity"].detail == "was float32, is int64: rows at rest do not fit"
    assert (plan[f"{place}.co_bought"].outcome, plan[f"{place}.co_bought"].loses) == ("dropped", True)
    assert plan["views.news@1"].detail == "NOT_SYNCED until pushed"
    new["views"]["profile"]["purpose"] = "measurement"
    assert plan_of(TABLE, new)["views.profile@1"].outcome == "empty"
    new["views"]["item_stats"] |= {"source": "request"}
    for key in ("ttl", "entity", "tier"):
        del new["views"]["item_stats"][key]
    assert plan_of(TABLE, new)["views.item_stats@1"].detail == "its values came from server, now request"


def services(change: Table) -> list[Change]:
    """Changes of the shop's services when `ranker@2` is replaced by these tables."""
    new = copy.deepcopy(TABLE)
    del new["services"]["ranker"]
    new["services"] |= change
    changes = evolve(Catalog.from_dict(TABLE), Catalog.from_dict(new))
    return [c for c in changes if c.place.startswith("services.")]


COLUMNS = TABLE["services"]["ranker"]["features"]


@pytest.mark.parametrize(
    ("columns", "details"),
    [
        (COLUMNS, [""]),
        (COLUMNS[:-1], ["width 12 is 11", "taste_match removed"]),
        ([*COLUMNS, "activity:spend_7d"], ["width 12 is 13", "activity:spend_7d added at 12"]),
        (
            [COLUMNS[1], COLUMNS[0], *COLUMNS[2:]],
            ["activity:views_5m moved from 0 to 1", "activity:pace moved from 1 to 0"],
        ),
        ([{"ref": COLUMNS[0], "name": "fast"}, *COLUMNS[1:]], ["activity:views_5m is named fast"]),
        (
            [{"ref": COLUMNS[0], "default": 2}, *COLUMNS[1:]],
            ["activity:views_5m defaults to 2, did to NaN"],
        ),
        (
            [{"ref": COLUMNS[0], "encode": {"kind": "clip", "high": 9}}, *COLUMNS[1:]],
            [
                "activity:views_5m is encoded otherwise",
                "activity:views_5m ranges over [0, 9], did over [0, inf]",
            ],
        ),
        (
            [{"ref": "activity:depth", "name": COLUMNS[0]}, *COLUMNS[1:]],
            ["activity:views_5m is of activity@1:depth, was of activity@1:views_5m"],
        ),
    ],
)
def test_a_contract_that_changes_says_what_of_it(columns: list[object], details: list[str]) -> None:
    """Columns added, removed, renamed, moved; another default, encoding, range or source."""
    found = services({"ranker@2": {"features": columns}})
    assert [c.detail for c in found] == details
    assert all(c.loses == bool(c.detail) for c in found)


def test_a_bare_name_that_means_another_version_is_told() -> None:
    """A version beside the old one breaks nobody who names it; who asks by the bare name gets the new row."""
    same = services({"ranker@2": {"features": COLUMNS}, "ranker@3": {"features": COLUMNS}})
    assert [c[:2] for c in same] == [
        ("services.ranker@2", "kept"),
        ("services.ranker@3", "added"),
        ("services.ranker", "moved"),
    ]
    assert not any(c.loses for c in same)
    other = services({"ranker@2": {"features": COLUMNS}, "ranker@3": {"features": COLUMNS[:1]}})
    assert other[-1] == Change("services.ranker", "moved", "a bare ranker meant ranker@2, now ranker@3", True)
    gone = services({"other": {"features": COLUMNS}})
    assert Change("services.ranker@2", "dropped", "an app that asks for it is refused", True) in gone


def test_what_apps_may_no_longer_send_is_told() -> None:
    """Events and properties removed, of another dtype, or naming other entities."""
    old, new = with_features({"views": OLD["views"]}), with_features({"views": OLD["views"]})
    del new["events"]["buy"]
    new["events"]["view"]["properties"] = {"price": "int64", "colour": "string"}
    new["events"]["view"]["entities"] = ["user"]
    changes = evolve(Catalog.from_dict(old), Catalog.from_dict(new))
    assert [c for c in changes if c.place.startswith("events.")] == [
        Change("events.view.entities", "changed", "named user item, now user", True),
        Change("events.view.properties.price", "changed", "was float64, is int64", True),
        Change("events.view.properties.category", "dropped", "an app that still sends it is refused", True),
        Change("events.buy", "dropped", "an app that still tracks it is refused", True),
    ]


def test_a_property_of_another_dtype_costs_the_state_that_was_made_of_it() -> None:
    """Sums of what is now an int64 begin again from the journal; counts of the same events go on."""
    new = with_features(OLD)
    new["events"]["buy"]["properties"]["price"] = "int64"
    plan = plan_of(with_features(OLD), new)
    assert plan[f"{VIEW}.features.spent"].outcome == "backfilled"
    assert plan[f"{VIEW}.features.views"].outcome == "kept"


# ---- what is said is what happens --------------------------------------------------------------------------

ANY = st.dictionaries(
    st.sampled_from("abcdef"), st.sampled_from(sorted(OPERATORS)).flatmap(arguments), min_size=1, max_size=4
)


@given(ANY, ANY, st.sets(st.sampled_from("abcdef")))
@settings(max_examples=150)
def test_law_8_kept_is_what_a_stored_state_still_holds(before: Table, after: Table, same: set[str]) -> None:
    """A feature is said to be kept exactly if the state that the old catalog stored holds all it needs."""
    after |= {name: before[name] for name in same if name in before}
    old, new = Catalog.from_dict(with_features(before)), Catalog.from_dict(with_features(after))
    was, now = (compile_catalog(c).views["activity@1"] for c in (old, new))
    state = was.new_state()
    event = make_event(old, "view", {"user": "a", "item": "x", "price": 1.0}, now_us=NOW_US)
    was.offer(state, event, "1", NOW_US)
    missing = now.carry(was.dump(state)).missing
    said = {c.place.rpartition(".")[2]: c.outcome for c in evolve(old, new) if c.place.startswith(VIEW)}
    for name in after:
        rooms = {one.name: one.room or 1 for one in now.statistics_of(name)}
        held = all(missing.get(one, room) >= room for one, room in rooms.items())
        assert (said[name] == "kept") == held, name
