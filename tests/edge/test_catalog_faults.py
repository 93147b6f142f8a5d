"""Every kind of fault in a catalog is named at its exact place; garbage is never more than that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.catalog import Catalog, CatalogError, Fault
from tests.support.broken_catalog import TABLE, Change, Table, changed, drop, faults, put

ACTIVITY = "views/activity"
FEATURES = "views/activity/features"
COLUMNS = "services/ranker/features"
METRIC = "metrics/customers_by_country"

CASES: list[tuple[Change, str, str]] = [
    # the whole
    (drop("catalog"), "catalog", "missing"),
    (put("catalog/version", 0), "catalog.version", "integer from 1"),
    (put("catalog/version", True), "catalog.version", "got bool"),
    (put("catalog/name", "a b"), "catalog.name", "letters"),
    (put("catalog/extra", 1), "catalog.extra", "unknown key"),
    (put("featuers", {}), "featuers", "unknown key: expected one of catalog purposes"),
    (put("views", [1]), "views", "expected a table, got a list of 1"),
    (put("views/activity", 5), "views.activity", "expected a table"),
    # purposes and notices
    (put("purposes/personalization/legal_basis", "love"), "purposes.personalization.legal_basis", "consent"),
    (drop("purposes/personalization/legal_basis"), "purposes.personalization.legal_basis", "missing"),
    (
        put("purposes/personalization/terminal_access", 1),
        "purposes.personalization.terminal_access",
        "one of",
    ),
    (put("purposes/personalization/lease", "31d"), "purposes.personalization.lease", "at most 30d"),
    (put("purposes/personalization/lease", 0), "purposes.personalization.lease", "longer than 0"),
    (put("purposes/personalization/keep_events", "31d"), "purposes.personalization.keep_events", "30d"),
    (put("purposes/personalization/retention", "a month"), "purposes.personalization.retention", "duration"),
    (drop("purposes/personalization/retention"), "purposes.personalization.retention", "missing"),
    (put("purposes/personalization/retention", "session"), "purposes.personalization.keep_events", "nothing"),
    (put("purposes/personalization/colour", "red"), "purposes.personalization.colour", "unknown key"),
    (put("purposes/personalization/title", "\ud800"), "purposes.personalization.title", "a string"),
    (put("notices/2026-11/purposes", ["sales"]), "notices.2026-11.purposes[0]", "declared purpose"),
    # entities and events
    (put("entities/at", {}), "entities.at", "reserved"),
    (put("entities/my-user", {}), "entities.my-user", "letters, digits and _"),
    (put("entities/user/personal", "yes"), "entities.user.personal", "true or false"),
    (put("events/view/entities", ["user", "ghost"]), "events.view.entities", "declared entity type"),
    (put("events/view/entities", []), "events.view.entities", "at least one"),
    (put("events/view/properties/price", "money"), "events.view.properties.price", "bool int64"),
    (put("events/view/properties/price", "float32[4]"), "events.view.properties.price", "bool int64"),
    (put("events/view/properties/type", "string"), "events.view.properties.type", "reserved"),
    (put("events/view/properties/item", "string"), "events.view.properties.item", "no entity type bears"),
    (put("events/request", {"entities": ["user"]}), "events.request", "reserved"),
    # views
    (put("views/activity/source", "cloud"), "views.activity.source", "server session request"),
    (put("views/activity/entity", "ghost"), "views.activity.entity", "declared entity type (user item)"),
    (drop("views/activity/purpose"), "views.activity.purpose", "personal"),
    (put("views/activity/purpose", "sales"), "views.activity.purpose", "declared purpose"),
    (put("views/item_vec/purpose", "measurement"), "views.item_vec.purpose", "no subject"),
    (drop("views/activity/ttl"), "views.activity.ttl", "missing"),
    (put("views/activity/ttl", 5), "views.activity.ttl", "duration"),
    (put("views/activity/ttl", "9999d"), "views.activity.ttl", "at most 3650d"),
    (put("views/activity/tier", "lukewarm"), "views.activity.tier", "hot warm cold"),
    (put("views/activity/version", 2.0), "views.activity.version", "an integer"),
    (put("views/activity/allowed_lateness", "31d"), "views.activity.allowed_lateness", "retention of 30d"),
    (put("views/activity/dedup_horizon", "1s"), "views.activity.dedup_horizon", "at least"),
    (put("views/profile/allowed_lateness", "1s"), "views.profile.allowed_lateness", "only a session view"),
    (put("views/ctx/ttl", 0), "views.ctx.ttl", "given at the read"),
    (put("views/ctx/entity", "user"), "views.ctx.entity", "given at the read"),
    (put("views/activity/features", {}), "views.activity.features", "at least one"),
    (put("views/activity@x", {}), "views.activity@x", "activity@x"),
    (put("views/id", TABLE["views"]["item_stats"]), "views.id", "reserved"),
    (put("views/activity@1", TABLE["views"]["activity"]), "views.activity@1", "declared twice"),
    # session features
    (put(f"{FEATURES}/views_5m/op", "median"), "views.activity.features.views_5m.op", "one of count sum"),
    (drop(f"{FEATURES}/views_5m/op"), "views.activity.features.views_5m.op", "missing"),
    (drop(f"{FEATURES}/views_5m/event"), "views.activity.features.views_5m.event", "missing"),
    (put(f"{FEATURES}/views_5m/event", "veiw"), "views.activity.features.views_5m.event", "view buy"),
    (
        put(f"{FEATURES}/views_5m/window", "31d"),
        "views.activity.features.views_5m.window",
        "retention of 30d",
    ),
    (put(f"{FEATURES}/views_5m/window", "5 min"), "views.activity.features.views_5m.window", "duration"),
    (put(f"{FEATURES}/views_5m/window", "0s"), "views.activity.features.views_5m.window", "longer than 0"),
    (put(f"{FEATURES}/views_5m/gap", "1m"), "views.activity.features.views_5m.gap", "count takes no gap"),
    (put(f"{FEATURES}/pace/window", "1m"), "views.activity.features.pace.window", "takes no window"),
    (put(f"{FEATURES}/views_5m/speed", 1), "views.activity.features.views_5m.speed", "unknown key"),
    (drop(f"{FEATURES}/spend_7d/value"), "views.activity.features.spend_7d.value", "missing"),
    (put(f"{FEATURES}/spend_7d/value", "pric"), "views.activity.features.spend_7d.value", "price quantity"),
    (put(f"{FEATURES}/spend_7d/value", "item"), "views.activity.features.spend_7d.value", "numeric"),
    (drop(f"{FEATURES}/depth/gap"), "views.activity.features.depth.gap", "missing"),
    (drop(f"{FEATURES}/pace/half_life"), "views.activity.features.pace.half_life", "missing"),
    (drop(f"{FEATURES}/last_items/n"), "views.activity.features.last_items.n", "missing"),
    (put(f"{FEATURES}/last_items/n", 0), "views.activity.features.last_items.n", "from 1"),
    (put(f"{FEATURES}/by_item/by", "price"), "views.activity.features.by_item.by", "string property"),
    (put(f"{FEATURES}/by_item/max_keys", 0), "views.activity.features.by_item.max_keys", "from 1"),
    (
        put(f"{FEATURES}/taste/embedding", "item_vec"),
        "views.activity.features.taste.embedding",
        "view:feature",
    ),
    (
        put(f"{FEATURES}/taste/embedding", "item_stats:popularity"),
        "views.activity.features.taste.embedding",
        "float32[n]",
    ),
    (put(f"{FEATURES}/taste/value", "category"), "views.activity.features.taste.value", "entity type"),
    (
        put(f"{FEATURES}/views_5m/where", {"colour": {"eq": 1}}),
        "views.activity.features.views_5m.where.colour",
        "view",
    ),
    (
        put(f"{FEATURES}/views_5m/where", {"price": {"above": 1}}),
        "views.activity.features.views_5m.where.price.above",
        "unknown test",
    ),
    (
        put(f"{FEATURES}/views_5m/where", {"price": {"gt": "x"}}),
        "views.activity.features.views_5m.where.price.gt",
        "float64",
    ),
    (
        put(f"{FEATURES}/views_5m/where", {"category": {"gt": "x"}}),
        "views.activity.features.views_5m.where.category.gt",
        "no order",
    ),
    (
        put(f"{FEATURES}/views_5m/where", {"category": {"in": []}}),
        "views.activity.features.views_5m.where.category.in",
        "at least one",
    ),
    (put(f"{FEATURES}/views_5m/default", "x"), "views.activity.features.views_5m.default", "int64"),
    (put(f"{FEATURES}/at", {"op": "count", "event": "view"}), "views.activity.features.at", "reserved"),
    # given features
    (
        put("views/profile/features/country/dtype", "varchar"),
        "views.profile.features.country.dtype",
        "bool int64",
    ),
    (
        put("views/profile/features/country/values", []),
        "views.profile.features.country.values",
        "at least one",
    ),
    (put("views/profile/features/country/default", "XX"), "views.profile.features.country.default", "values"),
    (put("views/profile/features/country/default", 5), "views.profile.features.country.default", "string"),
    (
        put("views/profile/features/country/range", [0, 1]),
        "views.profile.features.country.range",
        "not a number",
    ),
    (put("views/ctx/features/hour/range", [5]), "views.ctx.features.hour.range", "[low, high]"),
    (put("views/ctx/features/hour/range", [9, 1]), "views.ctx.features.hour.range", "low <= high"),
    (put("views/ctx/features/hour/default", 24), "views.ctx.features.hour.default", "within the range"),
    (put("views/ctx/features/hour/default", float("nan")), "views.ctx.features.hour.default", "int64"),
    # services
    (put(f"{COLUMNS}/0", "activity"), "services.ranker.features[0]", "view:feature"),
    (put(f"{COLUMNS}/0", "ghost:x"), "services.ranker.features[0]", "no view ghost"),
    (put(f"{COLUMNS}/0", "activity@9:pace"), "services.ranker.features[0]", "no view activity@9"),
    (put(f"{COLUMNS}/0", "activity:speed"), "services.ranker.features[0]", "no feature speed"),
    (put(f"{COLUMNS}/0", "profile:country"), "services.ranker.features[0]", "expected an encode"),
    (put(f"{COLUMNS}/0", "activity:last_items"), "services.ranker.features[0]", "expected an encode"),
    (put(f"{COLUMNS}/0", "activity:pace"), "services.ranker.features[1]", "once"),
    (put(f"{COLUMNS}/0", 7), "services.ranker.features[0]", "a reference or a table"),
    (put(f"{COLUMNS}/0", {"name": "x"}), "services.ranker.features[0]", "exactly one of ref"),
    (put(f"{COLUMNS}/4/encode", "sqrt"), "services.ranker.features[4].encode", "one_hot hash"),
    (put(f"{COLUMNS}/4/encode", "one_hot"), "services.ranker.features[4].encode", "values"),
    (put(f"{COLUMNS}/4/encode", "hash"), "services.ranker.features[4].encode", "buckets"),
    (put(f"{COLUMNS}/5/encode", "log1p"), "services.ranker.features[5].encode", "a number"),
    (put(f"{COLUMNS}/4/encode", {"kind": "hash"}), "services.ranker.features[4].encode.buckets", "missing"),
    (
        put(f"{COLUMNS}/4/encode", {"kind": "zscore", "mean": 0, "std": 0}),
        "services.ranker.features[4].encode.std",
        "above 0",
    ),
    (
        put(f"{COLUMNS}/4/encode", {"kind": "clip", "low": 2, "high": 1}),
        "services.ranker.features[4].encode.low",
        "at most high",
    ),
    (
        put(f"{COLUMNS}/4/encode", {"kind": "bucketize", "edges": [2, 1]}),
        "services.ranker.features[4].encode.edges[1]",
        "more than",
    ),
    (put(f"{COLUMNS}/4/typo", 1), "services.ranker.features[4].typo", "unknown key"),
    (put(f"{COLUMNS}/5/default", 1), "services.ranker.features[5].default", "4 numbers"),
    (put(f"{COLUMNS}/6/lookup", "activity:pace"), "services.ranker.features[6].lookup", "map of numbers"),
    (put(f"{COLUMNS}/6/key", "ghost"), "services.ranker.features[6].key", "declared entity type"),
    (put(f"{COLUMNS}/6/key", "user"), "services.ranker.features[6].key", "counts by item"),
    (put(f"{COLUMNS}/7/keys", "activity:pace"), "services.ranker.features[7].keys", "list of ids"),
    (
        put(f"{COLUMNS}/7/sum_lookup", "activity:by_item"),
        "services.ranker.features[7].sum_lookup",
        "server view",
    ),
    (put(f"{COLUMNS}/8/dot", ["activity:taste"]), "services.ranker.features[8].dot", "two references"),
    (
        put(f"{COLUMNS}/8/dot", ["activity:taste", "activity:pace"]),
        "services.ranker.features[8].dot",
        "one size",
    ),
    (put("services/ranker@3", TABLE["services"]["ranker"]), "services.ranker@3.version", "expected 3"),
    (put("services/ranker/features", []), "services.ranker.features", "1 to"),
    # metrics
    (drop(f"{METRIC}/purpose"), "metrics.customers_by_country.purpose", "purpose of its own"),
    (put(f"{METRIC}/purpose", "sales"), "metrics.customers_by_country.purpose", "declared purpose"),
    (put(f"{METRIC}/epsilon", 4.5), "metrics.customers_by_country.epsilon", "at most 4"),
    (put(f"{METRIC}/epsilon", 0), "metrics.customers_by_country.epsilon", "at least 1e-06"),
    (put(f"{METRIC}/kind", "median"), "metrics.customers_by_country.kind", "histogram"),
    (put(f"{METRIC}/of", "item_stats:popularity"), "metrics.customers_by_country.of", "personal"),
    (put(f"{METRIC}/of", "activity:views_5m"), "metrics.customers_by_country.values", "values or edges"),
    (put(f"{METRIC}/kind", "mean"), "metrics.customers_by_country.of", "a number for mean"),
    (put(f"{METRIC}/edges", [1]), "metrics.customers_by_country.edges", "not a number"),
    (drop(f"{METRIC}/min_subjects"), "metrics.customers_by_country.min_subjects", "missing"),
    (put(f"{METRIC}/min_subjects", 1), "metrics.customers_by_country.min_subjects", "from 2"),
    (put(f"{METRIC}/bounds", [0, 1]), "metrics.customers_by_country.bounds", "takes no bounds"),
    (put(f"{METRIC}/window", 0), "metrics.customers_by_country.window", "longer than 0"),
]


@pytest.mark.parametrize(
    ("change", "place", "reason"), CASES, ids=[f"{n}-{c[1]}" for n, c in enumerate(CASES)]
)
def test_a_fault_is_named_at_its_place(change: Change, place: str, reason: str) -> None:
    """One broken thing gives a fault at exactly its place, saying what was expected."""
    found = faults(changed(change))
    assert place in found, found
    assert reason in found[place]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)
PLACES = [
    "catalog",
    "purposes",
    "purposes/personalization",
    "purposes/personalization/lease",
    "entities",
    "entities/user",
    "events/view",
    "events/view/properties",
    "views",
    "views/activity",
    "views/activity/entity",
    "views/activity/source",
    "views/activity/version",
    "views/activity/features",
    "views/activity/features/spend_7d",
    "views/activity/features/spend_7d/value",
    "views/activity/features/spend_7d/where",
    "views/activity/features/taste/embedding",
    "views/profile/features/country",
    "views/profile/features/country/values",
    "views/item_vec/features/embedding",
    "services",
    "services/ranker",
    "services/ranker/features",
    "services/ranker/features/0",
    "services/ranker/features/4/encode",
    "services/ranker/features/8/dot",
    "metrics",
    "metrics/customers_by_country",
    "metrics/customers_by_country/of",
    "notices",
]


@given(json_values)
def test_garbage_is_never_more_than_a_catalog_error(garbage: object) -> None:
    """Whatever stands where the catalog should be, it is refused with faults."""
    with pytest.raises(CatalogError):
        Catalog.from_dict(garbage)  # type: ignore[arg-type]


@given(st.sampled_from(PLACES), json_values)
def test_garbage_anywhere_inside_loads_or_is_named(place: str, garbage: object) -> None:
    """Garbage put at any place gives a catalog that reads back equal, or a CatalogError."""
    table = changed(put(place, garbage))
    faults = faults_or_none(table)
    if faults is None:
        catalog = Catalog.from_dict(table)
        assert Catalog.from_dict(catalog.to_dict()) == catalog
    else:
        assert all(fault.place and fault.reason for fault in faults)


def faults_or_none(table: Table) -> tuple[Fault, ...] | None:
    """The faults of a table, None when it loads."""
    try:
        Catalog.from_dict(table)
    except CatalogError as error:
        return error.faults
    return None
