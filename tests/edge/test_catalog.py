"""The example catalog loads whole and reads back equal; what could not be unlearned is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from edge_runtime.catalog import Catalog, CatalogError, CatalogLimits, Ref, SessionFeature
from edge_runtime.errors import MalformedRequest
from tests.support.broken_catalog import SHOP, TABLE, changed, faults, put

FEATURES = "views/activity/features"


def test_the_example_of_the_design_loads() -> None:
    """The shop catalog loads whole, with every reference resolved."""
    catalog = Catalog.load(SHOP)
    assert (catalog.name, catalog.version) == ("shop", 3)
    assert catalog.services["ranker@2"].names == (
        "activity:views_5m",
        "activity:pace",
        "item_stats:popularity",
        "ctx:hour",
        "activity:depth",
        "profile:country=UK",
        "profile:country=DE",
        "profile:country=FR",
        "profile:country=other",
        "seen_this",
        "goes_with",
        "taste_match",
    )
    taste = catalog.view("activity").features["taste"]
    assert isinstance(taste, SessionFeature)
    assert (taste.embedding, taste.dtype.size, taste.n) == ("item_vec@2:embedding", 16, 32)
    assert catalog.metrics["customers_by_country"].categories == ("UK", "DE", "FR", "other")
    assert catalog.purposes["measurement"].keep_events_us == 7 * 86_400_000_000


def test_the_canonical_table_reads_back_equal() -> None:
    """`from_dict(to_dict())` through JSON gives an equal catalog with the same fingerprint."""
    catalog = Catalog.load(SHOP)
    again = Catalog.from_json(json.dumps(catalog.to_dict()))
    assert again == catalog
    assert again.fingerprint == catalog.fingerprint
    assert hash(again) == hash(catalog)


def test_the_fingerprint_follows_the_meaning() -> None:
    """ "60s" and "1m" mean the same; another window does not."""
    one = Catalog.from_dict(changed(put("views/activity/allowed_lateness", "1m")))
    other = Catalog.from_dict(changed(put(f"{FEATURES}/views_5m/window", "6m")))
    assert one.fingerprint == Catalog.load(SHOP).fingerprint
    assert other.fingerprint != one.fingerprint


def test_every_fault_is_collected() -> None:
    """Three broken things in three sections give three faults, not the first."""
    table = changed(put(f"{FEATURES}/views_5m/window", "31d"))
    table["purposes"]["measurement"]["lease"] = "31d"
    table["metrics"]["customers_by_country"]["epsilon"] = 99
    assert {
        "views.activity.features.views_5m.window",
        "purposes.measurement.lease",
        "metrics.customers_by_country.epsilon",
    } <= set(faults(table))


def test_a_session_view_that_could_not_be_unlearned_is_refused() -> None:
    """A view of a non-personal entity may not be fed by events that name a personal one."""
    view = {
        "source": "session",
        "entity": "item",
        "ttl": "1d",
        "features": {"views": {"op": "count", "event": "view", "window": "1h"}},
    }
    found = faults(changed(put("views/trending", view)))
    assert "could not be unlearned" in found["views.trending.features.views.event"]


def test_another_subject_is_not_kept_in_a_view() -> None:
    """A feature may not keep ids of a personal entity that is not its view's."""
    table = changed(put("entities/friend", {"personal": True}))
    table["events"]["wave"] = {"entities": ["user", "friend"]}
    table["views"]["activity"]["features"]["who"] = {"op": "last", "event": "wave", "value": "friend"}
    assert "unlearned" in faults(table)["views.activity.features.who.value"]


def test_two_versions_live_side_by_side() -> None:
    """`[views."activity@2"]` stands beside version 1; a bare name means the highest, a pinned one its own."""
    table = changed(put("views/activity@2", copy.deepcopy(TABLE["views"]["activity"])))
    del table["views"]["activity@2"]["version"]
    table["services"]["ranker"]["features"][1] = "activity@1:pace"
    catalog = Catalog.from_dict(table)
    assert list(catalog.views)[:2] == ["activity@1", "profile@1"]
    assert catalog.view("activity").key == "activity@2"
    assert catalog.ref("activity:pace") == Ref("activity@2", "pace")
    assert catalog.ref("activity@1:pace") == Ref("activity@1", "pace")
    assert catalog.service("ranker").columns[1].name == "activity@1:pace"


