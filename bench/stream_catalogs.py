"""A catalog of 12 session features for each real stream, as TOML: windows, sessions, decay, keys, lists."""

from __future__ import annotations

_HEAD = """
[catalog]
name = "{name}"
version = 1
[purposes.personalization]
title = "Recommendations made for you"
legal_basis = "consent"
terminal_access = "consent"
lease = "24h"
retention = "{retention}"
keep_events = "7d"
[entities.user]
personal = true
[views.activity]
version = 1
entity = "user"
source = "session"
purpose = "personalization"
ttl = "30d"
owner = "bench"
allowed_lateness = "60s"
"""

NASA_HTTP = (
    _HEAD.format(name="nasa-http", retention="60d")
    + """
[entities.resource]
[events.fetch]
entities = ["user", "resource"]
properties = { method = "string", status = "int64", bytes = "int64" }
[views.activity.features]
fetches_5m = { op = "count", event = "fetch", window = "5m" }
fetches_30d = { op = "count", event = "fetch", window = "30d" }
bytes_1h = { op = "sum", event = "fetch", value = "bytes", window = "1h" }
mean_bytes_1d = { op = "mean", event = "fetch", value = "bytes", window = "1d" }
failed_1h = { op = "count", event = "fetch", window = "1h", where = { status = { ge = 400 } } }
last_found = { op = "last", event = "fetch", value = "resource", where = { status = { in = [200, 304] } } }
last_pages = { op = "last_n", event = "fetch", value = "resource", n = 10 }
pace = { op = "decayed_count", event = "fetch", half_life = "10m" }
depth = { op = "session_count", event = "fetch", gap = "30m" }
pages_1h = { op = "distinct", event = "fetch", value = "resource", window = "1h" }
by_method = { op = "count_by", event = "fetch", by = "method", window = "1d" }
since_fetch = { op = "since_last", event = "fetch" }
"""
)

ONLINE_RETAIL = (
    _HEAD.format(name="online-retail", retention="90d")
    + """
[entities.item]
[events.purchase]
entities = ["user", "item"]
properties = { price = "float64", quantity = "int64", country = "string" }
[events.cancel]
entities = ["user", "item"]
properties = { price = "float64", quantity = "int64", country = "string" }
[views.activity.features]
lines_1d = { op = "count", event = "purchase", window = "1d" }
rows_30d = { op = "count", event = ["purchase", "cancel"], window = "30d" }
cancels_30d = { op = "count", event = "cancel", window = "30d" }
pieces_7d = { op = "sum", event = "purchase", value = "quantity", window = "7d" }
price_30d = { op = "mean", event = "purchase", value = "price", window = "30d" }
dear_30d = { op = "count", event = "purchase", window = "30d", where = { price = { gt = 10 } } }
last_items = { op = "last_n", event = "purchase", value = "item", n = 10 }
pace = { op = "decayed_count", event = "purchase", half_life = "7d" }
basket = { op = "session_count", event = ["purchase", "cancel"], gap = "30m" }
items_30d = { op = "distinct", event = "purchase", value = "item", window = "30d" }
by_item = { op = "count_by", event = ["purchase", "cancel"], by = "item", window = "30d", max_keys = 64 }
since_cancel = { op = "since_last", event = "cancel" }
"""
)

OTTO_SESSIONS = (
    _HEAD.format(name="otto-sessions", retention="30d")
    + """
[entities.item]
[events.clicks]
entities = ["user", "item"]
[events.carts]
entities = ["user", "item"]
[events.orders]
entities = ["user", "item"]
[views.activity.features]
clicks_5m = { op = "count", event = "clicks", window = "5m" }
clicks_1d = { op = "count", event = "clicks", window = "1d" }
steps_7d = { op = "count", event = ["clicks", "carts", "orders"], window = "7d" }
carts_1d = { op = "count", event = "carts", window = "1d" }
last_order = { op = "last", event = "orders", value = "item" }
last_items = { op = "last_n", event = "clicks", value = "item", n = 10 }
pace = { op = "decayed_count", event = "clicks", half_life = "10m" }
depth = { op = "session_count", event = ["clicks", "carts", "orders"], gap = "30m" }
seen_depth = { op = "session_distinct", event = "clicks", value = "item", gap = "30m" }
items_7d = { op = "distinct", event = "clicks", value = "item", window = "7d" }
by_item = { op = "count_by", event = ["clicks", "carts"], by = "item", window = "7d", max_keys = 32 }
since_cart = { op = "since_last", event = "carts" }
"""
)
