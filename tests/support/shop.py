"""A small catalog and a simulated kiosk clock that several tests share."""

from __future__ import annotations

from edge_runtime.catalog import Catalog

BASE_US = 1_700_000_000_000_000

SHOP = """
[catalog]
name = "shop"
version = 1

[purposes.personalization]
title = "Recommendations made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"
[purposes.measurement]
title = "Anonymous statistics"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "30d"
keep_events = "7d"

[entities.user]
personal = true
[entities.item]

[events.view]
entities = ["user", "item"]
properties = { price = "float64", category = "string" }

[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "growth"
allowed_lateness = "60s"
[views.activity.features]
views = { op = "count", event = "view" }
views_5m = { op = "count", event = "view", window = "5m" }
spend_7d = { op = "sum", event = "view", value = "price", window = "7d" }
last_items = { op = "last_n", event = "view", value = "item", n = 10 }
pace = { op = "decayed_count", event = "view", half_life = "10m" }
depth = { op = "session_count", event = "view", gap = "30m" }
by_item = { op = "count_by", event = "view", by = "item", window = "30d" }
last_category = { op = "last", event = "view", value = "category" }
idle = { op = "since_last", event = "view" }

[views.habits]
version = 1
entity = "user"
source = "session"
purpose = "measurement"
ttl = "30d"
owner = "growth"
[views.habits.features]
visits = { op = "count", event = "view" }

[views.profile]
version = 1
entity = "user"
source = "server"
purpose = "personalization"
ttl = "7d"
owner = "crm"
[views.profile.features]
country = { dtype = "string", values = ["UK", "DE", "FR", "other"], default = "other" }

[views.item_stats]
version = 1
entity = "item"
source = "server"
ttl = 0
owner = "search"
tier = "hot"
[views.item_stats.features]
popularity = { dtype = "float32", range = [0, 1], default = 0.0 }
co_bought = { dtype = "map<string,float32>" }

[services.ranker]
version = 1
features = ["activity:views_5m", "activity:pace", "item_stats:popularity",
            { ref = "activity:depth", encode = "log1p" },
            { ref = "profile:country", encode = "one_hot" },
            { name = "seen_this", lookup = "activity:by_item", key = "item" },
            GOES_WITH]

[metrics.visits_band]
purpose = "measurement"
kind = "histogram"
of = "habits:visits"
buckets = [2, 5, 10]
epsilon = 1.0
min_subjects = 5
""".replace(
    "GOES_WITH",
    '{ name = "goes_with", sum_lookup = "item_stats:co_bought", keys = "activity:last_items", key = "item" }',
)


def shop_catalog() -> Catalog:
    """The catalog above."""
    return Catalog.from_toml(SHOP)