def test_a_window_is_bounded_by_retention_only_where_there_is_one() -> None:
    """A purpose kept for the session has no retention to exceed; window-less is legal everywhere."""
    table = changed(put("purposes/personalization/retention", "session"))
    del table["purposes"]["personalization"]["keep_events"]
    del table["metrics"]  # a report would rest on disk
    table["views"]["activity"]["features"]["ever"] = {"op": "count", "event": ["view", "buy"]}
    catalog = Catalog.from_dict(table)
    purpose = catalog.purposes["personalization"]
    assert (purpose.retention_us, purpose.on_disk, purpose.keep_events_us) == (None, False, 0)
    ever = catalog.view("activity").features["ever"]
    assert isinstance(ever, SessionFeature)
    assert (ever.window_us, ever.tiles) == (None, None)


def test_a_number_is_counted_in_buckets() -> None:
    """A histogram of a number takes edges, also under the name buckets; both at once are refused."""
    metric = {
        "purpose": "measurement",
        "kind": "histogram",
        "of": "activity:spend_7d",
        "epsilon": 1,
        "min_subjects": 50,
        "buckets": [0, 10],
    }
    catalog = Catalog.from_dict(changed(put("metrics/spend", metric)))
    assert catalog.metrics["spend"].edges == (0.0, 10.0)
    assert len(catalog.metrics["spend"].categories) == 3
    both = faults(changed(put("metrics/spend", {**metric, "edges": [1]})))
    assert "both" in both["metrics.spend.buckets"]


def test_sizes_are_limited() -> None:
    """Too many entries, too long a list, too large a document: each a fault, before any work."""
    many = changed(lambda t: t["entities"].update({f"e{n}": {} for n in range(1000)}))
    assert "at most 1000 entries" in faults(many)["entities"]
    long = changed(put("views/profile/features/country/values", [str(n) for n in range(10_001)]))
    assert "at most 10000" in faults(long)["views.profile.features.country.values"]
    with pytest.raises(CatalogError, match="at most 100 characters"):
        Catalog.from_toml("#" * 101, limits=CatalogLimits(document_bytes=100))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    """A missing file, one that is not UTF-8, not TOML or too large is a CatalogError that says so."""
    cases = {"not.toml": b"= broken", "latin.toml": b"\xff\xfe", "big.toml": b"#" * 1_048_577, "x.json": b"{"}
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CatalogError, match="catalog: expected"):
            Catalog.load(tmp_path / name)
    with pytest.raises(CatalogError, match="cannot read"):
        Catalog.load(tmp_path / "none.toml")


def test_a_bare_subject_needs_one_personal_type() -> None:
    """`alice` means the only personal type; with two it must be typed."""
    catalog = Catalog.load(SHOP)
    assert catalog.default_personal == "user"
    assert catalog.subject("alice") == catalog.subject("user:alice") == "user:alice"
    assert catalog.subject("item:x") == "user:item:x"
    two = Catalog.from_dict(changed(put("entities/patient", {"personal": True})))
    assert two.default_personal is None
    assert two.subject("patient:p") == "patient:p"
    for bad in ("alice", ""):
        with pytest.raises(MalformedRequest):
            two.subject(bad)


def test_unknown_names_are_malformed_requests() -> None:
    """Asking a catalog for a view, service or feature that it does not have is the caller's error."""
    catalog = Catalog.load(SHOP)
    for ask in (
        lambda: catalog.view("ghost"),
        lambda: catalog.view("activity@7"),
        lambda: catalog.service("ghost"),
        lambda: catalog.ref("activity:ghost"),
        lambda: catalog.ref("activity"),
    ):
        with pytest.raises(MalformedRequest):
            ask()
